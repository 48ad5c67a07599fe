"""Expected hypervolume improvement for any number of goals, noisy ones too, with gradients.

Less is better. What a point y adds to a front is the volume of the part of the box below the reference r
that y dominates and the front does not. With independent normal y_i,

    EHVI = integral over p not dominated by the front of  prod_i P(y_i <= p_i) dp.

In polar coordinates around r, p = r - u * lambda with |lambda| = 1, lambda >= 0, the front is left at

    u*(lambda) = max over its points of min_i (r_i - y_i) / lambda_i,

and the integral is a mean over directions of integrals over u from u* on. Both are replaced by fixed nodes:
the result is a smooth function of means and deviations, its logarithm has a slope where EHVI underflows.
Where the front itself is uncertain, a node counts by the part of drawn fronts that do not dominate it.

Source: Parallel Bayesian Optimization of Multiple Noisy Objectives with Expected Hypervolume Improvement | the
    expectation over fronts drawn from the posterior
Source: Random Hypervolume Scalarizations for Provable Multi-Objective Black Box Optimization | polar coordinates
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.acquisition import log_cdf

__all__ = ["Nodes", "directions", "log_ehvi", "log_ehvi_gradient", "nodes"]

Array = NDArray[np.float64]

DIRECTIONS = 48  # of two goals; three times as many of more
RADII = 10  # nodes a direction
BEYOND = 1.0  # how far beyond the ideal point is integrated, in ranges between ideal and reference


@final
@dataclass(frozen=True)
class Nodes:
    """Where the integrand is evaluated.

    Attributes:
        at: (p, m) points in the space of the predictions.
        log_weight: (p,) logs of the volumes that the points stand for.
    """

    at: Array
    log_weight: Array


def directions(m: int, rng: np.random.Generator) -> Array:
    """Return unit vectors of the positive orthant, (k, m): evenly spaced for two goals, else drawn."""
    if m == 1:
        return np.ones((1, 1))
    if m == 2:
        angle = (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS * (np.pi / 2)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    drawn = np.abs(rng.standard_normal((3 * DIRECTIONS, m)))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def nodes(
    fronts: Array, ideal: Array, reference: Array, towards: Array,
    warp: Callable[[Array], Array] = lambda y: y,
) -> Nodes:  # fmt: skip
    """Lay nodes over what drawn fronts leave undominated below the reference.

    Args:
        fronts: (s, n, m) draws of the losses of n points (dominated ones do no harm).
        ideal: (m,) the least loss in each goal; together with ``reference`` it sets the units.
        reference: (m,) what a point must beat in each goal to count.
        towards: (k, m) unit vectors, see :func:`directions`.
        warp: monotone map, (p, m) -> (p, m), of losses to the space of the predictions; volumes are
            those of the losses, in units of the box between ideal and reference.
    """
    m = len(reference)
    unit = reference - ideal
    inside = (reference - fronts) / unit  # (s, n, m)
    # a direction along an axis has lambda_i near 0: there the other goals decide
    ratio = inside[:, :, None, :] / np.maximum(towards, 1e-9)  # (s, n, k, m)
    left = np.maximum(ratio.min(axis=3).max(axis=1), 0.0)  # (s, k): u*
    low = left.min(axis=0)
    high = np.maximum(((1.0 + BEYOND) / np.maximum(towards, 1e-9)).min(axis=1), low + 0.1)
    t, w = np.polynomial.legendre.leggauss(RADII)
    t, w = 0.5 * (t + 1.0), 0.5 * w
    # u = low + (high - low) t^2: nodes are dense at the front, where most improvements end
    u = low[:, None] + (high - low)[:, None] * t**2
    weight = (high - low)[:, None] * 2.0 * t * w * u ** (m - 1)
    weight *= (u[None] >= left[:, :, None]).mean(axis=0)
    orthant = 2.0 * math.pi ** (m / 2) / math.gamma(m / 2) / 2.0**m  # its part of the sphere
    weight *= orthant / len(towards)
    at = reference - unit * (u[:, :, None] * towards[:, None, :])
    keep = weight.ravel() > 0.0
    return Nodes(warp(at.reshape(-1, m)[keep]), np.log(weight.ravel()[keep]))


def _terms(mean: Array, variance: Array, over: Nodes) -> tuple[Array, Array]:
    sd = np.sqrt(variance)
    return (over.at[None] - mean[:, None]) / sd[:, None], sd


def log_ehvi(mean: Array, variance: Array, over: Nodes) -> Array:
    """Return log EHVI at predictions (b, m), in units of the box between ideal and reference: (b,)."""
    from foretune.base.lazy import require

    special = require("scipy.special", "The acquisition function")
    out = np.empty(len(mean))
    for start in range(0, len(mean), 128):  # a bound on the memory
        part = slice(start, start + 128)
        z, _ = _terms(mean[part], variance[part], over)
        out[part] = _log_sum(special.log_ndtr(z).sum(axis=2) + over.log_weight)[0]
    return out


def _log_sum(x: Array) -> tuple[Array, Array]:
    """Return log sum exp over the last axis, and the softmax."""
    top = x.max(axis=-1, keepdims=True)
    e = np.exp(x - top)
    total = e.sum(axis=-1, keepdims=True)
    return (top + np.log(total))[..., 0], e / total


def log_ehvi_gradient(
    mean: Array, variance: Array, d_mean: Array, d_variance: Array, over: Nodes
) -> tuple[Array, Array]:
    """Return log EHVI and its gradient.

    Args:
        mean, variance: (b, m); d_mean, d_variance: (b, m, d).

    Returns:
        (b,), (b, d).
    """
    z, sd = _terms(mean, variance, over)
    log_phi, slope = log_cdf(z)
    value, share = _log_sum(log_phi.sum(axis=2) + over.log_weight)
    by_mean = -(share[:, :, None] * slope).sum(axis=1) / sd
    by_sd = -(share[:, :, None] * slope * z).sum(axis=1) / sd
    d_sd = d_variance / (2.0 * sd[:, :, None])
    return value, (by_mean[:, :, None] * d_mean + by_sd[:, :, None] * d_sd).sum(axis=1)
