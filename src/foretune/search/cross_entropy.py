"""The cross-entropy method: a distribution that is fitted to the best of its own draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.search.breeding import Member, enter, fitness, member, offspring, sized
from foretune.search.encoding import encoding
from foretune.search.sampler import Proposal, Sampler
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["CrossEntropy", "Distribution"]

__entry__ = "CrossEntropy"

Array = NDArray[np.float64]

# "elites": numbers of the elite of each generation, oldest first; "batch": what has settled since.
State = dict[str, list[Any]]

FORGOTTEN = 1e-9  # generations whose weight has fallen below this are left out


@final
@dataclass(frozen=True)
class Distribution:
    """Independent columns of the unit cube: truncated normal numbers, categorical choices.

    Attributes:
        mean: (d,) of the numbers.
        spread: (d,) standard deviations of the numbers.
        shares: column of a choice -> probability of each value.
    """

    mean: Array
    spread: Array
    shares: dict[int, Array]

    def draw(self, least: float, rng: np.random.Generator) -> Array:
        """Draw a row: (d,); spreads are at least ``least``, probabilities at least ``least`` over the values."""
        spread = np.maximum(self.spread, least)
        row = self.mean + spread * rng.standard_normal(len(self.mean))
        outside = (row < 0.0) | (row > 1.0)
        while outside.any():  # the mean lies within: at least about every third draw does
            row[outside] = (self.mean + spread * rng.standard_normal(len(row)))[outside]
            outside = (row < 0.0) | (row > 1.0)
        for j, share in self.shares.items():
            p = np.maximum(share, least / len(share))
            row[j] = (rng.choice(len(p), p=p / p.sum()) + 0.5) / len(p)
        return np.asarray(row)


def _start(space: Space) -> Distribution:
    levels = encoding(space).levels
    shares = {j: np.full(k, 1.0 / k) for j, k in enumerate(levels) if k}
    return Distribution(np.full(len(levels), 0.5), np.full(len(levels), math.sqrt(1 / 12)), shares)


def refit(before: Distribution, elite: Array, smoothing: float) -> Distribution:
    """Move a distribution towards the maximum likelihood fit of the elite's rows, (n, d), NaN where inactive.

    new = smoothing * fit + (1 - smoothing) * before;   fit: means, standard deviations (over n), frequencies.
    A column that is inactive in the whole elite stays as it was.
    """
    active = ~np.isnan(elite)
    count = np.maximum(active.sum(axis=0), 1)
    rows = np.where(active, elite, 0.0)
    mean = rows.sum(axis=0) / count
    spread = np.sqrt(np.where(active, (rows - mean) ** 2, 0.0).sum(axis=0) / count)
    weight = np.where(active.any(axis=0), smoothing, 0.0)
    shares = dict(before.shares)
    for j, share in before.shares.items():
        k = len(share)
        cells = np.minimum((elite[active[:, j], j] * k).astype(int), k - 1)
        if len(cells):
            shares[j] = (1 - smoothing) * share + smoothing * np.bincount(cells, minlength=k) / len(cells)
    return Distribution(
        (1 - weight) * before.mean + weight * mean, (1 - weight) * before.spread + weight * spread, shares
    )


@final
@dataclass(frozen=True)
class CrossEntropy(Sampler[State]):
    """Draws from a distribution that is refitted to the elite of each generation.

        mean, spread, frequencies <- a * (those of the elite) + (1 - a) * (those before)

    with a = ``smoothing``. Columns are independent. The state holds the elites' numbers; the
    distribution is computed from them.

    Args:
        population: draws of a generation; a known budget gives eight generations at least (of 8 or more).
        elite: share of a generation that the distribution is fitted to.
        smoothing: weight of the new fit.
        least: smallest standard deviation in the unit cube that is drawn with; the smallest probability
            of a choice's value is this over the number of values.

    Source: Cross-Entropy Optimization for Hyperparameter Optimization in Stochastic Gradient-based Approaches to Train Deep Neural Networks

    Differs:
        1. The first generation is uniform. Later ones are normal, truncated to the unit cube; the
           parameters fitted are those of the normal, not of its truncation.
        2. ``smoothing`` and ``least`` keep the spread from vanishing, as is usual for the method.
        3. Asynchronous: a generation is whatever ``population`` trials settle next.
        4. An inactive parameter leaves its distribution as it is; trials that went further count as
           better than trials that were halted early.
    """  # noqa: E501

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "constrained", "learns"})

    population: int = 20
    elite: float = 0.2
    smoothing: float = 0.7
    least: float = 0.02

    def __post_init__(self) -> None:
        check.integer("population", self.population, 4)
        check.number("elite", self.elite, 0.0, 0.9, open_low=True)
        check.number("smoothing", self.smoothing, 0.0, 1.0, open_low=True)
        check.number("least", self.least, 0.0, 0.3, open_low=True)

    def init(self, problem: Problem) -> State:
        return {"elites": [], "batch": []}

    def distribution(self, problem: Problem, state: State, history: History) -> Distribution:
        """Return what the next config is drawn from: mean, spread and frequencies, before ``least`` applies."""
        found = _start(problem.space)
        for numbers in state["elites"]:
            found = refit(found, history.units[numbers], self.smoothing)
        return found

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        if not state["elites"]:
            return offspring(problem, history, n, key, None, "a uniform draw for the first generation")
        source = self.distribution(problem, state, history)
        latest = ", ".join(map(str, state["elites"][-1]))
        numbers = [j for j in range(problem.space.width) if j not in source.shares]
        wide = f", mean spread {source.spread[numbers].mean():.2g}" if numbers else ""
        reason = f"a draw from the distribution of the elite (last: trials {latest}){wide}"
        return offspring(problem, history, n, key, lambda rng: (source.draw(self.least, rng), reason))

    def tell(self, problem: Problem, state: State, trial: Trial) -> State:
        batch: list[Member] = enter(state["batch"], member(problem, trial))
        size = sized(self.population, problem)
        if len(batch) < size:
            return {**state, "batch": batch}
        ranked = sorted((m for m in batch if m[3] is not None), key=fitness)
        if not ranked:
            return {**state, "batch": []}
        numbers = [m[0] for m in ranked[: max(2, round(self.elite * size))]]
        memory = 1 if self.smoothing == 1 else math.ceil(math.log(FORGOTTEN) / math.log1p(-self.smoothing))
        return {"elites": [*state["elites"], numbers][-memory:], "batch": []}
