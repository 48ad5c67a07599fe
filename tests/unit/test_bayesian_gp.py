"""The Gaussian process that averages over its hyperparameters, and its sampler."""

from __future__ import annotations

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.bayesian_gp import (
    INFERENCES,
    NO_TREND,
    FullyBayesianGP,
    LogPosterior,
    mode,
    posterior_draws,
)
from foretune.numeric.gp import Evidence, prior
from foretune.numeric.kernel import Columns
from foretune.search import make
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.testing.samplers import Walk
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem

MIXED = Columns((0, 3, 0), (2,))


def data(n: int = 14, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = Key.of(seed).generator()
    x = rng.random((n, 2))
    return x, np.sin(4 * x[:, 0]) + x[:, 1] + 0.1 * rng.standard_normal(n)


def target(kind: str = "rbf") -> LogPosterior:
    rng = Key.of(3).generator()
    x = rng.random((9, 3))
    x[2, 2] = np.nan
    mean, sd = prior(3)
    return LogPosterior(MIXED, x, rng.standard_normal(9), kind, mean, sd)


@pytest.mark.parametrize("kind", ["rbf", "matern52"])
def test_gradients_are_exact(kind: str) -> None:
    """The gradient of each log posterior of a batch agrees with central differences."""
    f = target(kind)
    theta = f.mean + 0.3 * f.sd * Key.of(1).generator().standard_normal((3, 6))
    _, gradient = f(theta)
    steps = 1e-5 * np.eye(6)
    found = np.stack([(f(theta + h)[0] - f(theta - h)[0]) / 2e-5 for h in steps], axis=1)
    np.testing.assert_allclose(gradient, found, rtol=1e-5, atol=1e-5)


def test_it_is_the_log_posterior_of_the_plain_process() -> None:
    """With the plain process's prior the values agree with its evidence, but for the ridge."""
    rng = Key.of(3).generator()
    x = rng.random((9, 3))
    x[2, 2] = np.nan
    y = rng.standard_normal(9)
    f, plain = LogPosterior(MIXED, x, y, "rbf", *prior(3)), Evidence(MIXED, x, y, "rbf")
    theta = f.mean + np.array([[0.1, -0.3, 0.0, 0.2, 0.1, 5.0]])
    assert f(theta)[0][0] == pytest.approx(plain(theta[0])[0], abs=1e-4)


def test_wild_hyperparameters_are_refused_quietly() -> None:
    """Where double precision ends the log posterior is -inf, for that member of the batch only."""
    f = target()
    value, gradient = f(np.stack([f.mean, f.mean + 500.0, np.full(6, np.nan)]))
    assert np.isfinite(value[0])
    assert (value[1:] == -np.inf).all()
    assert (gradient[1:] == 0.0).all()


def test_samplers_of_hyperparameters_find_a_known_posterior() -> None:
    """On a normal target HMC and full-rank VI recover the mean within 0.35 sd, and the correlation's sign.

    n = 400 draws; with an effective size of 100 the mean's standard error is 0.1 sd: 0.35 is exceeded with
    probability below 0.001 a coordinate.
    """
    f = target()
    root = np.linalg.cholesky(np.eye(6) + 0.8 * np.eye(6, k=1) + 0.8 * np.eye(6, k=-1) + 0.6 * np.eye(6))
    precision = np.linalg.inv(root @ root.T)
    centre = np.arange(6) / 6.0

    def normal(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (theta - f.mean) / f.sd - centre
        return -0.5 * np.einsum("bi,ij,bj->b", z, precision, z), -(z @ precision) / f.sd

    normal.mean, normal.sd = f.mean, f.sd  # type: ignore[attr-defined]
    for way in ("hmc", "vi_full"):
        draws = posterior_draws(normal, f.mean, way, 400, Key.of(2), vi_steps=800)  # type: ignore[arg-type]
        phi = (draws - f.mean) / f.sd
        assert np.abs(phi.mean(0) - centre).max() < 0.35 * np.sqrt(1.6)
        assert np.corrcoef(phi.T)[0, 1] > 0.2


@pytest.mark.parametrize("inference", INFERENCES)
def test_each_inference_predicts(inference: str) -> None:
    """Near the data, predictions are near the truth; variances are positive and quantiles rise."""
    x, y = data(25)
    fitted = FullyBayesianGP(inference=inference, draws=24, warmup=40, vi_steps=150).fit(x, y, Key.of(0))
    at = np.array([[0.3, 0.5], [0.6, 0.4]])
    mean, variance = fitted.predict(at)
    assert np.abs(mean - np.sin(4 * at[:, 0]) - at[:, 1]).max() < 0.25
    assert (variance > 0).all()
    quantiles = fitted.quantiles(at, [0.05, 0.5, 0.95])
    assert (np.diff(quantiles, axis=1) > 0).all()
    density = fitted.log_density(at, mean)
    assert (density > fitted.log_density(at, mean + 3 * np.sqrt(variance))).all()


def test_same_key_same_draws() -> None:
    """Draws depend on the key and on nothing else."""
    x, y = data()
    a, b, c = (FullyBayesianGP(draws=8, warmup=10).fit(x, y, Key.of(k)).theta for k in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_a_mode_respects_what_is_not_there() -> None:
    """Without a trend its hyperparameter stays where it has no effect."""
    mean, sd = FullyBayesianGP().prior(2)
    x, y = data()
    _, theta = mode(LogPosterior(Columns((0, 0)), x, y, "rbf", mean, sd), mean[None])
    assert theta[-2] == NO_TREND


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: FullyBayesianGP(inference="mcmc"), "hmc"),
        (lambda: FullyBayesianGP(kernel="rbff"), "rbf"),
        (lambda: FullyBayesianGP().fit([[1.0], [np.nan]], [0.0, 1.0], Key.of(0)), "finite"),
        (lambda: FullyBayesianGP().fit([[1.0]], [0.0], Key.of(0)), "at least 2"),
        (lambda: make("gp_bayes", inference="ml2"), "vi_mf"),
    ],
)
def test_wrong_arguments_are_named(call, words: str) -> None:
    """A wrong argument ends in an error that says what is accepted."""
    with pytest.raises(ArgumentError, match=words):
        call()


@pytest.mark.parametrize("inference", ["hmc", "vi_mf", "vi_full"])
def test_the_sampler_comes_near_the_optimum(inference: str) -> None:
    """After 14 trials on a 2-d bowl the best loss is below 0.005 (random draws: with probability 0.2)."""
    problem = Problem(Space({"x": Float(0, 1), "y": Float(0, 1)}), (Goal("loss"),), Fidelity(9), Key.of(0))
    sampler = make("gp_bayes", inference=inference, draws=3, warmup=10, initial=4)
    walk = Walk(sampler, problem, failing=0, partial=0).go(14)
    assert np.nanmin(walk.history.losses[:, 0]) < 0.005
    assert "expected improvement" in walk.proposals[-1].reason
