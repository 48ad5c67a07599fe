"""Gradient-boosted quantile regression, all quantiles at once, with split-conformal correction.

For each level q, trees of depth 3 are fitted one after the other to the gradient of the pinball loss, and each leaf
moves by ``rate`` times the q-quantile of the residuals in it. Splits are chosen among a fixed list of yes-or-no
questions (x_j below an edge, x_j is category c), so that finding the best ones of all quantiles and nodes is one
product of matrices.

Conformal correction: with m rows held out, the pair of quantiles (q, 1 - q) is moved apart by the
ceil((m + 1)(1 - 2q))-th smallest of

    E_i = max(f_q(x_i) - y_i, y_i - f_{1-q}(x_i))

so that a new exchangeable row lies between them with probability at least 1 - 2q, whatever the noise.

Source: Optimizing Hyperparameters with Conformal Quantile Regression
Source: Conformalized Quantile Regression
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["QuantileModel", "Questions", "boost", "conformal"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

DEPTH = 3  # as gradient boosting has it by custom
EDGES = 16  # edges of a number column at most


@final
@dataclass(frozen=True)
class Questions:
    """The splits that trees choose from.

    Attributes:
        column: (p,) the column that a question is about.
        edge: (p,) for numbers: yes at or below it, and where inactive.
        level: (p,) for categories: yes for this one; -1 for questions about numbers.
        sizes: (d,) number of categories of each column; 0 for numbers.
    """

    column: Ints
    edge: Array
    level: Ints
    sizes: Ints

    @classmethod
    def of(cls, rows: Array, levels: tuple[int, ...]) -> Questions:
        """Choose questions that tell the rows, (n, d) with NaN, apart: edges at quantiles of each column."""
        column: list[int] = []
        edge: list[float] = []
        level: list[int] = []
        for j, k in enumerate(levels):
            x = rows[:, j]
            if k:
                asked = [(np.nan, c) for c in range(k)]
            else:
                known = np.unique(x[~np.isnan(x)])
                middle = 0.5 * (known[1:] + known[:-1])
                if len(middle) > EDGES:
                    middle = np.quantile(middle, (np.arange(EDGES) + 0.5) / EDGES)
                asked = [(float(e), -1) for e in middle]
                if np.isnan(x).any():
                    asked.append((-1.0, -1))  # yes only where inactive
            column += [j] * len(asked)
            edge += [e for e, _ in asked]
            level += [c for _, c in asked]
        return cls(
            np.array(column, dtype=int),
            np.array(edge),
            np.array(level, dtype=int),
            np.array(levels, dtype=int),
        )

    def ask(self, rows: Array) -> Bools:
        """Answer all questions for rows (m, d): (m, p)."""
        filled = np.where(np.isnan(rows), -2.0, rows)
        cell = np.floor(filled * self.sizes)
        cell = np.where(filled < 0, -2.0, np.minimum(cell, np.maximum(self.sizes - 1, 0)))
        number = filled[:, self.column] <= self.edge
        return np.where(self.level >= 0, cell[:, self.column] == self.level, number)


@final
@dataclass(frozen=True)
class QuantileModel:
    """A fitted model; call :meth:`predict`.

    Attributes:
        levels: (k,) quantile levels, increasing.
        questions: the splits' list.
        base: (k,) where boosting begins.
        split: (rounds, k, 2^depth - 1) the question of each inner node.
        step: (rounds, k, 2^depth) what each leaf adds.
        offset: (k,) conformal corrections; zeros before :func:`conformal`.
    """

    levels: Array
    questions: Questions
    base: Array
    split: Ints
    step: Array
    offset: Array

    def raw(self, answers: Bools) -> Array:
        """Return uncorrected predictions, (m, k), from answers (m, p)."""
        m, k = len(answers), len(self.levels)
        out = np.tile(self.base, (m, 1))
        if not answers.shape[1]:
            return out
        flat, begin, each = answers.ravel(), np.arange(m)[:, None] * answers.shape[1], np.arange(k)
        for split, step in zip(self.split, self.step, strict=True):
            node = np.zeros((m, k), dtype=int)
            for level in range(DEPTH):
                asked = split[each, (1 << level) - 1 + node]
                node = 2 * node + ~flat[begin + asked]
            out += step[each, node]
        return out

    def predict(self, rows: Array) -> Array:
        """Return the quantiles, (m, k), of rows (m, d); they do not cross."""
        found: Array = np.sort(self.raw(self.questions.ask(rows)) + self.offset, axis=1)
        return found


def _leaf_quantiles(residual: Array, leaf: Ints, levels: Array, leaves: int) -> Array:
    """Return the level's quantile of the residuals in each leaf: (k, leaves); 0 for empty ones.

    Args:
        residual, leaf: (k, n) values and their leaves.
    """
    k, n = residual.shape
    group = (leaf + leaves * np.arange(k)[:, None]).ravel()
    value = residual.ravel()
    order = np.lexsort((value, group))
    count = np.bincount(group, minlength=k * leaves)
    start = np.cumsum(count) - count
    place = np.repeat(levels, leaves) * np.maximum(count - 1, 0)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    ranked = np.append(value[order], 0.0)
    a, b = ranked[np.minimum(start + low, k * n)], ranked[np.minimum(start + high, k * n)]
    found = np.where(count > 0, a + (place - low) * (b - a), 0.0)
    return found.reshape(k, leaves)


def boost(
    rows: Array,
    y: Array,
    sizes: tuple[int, ...],
    levels: Array,
    *,
    trees: int = 60,
    rate: float = 0.1,
    leaf: int = 2,
) -> QuantileModel:
    """Fit the quantiles.

    Args:
        rows: (n, d), NaN where inactive.
        y: (n,) finite.
        sizes: number of categories of each column; 0 for numbers.
        levels: (k,) quantile levels in (0, 1), increasing.
        trees: boosting rounds.
        rate: how far each leaf moves.
        leaf: least number of rows of a leaf.
    """
    questions = Questions.of(rows, sizes)
    yes = questions.ask(rows)
    n, p = yes.shape
    k = len(levels)
    base = np.quantile(y, levels)
    split = np.zeros((trees, k, (1 << DEPTH) - 1), dtype=int)
    step = np.zeros((trees, k, 1 << DEPTH))
    if p == 0:
        return QuantileModel(levels, questions, base, split[:0], step[:0], np.zeros(k))
    answers = yes.astype(float)
    fitted = np.tile(base[:, None], (1, n))
    each, here = np.arange(k)[:, None], np.arange(n)
    for r in range(trees):
        residual = y - fitted
        slope = np.where(residual > 0, levels[:, None], levels[:, None] - 1.0)
        node = np.zeros((k, n), dtype=int)
        for depth in range(DEPTH):
            width = 1 << depth
            member = (node[:, None, :] == np.arange(width)[:, None]).astype(float)  # (k, width, n)
            part = np.concatenate([(member * slope[:, None, :]).reshape(-1, n), member.reshape(-1, n)])
            sums = part @ answers
            total = part.sum(axis=1, keepdims=True)
            half = k * width
            g, many = sums[:half], sums[half:]
            other, rest = total[:half] - g, total[half:] - many
            gain = g * g / np.maximum(many, 1.0) + other * other / np.maximum(rest, 1.0)
            gain = np.where((many >= leaf) & (rest >= leaf), gain, -1.0)
            best = gain.argmax(axis=1).reshape(k, width)
            split[r, :, width - 1 : 2 * width - 1] = best
            node = 2 * node + ~yes[here, best[each, node]]
        step[r] = rate * _leaf_quantiles(residual, node, levels, 1 << DEPTH)
        fitted += step[r][each, node]
    used, split = np.unique(split, return_inverse=True)  # only what is asked need be answered
    split = split.reshape(trees, k, -1)
    kept = Questions(questions.column[used], questions.edge[used], questions.level[used], questions.sizes)
    return QuantileModel(levels, kept, base, split, step, np.zeros(k))


def conformal(model: QuantileModel, rows: Array, y: Array) -> QuantileModel:
    """Correct a model by rows that it was not fitted to, (m, d) and (m,); its levels must be symmetric about 1/2."""
    quantile = np.sort(model.raw(model.questions.ask(rows)), axis=1)
    m, k = quantile.shape
    offset = np.zeros(k)
    for i in range(k // 2):
        score = np.sort(np.maximum(quantile[:, i] - y, y - quantile[:, k - 1 - i]))
        rank = math.ceil((m + 1) * (1.0 - 2.0 * float(model.levels[i])))
        moved = float(score[min(rank, m) - 1])
        offset[i], offset[k - 1 - i] = -moved, moved
    return QuantileModel(model.levels, model.questions, model.base, model.split, model.step, offset)
