"""Draws of a noise-free process: under noise, each has an incumbent of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.gp import Posterior, condition
from foretune.numeric.surrogate import Surrogate

__all__ = ["Draws", "draws"]

Array = NDArray[np.float64]

EXACT = 1e-6  # variance of the noise of values that count as exact, in units of the outputs' variance


@final
@dataclass(frozen=True)
class Draws:
    """Draws of a process, each known exactly at some rows. Made by :func:`draws`.

    Attributes:
        posterior: its variance is that given exact values at the rows.
        values: (s, n) the draws at the rows.
        alpha: (n, s) K^-1 values.
    """

    posterior: Posterior
    values: Array
    alpha: Array

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return each draw's mean and their common variance at rows ``x``: (m, d) -> (m, s), (m,)."""
        _, variance, near = self.posterior.look(x)
        return near.k @ self.alpha, variance

    def gradients(
        self, x: Array, weigh: Callable[[Array, Array], tuple[Array, Array, Array]]
    ) -> tuple[Array, Array]:
        """Return a function of means and variance, and its gradient in ``x``: (m,), (m, d).

        Args:
            x: (m, d) rows.
            weigh: (m, s) means, (m,) variances -> value (m,), its derivatives by each mean, (m, s), and by the
                variance, (m,).
        """
        p = self.posterior
        _, variance, near = p.look(x)
        value, by_mean, by_variance = weigh(near.k @ self.alpha, variance)
        slope = p.slope(near, by_mean @ self.alpha.T) + by_variance[:, None] * p.spread_slope(near)
        return value, slope


def draws(fitted: Surrogate, awaited: Array, normals: Array) -> Draws:
    """Draw noise-free values at the rows of a surrogate and at awaited ones, and condition on each draw.

    Args:
        fitted: its rows (n, d) and noisy outputs.
        awaited: (k, d) rows whose outputs are not known yet.
        normals: (s, n + k) standard normal numbers.
    """
    rows = np.concatenate([fitted.x, awaited])
    values = fitted.sample(rows, normals)
    p = fitted.posterior
    theta = p.theta.copy()
    theta[-1] = np.log(EXACT)
    posterior = condition(p.columns, p.kind, theta, rows, values.mean(axis=0))
    alpha = posterior.inverse.T @ (posterior.inverse @ values.T)
    return Draws(posterior, values, alpha)
