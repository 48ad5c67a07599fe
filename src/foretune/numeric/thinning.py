"""Few observations that stand for many: farthest points, how far a model may be trusted, a cap on its variance.

    thin_observations    repeatedly takes the observation that is farthest from all taken so far
    trust_radius         the distance to the nearest observation, and how far observations are from each other
    log_barrier          -mu log(1 - s / s_max): a penalty that keeps a fitted signal variance s below its cap

Distances are Euclidean, or a sum over groups of Wasserstein-1 distances between the sets of points that rows hold:
columns that may be exchanged within a group (atoms of one kind, layers of one network) then count as equal.

Source: Adaptive Pruning for Increased Robustness and Reduced Computational Overhead in Gaussian Process Accelerated Saddle Point Searches

Differs:
    1. Any rows, not only configurations of atoms; a group is an array of column numbers.
    2. The radius is a quantile of the distances of observations to their nearest neighbours; the paper's
       threshold for molecules is not a number for other spaces.
    3. The barrier's form is the textbook's; the weight (1e-2) is assumed.
"""  # noqa: E501 - the title's one line

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.lazy import require

__all__ = ["METRICS", "Trust", "distances", "log_barrier", "penalised", "thin_observations", "trust_radius"]

Array = NDArray[np.float64]

METRICS = ("euclidean", "wasserstein1")
INACTIVE = 1.0  # what a column adds to a squared distance where one of two rows lacks it


def _rows(name: str, x: ArrayLike) -> Array:
    rows = np.asarray(x, dtype=float)
    if rows.ndim != 2:
        raise ArgumentError(f"{name} must be rows of numbers (n, d); got an array of shape {rows.shape}.")
    return rows


def _groups(groups: Sequence[Any] | None, width: int) -> list[NDArray[np.intp]]:
    found = [np.asarray(g, dtype=int) for g in (groups if groups is not None else [np.arange(width)])]
    for g in found:
        if g.ndim not in (1, 2) or g.size == 0 or g.min() < 0 or g.max() >= width:
            raise ArgumentError(
                f"groups must hold arrays of column numbers in [0, {width}): (points,) or (points, coordinates); "
                f"got {g.tolist()!r}."
            )
    return found


def distances(
    x: ArrayLike, at: ArrayLike, metric: str = "euclidean", groups: Sequence[Any] | None = None
) -> Array:
    """Return the distances (n, m) between rows ``x`` (n, d) and ``at`` (m, d).

    Args:
        metric: "euclidean" (a NaN on one side only counts as a distance of 1), or "wasserstein1".
        groups: for "wasserstein1": arrays of column numbers. (k,) are k points on a line, (k, c) are k points with
            c coordinates; all columns are one group of points on a line when left out.

    >>> distances([[0.0, 1.0]], [[1.0, 0.0]], "wasserstein1").tolist()
    [[0.0]]
    """
    check.one_of("metric", metric, METRICS)
    a, b = _rows("x", x), _rows("at", at)
    if a.shape[1] != b.shape[1]:
        raise ArgumentError(f"x and at must have equally many columns; got {a.shape[1]} and {b.shape[1]}.")
    if metric == "euclidean":
        gap = a[:, None] - b[None]
        missing = np.isnan(a)[:, None] != np.isnan(b)[None]
        return np.asarray(np.sqrt((np.where(missing, INACTIVE, np.nan_to_num(gap)) ** 2).sum(-1)))
    total = np.zeros((len(a), len(b)))
    for group in _groups(groups, a.shape[1]):
        if group.ndim == 1:  # on a line the best matching is that of the sorted values
            one, two = np.sort(a[:, group], axis=1), np.sort(b[:, group], axis=1)
            total += np.abs(one[:, None] - two[None]).mean(-1)
        else:
            total += _matched(a[:, group], b[:, group])
    return total


def _matched(a: Array, b: Array) -> Array:
    """Return the mean distance of the best matching between point sets (n, k, c) and (m, k, c): (n, m)."""
    assign = require("scipy.optimize", "The Wasserstein distance of points in space").linear_sum_assignment
    out = np.empty((len(a), len(b)))
    for i, one in enumerate(a):
        costs = np.sqrt(((one[None, :, None] - b[:, None]) ** 2).sum(-1))  # (m, k, k)
        for j, cost in enumerate(costs):
            out[i, j] = cost[assign(cost)].mean()
    return out


