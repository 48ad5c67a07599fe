"""ASHA, stopping variant: trials run without pause and are stopped where they are not among the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from foretune.base import check
from foretune.base.key import Key
from foretune.schedule.bracket import least_trials
from foretune.schedule.full import Full
from foretune.schedule.scheduler import Action, Rung, Scheduler, Verdict
from foretune.schedule.standing import halvings, ordinal
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.ranked import BROKEN
from foretune.trial.trial import Trial

__entry__ = "AshaStopping"


@final
@dataclass(frozen=True)
class AshaStopping(Scheduler):
    """Asynchronous halving without pauses: for training that cannot be resumed cheaply.

    Each trial is sent to ``steps.high``. When it reports at a rung (the first report at or after its
    step), n trials have been there so far, this one included: it is stopped unless it is among the
    best floor(n / eta). While n < eta there is nothing to compare with, and it goes on. A diverged
    trial (+inf) is stopped at its next rung; one that breaks a constraint comes after
    all that keep them. Judging costs O(n) at a rung, O(rungs) elsewhere.

    Args:
        eta: of eta trials at a rung, one goes on (greater than 1; need not be whole).
        low: step of the lowest rung; ``steps.low`` if None.

    Source: Model-based Asynchronous Hyperparameter and Neural Architecture Search | which tells the
        stopping variant from the promotion variant

    Differs:
        1. "Among the best 1/eta" is floor(n / eta) places, ties going to the trial that began first.

    >>> from foretune.space import Fidelity, Space
    >>> plan = AshaStopping().plan(Problem(Space({}), steps=Fidelity(9)), trials=18)
    >>> [(r.step, r.trials) for r in plan]
    [(1, 18), (3, 6), (9, 2)]
    """

    eta: float = 3
    low: float | None = None

    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity", "judges"})

    def __post_init__(self) -> None:
        check.number("eta", self.eta, 1, open_low=True)
        if self.low is not None:
            check.number("low", self.low, 0, open_low=True)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        return Full().next(problem, history, key)

    def judge(self, problem: Problem, history: History, trial: Trial) -> Verdict:
        metric, sign = problem.goal.metric, problem.goal.sign
        if not trial.reports or metric not in trial.values:
            return Verdict("go", f"nothing is known of {metric} yet")
        before = 0.0
        for i in range(len(trial.reports) - 2, -1, -1):
            if metric in trial.reports[i].values:
                before = trial.reports[i].step
                break
        loss = History.loss_of(trial.values[metric], sign)
        word = "no rung between the last report and this one"
        for step in problem.steps.rungs(self.eta, self.low)[:-1]:
            if not before < step <= trial.step:
                continue
            if loss == math.inf:
                return Verdict("stop", f"diverged before step {step:g}")
            mine = (history.rung(step).get(trial.number, loss), trial.number)
            others = [(x, n) for n, x in history.rung(step).items() if n != trial.number]
            n, rank = len(others) + 1, sum(o < mine for o in others)
            best = math.floor(n / self.eta)
            word = f"{ordinal(rank + 1)} of {n} at step {step:g}"
            if n < self.eta:
                word += f": fewer than {self.eta:g} to compare with"
            elif rank >= best:
                broken = ", and breaks a constraint" if BROKEN <= mine[0] < math.inf else ""
                return Verdict("stop", f"{word}: not among the best {best}{broken}")
        return Verdict("go", word)

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        ladder = problem.steps.rungs(self.eta, self.low)
        total = trials if trials is not None else problem.budget_trials
        total = least_trials(self.eta, len(ladder)) if total is None else total
        found, before = [], 0.0
        for step, n in zip(ladder, halvings(total, self.eta, len(ladder)), strict=True):
            found.append(Rung(0, step, n, n * (step - before)))
            before = step
        return tuple(found)
