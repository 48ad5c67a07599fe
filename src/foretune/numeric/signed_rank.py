"""Wilcoxon's signed-rank test, with the exact null distribution also where there are ties and zeros."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["signed_rank"]

EXACT = 100  # differences up to which all sign patterns are counted; above, the normal limit


def signed_rank(gaps: ArrayLike) -> float:
    """Return the one-sided p-value that differences tend to be positive.

        W = sum of the ranks of |g_i| over g_i > 0, and half of those of g_i = 0

    Under the null hypothesis each difference other than zero has either sign with probability 1/2. Up to 100
    differences the probability of W or more is counted exactly; above it is normal with the same moments.

    Args:
        gaps: paired differences, (n,), finite.

    Returns:
        P(W >= observed); 1.0 where nothing differs.

    >>> signed_rank([1.0, 2.0, 3.0, 4.0, 5.0])
    0.03125
    >>> signed_rank([0.0, 0.0])
    1.0
    """
    g = np.asarray(gaps, dtype=float)
    size = np.abs(g)
    if not np.any(size):
        return 1.0
    _, place, count = np.unique(size, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    doubled = (2 * last - count + 1)[place]  # twice the mean rank of each group of ties: an integer
    signed = doubled[g != 0.0]
    reached = int(doubled[g > 0.0].sum())
    if len(signed) <= EXACT:
        chance = np.zeros(int(signed.sum()) + 1)
        chance[0] = 1.0
        top = 0
        for r in signed.tolist():
            top += r
            chance[r : top + 1] = 0.5 * (chance[r : top + 1] + chance[: top + 1 - r])
            chance[:r] *= 0.5
        return float(min(1.0, chance[reached:].sum()))
    mean, sd = signed.sum() / 2.0, math.sqrt(float((signed.astype(float) ** 2).sum())) / 2.0
    return 0.5 * math.erfc((reached - mean - 1.0) / (sd * math.sqrt(2.0)))  # a step of W is one rank: two
