"""Prior-fitted networks for anybody's prior, the stored one, and the sampler that asks it."""

from __future__ import annotations

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.pfn.binned import Binned
from foretune.numeric.pfn.network import PFN, load, stored, tokens
from foretune.numeric.pfn.prior import COLUMNS, gaussian_process, losses
from foretune.search import make
from foretune.search.pfn import telling
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.testing.samplers import Walk
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem


def binned() -> Binned:
    rng = Key.of(0).generator()
    mass = rng.dirichlet(np.ones(8), size=3)
    return Binned(mass, np.array([-2.0, -1.0, -0.5, 0.0, 0.4, 1.0, 2.5]), origin=3.0, unit=0.5)


def test_binned_moments_agree_with_the_density() -> None:
    """Mass, mean, variance, quantiles and expected improvement agree with a numeric integral of the density."""
    found = binned()
    y = np.linspace(-12.0, 18.0, 300_001)
    density = np.exp(
        np.array(
            [Binned(m[None].repeat(len(y), 0), found.edges, 3.0, 0.5).log_density(y) for m in found.mass]
        )
    )
    step = y[1] - y[0]
    assert density.sum(1) * step == pytest.approx(np.ones(3), abs=2e-3)
    mean = (density * y).sum(1) * step
    assert found.mean == pytest.approx(mean, abs=2e-3)
    assert found.variance == pytest.approx((density * y**2).sum(1) * step - mean**2, abs=2e-2)
    for best in (1.2, 2.6, 3.1, 5.0):
        gain = (density * np.maximum(best - y, 0.0)).sum(1) * step
        assert found.expected_improvement(best) == pytest.approx(gain, abs=3e-3)
    below = np.cumsum(density, axis=1) * step
    for row, quantiles in zip(below, found.quantiles([0.01, 0.3, 0.9, 0.995]), strict=True):
        assert np.interp(quantiles, y, row) == pytest.approx([0.01, 0.3, 0.9, 0.995], abs=2e-3)


def test_the_order_of_what_is_shown_is_no_matter() -> None:
    """Permuting the shown points changes no probability by more than 1e-5."""
    rng = Key.of(1).generator()
    x, y, at = rng.random((30, 4)), rng.standard_normal(30), rng.random((5, 4))
    order = rng.permutation(30)
    one, two = stored().predict(x, y, at), stored().predict(x[order], y[order], at)
    assert np.abs(one.mass - two.mass).max() < 1e-5


def test_the_stored_network_ignores_origin_and_unit() -> None:
    """Predictions for 100 + 7 y are 100 + 7 times those for y."""
    rng = Key.of(2).generator()
    x, y, at = rng.random((12, 2)), rng.standard_normal(12), rng.random((4, 2))
    one, two = stored().predict(x, y, at), stored().predict(x, 100.0 + 7.0 * y, at)
    np.testing.assert_allclose(two.mean, 100.0 + 7.0 * one.mean, rtol=1e-4)
    assert two.log_density(100.0 + 7.0 * y[:4]) == pytest.approx(
        one.log_density(y[:4]) - np.log(7.0), abs=1e-3
    )


