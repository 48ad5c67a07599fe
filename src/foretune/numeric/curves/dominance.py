"""Dominant curves: do learning curves keep their order, so that the best are known after the first step?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base.errors import ArgumentError

__all__ = ["Dominance", "dominant_curves"]


@final
@dataclass(frozen=True)
class Dominance:
    """What a table of curves says on stopping early.

    Attributes:
        clusters: (n,) whole numbers from 0: every curve of a cluster lies below every curve of the next,
            at all positions; within a cluster curves cross.
        crossing_rate: share of pairs whose order at the first position is not that at the last; a tie
            at one of the two counts half.
        needed: how many of the first position's best must be kept so that the last one's best is among them.
        regret: (n,) last loss of the best among the first position's k best, less the least last loss,
            for k = 1 ... n.
    """

    clusters: NDArray[np.intp]
    crossing_rate: float
    needed: int
    regret: NDArray[np.float64]


def dominant_curves(table: ArrayLike) -> Dominance:
    """Analyse a table of losses.

    Args:
        table: (n, positions), less is better; what is not finite counts as worse than all that is.

    Raises:
        ArgumentError: not two-dimensional, or empty.

    Source: Is One Epoch All You Need For Multi-Fidelity Hyperparameter Optimization? | dominant curves

    Differs:
        1. The paper shows dominance in figures; clusters, rate and K are our way to put numbers to it.

    >>> found = dominant_curves([[3, 1.0], [4, 2.0], [9, 8.0], [8, 8.5]])
    >>> found.clusters.tolist(), round(found.crossing_rate, 3), found.needed
    ([0, 1, 2, 2], 0.167, 1)
    """
    y = np.array(table, dtype=float)
    if y.ndim != 2 or y.size == 0:
        raise ArgumentError(f"table must be (curves, positions) with at least one of each; got {y.shape}.")
    y[~np.isfinite(y)] = np.inf
    n = len(y)
    order = np.argsort(y[:, -1], kind="stable")
    rows = y[order]
    upto = np.maximum.accumulate(rows, axis=0)  # worst of the c best
    after = np.minimum.accumulate(rows[::-1], axis=0)[::-1]  # best of the others
    cut = (upto[:-1] < after[1:]).all(axis=1)
    clusters = np.empty(n, dtype=np.intp)
    clusters[order] = np.concatenate([[0], np.cumsum(cut)])

    i, j = np.triu_indices(n, 1)
    first = np.sign(_order(y[:, 0]))[i, j]
    last = np.sign(_order(y[:, -1]))[i, j]
    tied = (first == 0) != (last == 0)
    crossing = float(np.mean(np.where(tied, 0.5, first * last < 0))) if n > 1 else 0.0

    early = np.argsort(y[:, 0], kind="stable")
    best = np.minimum.accumulate(y[early, -1])
    least = best[-1]
    regret = np.where(np.isfinite(best), best - least, np.inf) if np.isfinite(least) else np.zeros(n)
    return Dominance(clusters, crossing, int(np.argmax(best == least)) + 1, regret)


def _order(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sign of each difference, (n, n); two infinities are equal."""
    a, b = column[:, None], column[None, :]
    found: NDArray[np.float64] = (a > b).astype(float) - (a < b).astype(float)
    return found
