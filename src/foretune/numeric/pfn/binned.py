"""Distributions over bins: mean, quantiles, density and expected improvement in closed form.

Within an inner bin the density is uniform; beyond the outer edges it falls exponentially with mean TAIL (in
units of u = (y - origin) / unit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.numeric.curves.pfn import TAIL

__all__ = ["Binned"]

Array = NDArray[Any]


@final
@dataclass(frozen=True, eq=False)
class Binned:
    """Binned distributions of m values.

    Attributes:
        mass: (m, bins) probabilities; rows sum to one.
        edges: (bins - 1,) inner edges in u, rising.
        origin, unit: y = origin + unit u.
    """

    mass: Array
    edges: Array
    origin: float = 0.0
    unit: float = 1.0

    @property
    def mean(self) -> Array:
        """Means, (m,).

        >>> Binned(np.array([[0.0, 1.0, 0.0]]), np.array([1.0, 3.0])).mean.tolist()
        [2.0]
        """
        middle = 0.5 * (self.edges[1:] + self.edges[:-1])
        at = np.concatenate([[self.edges[0] - TAIL], middle, [self.edges[-1] + TAIL]])
        return np.asarray(self.origin + self.unit * (self.mass @ at))

    @property
    def variance(self) -> Array:
        """Variances, (m,)."""
        low, high = self.edges[:-1], self.edges[1:]
        square = (low * low + low * high + high * high) / 3.0
        ends = [(self.edges[0] - TAIL) ** 2 + TAIL**2], [(self.edges[-1] + TAIL) ** 2 + TAIL**2]
        second = self.mass @ np.concatenate([ends[0], square, ends[1]])
        mean = (self.mean - self.origin) / self.unit
        return np.asarray(self.unit**2 * np.maximum(second - mean**2, 0.0))

    def quantiles(self, q: float | Sequence[float]) -> Array:
        """Return values below which y falls with probabilities ``q``: (m, len(q))."""
        levels = np.atleast_1d(np.asarray(q, dtype=float))
        below = np.cumsum(self.mass, axis=1)[:, :-1]
        out = np.empty((len(below), levels.size))
        for i, row in enumerate(below):
            low, high = max(row[0], 1e-300), max(1.0 - row[-1], 1e-300)
            u = np.interp(levels, row, self.edges)
            left = self.edges[0] + TAIL * np.log(np.maximum(levels, 1e-300) / low)
            right = self.edges[-1] - TAIL * np.log(np.maximum(1.0 - levels, 1e-300) / high)
            out[i] = np.where(levels < row[0], left, np.where(levels > row[-1], right, u))
        return np.asarray(self.origin + self.unit * out)

    def log_density(self, y: ArrayLike) -> Array:
        """Return the log density of outcomes (m,)."""
        u = (np.asarray(y, dtype=float) - self.origin) / self.unit
        k = np.searchsorted(self.edges, u)
        mass = np.log(self.mass[np.arange(len(self.mass)), k] + 1e-300)
        inside = -np.log(np.diff(self.edges))[np.clip(k - 1, 0, self.edges.size - 2)]
        left = -np.log(TAIL) + (u - self.edges[0]) / TAIL
        right = -np.log(TAIL) + (self.edges[-1] - u) / TAIL
        density = np.where(k == 0, left, np.where(k == self.edges.size, right, inside))
        return np.asarray(mass + density - np.log(self.unit))

    def expected_improvement(self, best: float) -> Array:
        """Return E[max(best - y, 0)], (m,): how much lower than ``best`` the outcome is to be expected.

        Per bin [a, b] with best at c: (c - middle) if c >= b, (c - a)^2 / (2 (b - a)) if a < c < b, else 0;
        the outer bins' exponentials in closed form too.

        >>> Binned(np.array([[0.0, 1.0, 0.0]]), np.array([0.0, 2.0])).expected_improvement(1.0).tolist()
        [0.25]
        """
        c = (best - self.origin) / self.unit
        a, b = self.edges[:-1], self.edges[1:]
        inner = np.where(c >= b, c - 0.5 * (a + b), np.clip(c - a, 0.0, None) ** 2 / (2.0 * (b - a)))
        # left tail: y = e0 - T, T exponential; right tail: y = e1 + T
        e0, e1 = self.edges[0], self.edges[-1]
        left = c - e0 + TAIL if c >= e0 else TAIL * np.exp((c - e0) / TAIL)
        right = 0.0 if c <= e1 else (c - e1) - TAIL * (1.0 - np.exp((e1 - c) / TAIL))
        gain = self.mass @ np.concatenate([[left], inner, [right]])
        return np.asarray(self.unit * gain)
