"""Median stopping: end a run whose best value so far is worse than the median of the others' averages."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from foretune.base import check
from foretune.base.key import Key
from foretune.schedule.full import Full
from foretune.schedule.scheduler import Action, Rung, Scheduler, Verdict
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.ranked import BROKEN
from foretune.trial.trial import Trial

__entry__ = "MedianStopping"


@final
@dataclass(frozen=True)
class MedianStopping(Scheduler):
    """Stop a trial at step t if its best loss until t is above the median of the others' averages until t.

        best_i(t) > median over j of mean{loss_j(s) : s <= t},    j the other trials that came to t

    Every trial is sent to ``steps.high``. The best trial of a step always goes on. A diverged trial
    (+inf) is stopped as soon as others are there to compare with. A trial that breaks a constraint at step t has
    the loss there, and the average, of one that is worse than all that keep them. A report costs O(reports so far).

    Args:
        least: how many other trials must have come to a step before anyone is stopped there.
        grace: no trial is stopped before this step; ``steps.low`` if None.

    Source: Google Vizier: A Service for Black-Box Optimization | section 3.2.2

    Differs:
        1. All trials that came to the step count, those that were stopped later included; the paper
           says completed ones: with many workers few are complete when the first must be judged.

    >>> from foretune.space import Fidelity, Space
    >>> plan = MedianStopping().plan(Problem(Space({}), steps=Fidelity(50)), trials=8)
    >>> [(r.step, r.trials) for r in plan]
    [(1, 8), (50, 8)]
    """

    least: int = 5
    grace: float | None = None

    tags: ClassVar[frozenset[str]] = frozenset({"judges"})

    def __post_init__(self) -> None:
        check.integer("least", self.least, 1)
        if self.grace is not None:
            check.number("grace", self.grace, 0)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        return Full().next(problem, history, key)

    def judge(self, problem: Problem, history: History, trial: Trial) -> Verdict:
        metric, at = problem.goal.metric, trial.step
        if metric not in trial.values:
            return Verdict("go", f"nothing is known of {metric} at step {at:g}")
        grace = problem.steps.low if self.grace is None else self.grace
        if at < grace or at >= problem.steps.high:
            return Verdict("go", f"not judged before step {grace:g}, nor at the end")
        others = {n: x for n, x in history.rung(at).items() if n != trial.number}
        if len(others) < self.least:
            return Verdict("go", f"{len(others)} others at step {at:g}: {self.least} are needed")
        loss = history.rung(at).get(trial.number, History.loss_of(trial.values[metric], problem.goal.sign))
        if loss < min(others.values()):
            return Verdict("go", f"the best of {len(others) + 1} at step {at:g}")
        averages = []
        for number, there in others.items():
            if (
                BROKEN <= there < math.inf
            ):  # it breaks a constraint there: worse on average, too, than all that do not
                averages.append(there)
                continue
            steps, losses = history.curve(number)
            known = losses[: max(1, bisect.bisect_right(steps, at))]
            averages.append(math.inf if math.inf in known else math.fsum(known) / len(known))
        middle = statistics.median(averages)
        if BROKEN <= loss < math.inf:
            behind = sum(x < loss for x in others.values())
            said = (
                f"it breaks a constraint at step {at:g}, and {behind} of {len(others)} others are before it"
            )
            return Verdict("stop" if loss > middle else "go", said)
        best, sign = min(history.curve(trial.number)[1]), problem.goal.sign
        if BROKEN / 4 <= middle < math.inf:  # a median of an even number is between two
            return Verdict(
                "go", f"it keeps the constraints at step {at:g}, as half of {len(others)} others do not"
            )
        said = f"its best, {sign * best:.4g}, against {sign * middle:.4g}, the median of {len(others)} at step {at:g}"
        if best == math.inf or best > middle:
            return Verdict("stop", said)
        return Verdict("go", said)

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        n = trials if trials is not None else problem.budget_trials or 1
        low, high = problem.steps.low, problem.steps.high
        if low >= high:
            return (Rung(0, high, n, n * high),)
        return (Rung(0, low, n, n * low), Rung(0, high, n, n * (high - low)))
