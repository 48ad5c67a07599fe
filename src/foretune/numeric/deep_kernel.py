"""A Gaussian process whose kernel sees rows and, through a learned map, features that some observations have.

    y ~ GP(0, s M(r^2 + |z - z'|^2) + t T T' + c 1 1') + noise,    z = (b / q, V tanh(U b + a))

M, r and T are those of ``kernel.py``, over rows x; b are the leading principal components of features (a checkpoint's
weights, a curve so far). Where features are unknown, z is the mean of those known: a typical one. q, U, a, V and
the hyperparameters of the process maximise the log posterior together (exact gradients).

Source: Improving Hyperparameter Optimization with Checkpointed Model Weights

Differs:
    1. Configs keep length scales of their own; only features go through the learned map.
    2. The map is small (three principal components, scaled, and four outputs of a layer of eight): tens of
       runs teach no more. Its weights have normal priors (assumed): the nonlinear part is weak unless data
       call for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.base.lazy import require
from foretune.numeric.gp import JITTER, MEAN_VARIANCE, bounds, factored, prior
from foretune.numeric.kernel import Columns, profile

__all__ = ["DeepKernel", "fit_deep"]

Array = NDArray[np.float64]

HIDDEN = 8  # width of the tanh layer
OUT = 4  # coordinates that it gives
PARTS = 3  # principal components of the features, at most
# priors, assumed: of log q (components have unit variance); of V
Q_MEAN, Q_SD = float(np.log(2.0)), 1.0
V_SD = 0.2
FAR = 5.0  # standard deviations at which features are cut: one exploded network must not rule the fit
_WHY = "The deep-kernel Gaussian process"


@final
class _Evidence:
    """The log posterior of all parameters and its gradient.

    The parameters, in one vector: theta (d + 3,), log q (k,), U (h, k), a (h,), V (o, h).

    Args:
        b: (n, k) components of the features; zero where unknown.
    """

    def __init__(self, columns: Columns, x: Array, b: Array, y: Array, kind: str) -> None:
        self.b, self.y, self.kind = b, y, kind
        self.n, self.d, self.k = len(y), columns.width, b.shape[1]
        self.distances = columns.distances(x)
        _, trend = columns.embed(x)
        self.trend = trend @ trend.T
        self.mean, self.sd = prior(self.d)
        self._lapack = require("scipy.linalg.lapack", _WHY)

    def split(self, values: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Return theta, log q, U, a, V."""
        at = self.d + 3
        rest = values[at + self.k :]
        u = rest[: HIDDEN * self.k].reshape(HIDDEN, self.k)
        a = rest[HIDDEN * self.k : HIDDEN * (self.k + 1)]
        v = rest[HIDDEN * (self.k + 1) :].reshape(OUT, HIDDEN)
        return values[:at], values[at : at + self.k], u, a, v

    def __call__(self, values: Array) -> tuple[float, Array]:
        theta, log_q, u, a, v = self.split(values)
        n, d = self.n, self.d
        w = np.exp(-2.0 * theta[:d])
        s, t, noise = np.exp(theta[d:])
        hidden = np.tanh(self.b @ u.T + a)
        straight = self.b * np.exp(-log_q)
        z = np.concatenate([straight, hidden @ v.T], axis=1)
        apart = ((z[:, None] - z[None]) ** 2).sum(-1)
        m, g = profile(self.kind, w @ self.distances + apart.ravel())
        k = (s * m).reshape(n, n) + t * self.trend + MEAN_VARIANCE
        k.flat[:: n + 1] += noise + JITTER
        lower, info = self._lapack.dpotrf(k, lower=1)
        if info:
            return -np.inf, np.zeros_like(values)
        inverse, _ = self._lapack.dpotri(lower, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        alpha = inverse @ self.y
        value = -0.5 * float(self.y @ alpha) - float(np.log(np.diag(lower)).sum())
        weight = 0.5 * (np.outer(alpha, alpha) - inverse)
        flat = weight.ravel()
        g_theta = np.empty(d + 3)
        g_theta[:d] = s * w * (self.distances @ (flat * g))
        g_theta[d] = s * float(flat @ m)
        g_theta[d + 1] = t * float(flat @ self.trend.ravel())
        g_theta[d + 2] = noise * float(np.trace(weight))
        # dM / d(r^2) = -g / 2, and r^2 holds |z_i - z_j|^2
        slope = -0.5 * s * weight * g.reshape(n, n)
        g_z = 4.0 * (slope.sum(1)[:, None] * z - slope @ z)
        g_q, g_bent = -(g_z[:, : self.k] * straight).sum(0), g_z[:, self.k :]
        g_v = g_bent.T @ hidden
        g_pre = (g_bent @ v) * (1.0 - hidden**2)
        gradient = np.concatenate([g_theta, g_q, (g_pre.T @ self.b).ravel(), g_pre.sum(0), g_v.ravel()])
        # priors
        p, q = (theta - self.mean) / self.sd, (log_q - Q_MEAN - 0.5 * np.log(self.k)) / Q_SD
        value -= 0.5 * (float(p @ p) + float(q @ q) + self.k * float((u**2).sum()) + float(a @ a))
        value -= 0.5 * float((v**2).sum()) / V_SD**2
        gradient -= np.concatenate([p / self.sd, q / Q_SD, self.k * u.ravel(), a, v.ravel() / V_SD**2])
        return value, gradient


@final
@dataclass(frozen=True)
class Map:
    """A learned map from features to coordinates.

    Attributes:
        centre, unit: (p,) that features are standardised with. basis: (p, k) of their components.
        log_q: (k,). u, a, v: of the nonlinear part.
    """

    centre: Array
    unit: Array
    basis: Array
    log_q: Array
    u: Array
    a: Array
    v: Array

    def components(self, c: Array) -> Array:
        """Map features (m, p) to components (m, k)."""
        return np.asarray(np.clip((c - self.centre) / self.unit, -FAR, FAR) @ self.basis)

    def __call__(self, c: Array) -> Array:
        """Map features (m, p) to z (m, k + o)."""
        b = self.components(c)
        bent = np.tanh(b @ self.u.T + self.a) @ self.v.T
        return np.concatenate([b * np.exp(-self.log_q), bent], axis=1)


@final
@dataclass(frozen=True)
class DeepKernel:
    """The fitted process.

    Attributes:
        columns, kind, theta: of the rows' part.
        embed: the learned map. z: (n, k + o) of the data; typical: (k + o,) where features are unknown.
        x, y: the data. rows, trend: their features; inverse, alpha: of the factored covariance.
    """

    columns: Columns
    kind: str
    theta: Array
    embed: Map
    z: Array
    typical: Array
    x: Array
    y: Array
    rows: Array
    trend: Array
    inverse: Array
    alpha: Array

    def predict(self, x: Array, c: Array | None = None) -> tuple[Array, Array]:
        """Return mean and variance of the noise-free output at rows (m, d).

        Args:
            c: (m, p) features; None: typical ones, for what was never trained.
        """
        d = self.columns.width
        s, t, _ = np.exp(self.theta[d:])
        f, trend = self.columns.embed(x)
        z = np.broadcast_to(self.typical, (len(x), len(self.typical))) if c is None else self.embed(c)
        f = np.concatenate([f * np.exp(-self.theta[:d])[self.columns.group], z], axis=1)
        r2 = np.maximum((f * f).sum(1)[:, None] + (self.rows**2).sum(1) - 2.0 * (f @ self.rows.T), 0.0)
        k = s * profile(self.kind, r2)[0] + t * (trend @ self.trend.T) + MEAN_VARIANCE
        half = k @ self.inverse.T
        own = s + t * (trend * trend).sum(1) + MEAN_VARIANCE
        return np.asarray(k @ self.alpha), np.asarray(np.maximum(own - (half * half).sum(1), 1e-12))

    def given(self, x: Array, c: Array, y: Array) -> DeepKernel:
        """Keep what was learned, and condition on other data (shapes as in :func:`fit_deep`)."""
        return _condition(self.columns, self.kind, self.theta, self.embed, x, y, *_coordinates(self.embed, c))

    def believe(self, rows: Array) -> DeepKernel:
        """Take rows of typical features to give what is predicted."""
        x, y = np.concatenate([self.x, rows]), np.concatenate([self.y, self.predict(rows)[0]])
        z = np.concatenate([self.z, np.broadcast_to(self.typical, (len(rows), len(self.typical)))])
        return _condition(self.columns, self.kind, self.theta, self.embed, x, y, z, self.typical)


def _coordinates(embed: Map, c: Array) -> tuple[Array, Array]:
    """Map features, unknown ones to the mean of the known; return the coordinates and that mean."""
    known = np.asarray(np.isfinite(c).all(axis=1))
    z = embed(np.where(known[:, None], c, embed.centre))
    typical = z[known].mean(0) if known.any() else z.mean(0)
    return np.where(known[:, None], z, typical), typical


def _condition(
    columns: Columns, kind: str, theta: Array, embed: Map, x: Array, y: Array, z: Array, typical: Array
) -> DeepKernel:
    d = x.shape[1]
    s, t, noise = np.exp(theta[d:])
    f, trend = columns.embed(x)
    f = np.concatenate([f * np.exp(-theta[:d])[columns.group], z], axis=1)
    square = (f * f).sum(1)
    r2 = np.maximum(square[:, None] + square - 2.0 * (f @ f.T), 0.0)
    np.fill_diagonal(r2, 0.0)
    base = s * profile(kind, r2)[0] + t * (trend @ trend.T) + MEAN_VARIANCE
    inverse, alpha = factored(base, noise, y)
    return DeepKernel(columns, kind, theta, embed, z, typical, x, y, f, trend, inverse, alpha)


def fit_deep(
    columns: Columns,
    x: Array,
    c: Array,
    y: Array,
    rng: np.random.Generator,
    *,
    kind: str = "matern52",
    steps: int = 60,
) -> DeepKernel:
    """Fit the process.

    Args:
        columns: kinds of the rows' columns.
        x: (n, d) rows of the unit cube, NaN where inactive.
        c: (n, p) features; a row of NaN where unknown.
        y: (n,) standardised outputs.
        rng: source of the first U and V.
        steps: L-BFGS iterations.
    """
    optimize = require("scipy.optimize", _WHY)
    known = np.asarray(np.isfinite(c).all(axis=1))
    centre, unit = np.zeros(c.shape[1]), np.ones(c.shape[1])
    if known.any():
        centre, unit = c[known].mean(0), c[known].std(0)
        unit = np.where(unit > 1e-9 * (1.0 + np.abs(centre)), unit, 1.0)
    scaled = np.clip(np.where(known[:, None], (c - centre) / unit, 0.0), -FAR, FAR)
    most = max(1, min(PARTS, c.shape[1], int(known.sum()) // 4))
    _, size, axes = np.linalg.svd(scaled, full_matrices=False)
    spread = size[:most] / np.sqrt(max(int(known.sum()), 1))
    k = max(1, int((spread > 1e-6).sum()))
    basis = axes[:k].T / np.where(spread[:k] > 1e-6, spread[:k], 1.0)
    evidence = _Evidence(columns, x, scaled @ basis, y, kind)
    d = columns.width
    start = np.concatenate([
        evidence.mean, np.full(k, Q_MEAN + 0.5 * np.log(k)), rng.standard_normal(HIDDEN * k) / np.sqrt(k),
        np.zeros(HIDDEN), V_SD * rng.standard_normal(OUT * HIDDEN),
    ])  # fmt: skip
    rough = start.copy()
    rough[:d] = np.log(0.3) + 0.25 * np.log(max(d, 1))
    box = [*map(tuple, bounds(d)), *[(-10.0, 10.0)] * (len(start) - d - 3)]

    def negative(values: Array) -> tuple[float, Array]:
        value, gradient = evidence(values)
        return (-value, -gradient) if np.isfinite(value) else (1e10, gradient)

    runs = [
        optimize.minimize(negative, one, jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": steps})
        for one in (start, rough)
    ]
    theta, log_q, u, a, v = evidence.split(
        np.asarray(min(runs, key=lambda run: float(run.fun)).x, dtype=float)
    )
    embed = Map(centre, unit, basis, log_q, u, a, v)
    return _condition(columns, kind, theta, embed, x, y, *_coordinates(embed, c))
