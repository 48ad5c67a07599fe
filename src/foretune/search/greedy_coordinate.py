"""Greedy coordinate search: sweep one parameter at a time, keep its best value, go on to the next."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import UnknownNameError, did_you_mean
from foretune.base.key import Key
from foretune.search.distinct import pick, signature
from foretune.search.random import draws
from foretune.search.sampler import Proposal, Sampler
from foretune.space.domain import Choice
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["GreedyCoordinate", "columns_in_order", "known_losses", "levels"]

__entry__ = "GreedyCoordinate"

Array = NDArray[np.float64]

HALVINGS = 12  # refining passes after the sweeps: the spacing is then below a thousandth of a level


def levels(space: Space, name: str, values: int) -> Array:
    """Return the positions in the unit interval that stand for a parameter's values.

    All values of a choice, and of an int with at most ``values``; else the centres of so many equal parts.
    """
    domain = space[name]
    if isinstance(domain, Choice):
        return np.asarray((np.arange(len(domain.values)) + 0.5) / len(domain.values), dtype=float)
    if domain.size <= values:
        low = int(getattr(domain, "low", 0))
        return np.array([domain.encode(low + i)[0] for i in range(int(domain.size))])
    return np.asarray((np.arange(values) + 0.5) / values, dtype=float)


def columns_in_order(space: Space, order: tuple[str, ...] | None) -> list[tuple[str, int]]:
    """Return (name, column) pairs: the names of ``order`` first, then the others as the space has them.

    Raises:
        UnknownNameError: ``order`` names what the space lacks.
    """
    wanted = order or ()
    for name in wanted:
        if name not in space:
            raise UnknownNameError(
                f"order names {name!r}, which the space lacks.{did_you_mean(name, space)} "
                f"Its parameters: {', '.join(space)}."
            )
    names = list(dict.fromkeys([*wanted, *space]))
    return [(n, j) for n in names if space[n].size > 1 for j in range(space.width)[space.columns[n]]]


def known_losses(history: History) -> dict[Hashable, float]:
    """Return the loss of each config that was begun: NaN while nothing is known, +inf if it failed."""
    return {signature(t.config): history.loss(t.number) for t in history}


@final
@dataclass(frozen=True)
class GreedyCoordinate(Sampler[None]):
    """Tries all values of one parameter with the others held at the best known, then of the next.

    The path is retold from the history at each ask: a sweep is over when all of its configs have begun, and
    the best of those that settled is held from then on. After ``passes`` sweeps over all parameters, numbers
    are refined: each further pass tries one step to either side, half as long as before. Then configs
    are drawn uniformly.

    Args:
        order: parameters in the order in which they are swept, the most important ones first; those not named
            follow in the order of the space. ``search/factor_order.py`` suggests one from a table.
        values: levels of a number with more values than that.
        passes: sweeps over all parameters before refining.
        start: ``"default"`` begins at the space's default, ``"random"`` at a uniform draw.

    Source: An Analysis of Hyper-Parameter Optimization Methods for Retrieval Augmented Generation

    Differs:
        1. Numbers have ``values`` levels and are refined; the paper's parameters are choices.
        2. Asynchronous: while results of a sweep are pending, workers go on with the next, from the
           best that is known; the path is set right when they settle.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex"})

    order: tuple[str, ...] | None = None
    values: int = 5
    passes: int = 1
    start: str = "default"

    def __post_init__(self) -> None:
        if self.order is not None:
            order = check.several("order", self.order, "names of parameters")
            object.__setattr__(self, "order", tuple(check.name("order", n) for n in order))
        check.integer("values", self.values, 2)
        check.integer("passes", self.passes, 1)
        check.one_of("start", self.start, ("default", "random"))

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        said: list[tuple[Mapping[str, Any], str]] = []

        def stream() -> Iterator[Mapping[str, Any]]:
            for config, why in self._path(problem, history):
                said.append((config, why))
                yield config
            yield from draws(problem.space, key)

        found = pick(history, stream(), n)
        why = {id(config): reason for config, reason in said}
        return [
            Proposal(c, note or why.get(id(c), "a uniform draw: all sweeps are done")) for c, note in found
        ]

    def _path(self, problem: Problem, history: History) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Yield the configs of the path that have not begun, in order, with what they are for."""
        space, known = problem.space, known_losses(history)
        held = space.default() if self.start == "default" else space.sample(1, problem.key.fold("start"))[0]
        if signature(held) not in known:
            yield held, "the start of the path"
        best = known.get(signature(held), math.nan)
        columns = columns_in_order(space, self.order)
        for turn in range(self.passes + HALVINGS):
            for name, j in columns:
                row = space.encode([held])[0]
                if math.isnan(row[j]):
                    continue
                centre, positions = row[j], levels(space, name, self.values)
                if turn >= self.passes:
                    if isinstance(space[name], Choice) or len(positions) == space[name].size:
                        continue
                    reach = 0.5 ** (turn - self.passes + 1) / len(positions)
                    positions = np.clip([centre - reach, centre + reach], 0.0, 1.0)
                what = "sweep" if turn < self.passes else "refinement"
                rows = np.repeat(row[None], len(positions), axis=0)
                rows[:, j] = positions
                for config in space.decode(rows):
                    mark = signature(config)
                    if mark not in known:
                        yield config, f"{what} {turn + 1}, {name}; held so far: {problem.goal.said(best, 4)}"
                    loss = known.get(mark, math.nan)
                    if loss < best or (math.isnan(best) and loss == loss):
                        held, best = config, loss
