"""Noise and what can be seen through it: pooled deviations, detectable differences, shrinkage.

pooled         s^2 = sum_g sum_i (y_gi - mean_g)^2 / sum_g (n_g - 1)
detectable     (t_{1 - level/2} + t_{power}) * sem
shrunk         m_i' = m + B_i (m_i - m),   B_i = tau^2 / (tau^2 + v_i)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.numeric.stats import normal_quantile, student_quantile

__all__ = ["chi_square_quantile", "detectable", "deviation_interval", "pooled", "shrunk", "two_way_residual"]


def pooled(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Return the pooled standard deviation within groups, and its degrees of freedom.

    Groups of one value tell nothing; without any larger one the answer is (NaN, 0).

    >>> pooled([[1.0, 3.0], [5.0], [2.0, 2.0]])
    (1.0, 2)
    """
    squares, dof = 0.0, 0
    for group in groups:
        if len(group) > 1:
            values = np.asarray(group, dtype=float)
            squares += float(((values - values.mean()) ** 2).sum())
            dof += len(values) - 1
    return (math.sqrt(squares / dof), dof) if dof else (math.nan, 0)


def two_way_residual(table: ArrayLike) -> tuple[float, int]:
    """Return the residual deviation of y_cr = config_c + seed_r + noise, and its degrees of freedom.

    What all configs of a seed share (a hard split, a lucky order of data) is taken out, for it cancels in
    differences between configs that were run on the same seeds.

    Args:
        table: (configs, seeds), complete.
    """
    y = np.asarray(table, dtype=float)
    k, r = y.shape
    dof = (k - 1) * (r - 1)
    if dof < 1:
        return math.nan, 0
    rest = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
    return math.sqrt(float((rest**2).sum()) / dof), dof


def chi_square_quantile(p: float, dof: int) -> float:
    """Return a quantile of the chi-square distribution, by bisection.

    >>> round(chi_square_quantile(0.95, 10), 3)
    18.307
    """
    check.integer("dof", dof, 1)
    low, high = 0.0, float(dof)
    while _gamma_cdf(dof / 2.0, high / 2.0) < p:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if _gamma_cdf(dof / 2.0, middle / 2.0) < p else (low, middle)
    return 0.5 * (low + high)


def _gamma_cdf(a: float, x: float) -> float:
    """Regularised lower incomplete gamma function by its series, whose terms are all positive."""
    if x <= 0.0:
        return 0.0
    term = total = 1.0 / a
    n = a
    while term > 1e-17 * total:
        n += 1.0
        term *= x / n
        total += term
    return min(1.0, total * math.exp(a * math.log(x) - x - math.lgamma(a)))


def deviation_interval(sd: float, dof: int, level: float = 0.9) -> tuple[float, float]:
    """Return an interval of a standard deviation that was estimated with ``dof`` degrees of freedom."""
    tail = 0.5 * (1.0 - level)
    return (
        sd * math.sqrt(dof / chi_square_quantile(1.0 - tail, dof)),
        sd * math.sqrt(dof / chi_square_quantile(tail, dof)),
    )


def detectable(sem: float, dof: float, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true difference that a two-sided test at ``level`` finds with probability ``power``.

    Args:
        sem: standard error of the difference.
        dof: its degrees of freedom; inf where it is known.

    >>> round(detectable(1.0, float("inf")), 2)
    2.8
    """
    if math.isinf(dof):
        return sem * (normal_quantile(1.0 - level / 2.0) + normal_quantile(power))
    return sem * (student_quantile(1.0 - level / 2.0, dof) + student_quantile(power, dof))


def shrunk(means: ArrayLike, variances: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shrink means towards their weighted mean, by what their spread exceeds the noise.

    tau^2, the variance of the true values, is DerSimonian and Laird's estimate, never below 0.

    Args:
        means: (k,) estimates.
        variances: (k,) of their errors, greater than 0.

    Returns:
        (k,) posterior means and (k,) posterior standard deviations.

    >>> shrunk([0.0, 1.0, 2.0], [1.0, 1.0, 1.0])[0].tolist()
    [1.0, 1.0, 1.0]
    """
    m, v = np.asarray(means, dtype=float), np.asarray(variances, dtype=float)
    if m.shape != v.shape or m.ndim != 1 or not len(m) or not (v > 0).all():
        raise ArgumentError(
            f"means and variances must be two equal, positive-variance rows; got {m!r}, {v!r}."
        )
    w = 1.0 / v
    centre = float(w @ m / w.sum())
    q = float(w @ (m - centre) ** 2)
    scale = float(w.sum() - (w @ w) / w.sum())
    tau2 = max(0.0, (q - (len(m) - 1)) / scale) if scale > 0 else 0.0
    total = 1.0 / (v + tau2)
    centre = float(total @ m / total.sum())
    b = tau2 / (tau2 + v)
    spread = np.sqrt(b * v + (1.0 - b) ** 2 / total.sum())
    return centre + b * (m - centre), spread
