"""A space as columns of numbers: which are categories, which are whole, which are active. Vectorised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.space.domain import Choice, Constant, Int, Simplex
from foretune.space.space import Space

__all__ = ["Encoding", "encoding"]

Array = NDArray[np.float64]

TABLE = 4096  # an int of more values is treated as real until it is decoded
NOTHING = 1e-12  # what a simplex has left to divide, at most, where all is divided
FEW = 32  # an int of at most so many values is moved level by level, a larger one by gradient


@final
@dataclass(frozen=True)
class Encoding:
    """The columns of a space.

    Attributes:
        space: the space.
        levels: per column: number of categories of a choice, else 0.
        optional: numbers of the columns that may be inactive.
        soft: per column: whether it is moved by gradient.
        steps: per column: number of levels of a column that is not soft, else 0.
        places: column -> centres of an int's values in the unit interval.
        simplexes: columns of each simplex.
        parents: (child's columns, [(parent's column or -1, allowed cells)]), parents first.
    """

    space: Space
    levels: tuple[int, ...]
    optional: tuple[int, ...]
    soft: NDArray[np.bool_]
    steps: NDArray[np.intp]
    places: Mapping[int, tuple[Array, Array]]
    simplexes: tuple[slice, ...]
    parents: tuple[tuple[slice, tuple[tuple[int, NDArray[np.bool_]], ...]], ...]
    exact: bool

    def cells(self, rows: Array, j: int) -> NDArray[np.intp]:
        """Return which value of a discrete column each row (no NaN) stands for."""
        if self.levels[j]:
            k = self.levels[j]
            return np.asarray(np.minimum((rows[:, j] * k).astype(int), k - 1))
        cell: NDArray[np.intp] = np.searchsorted(self.places[j][1], rows[:, j], side="right")
        return cell

    def snap(self, rows: Array) -> Array:
        """Map any rows of the unit cube, (m, d), to what ``encode(decode(rows))`` would give."""
        if not self.exact:
            return self.space.encode(self.space.decode(rows))
        out = np.where(np.isnan(rows), 0.5, rows)
        cell = {j: self.cells(out, j) for j in range(len(self.levels)) if self.levels[j] or j in self.places}
        for j, at in cell.items():
            out[:, j] = (at + 0.5) / self.levels[j] if self.levels[j] else self.places[j][0][at]
        for columns in self.simplexes:
            left, k = np.ones(len(out)), columns.stop - columns.start
            for i, j in enumerate(range(columns.start, columns.stop)):
                out[left <= NOTHING, j] = 0.0  # the shares before it leave nothing to divide
                left *= (1.0 - np.clip(out[:, j], 0.0, 1.0)) ** (1.0 / (k - i))
        for columns, conditions in self.parents:
            active = np.ones(len(out), dtype=bool)
            for parent, allowed in conditions:
                if parent >= 0:
                    active &= ~np.isnan(out[:, parent]) & allowed[cell[parent]]
                else:
                    active &= bool(allowed[0])
            out[~active, columns] = np.nan
        return out


def _table(domain: Int) -> tuple[Array, Array]:
    """Return the centres of an int's values in the unit interval, and the edges between them."""
    centres: Array = np.array([domain.encode(v)[0] for v in range(domain.low, domain.high + 1)])
    ends = np.asarray(np.arange(domain.low, domain.high + 2) - 0.5, dtype=float)
    if domain.log:
        ends = np.asarray(np.log(ends), dtype=float)
    edges: Array = ((ends - ends[0]) / (ends[-1] - ends[0]))[1:-1]
    return centres, edges


def encoding(space: Space) -> Encoding:
    """Describe the columns of a space."""
    levels, soft, steps = [], [], []
    places: dict[int, tuple[Array, Array]] = {}
    is_parent = {p for parents in space.when.values() for p in parents}
    exact = True
    for name, domain in space.items():
        j = space.columns[name].start
        if isinstance(domain, Choice):
            levels.append(len(domain.values))
            soft.append(False)
            steps.append(len(domain.values))
        elif isinstance(domain, Int):
            k = int(domain.size)
            levels.append(0)
            few = k <= FEW or name in is_parent
            soft.append(not few)
            steps.append(k if few else 0)
            if k <= TABLE:
                places[j] = _table(domain)
            else:
                exact = exact and name not in is_parent
        else:
            levels += [0] * domain.width
            soft += [True] * domain.width
            steps += [0] * domain.width
    parents = _parents(space, places) if exact else ()
    optional = tuple(j for n in space.when for j in range(space.width)[space.columns[n]])
    return Encoding(
        space, tuple(levels), tuple(sorted(optional)), np.array(soft, dtype=bool), np.array(steps, dtype=int),
        places, tuple(space.columns[n] for n, d in space.items() if isinstance(d, Simplex)), parents, exact,
    )  # fmt: skip


def _parents(space: Space, places: Mapping[int, Any]) -> tuple[Any, ...]:
    """List the conditions in an order in which each parent's own activity is settled first."""
    found, done = [], {n for n in space if n not in space.when}
    hidden: dict[str, list[tuple[int, NDArray[np.bool_]]]] = {n: [] for n in done}
    waiting = [n for n in space if n in space.when]
    while waiting:
        name = next(n for n in waiting if all(p in done for p in space.when[n]))
        conditions: list[tuple[int, NDArray[np.bool_]]] = []
        for parent, values in space.when[name].items():
            domain = space[parent]
            j = space.columns[parent].start
            if isinstance(domain, Constant):  # it has no column: its own conditions stand for it
                same = any(v == domain.value for v in values)
                conditions += [(-1, np.array([same])), *hidden[parent]]
            elif isinstance(domain, Choice):
                allowed = np.zeros(len(domain.values), dtype=bool)
                allowed[[domain.index(v) for v in values]] = True
                conditions.append((j, allowed))
            elif isinstance(domain, Int):
                allowed = np.zeros(int(domain.size), dtype=bool)
                allowed[[int(v) - domain.low for v in values]] = True
                conditions.append((j, allowed))
        hidden[name] = conditions
        found.append((space.columns[name], tuple(conditions)))
        waiting.remove(name)
        done.add(name)
    return tuple(found)
