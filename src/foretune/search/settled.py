"""What has settled, as columns that grow with the history: no trial is read twice."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.stats import tamed
from foretune.trial.feasibility import FeasibleFirst
from foretune.trial.history import History

__all__ = ["Settled", "settled"]

Array = NDArray[np.float64]


@final
@dataclass
class _Table:
    """A growing table of the settled trials of one history; a row for each, in the order of their first settling."""

    seen: int = 0
    count: int = 0
    place: dict[int, int] = field(default_factory=dict)
    number: NDArray[np.intp] = field(default_factory=lambda: np.zeros(64, dtype=int))
    step: Array = field(default_factory=lambda: np.zeros(64))
    loss: Array = field(default_factory=lambda: np.zeros(64))


_tables: weakref.WeakKeyDictionary[History, _Table] = weakref.WeakKeyDictionary()


@final
@dataclass(frozen=True)
class Settled:
    """Trials with a known loss, in the order in which they first settled; running ones with reports come last.

    Attributes:
        number: (n,) trial numbers.
        step: (n,) the last step reported; 0 for trials that failed before any.
        loss: (n,) the last loss, tamed beyond 1e100; +inf: failed or diverged.
        unknown: numbers of the pending trials of which nothing is known yet.
    """

    number: NDArray[np.intp]
    step: Array
    loss: Array
    unknown: NDArray[np.intp]


def settled(history: History) -> Settled:
    """Return the settled trials, and those under way with what they have reported so far.

    A pure function of the history. What has settled stays as it is until it settles again, so that it is read once;
    a call costs O(new trials + pending trials), and O(n) copies of numbers.
    """
    whose = history.plain if isinstance(history, FeasibleFirst) else history
    table = _tables.get(whose)
    if table is None:
        table = _tables[whose] = _Table()
    order = history.settled
    for number in order[table.seen :]:
        row = table.place.get(number)
        if row is None:
            row = table.place[number] = table.count
            if row == len(table.number):
                table.number = np.concatenate([table.number, np.zeros_like(table.number)])
                table.step = np.concatenate([table.step, np.zeros_like(table.step)])
                table.loss = np.concatenate([table.loss, np.zeros_like(table.loss)])
            table.number[row] = number
            table.count += 1
        _read(whose, table.step, table.loss, row, number)
    table.seen = len(order)
    n = table.count
    numbers, step, loss = table.number[:n].copy(), table.step[:n].copy(), table.loss[:n].copy()
    late: list[int] = []
    unknown: list[int] = []
    for pending in history.pending:
        row = table.place.get(pending)
        if row is not None:  # it was paused, and goes on: what it says now counts
            _read(history, step, loss, row, pending)
        elif history.loss(pending) == history.loss(pending):
            late.append(pending)
        else:
            unknown.append(pending)
    if late:
        more = np.zeros((2, len(late)))
        for row, pending in enumerate(late):
            _read(history, more[0], more[1], row, pending)
        numbers = np.concatenate([numbers, np.array(late, dtype=int)])
        step, loss = np.concatenate([step, more[0]]), np.concatenate([loss, more[1]])
    if isinstance(history, FeasibleFirst):  # places change with each trial: they are not kept in the table
        moved = history.moved
        loss = np.array(
            [moved[i][0] if i in moved else x for i, x in zip(numbers.tolist(), loss.tolist(), strict=True)]
        )
    known = loss == loss
    if not known.all():
        numbers, step, loss = numbers[known], step[known], loss[known]
    return Settled(numbers, step, tamed(loss), np.array(unknown, dtype=int))


def _read(history: History, step: Array, loss: Array, row: int, number: int) -> None:
    at, _ = history.curve(number)
    step[row] = at[-1] if at else 0.0
    loss[row] = history.loss(number)
