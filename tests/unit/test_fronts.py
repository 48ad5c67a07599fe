"""Fronts that grow point by point are those of all points sorted at once."""

from __future__ import annotations

import numpy as np
import pytest

from foretune.numeric.fronts import Fronts
from foretune.numeric.pareto import ranks


@pytest.mark.parametrize("goals", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [0, 4])
@pytest.mark.parametrize("along", [0.0, 0.95])
def test_fronts_are_those_of_sorting(goals: int, levels: int, along: float) -> None:
    """After each of 80 points, ties and equal points among them, each front holds what ``ranks`` says."""
    rng = np.random.default_rng(goals)
    rows = along * rng.random((80, 1)) + (1 - along) * rng.random((80, goals))
    if levels:
        rows = np.floor(rows * levels)
    fronts = Fronts(goals)
    for i, row in enumerate(rows):
        fronts.add(i, row)
        rank = ranks(rows[: i + 1])
        assert len(fronts) == i + 1
        assert [f.tolist() for f in fronts] == [
            np.flatnonzero(rank == k).tolist() for k in range(rank.max() + 1)
        ]


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_sorting_at_once_can_be_gone_on_with(n: int) -> None:
    """Fronts made of n points and added to are those of points that were all added."""
    rng = np.random.default_rng(n)
    rows = np.round(rng.random((n + 20, 3)), 1)
    at_once, one_by_one = Fronts.of(range(n), rows[:n]), Fronts(3)
    for i, row in enumerate(rows):
        one_by_one.add(i, row)
        if i >= n:
            at_once.add(i, row)
    assert [f.tolist() for f in at_once] == [f.tolist() for f in one_by_one]
    assert len(at_once) == n + 20
