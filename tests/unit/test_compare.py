"""A plain comparison of searchers on one task."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import foretune as ft
from foretune.base.errors import ArgumentError
from foretune.bench.compare import compare, comparison, sign_flip


def test_curves_are_running_minima_and_failures_count_for_nothing() -> None:
    """NaN and infinities are failures; a shorter run keeps its best; quantiles are of the seeds."""
    found = comparison(
        {"a": [[3.0, math.nan, 1.0, 5.0], [math.inf, 2.0]], "b": [[4.0], [4.0, 0.5, 0.7, 0.1]]}
    )
    assert found.best["a"].tolist() == [[3.0, 3.0, 1.0, 1.0], [math.inf, 2.0, 2.0, 2.0]]
    assert found.best["b"][0].tolist() == [4.0] * 4
    assert found.trials_to(1.0)["a"].tolist() == [3.0, math.inf]
    assert found.anytime()["b"].shape == (3, 4)
    assert "a against b" in str(found)


def test_pairs_are_counted_seed_by_seed() -> None:
    """Wins, ties and losses, the mean difference, and the same pair seen from the other side."""
    found = comparison({"a": [[1.0], [2.0], [3.0]], "b": [[2.0], [2.0], [1.0]]})
    pair, back = found.pair("a", "b"), found.pair("b", "a")
    assert (pair.wins, pair.ties, pair.losses) == (1, 1, 1) == (back.losses, back.ties, back.wins)
    assert pair.difference == pytest.approx(1 / 3) == -back.difference
    with pytest.raises(ArgumentError, match="two different searchers"):
        found.pair("a", "c")


def test_the_sign_flip_test_is_exact() -> None:
    """Equal to the share of sign patterns whose sum is at least as far from zero, for random differences."""
    rng = np.random.default_rng(0)
    for n in (1, 3, 8):
        d = rng.normal(size=n)
        sums = [
            abs(sum(s * x for s, x in zip(signs, d, strict=True)))
            for signs in itertools.product((1, -1), repeat=n)
        ]
        assert sign_flip(d) == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-12))
    assert sign_flip(np.zeros(5)) == 1.0


def test_the_sign_flip_test_keeps_its_level() -> None:
    """2,000 samples of 9 symmetric differences: rejected at 5 % in at most 6.5 % of them.

    The exact level is at most 5 %; a correct test fails this with a probability below 0.002.
    """
    rng = np.random.default_rng(1)
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=9)))
    d = rng.normal(size=(2000, 9))
    sums = np.abs(d @ signs.T)
    rate = np.mean([(s >= s[0] * (1 - 1e-12)).mean() <= 0.05 for s in sums])
    assert rate <= 0.065
    assert [sign_flip(x) for x in d[:50]] == [(s >= s[0] * (1 - 1e-12)).mean() for s in sums[:50]]


def test_many_pairs_are_drawn() -> None:
    """Beyond 14 pairs signs are drawn: a clear difference is found, none is not."""
    rng = np.random.default_rng(2)
    assert sign_flip(rng.normal(1.0, 1.0, 40)) < 0.01
    d = rng.normal(size=40)
    assert sign_flip(np.concatenate([d, -d])) == 1.0


def test_searchers_run_under_the_same_seeds() -> None:
    """A full grid ends with zero regret; a searcher against itself ties in each seed."""
    space = {"a": ft.Choice(tuple(range(4))), "b": ft.Int(1, 3)}
    found = compare(
        {"grid": "grid", "one": "random", "two": "random"},
        (space, lambda c: (c["a"] - 2) ** 2 + c["b"]),
        12,
        seeds=4,
    )
    assert (found.best["grid"][:, -1] == 1.0).all()
    assert found.pair("one", "two").ties == 4
    assert found.pair("one", "two").p == 1.0


@pytest.mark.parametrize("traces", [{}, {"a": []}, {"a": [[1.0]], "b": [[1.0], [2.0]]}, {"a": [[]]}])
def test_wrong_traces_are_refused(traces) -> None:
    """No searcher, no seed, an empty run or unequal numbers of seeds raise one error."""
    with pytest.raises(ArgumentError, match="traces must hold"):
        comparison(traces)
