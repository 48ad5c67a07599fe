"""Extremely randomised trees over mixed, conditional columns: all trees grow at once, level by level.

A split of a number column compares with a point between two of the node's rows; a split of a category sends each
level to a random side; rows in which the column is inactive (NaN) go to a random side together. Of the splits tried
in a node (one a column), the one that leaves the least sum of squares is taken.

    mean(x) = average of the trees' leaf means;    variance(x) = variance of the leaf means + average leaf variance

Time: O(depth * trees * n * d) array operations to grow, O(depth * trees) an array of rows to predict.

Source: Extremely randomized trees
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Forest", "grow"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

DEEPEST = 40  # levels; random splits of n rows reach about 3 log2(n)


@final
@dataclass(frozen=True)
class Forest:
    """Grown trees as flat tables of nodes; the first ``trees`` nodes are the roots.

    Attributes:
        levels: (d,) number of categories of each column; 0 for numbers.
        trees: number of trees.
        column: (nodes,) the column that a node splits; -1 in a leaf.
        at: (nodes,) rows at or below go left (numbers).
        sides: (nodes, most levels) whether a category goes left.
        lost: (nodes,) whether inactive rows go left.
        left: (nodes,) the left child; the right one is the next.
        mean: (nodes,) mean of the node's rows.
        variance: (nodes,) their variance.
        depth: levels of the deepest tree.
    """

    levels: Ints
    trees: int
    column: Ints
    at: Array
    sides: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    left: Ints
    mean: Array
    variance: Array
    depth: int

    def leaves(self, rows: Array) -> Ints:
        """Return the leaf of each row in each tree: (m, trees)."""
        m, d = rows.shape
        node = np.tile(np.arange(self.trees), m)
        flat = np.ascontiguousarray(rows).ravel()
        cells = _cells(rows, self.levels).ravel()
        start = np.repeat(np.arange(m) * d, self.trees)
        moving = np.arange(len(node))
        for _ in range(self.depth):
            here = node[moving]
            column = self.column[here]
            inner = column >= 0
            if not inner.all():
                moving, here, column = moving[inner], here[inner], column[inner]
                if not len(moving):
                    break
            place = start[moving] + column
            x = flat[place]
            goes = np.where(self.levels[column] > 0, self.sides[here, cells[place]], x <= self.at[here])
            goes = np.where(np.isnan(x), self.lost[here], goes)
            node[moving] = self.left[here] + ~goes
        return node.reshape(m, self.trees)

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Return mean and variance, (m,) each, of rows (m, d) with NaN where inactive."""
        leaf = self.leaves(rows)
        means = self.mean[leaf]
        mean: Array = means.mean(axis=1)
        variance: Array = means.var(axis=1) + self.variance[leaf].mean(axis=1)
        return mean, variance


def _cells(rows: Array, levels: Ints) -> Ints:
    """Return the category of each entry; 0 for numbers and inactive entries."""
    filled = np.where(np.isnan(rows), 0.0, rows)
    cell: Ints = np.minimum((filled * levels).astype(int), np.maximum(levels - 1, 0))
    return cell


def grow(
    rows: Array, y: Array, levels: tuple[int, ...], rng: np.random.Generator, *, trees: int = 20,
    leaf: int = 1, bootstrap: bool = True,
) -> Forest:  # fmt: skip
    """Grow a forest.

    Args:
        rows: (n, d), NaN where inactive.
        y: (n,) finite.
        levels: number of categories of each column; 0 for numbers.
        rng: source of rows and splits.
        trees: number of trees.
        leaf: least number of rows of a leaf.
        bootstrap: whether each tree draws its n rows with replacement.
    """
    n, d = rows.shape
    kinds = np.array(levels, dtype=int)
    most = max(1, int(kinds.max(initial=0)))
    cells = _cells(rows, kinds)
    member = rng.integers(n, size=(trees, n)) if bootstrap else np.tile(np.arange(n), (trees, 1))
    row = member.ravel()  # samples, those of a node side by side
    size = np.full(trees, n)  # of the nodes of this level
    tables: list[tuple[Any, ...]] = []  # one of the arrays of Forest's nodes for each level
    made, depth = trees, 0
    while len(size):
        k = len(size)
        start = np.concatenate([[0], np.cumsum(size)[:-1]])
        value = y[row]
        total, square = np.add.reduceat(value, start), np.add.reduceat(value * value, start)
        mean = total / size
        variance = np.maximum(square / size - mean * mean, 0.0)
        column, at, left = np.full(k, -1), np.zeros(k), np.zeros(k, dtype=int)
        lost = rng.random(k) < 0.5
        sides = rng.random((k, most)) < 0.5
        can = np.flatnonzero((size >= max(2, 2 * leaf)) & (variance > 1e-14 * (1.0 + mean * mean)))
        if depth < DEEPEST and d and len(can):
            chosen_nodes = np.zeros(k, dtype=bool)
            chosen_nodes[can] = True
            inside = np.repeat(chosen_nodes, size)
            row = row[inside]
            own = np.repeat(np.arange(len(can)), size[can])
            begin = np.concatenate([[0], np.cumsum(size[can])[:-1]])
            one = (rng.random((len(can), d)) * size[can][:, None]).astype(int)
            two = (one + 1 + (rng.random(one.shape) * (size[can][:, None] - 1)).astype(int)) % size[can][
                :, None
            ]
            first, other = row[one + begin[:, None]], row[two + begin[:, None]]  # (nodes, d) rows
            each = np.arange(d)
            a, b = rows[first, each], rows[other, each]
            point = a + rng.random(a.shape) * (b - a)
            side = np.repeat(sides[can][:, None], d, axis=1)  # (nodes, d, levels)
            ij = np.ix_(np.arange(len(can)), each)
            side[ij[0], ij[1], cells[first, each]] = True
            side[ij[0], ij[1], cells[other, each]] = False
            empty = lost[can]
            x = rows[row]
            goes = x <= point[own]
            kind = np.flatnonzero(kinds > 0)
            if len(kind):
                goes[:, kind] = side[own[:, None], kind, cells[row][:, kind]]
            gone = np.isnan(x)
            goes = np.where(gone, empty[own][:, None], goes)
            weight = y[row][:, None]
            many = np.add.reduceat(goes, begin, axis=0, dtype=float)
            part = np.add.reduceat(goes * weight, begin, axis=0)
            rest, whole = size[can][:, None] - many, total[can][:, None]
            legal = (many >= leaf) & (rest >= leaf)
            gain = part**2 / np.maximum(many, 1.0) + (whole - part) ** 2 / np.maximum(rest, 1.0)
            gain = np.where(legal, gain, -np.inf)
            best = gain.argmax(axis=1)
            here = np.arange(len(can))
            good = np.isfinite(gain[here, best])
            split = can[good]
            column[split] = best[good]
            at[split] = np.nan_to_num(point[here, best][good])
            sides[split] = side[here, best][good]
            left[split] = made + 2 * np.arange(len(split))
            chosen = goes[np.arange(len(row)), best[own]]
            keep = good[own]
            rank = np.cumsum(good) - 1
            child = 2 * rank[own[keep]] + ~chosen[keep]
            row = row[keep][np.argsort(child, kind="stable")]
            size = np.bincount(child, minlength=2 * len(split))
            made += 2 * len(split)
        else:
            size = np.zeros(0, dtype=int)
        tables.append((column, at, sides, lost, left, mean, variance))
        depth += 1
    column, at, sides, lost, left, mean, variance = (
        np.concatenate([table[i] for table in tables]) for i in range(7)
    )
    return Forest(kinds, trees, column, at, sides, lost, left, mean, variance, depth)
