"""A study's sampler at work: its state, what its asks cost, and what happens when it raises.

Two rules keep a study going whatever its sampler does.

    It raises        The trial gets a uniform draw, whose reason says so; the study's log gets one note
                     with the traceback. The sampler is asked again for the next trial.
    It is too slow   An ask that took c seconds of processor time, where C are allowed, is followed by
                     ceil(c / C) - 1 cheap proposals, so that asks take at most C on average.

What is allowed is the user's ``ask_cap``; unless given, 1 % of a trial's mean time, from trials of ten
seconds on (of shorter trials the asks are measured, not bounded: there the search itself is what the user
waits for). Each start in the log carries the seconds of its ask, and how many asks are to be spared after it.
The next decision reads that number and no clock, so that a study that is read again decides as the one that
wrote it.
"""

from __future__ import annotations

import math
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretune.base import check
from foretune.base.errors import ArgumentError, ConfigError, ForetuneError, MissingExtraError
from foretune.base.key import Key
from foretune.search.cheap import cheap
from foretune.search.feasible import shown, told
from foretune.search.random import Random
from foretune.search.sampler import Proposal, Sampler
from foretune.study.budget import limit_of
from foretune.trial.event import Event
from foretune.trial.feasibility import feasible_first
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["SHARE", "AskCap", "Asking", "Offer"]

SHARE = 0.01  # of a trial's mean time that an ask may take, unless the user says otherwise
WORTH = 10.0  # mean seconds of a trial from which that bound holds
MOST_SPARED = 1000  # asks spared in a row at most, so that a slow first ask does not end the search
DETAIL = 2000  # characters of a traceback that the log keeps


