"""Gaussian process regression in float64: learned length scales, scales and noise; exact gradients.

    y ~ N(0, K),    K = s M(r) + t T T' + c 1 1' + v I          (see kernel.py for M, r and T)

The hyperparameters maximise the log posterior

    log p(theta | y) = -1/2 y' K^-1 y - 1/2 log|K| - n/2 log(2 pi) + log p(theta).

The constant c integrates out an unknown mean of the (standardised) outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from foretune.base.lazy import require
from foretune.numeric.kernel import Columns, profile

__all__ = ["Evidence", "Look", "Posterior", "bounds", "condition", "fit", "prior"]

Array = NDArray[np.float64]

_WHY = "The Gaussian process"
MEAN_VARIANCE = 1.0  # c: outputs are standardised, so their mean is within about one of zero
JITTER = 1e-9  # on the diagonal, relative to a unit output: far below the least noise


def prior(d: int) -> tuple[Array, Array]:
    """Return the means and standard deviations of the normal priors on theta = log of everything.

    theta = (log l_1, ..., log l_d, log s, log t, log v).

    Length scales: log l ~ N(sqrt(2) + log(d) / 2, 3), which grows with the dimension so that the
    model stays as smooth in many dimensions as in few. The others are weak and assumed: s near 1
    (outputs have unit variance), t near 0.3, v near e^-8 with two e-folds of freedom either way.

    Source: Vanilla Bayesian Optimization Performs Great in High Dimensions
    """
    mean = np.concatenate([np.full(d, np.sqrt(2.0) + 0.5 * np.log(max(d, 1))), [0.0, np.log(0.3), -8.0]])
    sd = np.concatenate([np.full(d, np.sqrt(3.0)), [1.0, 1.5, 2.0]])
    return mean, sd


def bounds(d: int) -> Array:
    """Return the range of theta that is searched: (d + 3, 2)."""
    low = np.concatenate([np.full(d, np.log(0.05)), np.log([1e-2, 1e-4, 1e-6])])
    high = np.concatenate([np.full(d, np.log(1e3)), np.log([1e3, 1e2, 1.0])])
    return np.stack([low, high], axis=1)


@final
class Evidence:
    """The log posterior of the hyperparameters and its gradient, for one set of data.

    Args:
        columns: kinds of the columns.
        x: (n, d) rows of the unit cube, NaN where inactive.
        y: (n,) standardised outputs.
        kind: "rbf" or "matern52".
    """

    def __init__(self, columns: Columns, x: Array, y: Array, kind: str) -> None:
        self.y, self.kind, self.n, self.d = y, kind, len(y), columns.width
        self.distances = columns.distances(x)
        _, trend = columns.embed(x)
        self.trend = trend @ trend.T
        self.mean, self.sd = prior(self.d)
        self._lapack = require("scipy.linalg.lapack", _WHY)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return the log posterior (up to a constant) and its gradient, (d + 3,)."""
        n, d = self.n, self.d
        w = np.exp(-2.0 * theta[:d])
        s, t, v = np.exp(theta[d:])
        m, g = profile(self.kind, w @ self.distances)
        k = (s * m).reshape(n, n)
        k += t * self.trend
        k += MEAN_VARIANCE
        k.flat[:: n + 1] += v + JITTER
        lower, info = self._lapack.dpotrf(k, lower=1, overwrite_a=0)
        if info:
            return -np.inf, np.zeros_like(theta)
        inverse, _ = self._lapack.dpotri(lower, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        alpha = inverse @ self.y
        value = -0.5 * float(self.y @ alpha) - float(np.log(np.diag(lower)).sum())
        value -= 0.5 * n * float(np.log(2.0 * np.pi))
        # d/dtheta = 1/2 tr((alpha alpha' - K^-1) dK/dtheta)
        weight = np.outer(alpha, alpha)
        weight -= inverse
        flat = weight.ravel()
        gradient = np.empty_like(theta)
        gradient[:d] = 0.5 * s * w * (self.distances @ (flat * g))
        gradient[d] = 0.5 * s * float(flat @ m)
        gradient[d + 1] = 0.5 * t * float(flat @ self.trend.ravel())
        gradient[d + 2] = 0.5 * v * float(np.trace(weight))
        z = (theta - self.mean) / self.sd
        return value - 0.5 * float(z @ z), gradient - z / self.sd


def climb(
    target: Callable[[Array], tuple[float, Array]], box: Array, starts: Sequence[Array], iterations: int
) -> tuple[float, Array]:
    """Maximise a log density by L-BFGS-B from each start.

    Args:
        target: theta (p,) -> value and gradient (p,); a value that is not finite is avoided.
        box: (p, 2) bounds; starts beyond them are moved to them.

    Returns:
        The largest value found and its theta; (-inf, the first start) if nothing was finite.
    """
    optimize = require("scipy.optimize", _WHY)

    def negative(theta: Array) -> tuple[float, Array]:
        value, gradient = target(theta)
        return (-value, -gradient) if np.isfinite(value) else (1e10, -np.nan_to_num(gradient))

    best, at = -np.inf, np.clip(starts[0], box[:, 0], box[:, 1])
    for start in starts:
        found = optimize.minimize(
            negative, np.clip(start, box[:, 0], box[:, 1]), jac=True, method="L-BFGS-B", bounds=box,
            options={"maxiter": iterations},
        )  # fmt: skip
        if found.fun < 1e9 and -found.fun > best:
            best, at = -float(found.fun), np.asarray(found.x, dtype=float)
    return best, at


def fit(evidence: Evidence, starts: list[Array], iterations: int) -> tuple[float, Array]:
    """Maximise the log posterior of the hyperparameters; returns what :func:`climb` does."""
    return climb(evidence, bounds(evidence.d), starts, iterations)


class Look(NamedTuple):
    """What predictions at rows are made of.

    Attributes:
        x: (m, d) the rows.
        features: (m, p) scaled.
        g: (m, n) slopes of the stationary part between rows and data, see ``kernel.profile``.
        v: (m, n) covariances times the inverse of the Cholesky factor.
        trend: (m, q).
        k: (m, n) covariances between rows and data.
    """

    x: Array
    features: Array
    g: Array
    v: Array
    trend: Array
    k: Array


@final
@dataclass(frozen=True)
class Posterior:
    """The process given data: predicts the noise-free output anywhere. Made by :func:`condition`."""

    columns: Columns
    kind: str
    theta: Array
    rows: Array  # (n, p) scaled features of the data
    trend: Array  # (n, q)
    inverse: Array  # (n, n) inverse of the Cholesky factor
    alpha: Array  # (n,) K^-1 y

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and variance at rows ``x``: (m, d) -> (m,), (m,)."""
        mean, variance, _ = self.look(x)
        return mean, variance

    def joint(self, x: Array) -> tuple[Array, Array]:
        """Return the mean and the full covariance at rows ``x``: (m, d) -> (m,), (m, m)."""
        mean, _, near = self.look(x)
        s, t, _ = np.exp(self.theta[self.columns.width :])
        f, trend, v = near.features, near.trend, near.v
        square = (f * f).sum(1)
        r2 = np.maximum(square[:, None] + square - 2.0 * (f @ f.T), 0.0)
        np.fill_diagonal(r2, 0.0)
        own = s * profile(self.kind, r2)[0] + t * (trend @ trend.T) + MEAN_VARIANCE
        return mean, own - v @ v.T

    def look(self, x: Array) -> tuple[Array, Array, Look]:
        """Return mean and variance at rows ``x``, and what their gradients need: (m,), (m,), the parts."""
        d = self.columns.width
        s, t, _ = np.exp(self.theta[d:])
        f, trend = self.columns.embed(x)
        f = f * np.exp(-self.theta[:d])[self.columns.group]
        r2 = (f * f).sum(1)[:, None] + (self.rows * self.rows).sum(1) - 2.0 * (f @ self.rows.T)
        m, g = profile(self.kind, np.maximum(r2, 0.0))
        k = s * m + t * (trend @ self.trend.T) + MEAN_VARIANCE
        v = k @ self.inverse.T
        own = s + t * (trend * trend).sum(1) + MEAN_VARIANCE
        variance = np.maximum(own - (v * v).sum(1), 1e-12)
        mean: Array = k @ self.alpha
        return mean, variance, Look(x, f, g, v, trend, k)

    def gradients(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """Return mean, variance and their gradients: (m,), (m,), (m, d), (m, d).

        The gradient with respect to a categorical or inactive column is zero.
        """
        mean, variance, near = self.look(x)
        return (
            mean,
            variance,
            self.slope(near, np.broadcast_to(self.alpha, near.k.shape)),
            self.spread_slope(near),
        )

    def slope(self, near: Look, a: Array) -> Array:
        """Return the gradient of sum_i a_i k(x, x_i), each row with weights of its own: (m, n) -> (m, d)."""
        d = self.columns.width
        s, t, _ = np.exp(self.theta[d:])
        b = a * near.g
        # sum_i a_i dk_i/dx_j = -s / l_j sum_i a_i g_i (f_j - rows_ij), f scaled by 1 / l_j
        inner = b.sum(1)[:, None] * near.features[:, :d] - b @ self.rows[:, :d]
        found = -s * np.exp(-self.theta[:d]) * inner + t * self._through(near.x, a @ self.trend)
        return np.where(self._real(near.x), found, 0.0)

    def spread_slope(self, near: Look) -> Array:
        """Return the gradient of the variance, (m, d)."""
        t = np.exp(self.theta[self.columns.width + 1])
        own = np.where(self._real(near.x), 2.0 * t * self._through(near.x, near.trend), 0.0)
        return own - 2.0 * self.slope(near, near.v @ self.inverse)  # v K^-1/2 = K^-1 k

    def _real(self, x: Array) -> NDArray[np.bool_]:
        return np.asarray(self.columns.real & (x == x))

    def _through(self, x: Array, c: Array) -> Array:
        """Return the gradient of T(x) . c: T_linear = z, T_quadratic = (3 z^2 - 1) / 2, z = 2 x - 1, over sqrt(d)."""
        d = self.columns.width
        z = np.where(self._real(x), 2.0 * x - 1.0, 0.0)
        out: Array = (2.0 * c[:, :d] + 6.0 * z * c[:, d : 2 * d]) / np.sqrt(d)
        return out


def factored(base: Array, noise: float, y: Array) -> tuple[Array, Array]:
    """Solve K alpha = y for K = base + noise on the diagonal.

    Args:
        base: (n, n) covariance of the noise-free outputs.
        noise: variance; more is added, tenfold each time, where rounding has made K indefinite.
        y: (n,) outputs.

    Returns:
        The inverse (n, n) of K's lower factor, and alpha (n,).
    """
    lapack = require("scipy.linalg.lapack", _WHY)
    extra = noise + JITTER
    while True:
        k = base.copy()
        k.flat[:: len(y) + 1] += extra
        lower, info = lapack.dpotrf(k, lower=1, clean=1)
        if not info:
            break
        extra *= 10.0  # more noise is the smallest lie that mends it
    inverse, _ = lapack.dtrtri(lower, lower=1)
    return inverse, inverse.T @ (inverse @ y)


def condition(columns: Columns, kind: str, theta: Array, x: Array, y: Array) -> Posterior:
    """Condition the process on data.

    Args:
        x: (n, d) rows, NaN where inactive.
        y: (n,) outputs, standardised as for the fit.
    """
    d = x.shape[1]
    s, t, v = np.exp(theta[d:])
    f, trend = columns.embed(x)
    f = f * np.exp(-theta[:d])[columns.group]
    square = (f * f).sum(1)
    r2 = np.maximum(square[:, None] + square - 2.0 * (f @ f.T), 0.0)
    np.fill_diagonal(r2, 0.0)
    base = s * profile(kind, r2)[0] + t * (trend @ trend.T) + MEAN_VARIANCE
    inverse, alpha = factored(base, v, y)
    return Posterior(columns, kind, theta, f, trend, inverse, alpha)
