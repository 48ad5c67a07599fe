"""Farthest-point subsets, trust radius, variance barrier, and the sampler that uses them."""

from __future__ import annotations

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.gp import Evidence
from foretune.numeric.kernel import Columns
from foretune.numeric.thinning import distances, log_barrier, penalised, thin_observations, trust_radius
from foretune.search import make
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.testing.samplers import Walk
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem


def test_wasserstein_ignores_the_order_within_groups() -> None:
    """Exchanging points of a group leaves the distance at zero; exchanging points between groups does not."""
    row = np.array([[0.1, 0.2, 0.7, 0.9, 0.4, 0.5]])
    groups = ([[0, 1], [2, 3]], [4, 5])  # two points in the plane; two points on a line
    swapped, mixed = row[:, [2, 3, 0, 1, 5, 4]], row[:, [4, 5, 2, 3, 0, 1]]
    assert distances(row, swapped, "wasserstein1", groups)[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert distances(row, mixed, "wasserstein1", groups)[0, 0] > 0.1


def test_wasserstein_on_a_line_agrees_with_scipy() -> None:
    """For points on a line, the distance is SciPy's Wasserstein distance."""
    from scipy.stats import wasserstein_distance

    a, b = Key.of(0).generator().random((2, 7))
    assert distances(a[None], b[None], "wasserstein1")[0, 0] == pytest.approx(wasserstein_distance(a, b))


def test_wasserstein_in_space_is_the_best_matching() -> None:
    """For three points in the plane the distance is the least mean over all six matchings."""
    from itertools import permutations

    a, b = Key.of(1).generator().random((2, 3, 2))
    best = min(np.mean([np.linalg.norm(a[i] - b[p[i]]) for i in range(3)]) for p in permutations(range(3)))
    found = distances(a.reshape(1, 6), b.reshape(1, 6), "wasserstein1", [np.arange(6).reshape(3, 2)])
    assert found[0, 0] == pytest.approx(best)


def test_a_missing_column_is_a_distance() -> None:
    """Inactive on one side only counts one; inactive on both sides counts nothing."""
    a = np.array([[0.5, np.nan], [0.5, 0.2]])
    assert distances(a, a).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_farthest_points_cover_better_than_chance() -> None:
    """The largest hole of 15 of 200 farthest points is smaller than that of each of 20 random subsets."""
    rng = Key.of(2).generator()
    x = rng.random((200, 2))

    def hole(rows: np.ndarray) -> float:
        return float(distances(x, x[rows]).min(axis=1).max())

    chosen = thin_observations(x, 15)
    assert len(set(chosen.tolist())) == 15
    assert hole(chosen) < min(hole(rng.choice(200, 15, replace=False)) for _ in range(20))


def test_what_is_to_be_kept_is_kept() -> None:
    """Rows named in ``keep`` are chosen; few rows all come back; equal rows do not hang it."""
    x = Key.of(3).generator().random((30, 3))
    assert {4, 9} <= set(thin_observations(x, 5, keep=[4, 9]).tolist())
    assert thin_observations(x, 40).tolist() == list(range(30))
    assert len(thin_observations(np.zeros((9, 2)), 4)) == 4


def test_the_trust_radius_separates_near_from_far() -> None:
    """Rows seen are inside at the largest quantile; a far row is outside, and its nearest row is named."""
    x = np.linspace(0.0, 0.5, 6)[:, None]
    trust = trust_radius(x, np.array([[0.3], [0.58], [0.95]]), quantile=1.0)
    assert trust.inside.tolist() == [True, True, False]
    assert trust.nearest.tolist() == [3, 5, 5]
    assert trust.radius == pytest.approx(0.1)


def test_the_barrier_has_the_slope_it_says_and_ends_at_the_cap() -> None:
    """The slope agrees with differences in log variance; at the cap the value is -inf."""
    value, slope = log_barrier(0.7, 2.0, 0.3)
    up, down = (log_barrier(0.7 * np.exp(h), 2.0, 0.3)[0] for h in (1e-6, -1e-6))
    assert slope == pytest.approx((up - down) / 2e-6, rel=1e-4)
    assert value < 0.0
    assert log_barrier(2.0, 2.0)[0] == -np.inf


def test_the_barrier_is_added_to_the_evidence() -> None:
    """The penalised evidence is the plain one plus the barrier, gradient included; beyond the cap it is -inf."""
    rng = Key.of(4).generator()
    evidence = Evidence(Columns((0,)), rng.random((8, 1)), rng.standard_normal(8), "rbf")
    theta = np.array([-1.0, 0.1, -1.0, -3.0])
    value, gradient = penalised(evidence, 1, 3.0, 0.1)(theta)
    plain, slope = evidence(theta)
    more, tilt = log_barrier(float(np.exp(0.1)), 3.0, 0.1)
    assert value == pytest.approx(plain + more)
    np.testing.assert_allclose(gradient, slope + np.array([0.0, tilt, 0.0, 0.0]))
    assert penalised(evidence, 1, 0.5, 0.1)(theta)[0] == -np.inf


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: distances([[0.0]], [[0.0, 1.0]]), "equally many"),
        (lambda: distances([[0.0]], [[1.0]], "wasserstein"), "wasserstein1"),
        (lambda: distances([[0.0]], [[1.0]], "wasserstein1", [[3]]), "column numbers"),
        (lambda: thin_observations([1.0, 2.0], 1), "rows of numbers"),
        (lambda: trust_radius([[0.0]], [[1.0]]), "at least 2"),
        (lambda: make("gp_thinned", keep=100, most=50), "at least keep"),
    ],
)
def test_wrong_arguments_are_named(call, words: str) -> None:
    """A wrong argument ends in an error that says what is accepted."""
    with pytest.raises(ArgumentError, match=words):
        call()


SPACE = Space({"x": Float(0, 1), "y": Float(0, 1)})


def test_the_sampler_comes_near_the_optimum_with_few_kept() -> None:
    """With 8 observations kept, after 20 trials on a 2-d bowl the best loss is below 0.005."""
    walk = Walk(make("gp_thinned", keep=8), Problem(SPACE, (Goal("loss"),), Fidelity(9), Key.of(0)), 0, 0).go(
        20
    )
    assert np.nanmin(walk.history.losses[:, 0]) < 0.005


def test_the_trust_radius_holds_proposals_back() -> None:
    """With a small trust quantile no proposal of the model is farther from a trial than that quantile then was."""
    problem = Problem(SPACE, (Goal("loss"),), Fidelity(9), Key.of(1))
    walk = Walk(make("gp_thinned", trust=0.02, initial=6), problem, 0, 0).go(12)
    rows = walk.history.units
    for i in range(6, 12):
        trust = trust_radius(rows[:i], rows[i : i + 1], quantile=0.02)
        assert trust.distance[0] <= trust.radius * (1 + 1e-6)
    assert any("trust radius" in p.reason for p in walk.proposals)


def test_the_cap_holds() -> None:
    """With a cap on the signal variance, proposals are still legal and the search goes on."""
    walk = Walk(
        make("gp_thinned", cap=0.5), Problem(SPACE, (Goal("loss"),), Fidelity(9), Key.of(2)), 0, 0
    ).go(12)
    assert len(walk.history) == 12
