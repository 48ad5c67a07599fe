"""Bandits: confidence bounds, and two ways from estimates to probabilities of arms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check

__all__ = ["UNPULLED", "inverse_gap", "inverse_gap_relative", "tsallis", "ucb"]

Array = NDArray[np.float64]

UNPULLED = 1e6  # where draws set infinite bounds apart, they are at least this large


def ucb(
    total: ArrayLike,
    rewarded: ArrayLike,
    pulls: ArrayLike,
    alpha: float,
    rng: np.random.Generator | None = None,
) -> Array:
    """Return upper confidence bounds: total / rewarded + alpha sqrt(ln t / pulls), t the sum of pulls.

    An arm that was never pulled has an infinite bound; one whose rewards are all pending has the mean of 0.
    With ``rng``, infinite bounds are set apart by draws (they are then large, not infinite).

    Args:
        total: (k,) sums of rewards.
        rewarded: (k,) how many rewards each sum holds (or their weights).
        pulls: (k,) how often each arm was pulled, pending pulls included.

    >>> ucb([1.0, 0.0], [2, 0], [2, 0], 1.0).round(3).tolist()
    [1.089, inf]
    """
    s, r, n = (np.asarray(x, dtype=float) for x in (total, rewarded, pulls))
    t = max(1.0, float(n.sum()))
    mean = np.divide(s, r, out=np.zeros_like(s), where=r > 0)
    wide = np.divide(math.log(t), n, out=np.zeros_like(n), where=n > 0)
    bound = np.where(n > 0, mean + alpha * np.sqrt(wide), np.inf)
    if rng is not None:
        apart = UNPULLED * (1.0 + rng.random(len(bound)))
        bound = np.where(np.isinf(bound), apart, bound)
    return np.asarray(bound, dtype=float)


def tsallis(losses: ArrayLike, rate: float) -> Array:
    """Return the probabilities of follow-the-regularised-leader with 1/2-Tsallis entropy.

        p_i = 4 / (rate (L_i - x))^2,  x < min L such that they sum to 1

    found by bisection on the interval that surely holds x.

    Args:
        losses: (k,) estimated cumulative losses L.
        rate: eta > 0.

    Source: Tsallis-INF: An Optimal Algorithm for Stochastic and Adversarial Bandits

    >>> tsallis([0.0, 0.0], 1.0).tolist()
    [0.5, 0.5]
    """
    check.number("rate", rate, 0.0, open_low=True)
    gap = np.asarray(losses, dtype=float)
    gap = gap - gap.min()
    # with y = -x: the best arm alone gives at least 4 / (rate y)^2, all k together at most k times that
    low, high = 2.0 / rate, 2.0 * math.sqrt(len(gap)) / rate
    for _ in range(100):
        y = 0.5 * (low + high)
        if y in (low, high):
            break
        low, high = (y, high) if float((4.0 / (rate * (gap + y)) ** 2).sum()) > 1.0 else (low, y)
    p = 4.0 / (rate * (gap + 0.5 * (low + high))) ** 2
    return np.asarray(p / p.sum(), dtype=float)


def inverse_gap(predicted: ArrayLike, gamma: float) -> Array:
    """Return inverse-gap weights: 1 / (k + gamma (y_a - y_b)) for all arms but the best, b, which has the rest.

    Args:
        predicted: (k,) predicted losses y.
        gamma: >= 0; 0 is uniform, infinity is greedy.

    Source: Beyond UCB: Optimal and Efficient Contextual Bandits with Regression Oracles

    >>> inverse_gap([0.0, 1.0], 8.0).round(3).tolist()
    [0.9, 0.1]
    """
    y = np.asarray(predicted, dtype=float)
    best = int(np.argmin(y))
    p = 1.0 / (len(y) + gamma * (y - y[best]))
    p[best] = 0.0
    p[best] = 1.0 - p.sum()
    return np.asarray(p, dtype=float)


def inverse_gap_relative(predicted: ArrayLike, gamma: float) -> Array:
    """Return inverse-gap weights that explore less where losses are small.

        p_a = y_b / (k y_b + gamma (y_a - y_b)) for all arms but the best, b, which has the rest.

    Args:
        predicted: (k,) predicted losses y in (0, 1].

    Source: Efficient First-Order Contextual Bandits: Prediction, Allocation, and Triangular Discrimination

    >>> inverse_gap_relative([0.1, 0.9], 10.0).round(4).tolist()
    [0.9878, 0.0122]
    """
    y = np.asarray(predicted, dtype=float)
    best = int(np.argmin(y))
    least = max(float(y[best]), 1e-12)
    p = least / (len(y) * least + gamma * (y - y[best]))
    p[best] = 0.0
    p[best] = 1.0 - p.sum()
    return np.asarray(p, dtype=float)
