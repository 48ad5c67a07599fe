"""Multi-objective ASHA: asynchronous halving where non-dominated trials are the best of a rung."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.pareto import crowding, ranks
from foretune.schedule.asha import Asha
from foretune.schedule.scheduler import Action, Rung, Scheduler, Start
from foretune.schedule.standing import Place, budget_reached, promote, queued, settle
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED, PAUSED, RUNNING, WAITING, Plan, Trial

__entry__ = "MultiObjectiveAsha"


def losses_at(problem: Problem, trial: Trial, step: float) -> list[float] | None:
    """Return a trial's losses, one a goal, at its first report at or after a step that has them all."""
    start = bisect.bisect_left(trial.reports, step, key=lambda r: r.step)
    for report in trial.reports[start:]:
        if all(g.metric in report.values for g in problem.goals):
            return [History.loss_of(report.values[g.metric], g.sign) for g in problem.goals]
    return None


def order(rows: Sequence[Sequence[float]]) -> list[int]:
    """Order points: by front, within a front the loneliest first, then as they came.

    >>> order([[3, 3], [1, 4], [2, 2], [4, 1], [2.1, 1.9]])
    [1, 3, 2, 4, 0]
    """
    points = np.array(rows, dtype=float)
    points[~np.isfinite(points).all(axis=1)] = np.inf  # diverged in one goal: behind all others
    rank = ranks(points)
    if points.shape[1] == 1:
        return np.argsort(points[:, 0], kind="stable").tolist()  # type: ignore[no-any-return]
    lonely = crowding(points, rank)
    return np.lexsort((np.arange(len(points)), -lonely, rank)).tolist()  # type: ignore[no-any-return]


@final
@dataclass(frozen=True)
class MultiObjectiveAsha(Scheduler):
    """ASHA (promotion) for several goals: of a rung, the best floor(n / eta) by non-dominated sorting go on.

    Trials at a rung are ordered by front; within a front the one with the largest crowding distance comes
    first, so that the ends of the front and its gaps are kept. With one goal it is ASHA. Trials that failed,
    or diverged in any goal, come last and are not promoted. A trial pauses at each rung; its losses there
    are those of its first report at or after the step that has all goals. One decision costs
    O(trials * rungs).

    Args:
        eta: of eta trials at a rung, one goes on (greater than 1; need not be whole).
        low: step of the lowest rung; ``steps.low`` if None.

    Source: Multi-objective Asynchronous Successive Halving
    Source: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II | the order

    Differs:
        1. Ties within a front are broken by crowding distance; the paper's best variant uses an epsilon-net,
           which spreads over the front likewise.

    >>> from foretune.space import Fidelity, Space
    >>> plan = MultiObjectiveAsha().plan(Problem(Space({}), steps=Fidelity(9)), trials=27)
    >>> [(r.step, r.trials) for r in plan]
    [(1, 27), (3, 11), (9, 4)]
    """

    eta: float = 3
    low: float | None = None

    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity", "multi-objective"})

    def __post_init__(self) -> None:
        check.number("eta", self.eta, 1, open_low=True)
        if self.low is not None:
            check.number("low", self.low, 0, open_low=True)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        ladder = problem.steps.rungs(self.eta, self.low)
        trials: list[Trial] = [history[n] for n in range(len(history)) if not queued(history, n)]
        for k in range(len(ladder) - 2, -1, -1):
            place = self._best(problem, trials, ladder[k], ladder[k + 1])
            if place is not None:
                return promote(place, 0, ladder[k], ladder[k + 1], math.floor(place.of / self.eta))
        if budget_reached(problem, history):
            return settle(
                history,
                f"all {problem.budget_trials} trials have begun and no paused one can be promoted",
                "no paused trial can be promoted before a running one reports",
            )
        return Start(Plan(ladder[0]), f"no trial can be promoted: a new one, to step {ladder[0]:g}")

    def _best(self, problem: Problem, trials: Sequence[Trial], here: float, there: float) -> Place | None:
        """Return the best trial that is paused at a rung and may go on."""
        worst = [math.inf] * len(problem.goals)
        arrived: list[tuple[Trial, list[float]]] = []
        for trial in trials:
            known = losses_at(problem, trial, here)
            mute = known is None and trial.state not in (RUNNING, WAITING) and trial.plan.until >= here
            if mute or (trial.state == FAILED and trial.plan.until == here):
                known = worst
            if known is not None:
                arrived.append((trial, known))
        best = math.floor(len(arrived) / self.eta)
        if best == 0:
            return None
        for place, i in enumerate(order([losses for _, losses in arrived])[:best]):
            trial, losses = arrived[i]
            if trial.state == PAUSED and trial.plan.until < there and all(map(math.isfinite, losses)):
                return Place(trial.number, place, len(arrived))
        return None

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        return Asha(self.eta, self.low).plan(problem, trials)