def test_the_stored_network_beats_a_normal_and_covers() -> None:
    """On 120 tasks of its prior it is far better than the shown points' normal, and 80 % intervals cover 0.76 to 0.84.

    n = 120 tasks of 24 outcomes each; with an effective size of 600 the standard error of the coverage is 0.016:
    a well-calibrated network leaves the band with probability 0.014 (the key is fixed).
    """
    draw, gain, inside = Key.of(3).generator(), [], []
    for i in range(8):
        x, y = losses(draw, 15, (6, 15, 40, 70)[i % 4] + 24)
        for rows, values in zip(x, y, strict=True):
            n = len(values) - 24
            found = stored().predict(rows[:n], values[:n], rows[n:])
            mean, sd = values[:n].mean(), values[:n].std()
            normal = -0.5 * ((values[n:] - mean) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
            gain.append(float(np.median(found.log_density(values[n:]) - normal)))
            low, high = found.quantiles([0.1, 0.9]).T
            inside.append(((values[n:] > low) & (values[n:] < high)).mean())
    assert np.mean(gain) > 0.3
    assert 0.76 < np.mean(inside) < 0.84


def test_a_network_learns_a_prior_of_ones_own(tmp_path) -> None:
    """Trained for seconds on lines through the origin it follows them; stored and loaded, it says the same."""

    def lines(draw: np.random.Generator, b: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        x = draw.random((b, n, 1))
        return x, draw.standard_normal((b, 1)) * x[..., 0]

    description = PFN(lines, 1, bins=20, layers=1, width=16, heads=2, most=8)
    network = description.fit(150, Key.of(0), tokens_a_step=1500)
    again = description.fit(3, Key.of(0), tokens_a_step=500)
    assert again.facts == description.fit(3, Key.of(0), tokens_a_step=500).facts
    x, at = np.array([[0.3], [0.6], [0.9]]), np.array([[0.8]])
    up, down = network.predict(x, 1.2 * x[:, 0], at), network.predict(x, -1.2 * x[:, 0], at)
    assert up.mean[0] > 0.2
    assert down.mean[0] < -0.2
    network.save(tmp_path / "lines.npz")
    copy = load(tmp_path / "lines.npz").predict(x, 1.2 * x[:, 0], at)
    assert copy.mean[0] == pytest.approx(up.mean[0], abs=0.02)


def test_the_numpy_network_is_the_trained_one() -> None:
    """NumPy's and torch's forward passes agree to 1e-4."""
    import torch

    from foretune.numeric.curves.pfn import Pfn
    from foretune.numeric.curves.train_pfn import logits

    network, rng = stored(), Key.of(4).generator()
    shown, asked = tokens(
        rng.random((2, 9, 3)), rng.standard_normal((2, 9)), rng.random((2, 4, 3)), network.features
    )
    w = {k: torch.from_numpy(v) for k, v in network.weights.items()}
    there = torch.log_softmax(logits(w, torch.from_numpy(shown), torch.from_numpy(asked)), dim=-1).numpy()
    here = Pfn(network.weights, network.edges, network.facts).log_mass(shown, asked)
    np.testing.assert_allclose(here, there, atol=1e-4)


def test_priors_give_finite_tasks_of_their_shape() -> None:
    """Draws are finite, in the unit cube, and as many as asked for."""
    draw = Key.of(5).generator()
    for _ in range(6):
        x, y = losses(draw, 4, 30)
        assert x.shape[:2] == y.shape == (4, 30)
        assert x.shape[2] <= COLUMNS
        assert np.isfinite(y).all()
        assert ((x >= 0) & (x <= 1)).all()
    assert gaussian_process(draw, 3, 7, 2)[0].shape == (3, 7, 2)


def test_the_columns_that_tell_are_chosen() -> None:
    """Of twenty columns the rising and the bowl-shaped one are among the two chosen; few columns are all kept."""
    x = Key.of(6).generator().random((60, 20))
    t = 2.0 * x[:, 3] + 8.0 * (x[:, 11] - 0.5) ** 2
    assert telling(x, t, 2).tolist() == [3, 11]
    assert telling(x[:, :3], t, 12).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stored().predict([[0.1]], [1.0], [[0.2]]), "at least 3"),
        (lambda: stored().predict(np.zeros((4, 99)), np.zeros(4), np.zeros((1, 99))), "at most 12"),
        (lambda: stored().predict([[0.1], [0.2], [np.nan]], [1.0, 2.0, 3.0], [[0.2]]), "finite"),
        (lambda: stored().predict([[0.1]], [1.0, 2.0], [[0.2]]), "x must be"),
        (lambda: PFN(losses, 12, width=10, heads=4), "multiple of heads"),
        (lambda: PFN(losses, 2).fit(1, Key.of(0)), "features=2"),
        (lambda: make("pfn", most=3), "at least 10"),
    ],
)
def test_wrong_arguments_are_named(call, words: str) -> None:
    """A wrong argument ends in an error that says what is accepted."""
    with pytest.raises(ArgumentError, match=words):
        call()


@pytest.mark.parametrize(("d", "trials", "part"), [(2, 18, 0.25), (14, 14, 1.0)])
def test_the_sampler_improves_in_few_and_in_many_columns(d: int, trials: int, part: float) -> None:
    """The model's best loss of a bowl is below a fourth of the first design's in 2 columns, and below it in 14."""
    space = Space({f"x{j}": Float(0, 1) for j in range(d)})
    problem = Problem(space, (Goal("loss"),), Fidelity(9), Key.of(d))
    walk = Walk(make("pfn", initial=7), problem, failing=0, partial=0).go(trials)
    trace = walk.history.losses[:, 0]
    assert trace[7:].min() < part * trace[1:7].min()
    assert "expected improvement" in walk.proposals[-1].reason
