"""A study's log as this process has read it: the history, the budget, the algorithms, and how to append.

Two ways of appending. Decisions go in only if nobody else has appended since one read (compare-and-swap);
facts about one's own trials hold whatever others have appended meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foretune.base.clock import Clock, WallClock
from foretune.base.errors import StoreError
from foretune.schedule.scheduler import Scheduler
from foretune.search.sampler import Sampler
from foretune.store.store import Store
from foretune.study.asking import AskCap, Asking
from foretune.study.budget import Budget
from foretune.study.description import problem_of
from foretune.study.opening import algorithm
from foretune.trial.event import STUDY, Event
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["Logged"]


class Logged:
    """What a process knows of a study: a fold of the log, read anew where others may have appended."""

    def __init__(self, name: str, store: Store, clock: Clock) -> None:
        self.name, self.store, self.clock = name, store, clock

    def _open(self, log: Sequence[Event], sampler: Any, scheduler: Any, cap: AskCap) -> None:
        """Fold a log from its beginning.

        Raises:
            StoreError: the log does not begin with a creation.
            StudyError: the study was begun with algorithms of its own, and they are not given.
        """
        first = log[0]
        if first.kind != "create":
            raise StoreError(
                f"The log of the study {self.name!r} is damaged: it does not begin with its creation. "
                "Run `foretune doctor` on the store."
            )
        self.about: Mapping[str, Any] = first.data
        self._history = History(problem_of(first.data))
        self._behind = False  # whether the store holds facts that have not been read
        self._read_at = self.clock.now()
        self._noted: dict[int, float] = {}  # last step of one's own trials that may not have been read
        self.seed: int = first.data["seed"]
        self.budget = Budget(**first.data["budget"])
        self.sampler: Sampler[Any] = algorithm("sampler", sampler, self.about, self.name)
        self.scheduler: Scheduler = algorithm("scheduler", scheduler, self.about, self.name)
        self._asking = Asking(self.sampler, self.problem, cap, isinstance(self.clock, WallClock))
        self._apply(log)
        self._since = len(self._history.settled)  # failures before that have been seen, and perhaps mended

    @property
    def problem(self) -> Problem:
        """The problem as it stands now."""
        return self._history.problem

    @property
    def history(self) -> History:
        """All trials, one's own reports included; ``sync`` reads what others have appended since."""
        if self._behind:
            self.sync()
        return self._history

    @property
    def notes(self) -> Sequence[str]:
        """What a reader should know: the sampler raised, its asks were too dear, the study gave up."""
        return tuple(self._asking.words)

    @property
    def asks(self) -> tuple[int, float]:
        """How many asks of the sampler the log has, and the seconds of processor time that they took."""
        return self._asking.asks, self._asking.seconds

    def sync(self) -> None:
        """Read what others have appended."""
        self._read()

    def _read(self) -> Sequence[Event]:
        fresh = self.store.read(self.name, self._history.version)
        self._behind = False
        self._read_at = self.clock.now()
        self._noted.clear()
        if fresh:
            self._apply(fresh)
        return fresh

    def _apply(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.number == STUDY and event.kind == "budget":
                self.budget = Budget(**event.data["budget"])
            elif event.kind in ("start", "note"):
                self._asking.read(event)
        self._history.apply(events, self._settle if self._asking.stateful else None)
        if self.problem.budget_trials != self.budget.trials:
            self._history.problem = replace(self.problem, budget_trials=self.budget.trials)

    def _settle(self, trial: Trial) -> None:
        self._asking.tell(self.problem, trial)

    def _append(self, events: Sequence[Event]) -> None:
        """Append decisions: only if nobody else has appended since we read."""
        self.store.append(self.name, events, self._history.version)
        self._apply(events)

    def _note(self, events: Sequence[Event]) -> None:
        """Append facts about one's own trials: they hold whatever others have appended meanwhile.

        What others have appended is read later: among many workers, reading after each report would cost
        more than the report.
        """
        version = self.store.append(self.name, events, None)
        if version == self._history.version + len(events):
            self._apply(events)
        else:
            self._behind = True
