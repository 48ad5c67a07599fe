"""Predictive stop: end a run when its curve, extrapolated, is unlikely to beat the best run so far.

Source: Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by Extrapolation of Learning Curves
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.curves.ensemble import extrapolate
from foretune.numeric.curves.pfn import stored
from foretune.schedule.full import Full
from foretune.schedule.scheduler import Action, Rung, Scheduler, Verdict
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.ranked import BROKEN
from foretune.trial.trial import Trial

__entry__ = "PredictiveStop"

_DRAWS = 1000


def chance(steps: Sequence[float], losses: Sequence[float], end: float, target: float, method: str) -> float:
    """Return the probability that the loss at step ``end`` is below ``target``.

    Args:
        steps, losses: what is known of a run; at least 3 finite points.
        method: "ensemble" (families weighed by evidence) or "pfn" (the trained network).

    >>> chance([1, 2, 3, 4, 5, 6], [2.0, 1.5, 1.33, 1.25, 1.2, 1.17], 30, 0.5, "ensemble") < 0.05
    True
    """
    if method == "pfn":
        return float(stored().predict(steps, losses, [end]).below(target)[0, 0])
    found = extrapolate(steps, losses, [end], draws=_DRAWS)
    final = found.draws[:, 0]
    return float(np.mean(final < target))


@final
@dataclass(frozen=True)
class PredictiveStop(Scheduler):
    """Stop a run when P(its loss at the last step is below the best complete run's) is under a threshold.

    Every trial is sent to ``steps.high``. Each report is judged, once the curve has ``least`` finite
    values at different steps and some trial has been completed; until then trials go on. A trial that
    is the best so far at its step goes on, whatever is foretold; so does one whose values have all been
    equal, until half of the way. A diverged trial (+inf) is stopped when something is complete. A report costs
    some ten milliseconds ("pfn": one).

    The threshold is the risk at one report; a run that is judged often runs it often. ``every`` spaces
    the judgements: the next one is due when the step has grown by that factor.

    Args:
        threshold: probability of beating the best under which a run is stopped, in (0, 1).
        least: values that a curve must have to be judged, at least 3.
        every: factor of steps from one judgement to the next, at least 1 (each report).
        method: "ensemble" or "pfn".

    Source: Efficient Bayesian Learning Curve Extrapolation using Prior-Data Fitted Networks | its
        predictive early stopping

    Differs:
        1. The value at the last step counts, not the best value on the way; the best is that of complete
           trials only.
        2. The best trial of a step is never stopped.

    >>> from foretune.space import Fidelity, Space
    >>> plan = PredictiveStop().plan(Problem(Space({}), steps=Fidelity(50)), trials=8)
    >>> [(r.step, r.trials) for r in plan]
    [(1, 8), (50, 8)]
    """

    threshold: float = 0.05
    least: int = 4
    every: float = 1.0
    method: str = "ensemble"

    tags: ClassVar[frozenset[str]] = frozenset({"judges"})

    def __post_init__(self) -> None:
        check.number("threshold", self.threshold, 0, 1 - 1e-9, open_low=True)
        check.integer("least", self.least, 3)
        check.number("every", self.every, 1)
        check.one_of("method", self.method, ("ensemble", "pfn"))

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        return Full().next(problem, history, key)

    def judge(self, problem: Problem, history: History, trial: Trial) -> Verdict:
        metric, sign, high = problem.goal.metric, problem.goal.sign, problem.steps.high
        if not trial.reports or metric not in trial.values:
            return Verdict("go", f"nothing is known of {metric} at step {trial.step:g}")
        if trial.step >= high:
            return Verdict("go", "it has reached the last step")
        best = history.best_trace[-1] if history.best_trace else None
        if best is None:
            return Verdict("go", "no trial is complete: there is nothing to beat")
        incumbent, target = best
        loss = History.loss_of(trial.values[metric], sign)
        if loss == math.inf:
            return Verdict("stop", f"diverged at step {trial.step:g}")
        points = [
            (r.step, History.loss_of(r.values[metric], sign)) for r in trial.reports if metric in r.values
        ]
        curve = [(step, value) for step, value in points if math.isfinite(value) and step > 0]
        if len(curve) < self.least:
            return Verdict("go", f"{len(curve)} values are too few to extrapolate: {self.least} are needed")
        if len(curve) > self.least and not self._due([step for step, _ in curve]):
            return Verdict("go", f"not judged at each report: next at {self.every:g} times the steps")
        others = [x for number, x in history.rung(trial.step).items() if number != trial.number]
        mine = history.rung(trial.step).get(trial.number, loss)
        if all(mine < x for x in others):
            return Verdict("go", f"the best of {len(others) + 1} at step {trial.step:g}")
        if math.inf > mine >= BROKEN > history.rung(trial.step).get(incumbent, math.inf):
            return Verdict(
                "stop", f"it breaks a constraint at step {trial.step:g}, where trial {incumbent} kept all"
            )
        steps, losses = zip(*curve, strict=True)
        if min(losses) == max(losses) and trial.step < high / 2:
            return Verdict("go", f"constant so far, which foretells nothing before step {high / 2:g}")
        p = chance(steps, losses, high, target, self.method)
        said = (
            f"beats trial {incumbent} ({sign * target:.4g}) at step {high:g} with probability {p:.2g} "
            f"({self.method} of {len(curve)} values, reach {math.log10(high / trial.step):.2f} decades)"
        )
        if p < self.threshold:
            return Verdict("stop", f"{said}: under {self.threshold:g}")
        return Verdict("go", said)

    def _due(self, steps: Sequence[float]) -> bool:
        """Whether the last report is the first one beyond a rung of the judgements' geometric ladder."""
        if self.every == 1.0:
            return True
        start = steps[self.least - 1]
        rungs = [math.floor(math.log(s / start) / math.log(self.every) + 1e-9) for s in steps[-2:]]
        return rungs[1] > rungs[0]

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        n = trials if trials is not None else problem.budget_trials or 1
        low, high = problem.steps.low, problem.steps.high
        if low >= high:
            return (Rung(0, high, n, n * high),)
        return (Rung(0, low, n, n * low), Rung(0, high, n, n * (high - low)))
