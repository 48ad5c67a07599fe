"""A genetic algorithm whose chromosomes grow: short networks first, their best extended by one more stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError, UnknownNameError, did_you_mean
from foretune.base.key import Key
from foretune.search.breeding import member, offspring, sized
from foretune.search.genetic_algorithm import child, succeed
from foretune.search.sampler import Proposal, Sampler
from foretune.space.domain import Choice, Int
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["VariableLengthGeneticAlgorithm", "lengths"]

__entry__ = "VariableLengthGeneticAlgorithm"

Array = NDArray[np.float64]

# "parents", "batch": as in the genetic algorithm. "stage": index of the present length; "generation": how many
# have ended at it; "record", "before": the best [-reach, loss] at it and at the one before; "grown": it has ended.
State = dict[str, Any]

MOST = 64  # an int of more values counts as no length


def lengths(space: Space, name: str | None) -> tuple[str | None, tuple[float, ...]]:
    """Return the parameter that is the length, and its values from the shortest.

    Args:
        space: the study's space.
        name: the parameter; None: the int, or choice of numbers, that most others depend on.

    Returns:
        (None, ()) where no parameter has others that depend on it.

    Raises:
        UnknownNameError: the space has no such parameter.
        ArgumentError: it is neither an int nor a choice of numbers, or not always active.

    >>> from foretune.space import Float
    >>> s = Space({"layers": Int(1, 3), "drop2": Float(0, 1)}, when={"drop2": {"layers": [2, 3]}})
    >>> lengths(s, None)
    ('layers', (1, 2, 3))
    """
    if name is None:
        children = {n: sum(n in parents for parents in space.when.values()) for n in space}
        able = [n for n in space if children[n] and n not in space.when and _values(space, n)]
        if not able:
            return None, ()
        name = max(able, key=lambda n: children[n])
    elif name not in space:
        raise UnknownNameError(f"length: the space has no parameter {name!r}.{did_you_mean(name, space)}")
    elif name in space.when or not _values(space, name):
        raise ArgumentError(
            f"length must be an int of at most {MOST} values, or a choice of numbers, that is always active; "
            f"{name!r} is a {space[name].type}" + (" that is active at times." if name in space.when else ".")
        )
    return name, _values(space, name)


def _values(space: Space, name: str) -> tuple[Any, ...]:
    """Return the values of a parameter that can be a length; nothing for another."""
    domain = space[name]
    if isinstance(domain, Int) and domain.size <= MOST:
        return tuple(range(domain.low, domain.high + 1))
    if isinstance(domain, Choice) and all(type(v) in (int, float) for v in domain.values):
        return tuple(sorted(domain.values, key=lambda v: float(v)))
    return ()


@final
@dataclass(frozen=True)
class VariableLengthGeneticAlgorithm(Sampler[State]):
    """Evolves within one length, then extends the best by a stage, for as long as that helps.

    The length is a parameter such as ``layers``; the genes of a stage are parameters that exist from some
    length on (``Space(..., when={"width3": {"layers": [3, 4, 5]}})``). A child has the present length. It
    inherits the genes that its parents have, aligned by name; the genes of a new stage are drawn
    uniformly. After ``generations`` generations at a length the next one begins, until a length ends no
    better than the one before it: then evolution goes on at that earlier length.

    Args:
        length: the parameter that is the length; None: the int, or choice of numbers, that most others
            depend on. Without any it is a genetic algorithm.
        population: members of a generation; a known budget gives eight generations at least (of 8 or more).
        generations: generations at each length.
        mutation: probability that a parameter changes; None: one over the number of parameters.
        crossover: probability of a second parent.
        elite: share of a generation that lives on.
        tournament: how many compete to be a parent.

    Raises:
        UnknownNameError: the space has no parameter ``length``.
        ArgumentError: that parameter cannot be a length.

    Source: Efficient Hyperparameter Optimization in Deep Learning Using a Variable Length Genetic Algorithm

    Differs:
        1. Any conditional space with a length, not convolutional networks alone; the weights that a
           shorter network has learned are not handed on.
        2. Parents win tournaments; failures never breed.
        3. Growth ends when a length is no better than the one before (assumed).
        4. Asynchronous: a generation ends when ``population`` trials have settled.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "constrained", "learns"})

    length: str | None = None
    population: int = 20
    generations: int = 2
    mutation: float | None = None
    crossover: float = 0.9
    elite: float = 0.2
    tournament: int = 3

    def __post_init__(self) -> None:
        if self.length is not None:
            check.name("length", self.length)
        check.integer("population", self.population, 4)
        check.integer("generations", self.generations, 1)
        if self.mutation is not None:
            check.number("mutation", self.mutation, 0.0, 1.0, open_low=True)
        check.number("crossover", self.crossover, 0.0, 1.0)
        check.number("elite", self.elite, 0.0, 0.9)
        check.integer("tournament", self.tournament, 1)

    def init(self, problem: Problem) -> State:
        lengths(problem.space, self.length)  # mistakes are said before the first trial runs
        return {
            "parents": [], "batch": [], "stage": 0, "generation": 0, "record": None, "before": None, "grown": False,
        }  # fmt: skip

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        space, parents, units = problem.space, state["parents"], history.units
        name, values = lengths(space, self.length)

        def breed(rng: np.random.Generator) -> tuple[Array, str]:
            if len(parents) < 2:
                row, why = np.full(space.width, np.nan), "a uniform draw for the first population"
            else:
                row, why = child(space, units, parents, self.tournament, self.crossover, self.mutation, rng)
            if name is None:
                return row, why
            value = values[min(state["stage"], len(values) - 1)]
            row[space.columns[name]] = space[name].encode(value)
            return row, f"{why}; at {name} = {value}"

        return offspring(problem, history, n, key, breed)

    def tell(self, problem: Problem, state: State, trial: Trial) -> State:
        new = member(problem, trial)
        size = sized(self.population, problem)
        after = succeed(state, new, size, max(1, round(self.elite * size)))
        name, values = lengths(problem.space, self.length)
        record, stage = state["record"], state["stage"]
        if name is None:
            return {**state, **after}
        if new[3] is not None and trial.config[name] == values[min(stage, len(values) - 1)]:
            stands = [-new[2], new[3]]
            record = stands if record is None else min(record, stands)
        told = {**state, **after, "record": record}
        if after["batch"] or not after["parents"] or len(state["batch"]) != size - 1:
            return told  # the generation goes on, or all of it has failed
        told["generation"] += 1
        if state["grown"] or told["generation"] < self.generations:
            return told
        if state["before"] is not None and (record is None or record >= state["before"]):
            return {**told, "grown": True, "stage": stage - 1}
        if stage + 1 >= len(values):
            return {**told, "grown": True}
        return {**told, "stage": stage + 1, "generation": 0, "record": None, "before": record}
