"""Gaussian process regression that integrates over its hyperparameters, by sampling or by variational Gaussians.

    p(y* | y) = int p(y* | theta, y) p(theta | y) dtheta  ~  1/K sum_k N(y*; mean_k, variance_k)

theta = log of (length scales, signal, trend, noise), as in ``gp.py``. All inference works on phi = (theta - m) / sd,
the hyperparameters standardised by their prior, with exact gradients of the log posterior:

    ml2      the theta of largest marginal likelihood, no prior (type II maximum likelihood)
    hmc      Hamiltonian Monte Carlo: several chains at once, step size by dual averaging, diagonal mass from the
             warm-up, jittered trajectories
    vi_mf    q(phi) normal with a diagonal covariance, largest evidence lower bound by reparametrised gradients
    vi_full  the same with a full covariance

Source: Approximate Inference for Fully Bayesian Gaussian Process Regression

Differs:
    1. Plain HMC with a diagonal mass matrix; the paper's chains are the no-U-turn sampler's.
    2. Priors are normal in log theta and assumed: length scales about half of the data's range, noise e^-3.
    3. An unknown mean is integrated out (a constant in the covariance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.numeric.gp import MEAN_VARIANCE, Posterior, bounds, climb, condition
from foretune.numeric.kernel import KERNELS, Columns, profile

__all__ = ["INFERENCES", "FittedBayesianGP", "FullyBayesianGP", "LogPosterior", "mode", "posterior_draws"]

Array = NDArray[np.float64]

INFERENCES = ("ml2", "hmc", "vi_mf", "vi_full")
RIDGE = 1e-8  # added to the stationary part's diagonal, relative to the signal: keeps K definite
CHAINS = 4  # HMC chains, run as one batch
ACCEPT = 0.8  # acceptance that the step size is tuned to (Hoffman and Gelman's default)
VI_DRAWS = 8  # draws a variational step, in antithetic pairs
WILD = 40.0  # a log hyperparameter beyond this overflows or vanishes in double precision
NO_TREND = -30.0  # log of a trend that is not there


@final
class LogPosterior:
    """The log posterior of theta and its gradient, for a batch of thetas.

    Args:
        columns: kinds of the columns.
        x: (n, d) rows of the unit cube, NaN where inactive.
        y: (n,) standardised outputs.
        kind: "rbf" or "matern52".
        mean, sd: (d + 3,) of the normal prior on theta; ``sd`` infinite: no prior.
    """

    def __init__(self, columns: Columns, x: Array, y: Array, kind: str, mean: Array, sd: Array) -> None:
        self.kind, self.y, self.n, self.d = kind, y, len(y), columns.width
        self.mean, self.sd = mean, sd
        self._distances = columns.distances(x)
        _, trend = columns.embed(x)
        self._trend = trend @ trend.T

    def __call__(self, theta: Array) -> tuple[Array, Array]:
        """Return the log posteriors (b,) and gradients (b, d + 3) at thetas (b, d + 3); -inf where K is singular."""
        n, d, b = self.n, self.d, len(theta)
        tame = np.asarray(
            (np.abs(theta) <= WILD).all(axis=1)
        )  # not so: a trajectory has left for a singular corner
        theta = np.where(tame[:, None], theta, self.mean)
        scales, (s, t, v) = np.exp(-2.0 * theta[:, :d]), np.exp(theta[:, d:]).T
        m, g = profile(self.kind, scales @ self._distances)
        k = (s[:, None] * m).reshape(b, n, n) + t[:, None, None] * self._trend + MEAN_VARIANCE
        at = np.arange(n)
        k[:, at, at] += (s * RIDGE + v)[:, None]
        lower, good = _cholesky(k)
        half = np.linalg.inv(lower)
        inverse = half.transpose(0, 2, 1) @ half
        alpha = inverse @ self.y
        value = -0.5 * (alpha @ self.y) - np.log(lower[:, at, at]).sum(1) - 0.5 * n * np.log(2.0 * np.pi)
        # d/dtheta = 1/2 tr((alpha alpha' - K^-1) dK/dtheta)
        weight = 0.5 * (alpha[:, :, None] * alpha[:, None, :] - inverse)
        flat = weight.reshape(b, -1)
        trace = weight[:, at, at].sum(1)
        gradient = np.empty_like(theta)
        gradient[:, :d] = s[:, None] * scales * ((flat * g) @ self._distances.T)
        gradient[:, d] = s * ((flat * m).sum(1) + RIDGE * trace)
        gradient[:, d + 1] = t * (flat @ self._trend.ravel())
        gradient[:, d + 2] = v * trace
        z = (theta - self.mean) / self.sd
        good &= tame
        value = np.where(good, value - 0.5 * (z * z).sum(1), -np.inf)
        return value, np.where(good[:, None], gradient - z / self.sd, 0.0)


def _cholesky(k: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Factor a batch; a matrix that cannot be factored gives the identity and False."""
    good = np.asarray(np.isfinite(k).all(axis=(1, 2)))
    k = np.where(good[:, None, None], k, np.eye(k.shape[1]))
    try:
        return np.asarray(np.linalg.cholesky(k)), good
    except np.linalg.LinAlgError:
        out = np.empty_like(k)
        for i, one in enumerate(k):
            try:
                out[i] = np.linalg.cholesky(one)
            except np.linalg.LinAlgError:
                out[i], good[i] = np.eye(len(one)), False
        return out, good


