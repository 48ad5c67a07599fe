"""Wilcoxon racing: end a run on many instances when a signed-rank test says that it is worse than the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.signed_rank import signed_rank
from foretune.schedule.full import Full
from foretune.schedule.scheduler import Action, Rung, Scheduler, Verdict
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.ranked import BROKEN
from foretune.trial.trial import COMPLETE, Trial

__entry__ = "Wilcoxon"


def worse(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the p-value of the one-sided signed-rank test that ``mine`` tends to be larger.

    Equal pairs are split evenly between both signs. 1.0 where nothing differs.

    >>> worse([2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6.5]) < 0.02
    True
    """
    gaps = [0.0 if a == b else a - b for a, b in zip(mine, theirs, strict=True)]
    big = 1e6 * (1.0 + max((abs(g) for g in gaps if math.isfinite(g)), default=0.0))
    gaps = [g if math.isfinite(g) else math.copysign(big, g) for g in gaps]  # ranks alone matter
    return signed_rank(gaps)


@final
@dataclass(frozen=True)
class Wilcoxon(Scheduler):
    """For objectives that are means over instances (folds, seeds, problems): stop what is surely worse.

    Step i of a trial is instance i, the same one in every trial, and the trial reports its loss on it. The
    trial is compared, over the instances that both have seen, with the complete trial of the best mean;
    it is stopped if its mean there is worse and a one-sided Wilcoxon signed-rank test says so. The best
    of a step goes on. Only trials that keep all constraints are compared with, if there are any; a trial that
    breaks one at a step where such a trial kept them is stopped. ``steps`` is the number of instances. Give the
    mean as the result (what the function returns, or a metric of its own), and the instances' losses under
    ``metric``.

    Args:
        threshold: p-value under which a trial is stopped, in (0, 1). The test is repeated at each
            report, so that a trial as good as the best is stopped with a larger probability in all.
        least: how many instances must be common to both.
        metric: the metric under which the loss on an instance is reported (the goal's direction holds);
            the goal's own if None.

    Source: Optuna: A Next-generation Hyperparameter Optimization Framework | its Wilcoxon pruner

    Differs:
        1. The competitor is the complete trial of the best mean over the same instances, not the best by its
           result.

    >>> from foretune.space import Fidelity, Space
    >>> [(r.step, r.trials) for r in Wilcoxon(least=6).plan(Problem(Space({}), steps=Fidelity(50)), trials=8)]
    [(6, 8), (50, 8)]
    """

    threshold: float = 0.1
    least: int = 5
    metric: str | None = None

    tags: ClassVar[frozenset[str]] = frozenset({"judges"})

    def __post_init__(self) -> None:
        check.number("threshold", self.threshold, 0, 1 - 1e-9, open_low=True)
        check.integer("least", self.least, 2)
        if self.metric is not None:
            check.name("metric", self.metric)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        return Full().next(problem, history, key)

    def _instances(self, problem: Problem, trial: Trial) -> Mapping[float, float]:
        """Return instance -> loss."""
        metric, sign = self.metric or problem.goal.metric, problem.goal.sign
        found = {r.step: History.loss_of(r.values[metric], sign) for r in trial.reports if metric in r.values}
        if self.metric is None and trial.state == COMPLETE and found:
            del found[max(found)]  # the result has taken the place of the last instance's loss
        return found

    def judge(self, problem: Problem, history: History, trial: Trial) -> Verdict:
        at = trial.step
        if at >= problem.steps.high:
            return Verdict("go", "all instances have been seen")
        mine = self._instances(problem, trial)
        rival: tuple[float, int, Mapping[float, float]] | None = None
        complete = history.numbers(COMPLETE)
        if problem.constraints:
            feasible = history.feasible
            complete = [n for n in complete if feasible[n]] or complete
        for number in complete:
            theirs = self._instances(problem, history[number])
            common = [s for s in mine if s in theirs]
            if len(common) < self.least:
                continue
            mean = math.fsum(theirs[s] for s in common) / len(common)
            if rival is None or mean < rival[0]:
                rival = (mean, number, {s: theirs[s] for s in common})
        if rival is None:
            return Verdict("go", f"no complete trial shares {self.least} instances with it")
        mean, number, theirs = rival
        own = math.fsum(mine[s] for s in theirs) / len(theirs)
        others = [x for n, x in history.rung(at).items() if n != trial.number]
        last = history.rung(at).get(trial.number, math.inf)
        if math.inf > last >= BROKEN > history.rung(at).get(number, math.inf):
            return Verdict(
                "stop", f"it breaks a constraint at instance {at:g}, where trial {number} kept all"
            )
        p = worse([mine[s] for s in theirs], list(theirs.values()))
        sign = problem.goal.sign
        said = (
            f"mean {sign * own:.4g} against {sign * mean:.4g} of trial {number} over {len(theirs)} instances, "
            f"p = {p:.2g} that it is worse"
        )
        if own > mean and p < self.threshold and any(x <= last for x in others):
            return Verdict("stop", f"{said}: under {self.threshold:g}")
        return Verdict("go", said)

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        n = trials if trials is not None else problem.budget_trials or 1
        high = problem.steps.high
        first = min(float(self.least), high)
        first = int(first) if first.is_integer() else first
        if first >= high:
            return (Rung(0, high, n, n * high),)
        return (Rung(0, first, n, n * first), Rung(0, high, n, n * (high - first)))
