"""Pareto sorting, crowding and hypervolume against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.base.errors import ArgumentError
from foretune.numeric import pareto


def dominates(a, b):
    return bool((a <= b).all() and (a < b).any())


def brute_ranks(rows):
    rows = np.where(np.isfinite(rows), rows, np.inf)
    rank, left, level = np.full(len(rows), -1), set(range(len(rows))), 0
    while left:
        first = {i for i in left if not any(dominates(rows[j], rows[i]) for j in left)}
        for i in first:
            rank[i] = level
        left -= first
        level += 1
    return rank


def brute_volume(rows, reference):
    """Cut space at all coordinates and add up the cells that some point dominates."""
    rows = [r for r in rows if np.isfinite(r).all() and (r < reference).all()]
    axes = [sorted({r[j] for r in rows} | {reference[j]}) for j in range(len(reference))]
    total = 0.0
    for cell in itertools.product(*(range(len(a) - 1) for a in axes)):
        low = np.array([axes[j][c] for j, c in enumerate(cell)])
        if any((r <= low).all() for r in rows):
            total += float(np.prod([axes[j][c + 1] - axes[j][c] for j, c in enumerate(cell)]))
    return total


@st.composite
def clouds(draw, goals=(1, 2, 3, 4), most=12, whole=False):
    """Points on a coarse grid, so that ties and equal points are common."""
    m = draw(st.sampled_from(goals))
    n = draw(st.integers(0, most))
    special = [] if whole else [float("nan"), float("inf")]
    value = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.5, *special])
    return np.array(draw(st.lists(st.lists(value, min_size=m, max_size=m), min_size=n, max_size=n))).reshape(
        n, m
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(clouds(goals=(1, 2, 3, 4, 5)))
def test_ranks_are_those_of_peeling(rows):
    """Ranks equal those of peeling one front after the other, ties, NaN and infinities included."""
    assert pareto.ranks(rows).tolist() == brute_ranks(rows).tolist()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(clouds())
def test_front_is_finite_and_undominated(rows):
    """The front holds exactly the finite points that nothing dominates."""
    expected = [
        bool(np.isfinite(r).all() and not any(dominates(s, r) for s in rows if np.isfinite(s).all()))
        for r in rows
    ]
    assert pareto.front(rows).tolist() == expected


@settings(max_examples=80, deadline=None, derandomize=True)
@given(clouds(most=7))
def test_hypervolume_is_that_of_cells(rows):
    """Hypervolume in one to four goals equals the sum of dominated cells."""
    reference = np.full(rows.shape[1], 4.0)
    assert pareto.hypervolume(rows, reference) == pytest.approx(brute_volume(rows, reference), abs=1e-9)


@pytest.mark.parametrize("goals", [2, 3, 4, 5])
def test_hypervolume_of_random_points(goals):
    """Without ties too, and in five goals: cells and recursion agree to rounding."""
    rows = np.random.default_rng(goals).random((7 if goals > 4 else 10, goals))
    reference = np.full(goals, 0.9)
    assert pareto.hypervolume(rows, reference) == pytest.approx(brute_volume(rows, reference), rel=1e-12)


def test_hypervolume_of_a_large_front():
    """On the sphere's octant 1,000 points come near the exact complement 1 - pi / 6 of the ball, from below."""
    rows = np.abs(np.random.default_rng(0).standard_normal((1000, 3)))
    rows = 1.0 - rows / np.linalg.norm(rows, axis=1, keepdims=True)
    volume = pareto.hypervolume(rows, [1.0, 1.0, 1.0])
    assert np.pi / 6 - 0.05 < volume < np.pi / 6


@settings(max_examples=40, deadline=None, derandomize=True)
@given(clouds(goals=(2, 3), most=8))
def test_contributions_are_differences(rows):
    """A contribution is the volume lost when the point is left out."""
    reference = np.full(rows.shape[1], 4.0)
    whole = brute_volume(rows, reference)
    lost = [whole - brute_volume(np.delete(rows, i, axis=0), reference) for i in range(len(rows))]
    assert pareto.contributions(rows, reference) == pytest.approx(np.array(lost), abs=1e-9)


def brute_crowding(rows):
    """Crowding of one finite front without ties, as the formula says."""
    n, m = rows.shape
    d = np.zeros(n)
    for j in range(m):
        order = sorted(range(n), key=lambda i: rows[i, j])
        span = rows[order[-1], j] - rows[order[0], j]
        d[order[0]] = d[order[-1]] = np.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            d[i] += (rows[after, j] - rows[before, j]) / span
    return d


def test_crowding_is_the_formula():
    """Crowding equals the textbook's sum on a front without ties; per rank, not over all."""
    rng = np.random.default_rng(1)
    first = np.sort(rng.random(9))
    rows = np.stack([first, np.sort(rng.random(9))[::-1]], axis=1)
    assert pareto.crowding(rows) == pytest.approx(brute_crowding(rows))
    both = np.concatenate([rows, rows + 2.0])
    assert pareto.crowding(both) == pytest.approx(np.tile(brute_crowding(rows), 2))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(clouds())
def test_crowding_is_never_unknown(rows):
    """Crowding is not negative and never NaN, whatever the points."""
    assert (pareto.crowding(rows) >= 0.0).all()


def test_best_takes_fronts_then_the_lonely():
    """Whole fronts come first; of a front that does not fit, its ends before its crowded middle."""
    rows = np.array([[0, 10], [1, 9], [1.1, 8.9], [10, 0], [11, 11]])
    assert set(pareto.best(rows, 2).tolist()) == {0, 3}
    assert set(pareto.best(rows, 4).tolist()) == {0, 1, 2, 3}
    assert pareto.best(rows, 9).tolist()[-1] == 4


def test_wrong_shapes_are_named():
    """A reference of the wrong length or an array of three axes is refused by name."""
    with pytest.raises(ArgumentError, match="reference must be 2 finite numbers"):
        pareto.hypervolume([[1.0, 2.0]], [1.0])
    with pytest.raises(ArgumentError, match="losses must have the shape"):
        pareto.ranks(np.zeros((2, 2, 2)))