def mode(target: LogPosterior, starts: Array, iterations: int = 60) -> tuple[float, Array]:
    """Maximise the log posterior by L-BFGS-B from each start (k, d + 3), within ``gp.bounds``.

    A parameter whose prior mean lies outside of the bounds (a trend that is not there) stays at that mean.
    """
    box = bounds(target.d)
    outside = (target.mean < box[:, 0]) | (target.mean > box[:, 1])
    box[outside] = target.mean[outside, None]

    def one(theta: Array) -> tuple[float, Array]:
        value, gradient = target(theta[None])
        return float(value[0]), gradient[0]

    return climb(one, box, list(starts), iterations)


def _hmc(
    target: LogPosterior, start: Array, draws: int, warmup: int, leapfrog: int, rng: np.random.Generator
) -> Array:
    """Sample phi: (draws, p), from chains that start about theta ``start``."""
    p = len(start)

    def log_density(phi: Array) -> tuple[Array, Array]:
        value, gradient = target(target.mean + target.sd * phi)
        return value, gradient * target.sd

    centre = (start - target.mean) / target.sd
    phi = centre + 0.1 * rng.standard_normal((CHAINS, p))
    value, slope = log_density(phi)
    bad = ~np.isfinite(value)
    if bad.any():
        phi[bad] = centre
        value, slope = log_density(phi)
    scale = np.ones(p)  # standard deviations that the momenta are matched to
    log_step, mean_log, mean_gap, base = np.log(0.2), np.log(0.2), 0.0, np.log(2.0)
    count, seen, kept = 0, [], []
    per_chain = -(-draws // CHAINS)
    for i in range(warmup + per_chain):
        learning = i < warmup
        step = float(np.exp(log_step if learning else mean_log)) * rng.uniform(0.8, 1.2)
        momentum = rng.standard_normal((CHAINS, p))
        energy = value - 0.5 * (momentum**2).sum(1)
        place, force = phi, slope
        for _ in range(int(rng.integers(max(1, leapfrog // 2), leapfrog + 1))):
            momentum = momentum + 0.5 * step * scale * force
            place = place + step * scale * momentum
            new, force = log_density(place)
            momentum = momentum + 0.5 * step * scale * force
        with np.errstate(over="ignore", invalid="ignore"):
            gain = new - 0.5 * (momentum**2).sum(1) - energy
            chance = np.where(np.isfinite(gain), np.exp(np.minimum(gain, 0.0)), 0.0)
        taken = rng.random(CHAINS) < chance
        phi = np.where(taken[:, None], place, phi)
        value, slope = np.where(taken, new, value), np.where(taken[:, None], force, slope)
        if learning:  # dual averaging (Hoffman and Gelman, 2014: gamma 0.05, t0 10, kappa 0.75)
            count += 1
            mean_gap += (ACCEPT - float(chance.mean()) - mean_gap) / (count + 10.0)
            log_step = base - np.sqrt(count) / 0.05 * mean_gap
            weight = count**-0.75
            mean_log = weight * log_step + (1.0 - weight) * mean_log
            seen.append(phi)
            if i == warmup // 2 and warmup >= 20:
                scale = np.maximum(np.concatenate(seen[len(seen) // 2 :]).std(axis=0), 0.05)
                count, mean_gap, log_step = 0, 0.0, mean_log - np.log(float(scale.mean()))
                base, seen = log_step + np.log(2.0), []
        else:
            kept.append(phi)
    return np.concatenate(kept)[:draws]


def _variational(
    target: LogPosterior,
    start: Array,
    full: bool,
    draws: int,
    steps: int,
    rate: float,
    rng: np.random.Generator,
) -> Array:
    """Fit q(phi) = N(mu, L L') by Adam on the evidence lower bound; return draws of it, (draws, p).

    The last half of the iterates is averaged, for the gradients are noisy.
    """
    p = len(start)
    mu, low = (start - target.mean) / target.sd, np.full((p, p), 0.0)
    log_sd = np.full(p, np.log(0.3))
    mask = np.tril(np.ones((p, p)), -1) if full else np.zeros((p, p))
    values = np.concatenate([mu, log_sd, low.ravel()])
    first, second, mean = np.zeros_like(values), np.zeros_like(values), np.zeros_like(values)
    for i in range(1, steps + 1):
        mu, log_sd, low = values[:p], values[p : 2 * p], values[2 * p :].reshape(p, p) * mask
        half = rng.standard_normal((VI_DRAWS // 2, p))
        z = np.concatenate([half, -half])
        factor = low + np.diag(np.exp(log_sd))
        _, gradient = target(target.mean + target.sd * (mu + z @ factor.T))
        g = gradient * target.sd
        size = np.linalg.norm(g, axis=1, keepdims=True)
        g = g * np.minimum(1.0, 100.0 / np.maximum(size, 1e-12))  # a draw in a singular corner must not rule
        outer = (g[:, :, None] * z[:, None, :]).mean(0)
        up = np.concatenate([g.mean(0), np.diag(outer) * np.exp(log_sd) + 1.0, (outer * mask).ravel()])
        first = 0.9 * first + 0.1 * up
        second = 0.99 * second + 0.01 * up * up
        values = values + rate * (first / (1 - 0.9**i)) / (np.sqrt(second / (1 - 0.99**i)) + 1e-8)
        if i > steps // 2:
            mean += (values - mean) / (i - steps // 2)
    mu, log_sd, low = mean[:p], mean[p : 2 * p], mean[2 * p :].reshape(p, p) * mask
    found: Array = mu + rng.standard_normal((draws, p)) @ (low + np.diag(np.exp(log_sd))).T
    return found


def posterior_draws(
    target: LogPosterior, start: Array, inference: str, draws: int, key: Key, *,
    warmup: int = 150, leapfrog: int = 12, vi_steps: int = 400, vi_rate: float = 0.03,
) -> Array:  # fmt: skip
    """Draw hyperparameters from (an approximation of) their posterior: thetas (draws, d + 3)."""
    rng = key.fold("hyperparameters", inference).generator()
    if inference == "hmc":
        phi = _hmc(target, start, draws, warmup, leapfrog, rng)
    else:
        phi = _variational(target, start, inference == "vi_full", draws, vi_steps, vi_rate, rng)
    found: Array = target.mean + target.sd * phi
    return found


@final
@dataclass(frozen=True)
class FittedBayesianGP:
    """A mixture of processes given data, one for each draw of the hyperparameters.

    Attributes:
        theta: (k, d + 3) draws.
        low, width: (d,) the inputs' origin and range. centre, unit: of the outputs.
        posteriors: one for each draw.
    """

    theta: Array
    low: Array
    width: Array
    centre: float
    unit: float
    posteriors: tuple[Posterior, ...]

    def components(self, x: ArrayLike) -> tuple[Array, Array]:
        """Return means and variances of new observations under each draw: (k, m), (k, m)."""
        rows = (np.asarray(x, dtype=float) - self.low) / self.width
        found = [p.predict(rows) for p in self.posteriors]
        noise = np.exp(self.theta[:, -1])[:, None]
        mean = self.centre + self.unit * np.array([m for m, _ in found])
        return mean, self.unit**2 * (np.array([v for _, v in found]) + noise)

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """Return mean and variance of new observations at rows (m, d): (m,), (m,)."""
        mean, variance = self.components(x)
        middle = mean.mean(0)
        return middle, np.asarray(variance.mean(0) + ((mean - middle) ** 2).mean(0))

    def log_density(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Return the log predictive density of outcomes (m,) at rows (m, d)."""
        mean, variance = self.components(x)
        each = -0.5 * ((np.asarray(y, dtype=float) - mean) ** 2 / variance + np.log(2.0 * np.pi * variance))
        top = each.max(0)
        return np.asarray(top + np.log(np.exp(each - top).mean(0)))

    def quantiles(self, x: ArrayLike, q: ArrayLike) -> Array:
        """Return the mixture's quantiles, (m, len(q)), by bisection."""
        special = require("scipy.special", "The fully Bayesian Gaussian process")
        levels = np.atleast_1d(np.asarray(q, dtype=float))
        if not ((levels > 0.0) & (levels < 1.0)).all():
            raise ArgumentError(f"q must lie in (0, 1); got {q!r}.")
        mean, variance = self.components(x)
        sd = np.sqrt(variance)
        each = mean[:, :, None] + sd[:, :, None] * special.ndtri(levels)
        low, high = each.min(0), each.max(0)
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = special.ndtr((middle - mean[:, :, None]) / sd[:, :, None]).mean(0) < levels
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray(0.5 * (low + high))


@final
@dataclass(frozen=True)
class FullyBayesianGP:
    """Regression by a Gaussian process whose hyperparameters are averaged over; :meth:`fit` makes the posterior.

    Args:
        kernel: "rbf" or "matern52", with a length scale for each column.
        inference: one of ``ml2``, ``hmc``, ``vi_mf``, ``vi_full``.
        draws: of the hyperparameters, that predictions average over.
        warmup: HMC iterations that are thrown away (each of four chains).
        leapfrog: steps of a trajectory, at most.
        spread: standard deviation of the log length scales' prior.
        vi_steps, vi_rate: steps of Adam and their size.
        trend: whether linear and quadratic main effects are part of the covariance.

    >>> x = np.linspace(0, 1, 12)[:, None]
    >>> fitted = FullyBayesianGP(inference="hmc", draws=40, warmup=40).fit(x, np.sin(5 * x[:, 0]), Key.of(0))
    >>> mean, variance = fitted.predict([[0.5]])
    >>> bool(abs(mean[0] - np.sin(2.5)) < 0.1)
    True
    """

    kernel: str = "rbf"
    inference: str = "hmc"
    draws: int = 200
    warmup: int = 150
    leapfrog: int = 12
    spread: float = 1.5
    vi_steps: int = 400
    vi_rate: float = 0.03
    trend: bool = False

    def __post_init__(self) -> None:
        check.one_of("kernel", self.kernel, KERNELS)
        check.one_of("inference", self.inference, INFERENCES)
        for name in ("draws", "warmup", "leapfrog", "vi_steps"):
            check.integer(name, getattr(self, name), 1)
        check.number("spread", self.spread, 0.0, open_low=True)
        check.number("vi_rate", self.vi_rate, 0.0, 1.0, open_low=True)

    def prior(self, d: int) -> tuple[Array, Array]:
        """Return mean and standard deviation of theta's normal prior, (d + 3,) each."""
        trend = (np.log(0.3), 1.5) if self.trend else (NO_TREND, 1e-3)
        mean = np.concatenate([np.full(d, np.log(0.5) + 0.5 * np.log(d)), [0.0, trend[0], -3.0]])
        return mean, np.concatenate([np.full(d, self.spread), [1.0, trend[1], 2.0]])

    def fit(self, x: ArrayLike, y: ArrayLike, key: Key) -> FittedBayesianGP:
        """Condition on data.

        Args:
            x: (n, d) finite inputs of any unit; each column is scaled to its range.
            y: (n,) finite outputs.
            key: source of the draws.
        """
        rows, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if rows.ndim != 2 or values.shape != rows.shape[:1] or len(values) < 2:
            raise ArgumentError(
                f"x must be (n, d) and y (n,), n at least 2; got {rows.shape} and {values.shape}."
            )
        if not (np.isfinite(rows).all() and np.isfinite(values).all()):
            raise ArgumentError("x and y must be finite: drop failed observations first, or replace them.")
        low, width = rows.min(0), np.ptp(rows, axis=0)
        width = np.where(width > 0.0, width, 1.0)
        centre, unit = float(values.mean()), float(values.std()) or 1.0
        d = rows.shape[1]
        columns, units, t = Columns((0,) * d), (rows - low) / width, (values - centre) / unit
        mean, sd = self.prior(d)
        rough = mean.copy()
        rough[:d] += np.log(0.3)
        starts = np.array([mean, rough])
        if self.inference == "ml2":
            # no prior, but for a trend that is not there: it has no hyperparameter
            flat = np.where(mean == NO_TREND, sd, np.inf)
            long = mean.copy()
            long[:d] += 1.5
            free = LogPosterior(columns, units, t, self.kernel, mean, flat)
            theta = mode(free, np.array([*starts, long]))[1][None]
        else:
            target = LogPosterior(columns, units, t, self.kernel, mean, sd)
            theta = posterior_draws(
                target, mode(target, starts)[1], self.inference, self.draws, key,
                warmup=self.warmup, leapfrog=self.leapfrog, vi_steps=self.vi_steps, vi_rate=self.vi_rate,
            )  # fmt: skip
        fitted = tuple(condition(columns, self.kernel, one, units, t) for one in theta)
        return FittedBayesianGP(theta, low, width, centre, unit, fitted)
