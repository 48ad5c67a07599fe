"""MAP-Elites: the best trial in each cell of a grid over what the user wants to see varied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError, UnknownNameError, did_you_mean
from foretune.base.key import Key
from foretune.search.breeding import Member, cross, fitness, member, named, offspring, perturb
from foretune.search.sampler import Proposal, Sampler
from foretune.space.domain import Choice, Float, Int, Simplex
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["Archive", "Axis", "MapElites", "axes"]

__entry__ = "MapElites"

Array = NDArray[np.float64]

# "3,4": the elite of that cell, with its standing.
State = dict[str, Member]

DEFAULT = 2  # parameters that span the grid where none are named
MOST = 1_000_000  # cells of a grid: a bound on memory


@final
@dataclass(frozen=True)
class Axis:
    """One side of the grid.

    Attributes:
        name: a parameter, or a metric that trials report.
        edges: (bins + 1,) where the cells begin and end, in the parameter's or the metric's own units;
            empty for a choice.
        values: the values of a choice, one a cell; empty otherwise.
        column: the parameter's column of the unit cube; -1 for a metric.
    """

    name: str
    edges: tuple[float, ...]
    values: tuple[Any, ...]
    column: int

    @property
    def bins(self) -> int:
        """Number of cells along the axis."""
        return len(self.values) or len(self.edges) - 1


@final
@dataclass(frozen=True)
class Archive:
    """The elites of all cells.

    Attributes:
        axes: the sides of the grid.
        number: (bins, bins, ...) the trial in each cell; -1 where there is none.
        loss: (bins, bins, ...) its loss for the first goal; NaN where there is none. A heat map's data.
    """

    axes: tuple[Axis, ...]
    number: NDArray[np.intp]
    loss: Array

    @property
    def coverage(self) -> float:
        """Share of the cells that have an elite."""
        return float((self.number >= 0).mean())

    def qd_score(self, worst: float) -> float:
        """Sum over the cells of how much better than ``worst`` their elites are; a worse elite counts as none.

        Args:
            worst: a loss that all results are measured from; the same for all archives that are compared.
        """
        return float(np.nansum(np.maximum(check.number("worst", worst) - self.loss, 0.0)))

    def elites(self) -> list[int]:
        """Return the numbers of the elites, the best first."""
        full = self.number >= 0
        return [int(i) for i in self.number[full][np.argsort(self.loss[full], kind="stable")]]


def axes(space: Space, descriptors: Sequence[Any], bins: Sequence[int]) -> tuple[Axis, ...]:
    """Make the sides of a grid.

    Args:
        space: the study's space.
        descriptors: names of parameters and (metric, low, high).
        bins: cells along each; a choice has one for each value, whatever stands here.

    Raises:
        UnknownNameError: the space has no parameter of that name.
        ArgumentError: a parameter cannot be an axis, or the grid is too large.
    """
    found = []
    for descriptor, k in zip(descriptors, bins, strict=True):
        if not isinstance(descriptor, str):
            name, low, high = descriptor
            found.append(Axis(name, tuple(np.linspace(low, high, k + 1).tolist()), (), -1))
            continue
        if descriptor not in space:
            raise UnknownNameError(
                f"descriptors: the space has no parameter {descriptor!r}.{did_you_mean(descriptor, space)} A "
                f"metric that trials report needs its ends: ({descriptor!r}, low, high)."
            )
        domain, column = space[descriptor], space.columns[descriptor].start
        if isinstance(domain, Choice):
            found.append(Axis(descriptor, (), tuple(domain.values), column))
        elif isinstance(domain, (Float, Int)):
            edges = [float(domain.decode([u])) for u in np.linspace(0.0, 1.0, k + 1).tolist()]
            found.append(Axis(descriptor, tuple(edges), (), column))
        else:
            raise ArgumentError(
                f"descriptors: {descriptor!r} is a {domain.type}; a float, an int or a choice can be an axis."
            )
    cells = math.prod(a.bins for a in found)
    if cells > MOST:
        raise ArgumentError(
            f"bins must give at most {MOST} cells; got {cells}: take fewer bins or descriptors."
        )
    return tuple(found)


@final
@dataclass(frozen=True)
class MapElites(Sampler[State]):
    """Keeps the best trial of each cell of a grid, and mutates any of them.

    The grid's axes are parameters, binned evenly in the unit cube (a log range by its logarithm; a choice by its
    values), or metrics that trials report, with ends given; what lies beyond an end counts to the last cell. A
    parent is drawn uniformly among the elites, so that the search spreads over the grid instead of
    gathering at the optimum: for the optimum alone other samplers need fewer trials. ``archive`` returns
    the grid.

    Args:
        descriptors: names of parameters, and ``(metric, low, high)``; at most 4. None: the space's first
            two parameters that are always active.
        bins: cells along each axis: one number, or one for each descriptor.
        initial: uniform draws to begin with.
        step: standard deviation of a number's mutation in the unit cube.
        mutation: probability that a parameter changes (one does anyhow); a half, assumed, spreads soon.
        crossover: probability that the mutated row is a crossover of two elites.

    Raises:
        ArgumentError: a descriptor or its ends make no sense.
        UnknownNameError: a descriptor without ends is no parameter of the space.

    Source: Illuminating search spaces by mapping elites

    Differs:
        1. Cells compare trials of equal length; one that went further takes the cell of one that
           was halted early. A promoted trial whose metric has changed moves to its new cell.
        2. Failed trials, and trials that did not report a descriptor, enter no cell.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "constrained"})

    descriptors: tuple[Any, ...] | None = None
    bins: int | tuple[int, ...] = 10
    initial: int = 20
    step: float = 0.1
    mutation: float = 0.5
    crossover: float = 0.2

    def __post_init__(self) -> None:
        if self.descriptors is not None:
            given = check.several(
                "descriptors", self.descriptors, "1 to 4 names of parameters or (metric, low, high)"
            )
            if not 1 <= len(given) <= 4:
                raise ArgumentError(
                    f"descriptors must be a list of 1 to 4 names of parameters or (metric, low, high); got {given!r}."
                )
            object.__setattr__(self, "descriptors", tuple(_descriptor(d) for d in given))
        many = self.bins if isinstance(self.bins, (tuple, list)) else (self.bins,)
        for k in many:
            check.integer("bins", k, 1, 10_000)
        if isinstance(self.bins, (tuple, list)):
            object.__setattr__(self, "bins", tuple(self.bins))
            if self.descriptors is None or len(many) != len(self.descriptors):
                raise ArgumentError(
                    f"bins must be one number, or one for each descriptor; got {self.bins!r}."
                )
        check.integer("initial", self.initial, 1)
        check.number("step", self.step, 0.0, 1.0, open_low=True)
        check.number("mutation", self.mutation, 0.0, 1.0, open_low=True)
        check.number("crossover", self.crossover, 0.0, 1.0)

    def axes(self, space: Space) -> tuple[Axis, ...]:
        """Return the sides of the grid in a space."""
        always = [n for n in named(space) if n not in space.when and not isinstance(space[n], Simplex)]
        chosen = tuple(always[:DEFAULT]) if self.descriptors is None else self.descriptors
        many = self.bins if isinstance(self.bins, tuple) else (self.bins,) * len(chosen)
        return axes(space, chosen, many)

    def init(self, problem: Problem) -> State:
        self.axes(problem.space)  # mistakes are said before the first trial runs
        return {}

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        if len(history) < self.initial or not state:
            return offspring(problem, history, n, key, None, "a uniform draw to begin with")
        space, units = problem.space, history.units
        cells = sorted(state)

        def breed(rng: np.random.Generator) -> tuple[Array, str]:
            cell = cells[int(rng.integers(len(cells)))]
            number = state[cell][0]
            row, words = units[number], f"a mutation of trial {number}, the elite of cell ({cell})"
            if len(cells) > 1 and rng.random() < self.crossover:
                other = state[cells[int(rng.integers(len(cells)))]][0]
                row, words = (
                    cross(space, row, units[other], rng),
                    f"a crossover of the elites {number} and {other}",
                )
            row, changed = perturb(space, row, self.mutation, self.step, rng)
            return row, f"{words}: {', '.join(changed)}; {len(cells)} cells are filled"

        return offspring(problem, history, n, key, breed)

    def tell(self, problem: Problem, state: State, trial: Trial) -> State:
        new = member(problem, trial)
        kept = {c: m for c, m in state.items() if m[0] != new[0]} if _settles_again(state, trial) else state
        cell = self._cell(problem.space, trial)
        if new[3] is None or cell is None:
            return kept
        at = ",".join(map(str, cell))
        holder = kept.get(at)
        if holder is not None and fitness(holder) <= fitness(new):
            return kept
        return {**kept, at: new}

    def _cell(self, space: Space, trial: Trial) -> tuple[int, ...] | None:
        """Return where a trial belongs; None if it lacks a descriptor."""
        found = []
        for axis in self.axes(space):
            if axis.column >= 0:
                if axis.name not in trial.config:
                    return None
                u = space[axis.name].encode(trial.config[axis.name])[0]
                found.append(min(int(u * axis.bins), axis.bins - 1))
            else:
                value = next(
                    (r.values[axis.name] for r in reversed(trial.reports) if axis.name in r.values), math.nan
                )
                if not math.isfinite(value):
                    return None
                low, high = axis.edges[0], axis.edges[-1]
                found.append(int(min(max(0.0, (value - low) / (high - low) * axis.bins), axis.bins - 1)))
        return tuple(found)

    def archive(self, history: History) -> Archive:
        """Return the grid of elites: a pure function of the history, the same whoever asked for its trials.

        Each settled trial counts once, as it stands now. Any sampler's history will do.
        """
        problem = history.problem
        state = self.init(problem)
        for number in sorted(set(history.settled)):
            state = self.tell(problem, state, history[number])
        grid = self.axes(problem.space)
        shape = tuple(a.bins for a in grid)
        elite, loss = np.full(shape, -1, dtype=np.intp), np.full(shape, np.nan)
        for cell, m in state.items():
            at = tuple(int(i) for i in cell.split(",") if i)
            elite[at], loss[at] = m[0], m[3]
        return Archive(grid, elite, loss)


def _settles_again(state: Mapping[str, Member], trial: Trial) -> bool:
    return any(m[0] == trial.number for m in state.values())


def _descriptor(given: Any) -> str | tuple[str, float, float]:
    """Check one descriptor: a name, or (metric, low, high)."""
    if isinstance(given, str):
        return check.name("descriptors", given)
    if isinstance(given, (tuple, list)) and len(given) == 3 and isinstance(given[0], str):
        low = check.number(f"descriptors: low of {given[0]!r}", given[1])
        high = check.number(f"descriptors: high of {given[0]!r}", given[2], low, open_low=True)
        return (check.name("descriptors", given[0]), low, high)
    raise ArgumentError(f"descriptors: {given!r} must be a parameter's name or (metric, low, high).")
