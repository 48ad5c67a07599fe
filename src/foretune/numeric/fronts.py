"""Non-dominated fronts that are kept up to date while points come one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.numeric.pareto import ranks

__all__ = ["Fronts"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@final
class Fronts:
    """The fronts of a growing set of finite points; smaller is better in each goal.

    A new point finds its front by bisection: what a front dominates, each front before it does. Those that it
    dominates there move to the next front, and so on; a front that would move as a whole moves by being counted
    one later. A point costs a few vectorised comparisons, where sorting anew costs O(n log n) at least.

    Source: Efficient Nondomination Level Update Method for Steady-State Evolutionary Multiobjective Optimization |
        the update by insertion

    >>> fronts = Fronts(2)
    >>> for i, point in enumerate([[3, 3], [1, 4], [2, 2], [4, 1]]): fronts.add(i, point)
    >>> [f.tolist() for f in fronts]
    [[1, 2, 3], [0]]
    """

    def __init__(self, goals: int) -> None:
        self._points = np.empty((16, goals))
        self._names = np.empty(16, dtype=np.intp)  # of the points, by their place
        self._count = 0
        self._fronts: list[Ints] = []  # places of each front's points

    @classmethod
    def of(cls, names: Sequence[int], points: ArrayLike) -> Fronts:
        """Sort many points, (n, goals), at once: the fronts that adding them one by one would give."""
        rows = np.array(points, dtype=float)
        made = cls(rows.shape[1])
        made._points, made._count = rows if len(rows) else made._points, len(rows)
        made._names = np.array(names, dtype=np.intp) if len(rows) else made._names
        rank = ranks(rows)
        order = np.argsort(rank, kind="stable")
        cuts = np.searchsorted(rank[order], np.arange(1, int(rank.max(initial=-1)) + 1))
        made._fronts = list(np.split(order, cuts)) if len(rows) else []
        return made

    def __len__(self) -> int:
        """The number of points."""
        return self._count

    def __iter__(self) -> Iterator[Ints]:
        """Yield the names of each front's points, ascending, the best front first."""
        for front in self._fronts:
            yield np.sort(self._names[front])

    def add(self, name: int, point: ArrayLike) -> None:
        """Add a point, (goals,), under a whole number by which it is named."""
        place = self._count
        if place == len(self._points):
            self._points = np.concatenate([self._points, np.empty_like(self._points)])
            self._names = np.concatenate([self._names, np.empty_like(self._names)])
        self._points[place], self._names[place] = point, name
        self._count += 1
        moving = np.array([place])
        low, high = 0, len(self._fronts)
        while low < high:
            k = (low + high) // 2
            if self._dominated(moving, self._fronts[k]).any():
                low = k + 1
            else:
                high = k
        for k in range(low, len(self._fronts)):
            front = self._fronts[k]
            worse = self._dominated(front, moving)
            if worse.all():
                self._fronts.insert(k, moving)
                return
            self._fronts[k] = np.concatenate([front[~worse], moving])
            moving = front[worse]
            if not len(moving):
                return
        self._fronts.append(moving)

    def _dominated(self, whom: Ints, by: Ints) -> NDArray[np.bool_]:
        """Which of some points any of others dominates: (n,)."""
        a, b = self._points[whom][:, None], self._points[by][None]
        each = (b <= a).all(axis=2) & (b < a).any(axis=2)
        found: NDArray[np.bool_] = np.logical_or.reduce(each, axis=1)
        return found
