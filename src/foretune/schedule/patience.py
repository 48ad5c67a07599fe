"""Patience: end a run that has not become better for a while."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from foretune.base import check, registry
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.schedule.full import Full
from foretune.schedule.median_stopping import MedianStopping
from foretune.schedule.scheduler import Action, Rung, Scheduler, Verdict
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__entry__ = "Patience"


@final
@dataclass(frozen=True)
class Patience(Scheduler):
    """Stop a trial whose loss has not fallen by ``least`` below its best for ``reports`` reports.

    Every trial is sent to ``steps.high``. The best trial of a step goes on, stagnant or not: its last
    value is what the study is for. With ``inner`` a stagnant trial is stopped only if that scheduler would
    stop it, too: patience then protects from hasty stops at a bump of the curve.

    Args:
        reports: how many reports in a row may pass without improvement.
        least: how much less a loss must be to count as improvement, in the metric's unit.
        inner: name of a scheduler that judges, such as "median_stopping"; None: stagnation suffices.

    Source: Early Stopping - But When? | its class UP, generalised to any number of reports
    Source: Optuna: A Next-generation Hyperparameter Optimization Framework | its patient pruner, which is
        a wrapper, too

    >>> from foretune.space import Fidelity, Space
    >>> [(r.step, r.trials) for r in Patience().plan(Problem(Space({}), steps=Fidelity(50)), trials=8)]
    [(1, 8), (50, 8)]
    """

    reports: int = 5
    least: float = 0.0
    inner: str | None = None

    tags: ClassVar[frozenset[str]] = frozenset({"judges"})

    def __post_init__(self) -> None:
        check.integer("reports", self.reports, 1)
        check.number("least", self.least, 0)
        if self.inner is not None:
            cls = registry.lookup("foretune.schedule", "scheduler", self.inner)
            if "judges" not in cls.tags or cls is type(self):
                raise ArgumentError(
                    f"inner must name a scheduler that judges reports, such as 'median_stopping'; got "
                    f"{self.inner!r}, which does not."
                )

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        return Full().next(problem, history, key)

    def judge(self, problem: Problem, history: History, trial: Trial) -> Verdict:
        metric, at = problem.goal.metric, trial.step
        if metric not in trial.values or at >= problem.steps.high:
            return Verdict("go", f"nothing to decide on {metric} at step {at:g}")
        steps, losses = history.curve(trial.number)
        best, since = math.inf, 0
        for i, loss in enumerate(losses):
            if loss < best - self.least or (loss < best == math.inf):
                best, since = loss, i
        waited = len(losses) - 1 - since
        if best == math.inf:
            waited = len(losses)
        said = f"no improvement for {waited} reports, since step {steps[since]:g}"
        if waited < self.reports:
            return Verdict("go", f"{said}: {self.reports} are allowed")
        others = [x for n, x in history.rung(at).items() if n != trial.number]
        mine = history.rung(at).get(trial.number, losses[-1])
        if mine < math.inf and all(mine < x for x in others):
            return Verdict("go", f"{said}, but the best of {len(others) + 1} at step {at:g}")
        if self.inner is not None:
            judge: Scheduler = registry.lookup("foretune.schedule", "scheduler", self.inner)()
            verdict = judge.judge(problem, history, trial)
            return Verdict(verdict.word, f"{said}; {verdict.reason}")
        return Verdict("stop", said)

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        return MedianStopping().plan(problem, trials)
