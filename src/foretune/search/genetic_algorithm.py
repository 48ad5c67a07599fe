"""A genetic algorithm: tournaments, uniform crossover, mutation, and elites that live on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.search.breeding import (
    Member,
    cross,
    enter,
    fitness,
    member,
    named,
    offspring,
    perturb,
    sized,
    winner,
)  # fmt: skip
from foretune.search.sampler import Proposal, Sampler
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["GeneticAlgorithm", "child", "succeed"]

__entry__ = "GeneticAlgorithm"

Array = NDArray[np.float64]

# "parents": the generation that breeds; "batch": children that have settled since.
State = dict[str, Any]

STEP = 0.1  # standard deviation of a number's mutation in the unit cube (assumed)


def child(
    space: Space,
    units: Array,
    parents: list[Member],
    tournament: int,
    crossover: float,
    mutation: float | None,
    rng: np.random.Generator,
) -> tuple[Array, str]:
    """Breed one child of tournament winners: its row of the unit cube, and in words where it comes from."""
    rate = 1.0 / max(1, len(named(space))) if mutation is None else mutation
    first = winner(parents, tournament, rng)
    row, words, least = units[first[0]], f"trial {first[0]}", 1
    others = [m for m in parents if m[0] != first[0]]
    if others and rng.random() < crossover:
        second = winner(others, tournament, rng)
        row, least = cross(space, row, units[second[0]], rng), 0
        words = f"trials {first[0]} and {second[0]}"
    row, changed = perturb(space, row, rate, STEP, rng, least)
    kind = "a mutation of" if least else "a crossover of"
    return row, f"{kind} {words}" + (f", changed in {', '.join(changed)}" if changed else "")


def succeed(state: State, new: Member, population: int, elites: int) -> State:
    """Fold a settled trial in; when a whole generation has settled, it takes over, but for the elites' places."""
    parents, batch = state["parents"], state["batch"]
    if any(m[0] == new[0] for m in parents):  # it was promoted, and stands elsewhere now
        parents = enter(parents, new)
        return {"parents": [m for m in parents if m[3] is not None], "batch": batch}
    batch = enter(batch, new)
    if len(batch) < population:
        return {"parents": parents, "batch": batch}
    kept = sorted(parents, key=fitness)[:elites]
    young = sorted((m for m in batch if m[3] is not None), key=fitness)[: population - len(kept)]
    return {"parents": kept + young, "batch": []}


@final
@dataclass(frozen=True)
class GeneticAlgorithm(Sampler[State]):
    """Breeds each generation from winners of tournaments in the one before; the best live on.

    A child has two parents with probability ``crossover``, each parameter whole from one of them; then
    each parameter changes with probability ``mutation``. No child is a copy of an earlier trial. The
    state is two generations of numbers and losses.

    Args:
        population: members of a generation; a known budget gives eight generations at least (of 8 or more).
        mutation: probability that a parameter changes; None: one over the number of parameters.
        crossover: probability of a second parent.
        elite: share of a generation that lives on.
        tournament: how many compete to be a parent.

    Source: Grid Search, Random Search, Genetic Algorithm: A Big Comparison for NAS

    Differs:
        1. Asynchronous: a generation takes over as soon as ``population`` trials have settled, whoever
           their parents were.
        2. Numbers mutate by a normal step of 0.1 in the unit cube (assumed).
        3. A trial that went further beats a trial that was halted early; failures never breed.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "constrained", "learns"})

    population: int = 20
    mutation: float | None = None
    crossover: float = 0.9
    elite: float = 0.2
    tournament: int = 3

    def __post_init__(self) -> None:
        check.integer("population", self.population, 4)
        if self.mutation is not None:
            check.number("mutation", self.mutation, 0.0, 1.0, open_low=True)
        check.number("crossover", self.crossover, 0.0, 1.0)
        check.number("elite", self.elite, 0.0, 0.9)
        check.integer("tournament", self.tournament, 1)

    def init(self, problem: Problem) -> State:
        return {"parents": [], "batch": []}

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        parents, units = state["parents"], history.units

        def breed(rng: np.random.Generator) -> tuple[Array, str]:
            return child(problem.space, units, parents, self.tournament, self.crossover, self.mutation, rng)

        return offspring(problem, history, n, key, breed if len(parents) > 1 else None)

    def tell(self, problem: Problem, state: State, trial: Trial) -> Any:
        size = sized(self.population, problem)
        return succeed(state, member(problem, trial), size, max(1, round(self.elite * size)))
