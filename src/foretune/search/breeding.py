"""Breeding: what the samplers that hold a population share. Who stands where, and how children are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretune.base.key import Key
from foretune.search.distinct import pick, whole
from foretune.search.random import draws
from foretune.search.sampler import Proposal
from foretune.space.domain import Choice
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.ranked import excess
from foretune.trial.trial import COMPLETE, FAILED, Trial

__all__ = [
    "Member",
    "cross",
    "enter",
    "fitness",
    "member",
    "named",
    "offspring",
    "perturb",
    "sized",
    "winner",
]

Array = NDArray[np.float64]

# [number, by how much constraints are broken (``trial/ranked.py``), reach, loss of each goal]; a loss is None
# where it is not finite.
Member = list[Any]

TRIES = 16  # children that may be copies of earlier trials before a uniform draw takes their place
GENERATIONS = 8  # a known budget is divided into this many populations at least (assumed)
LEAST = 8  # members of a population that a small budget has made smaller


def sized(population: int, problem: Problem) -> int:
    """Return the population for a problem's budget: at most an eighth of it, at least 8, never more than asked for."""
    if problem.budget_trials is None:
        return population
    return min(population, max(LEAST, problem.budget_trials // GENERATIONS))


def member(problem: Problem, trial: Trial) -> Member:
    """Describe a settled trial by where it stands: constraints broken, steps reached, losses.

    A complete trial has reached the full length, whatever its last step.
    """

    def last(metric: str) -> float | None:
        return next((r.values[metric] for r in reversed(trial.reports) if metric in r.values), None)

    reach = problem.steps.high if trial.state == COMPLETE else min(trial.step, problem.steps.high)
    if trial.state == FAILED:
        return [trial.number, 0.0, float(reach), *(None for _ in problem.goals)]
    losses = [History.loss_of(last(g.metric), g.sign) for g in problem.goals]
    broken = excess(problem.constraints, last)
    return [
        trial.number,
        min(broken, 1e300),
        float(reach),
        *(x if math.isfinite(x) else None for x in losses),
    ]


def fitness(m: Member) -> tuple[Any, ...]:
    """Return what members are ordered by, the best first.

    A finite loss before none, constraints kept before broken, a longer run before a shorter one (a
    scheduler sends the better ones further, and losses at different steps say nothing of each other), then
    the loss of the first goal, then the earlier trial.
    """
    return (m[3] is None, m[1], -m[2], math.inf if m[3] is None else m[3], m[0])


def enter(members: Sequence[Member], new: Member) -> list[Member]:
    """Return the members with a trial's new standing in the place of its old one, or at the end."""
    if any(m[0] == new[0] for m in members):
        return [new if m[0] == new[0] else m for m in members]
    return [*members, new]


def winner(members: Sequence[Member], size: int, rng: np.random.Generator) -> Member:
    """Return the best of ``size`` members drawn without replacement."""
    drawn = rng.choice(len(members), size=min(size, len(members)), replace=False)
    return min((members[i] for i in drawn), key=fitness)


def named(space: Space) -> list[str]:
    """Names of the parameters that can be changed."""
    return [n for n, d in space.items() if d.width and d.size > 1]


def cross(space: Space, a: Array, b: Array, rng: np.random.Generator) -> Array:
    """Uniform crossover: each parameter whole from ``a`` or ``b``; where one of them lacks it, from the other."""
    child = a.copy()
    for name in named(space):
        columns = space.columns[name]
        if np.isnan(a[columns]).any() or (rng.random() < 0.5 and not np.isnan(b[columns]).any()):
            child[columns] = b[columns]
    return child


def another(value: float, k: int, rng: np.random.Generator) -> float:
    """Return the place in the unit interval of another of a choice's ``k`` values than ``value`` stands for."""
    cell = min(int(value * k), k - 1)
    return ((cell + int(rng.integers(1, k))) % k + 0.5) / k


def perturb(
    space: Space, row: Array, rate: float, step: float, rng: np.random.Generator, least: int = 1
) -> tuple[Array, list[str]]:
    """Change each active parameter with probability ``rate``, and ``least`` of them anyhow.

    A choice takes another value; a number makes a normal step in the unit cube, reflected at its ends; an
    int's step is at least one of its values wide (in the mean), or its child would often be its parent.

    Returns:
        (d,) the child's row, and the names of what was changed.
    """
    active = [n for n in named(space) if not np.isnan(row[space.columns[n]]).any()]
    chosen = [n for n, u in zip(active, rng.random(len(active)), strict=True) if u < rate]
    if len(chosen) < least and active:
        chosen = [active[i] for i in sorted(rng.choice(len(active), min(least, len(active)), replace=False))]
    child = row.copy()
    for name in chosen:
        columns, domain = space.columns[name], space[name]
        if isinstance(domain, Choice):
            child[columns] = another(float(row[columns][0]), len(domain.values), rng)
        else:
            width = 0.0 if math.isinf(domain.size) else 1.0 / domain.size
            moved = row[columns] + max(step, width) * rng.standard_normal(domain.width)
            child[columns] = np.clip(np.where(moved < 0, -moved, np.where(moved > 1, 2 - moved, moved)), 0, 1)
    return child, chosen


def offspring(
    problem: Problem,
    history: History,
    n: int,
    key: Key,
    breed: Callable[[np.random.Generator], tuple[Array, str]] | None,
    early: str = "a uniform draw for the first population",
    avoid: Sequence[Mapping[str, Any]] = (),
) -> list[Proposal]:
    """Propose ``n`` children that no earlier trial is a copy of; uniform draws where there is no parent yet.

    Args:
        breed: makes a child: its row of the unit cube (NaN: to be drawn, should it be active) and why; None
            before there are parents.
        early: the reason of draws without parents.
        avoid: configs that are about to be tried already.
    """
    space = problem.space
    if breed is None or space.width == 0:
        return [Proposal(c, note or early) for c, note in pick(history, draws(space, key), n, avoid)]
    rng = key.generator()
    # in a small space `pick` sees to it that nothing is repeated while untried configs are left
    known = history.units if whole(space) is None else history.units[:0]
    why: dict[int, str] = {}
    uniform = draws(space, key.fold("draw"))

    def stream() -> Iterator[Mapping[str, Any]]:
        while True:
            for _ in range(TRIES):
                row, reason = breed(rng)
                config: Mapping[str, Any] = space.decode(
                    np.where(np.isnan(row), rng.random(len(row)), row)[None]
                )[0]
                own = space.encode([config])[0]
                if not ((known == own) | (np.isnan(known) & np.isnan(own))).all(axis=1).any():
                    break
            else:
                config, reason = (
                    next(uniform),
                    f"a uniform draw: {TRIES} children were copies of earlier trials",
                )
            why[id(config)] = reason
            yield config

    return [Proposal(c, note or why[id(c)]) for c, note in pick(history, stream(), n, avoid)]
