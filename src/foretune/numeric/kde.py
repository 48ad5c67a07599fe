"""Kernel densities over the columns of a mixed, conditional unit cube: a mixture of products, plus a uniform part.

    p(x) = sum_i w_i prod_j k_j(x_j | c_ij) + w_0,       p = 1 everywhere for the uniform part

    number      k = normal of mean c_ij and sd s_ij, cut at 0 and 1
    category    k = K a for x_j = c_ij, K b otherwise, of K levels: densities, so that 1 is uniform here too
    inactive    k = 1 where x_j or c_ij is NaN: whether a column is active follows from other columns

All of log k is linear in (x_j^2, x_j, 1) or in a category's indicator, so that the log densities of m rows under n
kernels are one product of matrices, O(m n d) with a small constant, and one exponential a pair.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Mixture", "mixture", "normal_mass"]

Array = NDArray[np.float64]

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
TRIES = 8  # draws of a cut normal before it is reflected; the rarest kernel (s = 1 in a corner) fails in 4 %


@final
@dataclass(frozen=True)
class Columns:
    """The kinds of columns.

    Attributes:
        levels: per column: number of categories, or 0 for a number.
        grain: per column: distance of neighbouring values in the unit interval; 0 for a continuum.
    """

    levels: tuple[int, ...]
    grain: tuple[float, ...]

    @functools.cached_property
    def numbers(self) -> NDArray[np.intp]:
        """Columns that hold numbers."""
        return np.flatnonzero(np.array(self.levels, dtype=int) == 0)

    @functools.cached_property
    def categories(self) -> NDArray[np.intp]:
        """Columns that hold categories."""
        return np.flatnonzero(np.array(self.levels, dtype=int) > 0)

    @functools.cached_property
    def sizes(self) -> Array:
        """Number of levels of each categorical column."""
        return np.array(self.levels, dtype=float)[self.categories]

    @functools.cached_property
    def offsets(self) -> NDArray[np.intp]:
        """Where each categorical column's indicators begin; the last entry is their number."""
        return np.concatenate([[0], np.cumsum(self.sizes.astype(int))])

    @functools.cached_property
    def owner(self) -> NDArray[np.intp]:
        """Which categorical column each indicator belongs to."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes.astype(int))

    def cells(self, rows: Array) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the indicator that is on for each categorical column, (m, c), and which are active."""
        part = rows[:, self.categories]
        active = ~np.isnan(part)
        cell = np.minimum((np.where(active, part, 0.0) * self.sizes).astype(int), self.sizes.astype(int) - 1)
        return cell + self.offsets[:-1], active


def normal_mass(low: Array, high: Array) -> Array:
    """Return Phi(high) - Phi(low) within 1.5e-7 (Abramowitz and Stegun 7.1.26); no SciPy needed."""

    def erf(x: Array) -> Array:
        t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
        poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
        value: Array = np.sign(x) * (1.0 - poly * np.exp(-x * x))
        return value

    half = math.sqrt(0.5)
    return 0.5 * (erf(high * half) - erf(low * half))


@final
@dataclass(frozen=True)
class Mixture:
    """A density; see the module.

    Attributes:
        columns: kinds of the d columns.
        centre: (n, d) kernels' centres; NaN where inactive.
        width: (n, numbers) standard deviations.
        spill: (categories,) probability that a category is drawn anew: K b.
        weight: (n + 1,) weights; the last is the uniform part's. They add up to one.
    """

    columns: Columns
    centre: Array
    width: Array
    spill: Array
    weight: Array

    @functools.cached_property
    def _table(self) -> Array:
        """Return what rows' features are multiplied by: (features, n)."""
        col = self.columns
        c = self.centre[:, col.numbers]
        on = ~np.isnan(c)
        c = np.where(on, c, 0.5)
        s = self.width
        square = np.where(on, -0.5 / (s * s), 0.0)
        linear = -2.0 * c * square
        mass = np.log(normal_mass(-c / s, (1.0 - c) / s))
        constant = np.where(on, square * c * c - np.log(s) - _HALF_LOG_2PI - mass, 0.0)
        parts = [square, linear, constant]
        if len(col.categories):
            cell, active = col.cells(self.centre)
            own = np.log(col.sizes * (1.0 - self.spill) + self.spill)
            base = np.where(active, np.log(self.spill), 0.0)[:, col.owner]
            base[np.arange(len(base))[:, None], cell] = np.where(active, own, 0.0)
            parts.append(base)
        table: Array = np.concatenate(parts, axis=1).T
        return table

    def _features(self, rows: Array) -> Array:
        col = self.columns
        x = rows[:, col.numbers]
        on = ~np.isnan(x)
        x = np.where(on, x, 0.0)
        parts = [x * x, x, on.astype(float)]
        if len(col.categories):
            cell, active = col.cells(rows)
            shown = np.zeros((len(rows), int(col.offsets[-1])))
            shown[np.arange(len(rows))[:, None], cell] = active
            parts.append(shown)
        return np.concatenate(parts, axis=1)

    def log_density(self, rows: Array) -> Array:
        """Return log p, (m,), of rows, (m, d). Single precision in the exponentials: within 1e-6."""
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weight)
        pairs = self._features(rows) @ self._table
        pairs += log_weight[:-1]
        most = np.maximum(pairs.max(axis=1, initial=-np.inf), log_weight[-1])
        pairs -= most[:, None]
        part = np.exp(pairs.astype(np.float32)).sum(axis=1)
        total: Array = most + np.log(part + np.exp(log_weight[-1] - most))
        return total

    def likeness(self, rows: Array, others: Array) -> Array:
        """Say how alike rows (m, d) and others (p, d) are, (m, p): 1 for equal ones.

        A kernel around each other row, of the median width of this mixture's kernels, divided by its height.
        """
        col = self.columns
        wide = np.median(self.width, axis=0) if len(self.width) else np.ones(len(col.numbers))
        gap = (rows[:, None, col.numbers] - others[None, :, col.numbers]) / wide
        odd = np.isnan(rows[:, None, :]) != np.isnan(others[None, :, :])
        near = np.exp(-0.5 * np.nan_to_num(gap * gap).sum(axis=2)) * ~odd.any(axis=2)
        if len(col.categories):
            a, b = rows[:, None, col.categories], others[None, :, col.categories]
            spill = self.spill / (col.sizes * (1.0 - self.spill) + self.spill)
            near = near * np.where((a == b) | np.isnan(a), 1.0, spill).prod(axis=2)
        return np.asarray(near, dtype=float)

    def draw(self, m: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.intp]]:
        """Draw m rows without NaN (inactive columns of a kernel are uniform), and the kernel of each (n: none)."""
        col, n = self.columns, len(self.centre)
        which = np.minimum(np.searchsorted(np.cumsum(self.weight), rng.random(m), side="right"), n)
        rows = rng.random((m, len(col.levels)))
        kernel = np.flatnonzero(which < n)
        if not len(kernel):
            return rows, which
        centre = self.centre[which[kernel]]
        if len(col.numbers):
            c, s = centre[:, col.numbers], self.width[which[kernel]]
            tries = c + s * rng.standard_normal((TRIES, *c.shape))
            inside = (tries >= 0.0) & (tries <= 1.0)
            x = np.take_along_axis(tries, inside.argmax(axis=0)[None], axis=0)[0]
            x = 1.0 - np.abs(1.0 - np.abs(x) % 2.0)  # reflected, where no try was inside
            at = np.ix_(kernel, col.numbers)
            rows[at] = np.where(np.isnan(c), rows[at], x)
        if len(col.categories):
            c = centre[:, col.categories]
            anew = np.isnan(c) | (rng.random(c.shape) < self.spill)
            at = np.ix_(kernel, col.categories)
            rows[at] = np.where(anew, rows[at], c)
        return rows, which


