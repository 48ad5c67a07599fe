"""The interface of schedulers: what a free worker does next, and what a report leads to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Union

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Plan, Trial

__all__ = ["Action", "Done", "Resume", "Rung", "Scheduler", "Start", "Verdict", "Wait"]


def _needs_reason(reason: str) -> None:
    if not isinstance(reason, str) or not reason.strip():
        raise ArgumentError(f"reason must be a non-empty sentence: a decision carries one; got {reason!r}.")


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a new trial (of ``config`` if given, else of what the sampler proposes)."""

    plan: Plan
    reason: str
    config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _needs_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Resume:
    """Take a paused or waiting trial further."""

    number: int
    plan: Plan
    reason: str

    def __post_init__(self) -> None:
        _needs_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be decided before a running trial reports."""

    reason: str

    def __post_init__(self) -> None:
        _needs_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Done:
    """The study is finished; no worker gets anything more."""

    reason: str

    def __post_init__(self) -> None:
        _needs_reason(self.reason)


Action = Union[Start, Resume, Wait, Done]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report leads to: "go", "pause" or "stop", with the reason."""

    word: str
    reason: str

    def __post_init__(self) -> None:
        _needs_reason(self.reason)
        if self.word not in ("go", "pause", "stop"):
            raise ArgumentError(f"A verdict is 'go', 'pause' or 'stop'; got {self.word!r}.")


@dataclass(frozen=True, slots=True)
class Rung:
    """A row of ``plan()``: how many trials are expected to reach a step.

    Attributes:
        bracket: the bracket's number.
        step: where trials are compared.
        trials: how many arrive there.
        steps: training steps spent to bring them there from the rung before.
    """

    bracket: int
    step: float
    trials: int
    steps: float


class Scheduler(ABC):
    """Decides what a free worker does next, and judges reports. It has no state of its own.

    A scheduler object is a frozen dataclass; bracket and rung are read from each trial's ``Plan``.

    Laws (tested by ``foretune.testing.SchedulerSuite`` under random delays and failures):
        Pure: same problem, history and key, same action.
        ``Resume`` names a paused or waiting trial, never a running or ended one.
        A trial's ``plan.until`` grows strictly from one resumption to the next (a waiting trial, lost
        by its worker, may be resumed with the plan it had).
        With a finite budget every path ends in ``Done``.
        ``Wait`` only while a trial is running.
        At each promotion the trial is among the best floor(n / eta) of its rung at that moment.
        Feasibility first: a trial that is known at a rung to break a constraint goes on only where none that
        keeps them waits there. ``History.rung`` ranks so; what is reported at the end alone changes nothing.

    Tags: ``judges`` reads reports between plans (the engine then consults ``judge`` at each report;
    other schedulers are consulted only when a plan's ``until`` is reached), ``multi-fidelity`` (it
    compares trials before their end, so that a study needs steps), ``multi-objective`` (it compares by all
    goals), ``finishes`` (when nothing else is left to do it trains its winner to the last step, from a rung of any
    size), ``extends`` (it is made to go on when full trials become longer: the checkpoints of complete
    trials are kept for that).
    """

    tags: ClassVar[frozenset[str]] = frozenset()

    @property
    def ends(self) -> bool:
        """Whether it says ``Done`` by itself, in a study without any budget."""
        return False

    @abstractmethod
    def next(self, problem: Problem, history: History, key: Key) -> Action:
        """Decide what a free worker does now. Trials beyond the budget are the engine's concern.

        Waiting trials (lost by a worker, or added by the user) are resumed first, by the engine.
        """

    def judge(self, problem: Problem, history: History, trial: Trial) -> Verdict:
        """Judge a report; the default lets every trial go until its plan ends."""
        return Verdict("go", "the plan is not at its end")

    def holding(self, names: Sequence[str]) -> Scheduler:
        """Return the scheduler that leaves these parameters as they are.

        That is itself, unless it makes configs of its own.
        """
        return self

    @abstractmethod
    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        """Foretell rungs, number of trials and steps for a budget of ``trials``, before anything runs."""
