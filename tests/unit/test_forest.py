"""Random trees and the sampler that asks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.forest import grow
from foretune.search import make
from foretune.search.encoding import encoding
from foretune.search.random_forest import (
    RandomForest,
    elsewhere,
    expected_improvement,
    neighbours,
    warped,
)
from foretune.search.rows import described
from foretune.search.sampler import Proposal
from foretune.space import Choice, Fidelity, Float, Space
from foretune.testing.samplers import CONDITIONAL, MIXED, Walk
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 4))
    x[:, 0] = (np.floor(x[:, 0] * 4) + 0.5) / 4
    x[x[:, 0] < 0.3, 3] = np.nan
    y = np.sin(4 * x[:, 1]) + (x[:, 0] > 0.5) + np.nan_to_num(x[:, 3], nan=2.0)
    return x, y


def test_trees_interpolate_what_they_saw() -> None:
    """With leaves of one row a forest gives back its data, with no variance."""
    x, y = data(80, 0)
    forest = grow(x, y, (4, 0, 0, 0), np.random.default_rng(1), trees=5, bootstrap=False)
    mean, variance = forest.predict(x)
    np.testing.assert_allclose(mean, y, atol=1e-9)
    np.testing.assert_allclose(variance, 0.0, atol=1e-9)


def test_forest_predicts_unseen_rows() -> None:
    """On 500 new rows the forest explains at least 85 % of the variance of a mixed, conditional function."""
    x, y = data(300, 2)
    forest = grow(x, y, (4, 0, 0, 0), np.random.default_rng(3), trees=20, leaf=2, bootstrap=False)
    at, truth = data(500, 4)
    mean, variance = forest.predict(at)
    assert ((mean - truth) ** 2).mean() < 0.15 * truth.var()
    assert (variance >= 0).all()


def test_leaves_hold_at_least_so_many_rows() -> None:
    """No leaf has fewer rows than asked for, and each row falls into one leaf of each tree."""
    x, y = data(100, 5)
    forest = grow(x, y, (4, 0, 0, 0), np.random.default_rng(6), trees=4, leaf=7, bootstrap=False)
    leaf = forest.leaves(x)
    assert (forest.column[leaf] == -1).all()
    for t in range(4):
        assert np.unique(leaf[:, t], return_counts=True)[1].min() >= 7


def test_a_constant_or_tiny_data_set_gives_stumps() -> None:
    """One row, or equal values: the mean everywhere."""
    for x, y in (
        (np.array([[0.2]]), np.array([3.0])),
        (np.random.default_rng(0).random((9, 1)), np.full(9, 3.0)),
    ):
        mean, _ = grow(x, y, (0,), np.random.default_rng(7), trees=3).predict(np.array([[0.9]]))
        assert mean.tolist() == [3.0]


def test_expected_improvement_equals_sampling() -> None:
    """The formula agrees with the mean of 200,000 draws within 5 standard errors."""
    z = np.random.default_rng(8).standard_normal(200_000)
    gain = np.maximum(0.3 - (0.5 + 0.4 * z), 0.0)
    value = expected_improvement(np.array([0.5]), np.array([0.16]), 0.3)[0]
    assert abs(value - gain.mean()) < 5 * gain.std() / np.sqrt(len(z))


def test_warp_is_undone() -> None:
    """The shift and the offset bring the losses back; a constant is survived."""
    loss = np.array([3.0, 1.0, 50.0, 2.0])
    z, low, offset = warped(loss)
    np.testing.assert_allclose(np.exp(z) + low - offset, loss)
    assert np.isfinite(warped(np.ones(3))[0]).all()


def test_neighbours_are_legal_and_near() -> None:
    """Each neighbour is a legal row; without conditions it differs in one column at most."""
    enc, _ = described(MIXED)
    row = MIXED.encode(MIXED.sample(1, Key.of(1)))
    near = neighbours(enc, row, np.random.default_rng(9))
    np.testing.assert_array_equal(near, enc.snap(near))
    assert ((near != row).sum(axis=1) <= 1).all()
    assert (near != row).any(axis=0).all()


@pytest.mark.parametrize("space", [MIXED, CONDITIONAL], ids=["mixed", "conditional"])
def test_the_sampler_learns(space: Any) -> None:
    """The median of trials 15 to 30 lies below the lower quartile of the first 10 (fixed keys)."""
    sampler = RandomForest(trees=10, interleave=0.0)
    walk = Walk(sampler, Problem(space, key=Key.of(2)), failing=0, partial=0).go(30)
    losses = walk.history.losses[:, 0]
    assert np.median(losses[15:]) < np.quantile(losses[:10], 0.25)
    assert "expected improvement" in walk.proposals[-1].reason


def test_uniform_draws_are_interleaved() -> None:
    """With interleave 1 every proposal after the first ones is a uniform draw, and says so."""
    walk = Walk(RandomForest(trees=3, interleave=1.0), Problem(MIXED, key=Key.of(3))).go(14)
    assert all("uniform" in p.reason for p in walk.proposals[10:])


@pytest.mark.parametrize(("options", "word"), [({"trees": 0}, "trees"), ({"interleave": 2}, "interleave")])
def test_wrong_hyperparameters_are_refused(options: dict[str, Any], word: str) -> None:
    """Each hyperparameter out of range gives an error that names it."""
    with pytest.raises(ArgumentError, match=word):
        make("random_forest", **options)


def test_each_branch_gets_its_share() -> None:
    """A branch whose first trials were bad is tried on, and its best place found, though another looks good at once.

    The good branch is 0.3 at best; the other is 0 at best, but 1 or more in its first three trials.
    """
    space = Space(
        {"kind": Choice(("good", "deep")), "a": Float(0.0, 1.0), "b": Float(0.0, 1.0)},
        when={"a": {"kind": ["good"]}, "b": {"kind": ["deep"]}},
    )

    def loss(space: Space, config: Mapping[str, Any]) -> float:
        return 0.3 + (config["a"] - 0.5) ** 2 if "a" in config else 1.5 * abs(config["b"] - 0.2)

    for seed in range(3):
        problem = Problem(space, (Goal("loss"),), Fidelity(9), Key.of(seed), budget_trials=60)
        walk = Walk(RandomForest(interleave=0.0), problem, failing=0, partial=0, objective=loss)
        for config in [{"kind": "good", "a": x / 9} for x in range(10)] + [
            {"kind": "deep", "b": b} for b in (0.88, 0.93, 1.0)
        ]:
            walk.end(walk.start(Proposal(config, "known")))
        walk.go(47)
        assert min(loss(space, t.config) for t in walk.history) < 0.1
        assert any("another branch" in p.reason for p in walk.proposals)


def test_branches_are_what_exists_together() -> None:
    """The branch with the fewest rows other than the best one's; none in a space without conditions."""
    space = Space(
        {"k": Choice(("a", "b", "c")), "x": Float(0, 1), "y": Float(0, 1)},
        when={"x": {"k": ["a"]}, "y": {"k": ["b"]}},
    )
    rows = space.encode([{"k": "a", "x": 0.5}, {"k": "b", "y": 0.5}, {"k": "c"}, {"k": "c"}])
    enc, rng = encoding(space), np.random.default_rng(0)
    for best, wanted in ((0, rows[1]), (1, rows[0]), (2, rows[0])):
        found = elsewhere(enc, rows, best, rng)
        assert found is not None
        assert found.tolist() in (np.isnan(wanted).tolist(), np.isnan(rows[1]).tolist())
        assert found.tolist() != np.isnan(rows[best]).tolist()
    flat = Space({"x": Float(0, 1)})
    assert elsewhere(encoding(flat), np.array([[0.5]]), 0, rng) is None