def neighbour_width(centre: Array) -> Array:
    """Return for each centre, (n, d) with NaN, the distance to the farther of its two neighbours in each column.

    At the ends the only neighbour counts; a lone centre gets 1.
    """
    order = np.argsort(centre, axis=0)  # NaN last
    gap = np.nan_to_num(np.diff(np.take_along_axis(centre, order, axis=0), axis=0))
    side = np.zeros_like(centre)
    side[1:] = gap
    side[:-1] = np.maximum(side[:-1], gap)
    side[:, (~np.isnan(centre)).sum(axis=0) < 2] = 1.0
    out = np.empty_like(side)
    np.put_along_axis(out, order, side, axis=0)
    return out


def scott_width(centre: Array, weight: Array, columns: int) -> Array:
    """Return one width a column, (d,): sd n^(-1 / (columns + 4)), n = (sum w)^2 / sum w^2 of the active rows."""
    on = ~np.isnan(centre)
    w = weight[:, None] * on
    total = np.maximum(w.sum(axis=0), 1e-12)
    x = np.where(on, centre, 0.0)
    mean = (w * x).sum(axis=0) / total
    variance = (w * (x - mean) ** 2).sum(axis=0) / total
    many = np.maximum(total**2 / np.maximum((w * w).sum(axis=0), 1e-12), 1.0)
    width: Array = np.sqrt(variance) * many ** (-1.0 / (columns + 4.0))
    return width


def mixture(
    columns: Columns,
    rows: Array,
    weight: Array,
    *,
    prior: float = 1.0,
    floor: float = 0.01,
    rule: str = "neighbour",
) -> Mixture:
    """Fit a mixture to rows.

    Args:
        columns: kinds of the columns.
        rows: (n, d), NaN where inactive.
        weight: (n,) what each row counts.
        prior: what the uniform part counts.
        floor: least width; with the neighbour rule at least 1 / (n + 2), and 1 / 2 of a whole number's share.
        rule: ``neighbour``: each row its own width; ``scott``: one width a column.

    >>> one = mixture(Columns((0, 3), (0.0, 0.0)), np.array([[0.5, 0.5]]), np.ones(1))
    >>> near, far = one.log_density(np.array([[0.5, 0.5], [0.0, 0.9]]))
    >>> bool(near > 0 > far)
    True
    """
    n = len(rows)
    centre = rows[:, columns.numbers]
    least = np.maximum(floor, 0.5 * np.array(columns.grain, dtype=float)[columns.numbers])
    if n == 0 or not centre.shape[1]:
        width = np.ones(centre.shape)
    elif rule == "neighbour":
        width = np.clip(neighbour_width(centre), np.maximum(least, 1.0 / (n + 2.0)), 1.0)
    else:
        common = np.clip(scott_width(centre, weight, len(columns.levels)), least, 1.0)
        width = np.broadcast_to(common, centre.shape)
    # each category gets prior / (n + 1) besides the one of the row's own
    share = columns.sizes * prior / (float(weight.sum()) + 1.0)
    parts = np.append(weight, prior)
    return Mixture(columns, rows, width, share / (1.0 + share), parts / parts.sum())
