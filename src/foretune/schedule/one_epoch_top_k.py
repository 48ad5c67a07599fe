"""One-epoch top-K: train every config a little, take the best K to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from foretune.base import check
from foretune.base.key import Key
from foretune.schedule.scheduler import Action, Rung, Scheduler, Start
from foretune.schedule.standing import Standing, budget_reached, promote, settle
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import RUNNING, WAITING, Plan

__entry__ = "OneEpochTopK"

TRIALS = 100  # without a budget of trials; an assumption: the paper's tables have 200 to 2,000 configs


@final
@dataclass(frozen=True)
class OneEpochTopK(Scheduler):
    """Train n configs to the first rung, the best ``k`` of them to the end, and be done.

    Right where learning curves seldom cross: whether they do in one's own table, and how large K must
    be, says ``foretune.numeric.curves.dominance.dominant_curves``. Failed and diverged trials are never
    among the best. One decision costs O(log n).

    Args:
        k: how many are trained to the end, K.
        trials: how many to begin with, n; if None the budget's number, else 100. The budget limits it.
        low: step of the first rung; ``steps.low`` if None.

    Source: Is One Epoch All You Need For Multi-Fidelity Hyperparameter Optimization?

    >>> from foretune.space import Fidelity, Space
    >>> plan = OneEpochTopK(k=3).plan(Problem(Space({}), steps=Fidelity(27)), trials=60)
    >>> [(r.step, r.trials, r.steps) for r in plan]
    [(1, 60, 60.0), (27, 3, 78)]
    """

    k: int = 5
    trials: int | None = None
    low: float | None = None

    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity"})

    def __post_init__(self) -> None:
        check.integer("k", self.k, 1)
        if self.trials is not None:
            check.integer("trials", self.trials, 1)
        if self.low is not None:
            check.number("low", self.low, 0, open_low=True)

    @property
    def ends(self) -> bool:
        return True

    def _ladder(self, problem: Problem) -> tuple[float, ...]:
        first = problem.steps.low if self.low is None else self.low
        return (first, problem.steps.high) if first < problem.steps.high else (problem.steps.high,)

    def _size(self, limit: int | None) -> int:
        asked = self.trials if self.trials is not None else limit if limit is not None else TRIALS
        return asked if limit is None else min(asked, limit)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        ladder, n = self._ladder(problem), self._size(problem.budget_trials)
        standing = Standing.of(history, ladder)
        if standing.begun < n and not budget_reached(problem, history):
            return Start(Plan(ladder[0]), f"config {standing.begun + 1} of {n}, to step {ladder[0]:g}")
        arriving = any(0 < history.plan(i).until <= ladder[0] for i in history.numbers(RUNNING, WAITING))
        place = None if arriving or len(ladder) == 1 else standing.first(history, 0, 0)
        if place is not None and place.rank < self.k:
            return promote(place, 0, ladder[0], ladder[1], self.k)
        return settle(
            history,
            f"the best {min(self.k, n)} of {n} configs have been trained to the end",
            "the best are known when all configs have been seen",
        )

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        ladder = self._ladder(problem)
        n = self._size(trials if trials is not None else problem.budget_trials)
        found, before = [], 0.0
        for step, count in zip(ladder, (n, min(self.k, n)), strict=False):
            found.append(Rung(0, step, count, count * (step - before)))
            before = step
        return tuple(found)
