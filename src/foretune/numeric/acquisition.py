"""Acquisition functions in logs, safe far from the best: they have a slope where EI itself underflows.

    EI(x) = sd h(z),   z = (best - mean) / sd,   h(z) = phi(z) + z Phi(z)
    log EI = log sd + log h(z)

Source: Unexpected Improvements to Expected Improvement for Bayesian Optimization | eq. 9
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foretune.base.lazy import require

__all__ = [
    "lcb", "lcb_gradient", "log_cdf", "log_ei", "log_ei_gradient", "log_h", "log_kept", "log_kept_gradient",
    "log_noisy_ei",
]  # fmt: skip

Array = NDArray[np.float64]

_LOG_ROOT_2PI = 0.5 * float(np.log(2.0 * np.pi))


def log_h(z: Array) -> tuple[Array, Array]:
    """Return log h(z) and its derivative Phi(z) / h(z), for z of shape (m,).

    Three branches, each where it is exact in double precision:
        z > -1           phi + z Phi is a sum without cancellation worth the name;
        -1e5 < z <= -1   log phi(z) + log(1 - sqrt(pi/2) |z| erfcx(|z| / sqrt(2))): the scaled
                         complementary error function does not underflow; the difference loses
                         2 log10|z| digits, so at -1e5 six remain;
        z <= -1e5        h(z) -> phi(z) / z^2, with relative error 3 / z^2.
    """
    special = require("scipy.special", "The acquisition function")
    value, slope = np.empty_like(z), np.empty_like(z)
    near, far = z > -1.0, z <= -1e5
    middle = ~near & ~far

    x = z[near]
    cdf = special.ndtr(x)
    h = np.exp(-0.5 * x * x - _LOG_ROOT_2PI) + x * cdf
    value[near], slope[near] = np.log(h), cdf / h

    x = z[middle]
    tail = np.sqrt(0.5 * np.pi) * special.erfcx(-x / np.sqrt(2.0))  # Phi(x) / phi(x)
    ratio = np.maximum(1.0 + x * tail, 1e-16)  # h / phi
    value[middle], slope[middle] = -0.5 * x * x - _LOG_ROOT_2PI + np.log(ratio), tail / ratio

    x = z[far]
    value[far], slope[far] = -0.5 * x * x - _LOG_ROOT_2PI - 2.0 * np.log(-x), -x
    return value, slope


def log_ei(mean: Array, variance: Array, best: float) -> Array:
    """Return log EI for minimisation at (m,) predictions; ``best`` is the value to improve on."""
    sd = np.sqrt(variance)
    result: Array = np.log(sd) + log_h((best - mean) / sd)[0]
    return result


def log_ei_gradient(
    mean: Array, variance: Array, d_mean: Array, d_variance: Array, best: float
) -> tuple[Array, Array]:
    """Return log EI, (m,), and its gradient, (m, d), given those of mean and variance."""
    sd = np.sqrt(variance)
    z = (best - mean) / sd
    value, slope = log_h(z)
    d_sd = d_variance / (2.0 * sd[:, None])
    d_z = (-d_mean - z[:, None] * d_sd) / sd[:, None]
    return np.log(sd) + value, d_sd / sd[:, None] + slope[:, None] * d_z


def log_noisy_ei(means: Array, variance: Array, best: Array) -> tuple[Array, Array, Array]:
    """Return the log of EI averaged over draws, and its derivatives by each draw's mean and by the variance.

    Under noise neither the best value nor its place is known. Each draw has an incumbent of its own, and a point
    beside it is worth what it adds to it in the same draw, which is little: repeating the incumbent does not pay.

    Args:
        means: (m, s) mean of each draw.
        variance: (m,) variance, common to all draws.
        best: (s,) least value of each draw at what was tried.

    Returns:
        (m,), (m, s), (m,).

    Source: Constrained Bayesian Optimization with Noisy Experiments
    """
    sd = np.sqrt(variance)[:, None]
    z = (best - means) / sd
    logs, slope = (part.reshape(z.shape) for part in log_h(z.ravel()))
    top = logs.max(axis=1, keepdims=True)
    share = np.exp(logs - top)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    value = np.log(sd[:, 0]) + top[:, 0] + np.log(total[:, 0] / means.shape[1])
    by_variance = (share * (1.0 - z * slope)).sum(axis=1) / (2.0 * variance)
    return value, -share * slope / sd, by_variance


def log_kept(mean: Array, variance: Array, bound: float) -> Array:
    """Return the log probability that an output is at most ``bound``: log Phi((bound - mean) / sd), (m,)."""
    special = require("scipy.special", "The acquisition function")
    return np.asarray(special.log_ndtr((bound - mean) / np.sqrt(variance)))


def log_kept_gradient(
    mean: Array, variance: Array, d_mean: Array, d_variance: Array, bound: float
) -> tuple[Array, Array]:
    """Return :func:`log_kept` and its gradient, (m, d), given those of mean and variance."""
    sd = np.sqrt(variance)
    z = (bound - mean) / sd
    value, slope = log_cdf(z)
    d_sd = d_variance / (2.0 * sd[:, None])
    return value, slope[:, None] * (-d_mean - z[:, None] * d_sd) / sd[:, None]


def log_cdf(z: Array) -> tuple[Array, Array]:
    """Return log Phi(z) and its derivative phi(z) / Phi(z), which is -z far below zero."""
    special = require("scipy.special", "The acquisition function")
    # phi / Phi = sqrt(2 / pi) / erfcx(-z / sqrt(2)): neither under- nor overflows below zero
    low = np.minimum(z, 0.0)
    slope = np.sqrt(2.0 / np.pi) / special.erfcx(-low / np.sqrt(2.0))
    high = np.exp(-0.5 * z * z - _LOG_ROOT_2PI) / special.ndtr(np.maximum(z, 0.0))
    return np.asarray(special.log_ndtr(z)), np.where(z > 0.0, high, slope)


def lcb(mean: Array, variance: Array, beta: float) -> Array:
    """Return minus the lower confidence bound, beta sd - mean, at (m,) predictions: larger is better."""
    result: Array = beta * np.sqrt(variance) - mean
    return result


def lcb_gradient(
    mean: Array, variance: Array, d_mean: Array, d_variance: Array, beta: float
) -> tuple[Array, Array]:
    """Return :func:`lcb` and its gradient, (m, d), given those of mean and variance."""
    sd = np.sqrt(variance)
    return beta * sd - mean, beta * d_variance / (2.0 * sd[:, None]) - d_mean