@dataclass(frozen=True, slots=True)
class AskCap:
    """How many seconds of processor time an ask may take on average.

    Attributes:
        seconds: a fixed bound, or None.
        share: a share of the mean trial's seconds, where there is no fixed bound.
        worth: mean seconds of a trial from which the share counts.
    """

    seconds: float | None = None
    share: float = SHARE
    worth: float = WORTH

    @classmethod
    def parse(cls, value: Any) -> AskCap:
        """Read None (1 % of a trial, from 10 s on), ``"5%"``, seconds, ``"2s"``, or ``"off"``.

        >>> AskCap.parse("5%").share, AskCap.parse("2s").seconds, AskCap.parse("off").seconds
        (0.05, 2.0, inf)

        Raises:
            ArgumentError, ArgumentTypeError: it reads like none of these.
        """
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            text = value.strip().lower()
            if text in ("off", "none", "inf"):
                return cls(math.inf)
            if text.endswith("%"):
                try:
                    share = float(text[:-1]) / 100.0
                except ValueError:
                    share = math.nan
                if not 0.0 < share < math.inf:
                    raise ArgumentError(f"ask_cap must be a share such as '1%'; got {value!r}.")
                return cls(share=share, worth=0.0)
            return cls(limit_of("ask_cap", value))
        if value == math.inf:
            return cls(math.inf)
        return cls(check.number("ask_cap", value, 0.0, open_low=True))

    def bound(self, history: History) -> float:
        """Return the seconds that are allowed now; inf where nothing is bounded."""
        if self.seconds is not None:
            return self.seconds
        mean = history.seconds / len(history.settled) if history.settled else 0.0
        return self.share * mean if mean > 0.0 and mean >= self.worth else math.inf


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be trained next, who proposed it, and what the log says beside it.

    Attributes:
        proposal: None if the sampler has nothing to propose.
        by: the proposer's name.
        data: entries for the start event: ``ask`` (seconds), ``spare`` (asks to be spared after it).
        note: (topic, words, detail) for the study's log, or None.
    """

    proposal: Proposal | None
    by: str
    data: Mapping[str, Any] = field(default_factory=dict)
    note: tuple[str, str, str] | None = None


def unseen(sampler: Sampler[Any], problem: Problem) -> tuple[str, str, str] | None:
    """Return the note on goals that a sampler does not look at; None if it looks at all, or means to at none."""
    if len(problem.goals) == 1 or not sampler.tags.isdisjoint(("independent", "multi-objective")):
        return None
    words = (
        f"the sampler {type(sampler).__name__} looks at the first of {len(problem.goals)} goals alone "
        f"({problem.goal}); auto, gp_pareto, nsga2 and tpe look at all"
    )
    return "goals that are not seen", words, ""


class Asking:
    """Holds a sampler and its state for a study; everything that it decides stands in the log."""

    def __init__(self, sampler: Sampler[Any], problem: Problem, cap: AskCap, real: bool = True) -> None:
        # In simulated time seconds of a processor have no place: they would make the log differ from run to run.
        self.sampler, self.cap, self.measured = sampler, cap, real or cap != AskCap()
        self.name = type(sampler).__name__
        self.state: Any = sampler.init(problem)
        self.stateful = type(sampler).tell is not Sampler.tell
        self.seconds = 0.0  # of all asks in the log
        self.asks = 0
        self.spare = 0  # asks to be spared before the sampler is asked again
        self.topics: set[str] = set()  # what the log has been told already
        self.words: list[str] = []  # the notes in the log, for the reader
        self._trouble: tuple[str, str, str] | None = unseen(sampler, problem)

    def read(self, event: Event) -> None:
        """Take in an event of the log."""
        if event.kind == "start" and "ask" in event.data:
            self.seconds += float(event.data["ask"])
            self.asks += 1
            self.spare = int(event.data.get("spare", 0))
        elif event.kind == "note" and "topic" in event.data:
            self.topics.add(event.data["topic"])
            self.words.append(event.data.get("reason", ""))

    def tell(self, problem: Problem, trial: Trial) -> None:
        """Fold a settled trial into the state; a sampler that raises keeps the state it had."""
        try:
            self.state = self.sampler.tell(problem, self.state, told(self.sampler, problem, trial))
        except Exception as error:  # whatever a sampler raises, the trial stands
            self._trouble = self._raised("tell", error, "goes on without having seen that trial")

    def _raised(self, what: str, error: Exception, then: str) -> tuple[str, str, str]:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        words = f"the sampler {self.name} raised in {what}: {said}; the study {then}"
        detail = "".join(traceback.format_exception(error))[-DETAIL:]
        return f"{what} raised {type(error).__name__}", words, detail

    def ask(self, problem: Problem, history: History, key: Key) -> Offer:
        """Ask for one proposal.

        Raises:
            MissingExtraError: the sampler needs a package that is not installed.
            ForetuneError: the sampler refuses the problem before the study has any trial.
        """
        trouble, self._trouble = self._trouble, None
        if self.spare > 0:
            begun = time.process_time()
            found = cheap(problem, feasible_first(history), key.fold("cheap"))
            took = round(time.process_time() - begun, 4)
            if found is not None:
                why = f"spared an ask of {self.name}: {found.reason}"
                data = {"ask": took, "spare": self.spare - 1}
                return Offer(Proposal(found.config, why), "cheap", data, trouble)
        begun = time.process_time()
        try:
            seen = shown(self.sampler, history)
            proposals = self.sampler.ask(problem, self.state, seen, 1, key)
            if proposals:
                problem.space.check(proposals[0].config)
        except MissingExtraError:
            raise
        except Exception as error:
            if isinstance(error, ForetuneError) and not isinstance(error, ConfigError) and not len(history):
                raise
            return self._draw(problem, history, key, error, begun)
        took = round(time.process_time() - begun, 4)
        if not proposals:
            return Offer(None, self.name, note=trouble)
        data = {"ask": took} if self.measured else {}
        allowed = self.cap.bound(history) if self.measured else math.inf
        if took > allowed:
            data["spare"] = min(MOST_SPARED, math.ceil(took / allowed) - 1)
            words = (
                f"an ask of the sampler {self.name} took {took:.3g} s, where {allowed:.3g} s are allowed "
                f"(ask_cap): the next {data['spare']} proposals are cheap ones"
            )
            trouble = trouble or ("asks are dear", words, "")
        return Offer(proposals[0], self.name, data, trouble)

    def _draw(self, problem: Problem, history: History, key: Key, error: Exception, begun: float) -> Offer:
        """Replace a proposal that could not be made by a uniform draw."""
        note = self._raised("ask", error, "goes on with uniform draws where it does")
        found = Random().ask(problem, None, history, 1, key.fold("instead"))
        data = {"ask": round(time.process_time() - begun, 4)} if self.measured else {}
        if not found:
            return Offer(None, "random", note=note)
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        why = f"{found[0].reason}, for the sampler {self.name} raised {said}"
        return Offer(Proposal(found[0].config, why), "random", data, note)

    def announce(self, note: tuple[str, str, str] | None, now: float) -> list[Event]:
        """Return the event that tells the log of something new, and warn the user; [] if it is known."""
        if note is None or note[0] in self.topics:
            return []
        topic, words, detail = note
        self.topics.add(topic)
        warnings.warn(f"Foretune: {words}.", RuntimeWarning, stacklevel=3)
        data = {"topic": topic, "reason": words, **({"detail": detail} if detail else {})}
        return [Event("note", -1, now, data)]