def thin_observations(
    x: ArrayLike,
    k: int,
    metric: str = "euclidean",
    *,
    groups: Sequence[Any] | None = None,
    keep: Sequence[int] = (),
) -> NDArray[np.intp]:
    """Choose ``k`` rows that cover all rows: farthest-point sampling.

    Args:
        x: (n, d) rows.
        k: rows to choose; all come back when there are no more.
        metric: see :func:`distances`; ``groups`` too.
        keep: rows that are chosen first, such as the best ones; the row nearest to the mean if none.

    Returns:
        Sorted row numbers.

    >>> thin_observations([[0.0], [0.1], [1.0], [0.9]], 2, keep=[0]).tolist()
    [0, 2]
    """
    rows = _rows("x", x)
    n = len(rows)
    check.integer("k", k, 1)
    if n <= k:
        return np.arange(n)
    first = list(dict.fromkeys(int(i) for i in keep))[:k]
    if not first:
        filled = np.nan_to_num(rows, nan=0.5)
        first = [int(np.argmin(((filled - filled.mean(0)) ** 2).sum(1)))]
    gap = distances(rows, rows[first], metric, groups).min(axis=1)
    gap[first] = -1.0
    chosen = list(first)
    while len(chosen) < k:
        i = int(np.argmax(gap))
        chosen.append(i)
        gap = np.minimum(gap, distances(rows, rows[i : i + 1], metric, groups)[:, 0])
        gap[i] = -1.0
    return np.array(sorted(chosen))


@final
@dataclass(frozen=True)
class Trust:
    """Whether a model that has seen rows may be believed elsewhere.

    Attributes:
        distance: (m,) to the nearest row seen. radius: how far counts as near.
        inside: (m,) whether the distance is within the radius.
        nearest: (m,) numbers of the nearest rows.
    """

    distance: Array
    radius: float
    inside: NDArray[np.bool_]
    nearest: NDArray[np.intp]


def trust_radius(
    x: ArrayLike,
    at: ArrayLike,
    metric: str = "euclidean",
    *,
    groups: Sequence[Any] | None = None,
    quantile: float = 0.95,
) -> Trust:
    """Compare how far rows ``at`` lie from the data with how far the data lie from each other.

    Args:
        x: (n, d) rows seen, at least 2. at: (m, d) rows in question.
        quantile: the radius is this quantile of the distances of rows seen to their nearest neighbours.

    >>> trust_radius([[0.0], [0.1], [0.2]], [[0.25], [0.9]]).inside.tolist()
    [True, False]
    """
    check.number("quantile", quantile, 0.0, 1.0)
    rows = _rows("x", x)
    if len(rows) < 2:
        raise ArgumentError(f"x must hold at least 2 rows; got {len(rows)}.")
    own = distances(rows, rows, metric, groups)
    np.fill_diagonal(own, np.inf)
    radius = float(np.quantile(own.min(axis=1), quantile))
    gap = distances(rows, at, metric, groups)
    distance = gap.min(axis=0)
    return Trust(distance, radius, distance <= radius * (1.0 + 1e-9), gap.argmin(axis=0))


def log_barrier(variance: float, most: float, weight: float = 1e-2) -> tuple[float, float]:
    """Return a penalty of a log density that falls to -inf at a cap, and its slope in the variance's logarithm.

        weight log(1 - variance / most)

    Args:
        variance: positive. most: the cap. weight: mu.

    >>> value, slope = log_barrier(1.0, 2.0)
    >>> round(value, 5), round(slope, 5)
    (-0.00693, -0.01)
    """
    check.number("most", most, 0.0, open_low=True)
    check.number("weight", weight, 0.0)
    left = 1.0 - variance / most
    if left <= 0.0:
        return -np.inf, -np.inf
    return weight * float(np.log(left)), -weight * variance / (most * left)


def penalised(
    evidence: Callable[[Array], tuple[float, Array]], place: int, most: float, weight: float
) -> Callable[[Array], tuple[float, Array]]:
    """Add :func:`log_barrier` of ``exp(theta[place])`` to a log density with a gradient."""

    def value(theta: Array) -> tuple[float, Array]:
        found, gradient = evidence(theta)
        more, slope = log_barrier(float(np.exp(min(theta[place], 700.0))), most, weight)
        if not np.isfinite(more):
            return -np.inf, gradient
        gradient = gradient.copy()
        gradient[place] += slope
        return found + more, gradient

    return value
