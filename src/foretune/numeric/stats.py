"""Small statistics without SciPy: quantiles of the normal and Student distributions, ranks, Spearman."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError

__all__ = [
    "normal_quantile",
    "ranks",
    "spearman",
    "student_cdf",
    "student_quantile",
    "tamed",
    "weighted_quantile",
    "wilson",
]

LARGE = 1e100  # whose square, summed over any number of values, is finite
_NORMAL = NormalDist()


def normal_quantile(p: float) -> float:
    """Return the value below which a standard normal variable falls with probability ``p``.

    >>> round(normal_quantile(0.975), 4)
    1.96
    """
    if not 0.0 < p < 1.0:
        raise ArgumentError(f"p must be in (0, 1); got {p!r}.")
    return _NORMAL.inv_cdf(p)


def student_cdf(t: float, dof: float) -> float:
    """Return P(T <= t) for Student's T with ``dof`` degrees of freedom (not only whole numbers).

    P(T <= t) = 1 - I(dof / (dof + t^2); dof/2, 1/2) / 2 for t >= 0, by symmetry below.
    """
    check.number("dof", dof, 0.0, open_low=True)
    if t == 0.0:
        return 0.5
    tail = 0.5 * _beta_cdf(dof / (dof + t * t), dof / 2.0, 0.5)
    return 1.0 - tail if t > 0 else tail


def student_quantile(p: float, dof: float) -> float:
    """Return the ``p`` quantile of Student's T with ``dof`` degrees of freedom, by bisection.

    >>> round(student_quantile(0.975, 3), 3)
    3.182
    """
    if not 0.0 < p < 1.0:
        raise ArgumentError(f"p must be in (0, 1); got {p!r}.")
    if p < 0.5:
        return -student_quantile(1.0 - p, dof)
    high = 1.0
    while student_cdf(high, dof) < p and high < 1e300:
        high *= 2.0
    low = 0.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if student_cdf(middle, dof) < p else (low, middle)
    return 0.5 * (low + high)


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function by its continued fraction (Lentz's method)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast only on the other side
        return 1.0 - _beta_cdf(1.0 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1.0), tiny)
    total = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1.0 + term * d
            c = 1.0 + term / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            change = c * d
            total *= change
        if abs(change - 1.0) < 1e-15:
            break
    return front * total / a


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Rank from 1 upwards; ties share the mean of their ranks.

    >>> ranks([10.0, 30.0, 10.0]).tolist()
    [1.5, 3.0, 1.5]
    """
    array = np.asarray(values, dtype=float)
    _, inverse, count = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2.0)[inverse.reshape(-1)], dtype=float)


def tamed(values: ArrayLike) -> NDArray[np.float64]:
    """Compress what lies beyond +-1e100, in its order, so that sums, squares and ranges stay finite.

        |v| > 1e100:  v -> sign(v) 1e100 (1 + log10 |v| / 1e100)

    Infinities and NaN stay as they are.

    >>> tamed([1e300, -1e200, 3.0]).tolist()
    [2.01e+102, -1.01e+102, 3.0]
    """
    v = np.asarray(values, dtype=float)
    far = np.abs(v) > LARGE
    if not far.any():
        return v
    out = v.copy()
    out[far] = np.sign(v[far]) * LARGE * (1.0 + np.log10(np.abs(v[far]) / LARGE))
    return out


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's rank correlation; NaN when one side is constant.

    >>> spearman([1, 2, 3, 4], [10, 20, 30, 25])
    0.8
    """
    x, y = ranks(a), ranks(b)
    if x.shape != y.shape or x.size < 2:
        raise ArgumentError(f"a and b must have one equal length of at least 2; got {x.size} and {y.size}.")
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


def weighted_quantile(
    values: ArrayLike, q: float | Sequence[float], weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return quantiles of weighted values, linear between the midpoints of the cumulated weights.

    Args:
        values: (n,).
        q: probabilities in [0, 1].
        weights: (n,) non-negative; equal when left out.

    Returns:
        As many numbers as ``q`` has.

    >>> weighted_quantile([1.0, 2.0, 3.0], [0.5], [1.0, 1.0, 1.0]).tolist()
    [2.0]
    """
    v = np.asarray(values, dtype=float).reshape(-1)
    w = np.ones_like(v) if weights is None else np.asarray(weights, dtype=float).reshape(-1)
    if v.size == 0 or w.shape != v.shape or (w < 0).any() or not w.sum() > 0:
        raise ArgumentError(
            f"values must be non-empty, with one non-negative weight each and a positive sum; got {v.size} "
            f"values and weights {weights!r}."
        )
    order = np.argsort(v, kind="stable")
    v, w = v[order], w[order]
    at = (np.cumsum(w) - 0.5 * w) / w.sum()
    return np.asarray(np.interp(np.atleast_1d(np.asarray(q, dtype=float)), at, v), dtype=float)


def wilson(k: int, n: int, level: float = 0.9) -> tuple[float, float]:
    """Return Wilson's interval of a rate after ``k`` successes in ``n`` tries.

    >>> [round(v, 3) for v in wilson(9, 10)]
    [0.652, 0.977]
    """
    check.integer("n", n, 1)
    check.integer("k", k, 0, n)
    z = normal_quantile(0.5 + level / 2.0)
    p, z2 = k / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
