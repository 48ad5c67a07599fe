"""Multi-objective halving follows its fronts; the decisions are those of sorting all trials at each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretune.base.key import Key
from foretune.schedule import make
from foretune.schedule.multi_objective_asha import losses_at, order
from foretune.schedule.scheduler import Resume
from foretune.space import Fidelity, Float, Space
from foretune.trial.constraint import parse_constraints
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED, RUNNING, WAITING

ETA = 3


def sorted_anew(history: History, ladder: tuple[float, ...]) -> tuple[int, float] | None:
    """The definition: the highest rung first; kept ones by fronts, broken ones by how much, the rest last."""
    problem = history.problem
    for k in range(len(ladder) - 2, -1, -1):
        here, there = ladder[k], ladder[k + 1]
        arrived = []
        for trial in history:
            known = losses_at(problem, trial, here)
            mute = known is None and trial.state not in (RUNNING, WAITING) and trial.plan.until >= here
            if mute or (trial.state == FAILED and trial.plan.until == here):
                known = (math.inf,) * len(problem.goals), 0.0
            if known is not None:
                arrived.append((trial, *known))
        finite = [(t, x, by) for t, x, by in arrived if all(map(math.isfinite, x))]
        kept = [(t, x) for t, x, by in finite if by <= 0.0]
        ranked = [kept[i][0] for i in order([x for _, x in kept])] if kept else []
        ranked += [t for t, _, by in sorted(finite, key=lambda f: (f[2], f[0].number)) if by > 0.0]
        for trial in ranked[: math.floor(len(arrived) / ETA)]:
            if trial.state == "paused" and trial.plan.until < there:
                return trial.number, there
    return None


@pytest.mark.parametrize("goals", [2, 3])
@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_decisions_are_those_of_sorting_anew(goals: int, levels: int, seed: int) -> None:
    """Over 90 trials with failures, divergence, ties and broken constraints each decision agrees."""
    rng = np.random.default_rng(seed)
    problem = Problem(
        Space({"x": Float(0, 1)}), tuple(Goal(f"g{i}") for i in range(goals)), Fidelity(9), Key.of(seed),
        budget_trials=90, constraints=parse_constraints("memory <= 1"),
    )  # fmt: skip
    scheduler, history = make("multi_objective_asha", eta=ETA), History(problem)
    ladder, running, log, promoted = problem.steps.rungs(ETA), [], [], 0

    def emit(kind: str, number: int, **data: object) -> None:
        log.append(Event(kind, number, 0.0, data))
        history.apply(log[-1:])

    for _ in range(400):
        wanted = sorted_anew(history, ladder)
        action = scheduler.next(problem, history, problem.key)
        if isinstance(action, Resume):
            promoted += 1
            assert (action.number, action.plan.until) == wanted
            running.append((action.number, action.plan.until))
            emit("resume", action.number, plan=list(action.plan), reason="r")
        else:
            assert wanted is None
            if len(history) < 90:
                running.append((len(history), action.plan.until))
                emit("start", len(history), config={"x": 0.5}, plan=list(action.plan), reason="r")
            elif not running:
                break
        if promoted % 7 == 3:
            anew = scheduler.next(problem, History(problem, log), problem.key)
            assert anew == scheduler.next(problem, history, problem.key)
        while running and (len(running) > 3 or len(history) == 90):
            number, until = running.pop(int(rng.integers(len(running))))
            if rng.random() < 0.1:
                emit("fail", number, reason="r")
                continue
            values = {f"g{i}": float(v) for i, v in enumerate(rng.random(goals))}
            if levels:
                values = {k: math.floor(v * levels) for k, v in values.items()}
            if rng.random() < 0.1:
                values["g1"] = "NaN"
            if rng.random() < 0.8:
                values["memory"] = 2 * float(rng.random())
            emit("report", number, step=until, values=values)
            emit("complete" if until == 9 else "pause", number, reason="r")
            break
    assert promoted > 20
