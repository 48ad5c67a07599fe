"""Maximising an acquisition over a mixed unit cube: many candidates in one batch, then refinement.

1. Uniform rows, and rows around the best known ones (a few coordinates moved, at three scales).
2. L-BFGS-B over the soft columns from the best few, by the exact gradient.
3. Neighbour moves over the other columns: each level up and down, or each other category.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.descend import descend

__all__ = ["Field", "candidates", "maximise"]

Array = NDArray[np.float64]

UNIFORM = 512  # uniform candidates
AROUND = 24  # candidates around each centre, a scale
SCALES = (0.1, 0.02, 0.002)  # standard deviations of the moves, in the unit cube
MOVED = 5.0  # coordinates that a move changes, in the mean
STARTS = 5  # candidates that are refined
STEPS = 40  # quasi-Newton steps


@final
@dataclass(frozen=True)
class Field:
    """What is maximised, and over what.

    Attributes:
        value: (m, d) rows -> (m,) acquisition.
        gradient: (m, d) rows -> (m,), (m, d).
        snap: (m, d) rows -> legal rows: ints and categories at their places, NaN where inactive.
        soft: (d,) True where a column is moved by gradient.
        levels: number of equal levels of each column that is not soft; 0 for soft columns.
        ordered: (d,) True where neighbouring levels are close.
    """

    value: Callable[[Array], Array]
    gradient: Callable[[Array], tuple[Array, Array]]
    snap: Callable[[Array], Array]
    soft: NDArray[np.bool_]
    levels: NDArray[np.intp]
    ordered: NDArray[np.bool_]


def _around(field: Field, centres: Array, rng: np.random.Generator) -> Array:
    """Return rows near the centres (no NaN in, none out)."""
    d = centres.shape[1]
    blocks = []
    for scale in SCALES:
        rows = np.repeat(centres, AROUND, axis=0)
        moved = rng.random(rows.shape) < min(1.0, MOVED / d)
        moved[np.arange(len(rows)), rng.integers(d, size=len(rows))] = True
        # An ordered column moves by one level at least; a category is drawn anew.
        least = np.where(field.ordered & ~field.soft, 1.0 / np.maximum(field.levels, 1), 0.0)
        step = rng.standard_normal(rows.shape) * np.maximum(scale, least)
        rows = np.where(moved, rows + step, rows)
        rows = np.where(rows < 0.0, -rows, np.where(rows > 1.0, 2.0 - rows, rows))
        drawn = moved & ~field.ordered & (rng.random(rows.shape) < 0.5)
        blocks.append(np.clip(np.where(drawn, rng.random(rows.shape), rows), 0.0, 1.0))
    return np.concatenate(blocks)


def _climb(field: Field, rows: Array, steps: int, low: Array, high: Array) -> Array:
    """Move the soft, active columns of rows uphill, then make them legal."""

    def negative(points: Array) -> tuple[Array, Array]:
        value, gradient = field.gradient(points)
        return -value, -gradient

    free = field.soft & ~np.isnan(rows)
    climbed, _ = descend(negative, rows, free, steps, low=low, high=high)
    return field.snap(climbed)


def _neighbours(field: Field, row: Array) -> Array:
    """Return the rows that differ from ``row`` in one column that is not soft."""
    rows = []
    for j in np.flatnonzero(field.levels > 1):
        k = int(field.levels[j])
        if np.isnan(row[j]):
            continue
        here = min(k - 1, int(row[j] * k))
        for there in (here - 1, here + 1) if field.ordered[j] else range(k):
            if 0 <= there < k and there != here:
                near = row.copy()
                near[j] = (there + 0.5) / k
                rows.append(near)
    return np.array(rows).reshape(len(rows), len(row))


def _within(rows: Array, box: tuple[Array, Array] | None) -> Array:
    if box is None:
        return rows
    filled = np.where(np.isnan(rows), box[0], rows)
    return rows[((filled >= box[0]) & (filled <= box[1])).all(axis=1)]


def candidates(
    field: Field, centres: Array, extra: Array, rng: np.random.Generator,
    box: tuple[Array, Array] | None = None,
) -> Array:  # fmt: skip
    """Draw legal rows, (m, d): uniform ones first, ``UNIFORM`` of them, then ``extra``, then some near the centres.

    Arguments are those of :func:`maximise`.
    """
    d = len(field.soft)
    filled = np.where(np.isnan(centres), rng.random(centres.shape), centres)
    uniform = rng.random((UNIFORM, d))
    drawn = [uniform if box is None else box[0] + (box[1] - box[0]) * uniform]
    if box is None:
        drawn.append(extra)
    elif len(extra):
        drawn.append(extra[((extra >= box[0]) & (extra <= box[1])).all(axis=1)])
    if len(centres):
        near = _around(field, filled, rng)
        drawn.append(near if box is None else np.clip(near, *box))
    return field.snap(np.concatenate(drawn))


def maximise(
    field: Field, centres: Array, extra: Array, rng: np.random.Generator,
    box: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Search for rows of large acquisition.

    Args:
        field: what is maximised.
        centres: (c, d) good rows to look around; NaN where inactive.
        extra: (e, d) further candidates, such as all untried rows of a small space.
        rng: source of the candidates.
        box: low and high ends, (d,) each, of the part of the cube that is searched; None: all.

    Returns:
        Legal rows, (m, d), and their acquisition, (m,), best first. Nothing is random after the
        candidates are drawn.
    """
    d = len(field.soft)
    low, high = (np.zeros(d), np.ones(d)) if box is None else box
    rows = candidates(field, centres, extra, rng, box)
    value = field.value(rows)
    order = np.argsort(-value, kind="stable")
    # One start comes from the uniform part: the incumbents' neighbourhoods must not crowd it out.
    first = [int(np.argmax(value[:UNIFORM])), *order[:STARTS].tolist()]
    chosen = list(dict.fromkeys(first))[:STARTS]
    refined = _climb(field, rows[chosen], STEPS, low, high)
    if (field.levels > 1).any():
        near = [_within(_neighbours(field, row), box) for row in refined]
        scores = field.value(field.snap(np.concatenate([refined, *near])))
        own, at = scores[: len(refined)], len(refined)
        moved = []
        for i, block in enumerate(near):
            part = scores[at : at + len(block)]
            at += len(block)
            if len(block) and part.max() > own[i]:
                moved.append(block[int(np.argmax(part))])
        if moved:
            more = _climb(field, field.snap(np.array(moved)), STEPS // 3, low, high)
            refined = np.concatenate([refined, more])
    rows, value = np.concatenate([refined, rows]), np.concatenate([field.value(refined), value])
    order = np.argsort(-value, kind="stable")
    return rows[order], value[order]
