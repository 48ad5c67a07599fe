"""BOSS: after a warm-up, each trial starts from one earlier good network and learns from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from foretune.base import check
from foretune.base.key import Key
from foretune.schedule.full import Full
from foretune.schedule.scheduler import Action, Rung, Scheduler, Start
from foretune.trial.feasibility import feasible_first
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import COMPLETE

__all__ = ["Boss", "pool"]

__entry__ = "Boss"


def pool(history: History, top: int) -> list[int]:
    """Return the numbers of the ``top`` best complete trials, best first; ties by number.

    Those that break a constraint come after all that keep them.
    """
    seen = feasible_first(history)
    known = [(seen.loss(n), n) for n in history.numbers(COMPLETE)]
    return [n for loss, n in sorted(known) if np.isfinite(loss)][:top]


@final
@dataclass(frozen=True)
class Boss(Scheduler):
    """Trains every trial to the end; those after the warm-up inherit from the best trials so far.

    Two different trials are drawn evenly from the ``top`` best complete ones: from the weights of the
    first (``run.weights``) the trial starts, the second (``run.teacher``) is its teacher. The training
    function mixes the teacher in by ``foretune.numeric.distillation.kd_loss``. Configs come from whichever
    sampler the study has, the distillation's weight and temperature being parameters like others. The
    study must keep its checkpoints (``keep="all"``).

    Args:
        top: how many of the best trials may be inherited from, K.
        warmup: trials that are trained plainly first; never fewer than two complete ones.
        inherit: whether trials start from weights; without it they have a teacher alone.

    Source: Bayesian Optimization Meets Self-Distillation

    Differs:
        1. The sampler keeps one history over warm-up and later trials, so that what the warm-up
           has taught is used; the authors' code begins a second search after the warm-up, which adds
           the distillation weight as a parameter.

    >>> Boss(top=2).top
    2
    """

    top: int = 8
    warmup: int = 8
    inherit: bool = True

    def __post_init__(self) -> None:
        check.integer("top", self.top, 2)
        check.integer("warmup", self.warmup, 2)
        check.flag("inherit", self.inherit)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        action = Full().next(problem, history, key)
        if not isinstance(action, Start) or len(history) < self.warmup:
            return action
        best = pool(history, self.top)
        if len(best) < 2:
            return action
        rng = problem.key.fold("boss", len(history)).generator()
        student, teacher = (best[int(i)] for i in rng.choice(len(best), size=2, replace=False))
        plan = action.plan._replace(teacher=teacher)
        if not self.inherit:
            return Start(plan, f"{action.reason}, taught by trial {teacher}")
        plan = plan._replace(weights_from=student)
        return Start(plan, f"{action.reason}, from the weights of trial {student}, taught by trial {teacher}")

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        return Full().plan(problem, trials)
