"""The property-ordered autoencoder, its loop, its diagnostics and its sampler."""

from __future__ import annotations

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.pgvae import PGVAE, imbalance, separation
from foretune.numeric.stats import spearman
from foretune.search import make
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.testing.samplers import Walk
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem


def bump(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * ((np.asarray(x) - 3.0) ** 2).sum(1))


def designs(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Mostly designs near the origin; a twentieth on the flank of the bump at (3, 3)."""
    rng = Key.of(0).generator()
    x = rng.standard_normal((n, 2)) * 0.5
    x[: n // 20] += 2.2
    return x, bump(x)


def test_the_latent_space_is_ordered() -> None:
    """After training, the better a design the nearer its code lies to the centre: rank correlation below -0.7."""
    x, _ = designs()
    y = np.linspace(0.0, 1.0, len(x))
    fitted = PGVAE(steps=300).fit(x[np.argsort(x[:, 0])], y, Key.of(1))
    radius = np.linalg.norm(fitted.encode(fitted.x)[0], axis=1)
    assert spearman(radius, y) < -0.7


def test_without_the_order_it_is_not() -> None:
    """The negative control: with weight 0 the same data's radii do not follow the property so."""
    x, _ = designs()
    y = np.linspace(0.0, 1.0, len(x))
    fitted = PGVAE(steps=300, order=0.0).fit(x[np.argsort(x[:, 0])], y, Key.of(1))
    radius = np.linalg.norm(fitted.encode(fitted.x)[0], axis=1)
    assert spearman(radius, y) > -0.7


def test_designs_are_reconstructed() -> None:
    """Decoding the codes' means gives the designs back, but for a small part of their variance."""
    x, y = designs()
    fitted = PGVAE(steps=400, order=0.1).fit(x, y, Key.of(2))
    left = ((fitted.decode(fitted.encode(x)[0]) - x) ** 2).mean()
    assert left < 0.3 * x.var()


def test_the_loop_improves_and_never_forgets() -> None:
    """The best property never falls from round to round, and ends above the start; scores that fail are left out."""
    x, y = designs()

    def score(found: np.ndarray) -> np.ndarray:
        got = bump(found)
        got[::5] = np.nan
        return got

    all_x, all_y, best = PGVAE(rounds=4, samples=20, steps=200).run(x, y, score, Key.of(3))
    assert (np.diff(best) >= 0).all()
    assert best[-1] > best[0]
    assert len(all_x) == len(all_y) == len(x) + 4 * 16


def test_same_key_same_designs() -> None:
    """Training and proposing depend on the key alone."""
    x, y = designs(20)
    a, b, c = (PGVAE(steps=5).fit(x, y, Key.of(k)).propose(3, Key.of(9)) for k in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_training_goes_on_where_it_stood() -> None:
    """Few steps from a trained network leave it near it; from scratch they do not reconstruct."""
    x, y = designs()
    trained = PGVAE(steps=400, order=0.1).fit(x, y, Key.of(2))
    short = PGVAE(steps=3, order=0.1)

    def left(start) -> float:
        fitted = short.fit(x, y, Key.of(3), start)
        return float(((fitted.decode(fitted.encode(x)[0]) - x) ** 2).mean())

    assert left(trained) < 0.5 * left(None)


def test_diagnostics_measure_what_they_say() -> None:
    """Imbalance counts low designs per high one; separation grows with the distance and ignores the unit."""
    x, y = designs()
    assert imbalance(y, 0.5) == pytest.approx((y <= 0.5).sum() / (y > 0.5).sum())
    far = x.copy()
    far[y > 0.5] += 5.0
    assert separation(far, y, 0.5) > separation(x, y, 0.5)
    assert separation(10.0 * x, y, 0.5) == pytest.approx(separation(x, y, 0.5))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: imbalance([1.0, 1.0]), "threshold"),
        (lambda: imbalance([1.0]), "at least 2"),
        (lambda: separation([[1.0]], [1.0, 2.0]), "x must be"),
        (lambda: PGVAE(latent=0), "latent"),
        (lambda: PGVAE().fit([[np.nan], [1.0]], [0.0, 1.0], Key.of(0)), "finite"),
        (lambda: make("pgvae", order=0.0), "greater than 0"),
    ],
)
def test_wrong_arguments_are_named(call, words: str) -> None:
    """A wrong argument ends in an error that says what is accepted."""
    with pytest.raises(ArgumentError, match=words):
        call()


def test_the_sampler_follows_good_trials() -> None:
    """After one round of 20 uniform draws, the median loss of the next 15 trials is below the first round's."""
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    problem = Problem(space, (Goal("loss"),), Fidelity(9), Key.of(0))
    walk = Walk(make("pgvae", population=20, training_steps=150), problem, failing=0, partial=0).go(35)
    losses = walk.history.losses[:, 0]
    assert np.median(losses[20:]) < np.median(losses[:20])
    assert any("latent space of 20 trials" in p.reason for p in walk.proposals[20:])
