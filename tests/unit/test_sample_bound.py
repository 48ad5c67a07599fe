"""How many tasks it takes to tune one parameter for all of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.numeric.sample_bound import (
    count_oscillations,
    gap_bound,
    multi_task_tune,
    pseudo_dimension,
    tuning_sample_bound,
)


def slow_count(u: np.ndarray) -> int:
    """Oscillations by trying each value as the level."""
    return max(sum((a >= z) != (b >= z) for a, b in itertools.pairwise(u)) for z in u)


def test_oscillations_are_those_of_the_worst_level() -> None:
    """Equal to the count by brute force on random curves; a monotone curve has one, a constant none."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        u = rng.integers(0, 6, int(rng.integers(2, 30))).astype(float)
        assert count_oscillations(u) == slow_count(u)
    assert count_oscillations(np.arange(9.0)) == 1
    assert count_oscillations(np.zeros(9)) == 0
    assert count_oscillations(np.sin(np.linspace(0, 6 * np.pi, 601))) == 6
    assert count_oscillations([0.0, math.nan, 1.0]) == 1


def test_the_pseudo_dimension_is_the_largest_that_patterns_allow() -> None:
    """2^d <= d B + 1 holds for d and fails for d + 1; it grows like the logarithm of B."""
    for b in (0, 1, 2, 5, 40, 10**6):
        d = pseudo_dimension(b)
        assert 2**d <= d * b + 1
        assert 2 ** (d + 1) > (d + 1) * b + 1
    assert pseudo_dimension(10**6) < 1.5 * math.log2(10**6)


def test_the_number_of_tasks_makes_the_gap_small_enough() -> None:
    """With so many tasks the bound is at most eps, with one fewer it is more."""
    for b, h, eps, delta in ((1, 1.0, 0.1, 0.05), (12, 1.0, 0.03, 0.1), (400, 5.0, 0.5, 0.01)):
        m = tuning_sample_bound(b, h, eps, delta)
        assert gap_bound(b, h, m, delta) <= eps * (1 + 1e-9)
        assert gap_bound(b, h, m - 1, delta) > eps


def test_the_tuned_value_keeps_its_interval_on_new_tasks() -> None:
    """Tasks whose best value varies: the mean on 2,000 other tasks lies in the interval, 200 times of 200.

    delta is 0.05 and the bound is loose, so a failure is less likely than 0.05 each time and far less in fact.
    """
    rng = np.random.default_rng(1)
    grid = np.linspace(0, 1, 41)

    def tasks(n):
        return np.exp(-(((grid[None] - 0.4 - 0.1 * rng.normal(size=(n, 1))) / 0.3) ** 2)) * rng.random((n, 1))

    other = tasks(2000).mean(0)
    for _ in range(200):
        found = multi_task_tune(tasks(int(rng.integers(5, 31))), grid, 1.0)
        truth = other[np.argmin(np.abs(grid - found.alpha))]
        assert found.low <= truth <= found.high
        assert found.oscillations == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tuning_sample_bound(-1, 1.0, 0.1), "oscillations"),
        (lambda: tuning_sample_bound(3, 0.0, 0.1), "span"),
        (lambda: tuning_sample_bound(3, 1.0, 0.0), "eps"),
        (lambda: tuning_sample_bound(3, 1.0, 0.1, 1.0), "delta"),
        (lambda: multi_task_tune([[1.0, 2.0]], [0.0], 1.0), "utilities"),
        (lambda: multi_task_tune([[math.nan]], [0.0], 1.0), "utilities"),
    ],
)
def test_wrong_arguments_are_named(call, words) -> None:
    """A number out of range, or curves that do not fit the grid, are refused."""
    with pytest.raises(ArgumentError, match=words):
        call()
