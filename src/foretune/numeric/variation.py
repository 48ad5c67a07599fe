"""Variation of real vectors in the unit cube: simulated binary crossover and polynomial mutation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["polynomial", "simulated_binary"]

Array = NDArray[np.float64]


def simulated_binary(a: Array, b: Array, eta: float, rng: np.random.Generator) -> Array:
    """Return a child of two parents whose spread is that of one-point crossover of binary strings.

        c = ((1 + beta) a + (1 - beta) b) / 2,   beta = (2u)^(1/(eta+1)) for u <= 1/2, else (2(1-u))^(-1/(eta+1))

    for half of the columns, with either parent in the part of a; the others are taken from ``a``. The
    child is clipped to the unit cube.

    Args:
        a: (d,) the first parent.
        b: (d,) the second parent.
        eta: distribution index: the larger, the nearer to its parents the child.
        rng: the generator.

    Source: Simulated Binary Crossover for Continuous Search Space
    """
    d = len(a)
    u = rng.random(d)
    with np.errstate(divide="ignore"):
        beta = np.where(u <= 0.5, (2 * u) ** (1 / (eta + 1)), (2 * (1 - u)) ** (-1 / (eta + 1)))
    swap = rng.random(d) < 0.5
    first, second = np.where(swap, b, a), np.where(swap, a, b)
    child = 0.5 * ((1 + beta) * first + (1 - beta) * second)
    return np.clip(np.where(rng.random(d) < 0.5, child, a), 0.0, 1.0)


def polynomial(x: Array, eta: float, rate: float, rng: np.random.Generator) -> Array:
    """Mutate each column with probability ``rate`` by a polynomially distributed step.

        x + delta,   delta = (2u)^(1/(eta+1)) - 1 for u < 1/2, else 1 - (2(1-u))^(1/(eta+1))

    Args:
        x: (d,) in the unit cube.
        eta: distribution index: the larger, the smaller the steps.
        rate: probability that a column changes.
        rng: the generator.

    Source: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II | polynomial mutation
    """
    u = rng.random(len(x))
    delta = np.where(u < 0.5, (2 * u) ** (1 / (eta + 1)) - 1, 1 - (2 * (1 - u)) ** (1 / (eta + 1)))
    return np.clip(np.where(rng.random(len(x)) < rate, x + delta, x), 0.0, 1.0)
