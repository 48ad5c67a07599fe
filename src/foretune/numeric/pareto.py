"""Pareto mathematics: who dominates whom, how crowded a front is, how much it covers.

Notation: n points of m goals, smaller is better. a dominates b when a <= b everywhere and a < b somewhere.
Whatever is not finite (NaN, infinities of either sign) counts as +inf: it never dominates a finite point.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base.errors import ArgumentError

__all__ = ["best", "contributions", "crowding", "front", "hypervolume", "ranks"]

Array = NDArray[np.float64]


def _points(losses: ArrayLike) -> Array:
    """Return (n, m) floats in which all that is not finite is +inf; a flat array is one goal."""
    rows = np.array(losses, dtype=float)
    if rows.ndim == 1:
        rows = rows[:, None]
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ArgumentError(f"losses must have the shape (n, goals); got {np.shape(losses)}.")
    rows[~np.isfinite(rows)] = np.inf
    return rows


def ranks(losses: ArrayLike) -> NDArray[np.intp]:
    """Number the fronts: 0 for points that nothing dominates, 1 for those that only rank 0 dominates, and so on.

    Equal points share a rank. O(n log n) for two goals; else O(n log f) vectorised comparisons with
    one of f fronts: in lexicographic order a point is dominated by earlier ones only, and a point
    that front k dominates is dominated by each front before k, so that bisection finds its front.

    Args:
        losses: (n, m).

    Returns:
        (n,) whole numbers from 0.

    Source: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II | the ranks
    Source: An Efficient Approach to Nondominated Sorting for Evolutionary Multiobjective Optimization | the
        search for a point's front (ENS-BS)

    >>> ranks([[1, 4], [2, 2], [4, 1], [3, 3], [float("nan"), 0]]).tolist()
    [0, 0, 0, 1, 0]
    """
    rows = _points(losses)
    if len(rows) == 0:
        return np.zeros(0, dtype=np.intp)
    distinct, back = np.unique(rows, axis=0, return_inverse=True)
    m = distinct.shape[1]
    if m == 1:
        rank = np.arange(len(distinct))
    elif m == 2:
        ends: list[float] = []  # the least second loss of each front: ascending
        rank = np.empty(len(distinct), dtype=np.intp)
        for i, second in enumerate(distinct[:, 1].tolist()):
            k = bisect_right(ends, second)
            ends[k : k + 1] = [second]
            rank[i] = k
    else:
        rank = _by_bisection(distinct)
    return np.asarray(rank, dtype=np.intp)[back.reshape(-1)]


def _by_bisection(distinct: Array) -> NDArray[np.intp]:
    """Rank different rows in lexicographic order."""
    fronts: list[Array] = []
    sizes: list[int] = []
    rank = np.empty(len(distinct), dtype=np.intp)
    for i, row in enumerate(distinct):
        low, high = 0, len(fronts)
        while low < high:
            k = (low + high) // 2
            if (fronts[k][: sizes[k]] <= row).all(axis=1).any():
                low = k + 1
            else:
                high = k
        if low == len(fronts):
            fronts.append(np.empty((4, distinct.shape[1])))
            sizes.append(0)
        if sizes[low] == len(fronts[low]):
            fronts[low] = np.concatenate([fronts[low], np.empty_like(fronts[low])])
        fronts[low][sizes[low]] = row
        sizes[low] += 1
        rank[i] = low
    return rank


def front(losses: ArrayLike) -> NDArray[np.bool_]:
    """Mark the finite points that no other point dominates; equal ones are all marked.

    >>> front([[1, 4], [2, 2], [3, 3], [float("nan"), 0]]).tolist()
    [True, True, False, False]
    """
    rows = _points(losses)
    finite = np.isfinite(rows).all(axis=1)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[finite] = ranks(rows[finite]) == 0
    return chosen


def crowding(losses: ArrayLike, rank: ArrayLike | None = None) -> Array:
    """Return each point's crowding distance among the points of its rank.

        d_i = sum over goals of (f_next - f_before) / (f_max - f_min);   infinite at the two ends of a goal

    Args:
        losses: (n, m).
        rank: (n,), as ``ranks`` gives; computed if None.

    Returns:
        (n,): larger is lonelier.

    Source: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II | section III-B

    Differs:
        1. A goal on which all points of a rank are equal adds nothing and has no ends.
        2. Losses that are not finite are put at the worst finite one of the rank.

    >>> crowding([[0, 4], [1, 2], [4, 0]]).tolist()
    [inf, 2.0, inf]
    """
    rows = _points(losses)
    level = ranks(rows) if rank is None else np.asarray(rank)
    if level.shape != (len(rows),):
        raise ArgumentError(f"rank must have one entry a point ({len(rows)}); got the shape {level.shape}.")
    distance = np.zeros(len(rows))
    for k in np.unique(level):
        group = np.flatnonzero(level == k)
        for column in rows[group].T:
            finite = np.isfinite(column)
            if not finite.any():
                continue
            value = np.where(finite, column, column[finite].max())
            span = float(np.ptp(value))
            if span <= 0.0:
                continue
            order = np.argsort(value, kind="stable")
            value = value[order]
            distance[group[order[1:-1]]] += (value[2:] - value[:-2]) / span
            distance[group[order[[0, -1]]]] = np.inf
    return distance


def best(losses: ArrayLike, k: int) -> NDArray[np.intp]:
    """Choose ``k`` points: whole fronts first, of the last one the loneliest. Best first; ties by position.

    >>> best([[1, 4], [2, 2], [3, 3], [4, 1]], 3).tolist()
    [0, 3, 1]
    """
    rows = _points(losses)
    level = ranks(rows)
    order = np.lexsort((np.arange(len(rows)), -crowding(rows, level), level))
    return np.asarray(order[: max(0, k)])


def hypervolume(losses: ArrayLike, reference: ArrayLike) -> float:
    """Measure the volume that the points dominate and ``reference`` bounds. Exact.

    Two goals: a sweep. Three: a sweep over the third with the staircase of the first two, O(n log n)
    comparisons. More: points sorted from the worst to the best of the last goal; each adds

        (r_m - p_m) (prod_{j<m} (r_j - p_j) - HV_{m-1}(max(p, q) for the points q after p))

    which is exact and takes a time exponential in the number of goals.

    Args:
        losses: (n, m); points that do not beat the reference in every goal add nothing.
        reference: (m,), finite.

    Raises:
        ArgumentError: the reference has another number of goals or is not finite.

    Source: A Fast Way of Calculating Exact Hypervolumes | exclusive volumes of limited sets

    >>> hypervolume([[1, 2], [2, 1], [5, 0]], [3, 3])
    3.0
    """
    rows = _points(losses)
    at = np.array(reference, dtype=float).reshape(-1)
    if len(at) != rows.shape[1] or not np.isfinite(at).all():
        raise ArgumentError(
            f"reference must be {rows.shape[1]} finite numbers, one a goal; got {np.asarray(reference).tolist()!r}."
        )
    return _volume(rows[(rows < at).all(axis=1)], at)


def contributions(losses: ArrayLike, reference: ArrayLike) -> Array:
    """Return how much hypervolume each point adds to all others: 0 for dominated and for equal points.

    >>> contributions([[1, 2], [2, 1], [2, 2]], [3, 3]).tolist()
    [1.0, 1.0, 0.0]
    """
    rows = _points(losses)
    whole = hypervolume(rows, reference)
    added = np.zeros(len(rows))
    for i in np.flatnonzero(front(rows)):
        added[i] = max(0.0, whole - hypervolume(np.delete(rows, i, axis=0), reference))
    return added


def _volume(rows: Array, reference: Array) -> float:
    """Hypervolume of points that all beat the reference."""
    if len(rows) == 0:
        return 0.0
    rows = np.unique(rows, axis=0)
    rows = rows[ranks(rows) == 0]
    m = len(reference)
    if m == 1:
        return float(reference[0] - rows[0, 0])
    if m == 2:  # by the first goal ascending, the second descends
        width = np.diff(np.append(rows[:, 0], reference[0]))
        return float(width @ (reference[1] - rows[:, 1]))
    if m == 3:
        return _sweep(rows[np.argsort(rows[:, 2], kind="stable")].tolist(), reference.tolist())
    rows = rows[np.argsort(-rows[:, -1], kind="stable")]
    total = 0.0
    for i, point in enumerate(rows):
        limited = np.maximum(rows[i + 1 :, :-1], point[:-1])
        alone = float(np.prod(reference[:-1] - point[:-1])) - _volume(limited, reference[:-1])
        total += float(reference[-1] - point[-1]) * alone
    return total


def _sweep(rows: Sequence[Sequence[float]], reference: Sequence[Any]) -> float:
    """Hypervolume in three goals of points sorted by the third: area of the staircase times depth, summed."""
    rx, ry, rz = reference
    xs, ys = [-np.inf, rx], [ry, -np.inf]  # the staircase between two sentinels: x ascends, y descends
    area = volume = 0.0
    for i, (x, y, z) in enumerate(rows):
        k = bisect_right(xs, x) - 1  # the last step at or left of x
        if ys[k] > y:
            first = bisect_left(xs, x)
            last = first
            while ys[last] > y or (ys[last] == y and last < len(xs) - 1):  # steps that the point dominates
                last += 1
            left, top = x, ys[first - 1]
            for j in range(first, last):
                area += (xs[j] - left) * (top - y)
                left, top = xs[j], ys[j]
            area += (xs[last] - left) * (top - y)
            xs[first:last], ys[first:last] = [x], [y]
        volume += area * ((rows[i + 1][2] if i + 1 < len(rows) else rz) - z)
    return float(volume)
