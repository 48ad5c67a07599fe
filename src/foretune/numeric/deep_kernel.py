"""A Gaussian process with a learned kernel over features, beside the ordinary one over rows.

    y = f(x) + g(z) + noise,    z = V tanh(U c + a),    g ~ GP(0, u exp(-|z - z'|^2 / 2))

f is the process of ``gp.py`` over rows x; c are features that only some observations have (a checkpoint's weights, a
curve so far). Where they are unknown, g is an independent draw: the observation then tells of f alone, with
more noise. U, a, V, u and the hyperparameters of f maximise the log posterior together (exact gradients).

Source: Improving Hyperparameter Optimization with Checkpointed Model Weights

Differs:
    1. The paper's kernel is one, over a network's output for config, budget, curve and weights together; here
       configs keep a kernel of their own, so that what was never trained can be predicted without features.
    2. Weights of U, a and V have normal priors of unit scale (per input).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.base.lazy import require
from foretune.numeric.gp import JITTER, MEAN_VARIANCE, Posterior, bounds, prior
from foretune.numeric.kernel import Columns, profile

__all__ = ["DeepKernel", "fit_deep"]

Array = NDArray[np.float64]

HIDDEN = 8  # width of the tanh layer
OUT = 4  # coordinates of z
U_MEAN, U_SD = np.log(0.3), 1.5  # of log u: assumed
FAR = 5.0  # standard deviations at which features are cut: one exploded network must not rule the fit
_WHY = "The deep-kernel Gaussian process"


@final
class _Evidence:
    """The log posterior of all parameters and its gradient.

    The parameters, in one vector: theta (d + 3,), log u, U (h, p), a (h,), V (k, h).
    """

    def __init__(
        self, columns: Columns, x: Array, c: Array, known: NDArray[np.bool_], y: Array, kind: str
    ) -> None:
        self.columns, self.c, self.known, self.y, self.kind = columns, c, known, y, kind
        self.n, self.d, self.p = len(y), columns.width, c.shape[1]
        self.distances = columns.distances(x)
        _, trend = columns.embed(x)
        self.trend = trend @ trend.T
        self.mean, self.sd = prior(self.d)
        self.both = np.outer(known, known).astype(float)
        np.fill_diagonal(self.both, 1.0)
        self._lapack = require("scipy.linalg.lapack", _WHY)

    def split(self, values: Array) -> tuple[Array, float, Array, Array, Array]:
        """Return theta, log u, U, a, V."""
        d, p = self.d, self.p
        at = d + 4
        rest = values[at:]
        u = rest[: HIDDEN * p].reshape(HIDDEN, p)
        a = rest[HIDDEN * p : HIDDEN * (p + 1)]
        v = rest[HIDDEN * (p + 1) :].reshape(OUT, HIDDEN)
        return values[: d + 3], float(values[d + 3]), u, a, v

    def deep(self, log_u: float, z: Array) -> Array:
        """Return the covariance of g over the data."""
        r2 = np.maximum(((z[:, None] - z[None]) ** 2).sum(-1), 0.0)
        return np.asarray(np.exp(log_u) * np.exp(-0.5 * r2) * self.both)

    def __call__(self, values: Array) -> tuple[float, Array]:
        theta, log_u, big_u, a, big_v = self.split(values)
        n, d = self.n, self.d
        w = np.exp(-2.0 * theta[:d])
        s, t, noise = np.exp(theta[d:])
        m, g = profile(self.kind, w @ self.distances)
        hidden = np.tanh(self.c @ big_u.T + a)
        z = hidden @ big_v.T
        deep = self.deep(log_u, z)
        k = (s * m).reshape(n, n) + t * self.trend + MEAN_VARIANCE + deep
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
        # d deep / d r^2 = -deep / 2; r^2 = |z_i - z_j|^2
        b = -0.5 * weight * deep
        g_z = 4.0 * (b.sum(1)[:, None] * z - b @ z)
        g_v = g_z.T @ hidden
        g_pre = (g_z @ big_v) * (1.0 - hidden**2)
        gradient = np.concatenate(
            [g_theta, [float((weight * deep).sum())], (g_pre.T @ self.c).ravel(), g_pre.sum(0), g_v.ravel()]
        )
        # priors
        q = (theta - self.mean) / self.sd
        value -= 0.5 * float(q @ q) + 0.5 * ((log_u - U_MEAN) / U_SD) ** 2
        gradient[: d + 3] -= q / self.sd
        gradient[d + 3] -= (log_u - U_MEAN) / U_SD**2
        value -= 0.5 * (self.p * float((big_u**2).sum()) + float(a @ a) + float((big_v**2).sum()))
        gradient[d + 4 :] -= np.concatenate([self.p * big_u.ravel(), a, big_v.ravel()])
        return value, gradient


@final
@dataclass(frozen=True)
class DeepKernel:
    """The fitted process; ``posterior`` is of f alone.

    Attributes:
        posterior: of f given all data, gradients included.
        centre, unit: (p,) that features are standardised with.
        log_u, u, a, v: the learned kernel; z: (n, k) of the data.
        known: (n,) which data have features.
    """

    posterior: Posterior
    centre: Array
    unit: Array
    log_u: float
    u: Array
    a: Array
    v: Array
    z: Array
    known: NDArray[np.bool_]
    x: Array
    y: Array

    def embed(self, c: Array) -> Array:
        """Map features (m, p) to z (m, k)."""
        scaled = np.clip((c - self.centre) / self.unit, -FAR, FAR)
        return np.asarray(np.tanh(scaled @ self.u.T + self.a) @ self.v.T)

    def predict(self, x: Array, c: Array | None = None) -> tuple[Array, Array]:
        """Return mean and variance of f + g at rows (m, d).

        Args:
            c: (m, p) features; None: those of a typical observation (the mean of z), for what was never trained.
        """
        post = self.posterior
        d = post.columns.width
        s, t, _ = np.exp(post.theta[d:])
        f, trend = post.columns.embed(x)
        f = f * np.exp(-post.theta[:d])[post.columns.group]
        r2 = np.maximum((f * f).sum(1)[:, None] + (post.rows**2).sum(1) - 2.0 * (f @ post.rows.T), 0.0)
        k = s * profile(post.kind, r2)[0] + t * (trend @ post.trend.T) + MEAN_VARIANCE
        own = s + t * (trend * trend).sum(1) + MEAN_VARIANCE
        if self.known.any():
            z = self.z[self.known].mean(0)[None] if c is None else self.embed(c)
            size = np.exp(self.log_u)
            k = k + size * np.exp(-0.5 * ((z[:, None] - self.z[None]) ** 2).sum(-1)) * self.known
            own = own + size
        half = k @ post.inverse.T
        return np.asarray(k @ post.alpha), np.asarray(np.maximum(own - (half * half).sum(1), 1e-12))

    def given(self, x: Array, c: Array, y: Array) -> DeepKernel:
        """Keep what was learned, and condition on other data (shapes as in :func:`fit_deep`)."""
        known = np.asarray(np.isfinite(c).all(axis=1))
        z = np.where(known[:, None], self.embed(np.where(known[:, None], c, 0.0)), 0.0)
        p = self.posterior
        learned = (self.centre, self.unit, self.log_u, self.u, self.a, self.v)
        return _condition(p.columns, p.kind, p.theta, x, y, z, known, learned)

    def believe(self, rows: Array) -> DeepKernel:
        """Take rows of typical features to give what is predicted."""
        x, y = np.concatenate([self.x, rows]), np.concatenate([self.y, self.predict(rows)[0]])
        any_known = bool(self.known.any())
        middle = self.z[self.known].mean(0) if any_known else np.zeros(OUT)
        z = np.concatenate([self.z, np.broadcast_to(middle, (len(rows), OUT))])
        known = np.concatenate([self.known, np.full(len(rows), any_known)])
        p = self.posterior
        learned = (self.centre, self.unit, self.log_u, self.u, self.a, self.v)
        return _condition(p.columns, p.kind, p.theta, x, y, z, known, learned)


def _condition(
    columns: Columns, kind: str, theta: Array, x: Array, y: Array, z: Array, known: NDArray[np.bool_],
    learned: tuple[Array, Array, float, Array, Array, Array],
) -> DeepKernel:  # fmt: skip
    lapack = require("scipy.linalg.lapack", _WHY)
    n, d = x.shape
    s, t, noise = np.exp(theta[d:])
    f, trend = columns.embed(x)
    f = f * np.exp(-theta[:d])[columns.group]
    square = (f * f).sum(1)
    r2 = np.maximum(square[:, None] + square - 2.0 * (f @ f.T), 0.0)
    np.fill_diagonal(r2, 0.0)
    both = np.outer(known, known).astype(float)
    np.fill_diagonal(both, 1.0)
    deep = np.exp(learned[2]) * np.exp(-0.5 * ((z[:, None] - z[None]) ** 2).sum(-1)) * both
    base = s * profile(kind, r2)[0] + t * (trend @ trend.T) + MEAN_VARIANCE + deep
    extra = noise + JITTER
    while True:
        k = base.copy()
        k.flat[:: n + 1] += extra
        lower, info = lapack.dpotrf(k, lower=1, clean=1)
        if not info:
            break
        extra *= 10.0
    inverse, _ = lapack.dtrtri(lower, lower=1)
    posterior = Posterior(columns, kind, theta, f, trend, inverse, inverse.T @ (inverse @ y))
    return DeepKernel(posterior, *learned, z, known, x, y)


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
    scaled = np.where(known[:, None], (c - centre) / unit, 0.0)
    scaled = np.clip(scaled, -FAR, FAR)
    evidence = _Evidence(columns, x, scaled, known, y, kind)
    p, d = c.shape[1], columns.width
    start = np.concatenate([
        evidence.mean, [U_MEAN], rng.standard_normal(HIDDEN * p) / np.sqrt(p), np.zeros(HIDDEN),
        rng.standard_normal(OUT * HIDDEN) / np.sqrt(HIDDEN),
    ])  # fmt: skip
    rough = start.copy()
    rough[:d] = np.log(0.3) + 0.25 * np.log(max(d, 1))
    box = [*map(tuple, bounds(d)), (np.log(1e-6), np.log(1e2)), *[(-10.0, 10.0)] * (len(start) - d - 4)]

    def negative(values: Array) -> tuple[float, Array]:
        value, gradient = evidence(values)
        return (-value, -gradient) if np.isfinite(value) else (1e10, gradient)

    runs = [
        optimize.minimize(negative, one, jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": steps})
        for one in (start, rough)
    ]
    found = min(runs, key=lambda run: float(run.fun))
    theta, log_u, big_u, a, big_v = evidence.split(np.asarray(found.x, dtype=float))
    z = np.tanh(scaled @ big_u.T + a) @ big_v.T
    return _condition(columns, kind, theta, x, y, z, known, (centre, unit, log_u, big_u, a, big_v))
