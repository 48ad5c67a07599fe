"""NSGA-II: a population that keeps whole Pareto fronts, and of the last one the loneliest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.pareto import crowding, ranks
from foretune.numeric.variation import polynomial, simulated_binary
from foretune.search.breeding import Member, another, cross, enter, member, named, offspring, sized
from foretune.search.sampler import Proposal, Sampler
from foretune.space.domain import Choice
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["NSGA2", "standing"]

__entry__ = "NSGA2"

Array = NDArray[np.float64]

# "parents": the generation that breeds, the best first; "batch": what has settled since.
State = dict[str, list[Member]]


def standing(members: list[Member]) -> list[tuple[int, float]]:
    """Return each member's front and its crowding distance, negated: smaller is better.

    Members that broke a constraint come behind all that did not, by how much; those that were halted
    early behind those that went as far as the first of them, for their losses say nothing of each other.
    """
    losses = np.array([[math.inf if x is None else x for x in m[3:]] for m in members])
    groups = sorted({(m[1], -m[2]) for m in members})
    at = {g: i for i, g in enumerate(groups)}
    group = np.array([at[(m[1], -m[2])] for m in members])
    front = np.zeros(len(members), dtype=int)
    first = 0
    for g in range(len(groups)):
        rows = group == g
        front[rows] = first + ranks(losses[rows])
        first = int(front[rows].max()) + 1
    lonely = crowding(losses, front)
    return [(int(f), -float(c)) for f, c in zip(front, lonely, strict=True)]


@final
@dataclass(frozen=True)
class NSGA2(Sampler[State]):
    """Breeds towards the whole Pareto front of all goals.

    Of the old generation and its children the best ``population`` survive: fronts of non-dominated
    trials one after the other, of the last front those with the largest crowding distance. Parents win
    binary tournaments by front, then by distance. Numbers breed by simulated binary crossover and
    polynomial mutation, choices by exchange and random change.

    Args:
        population: survivors; a known budget gives eight generations at least (of 8 or more).
        crossover: probability of a second parent.
        mutation: probability that a parameter changes; None: one over the number of parameters.
        eta_crossover: distribution index of the crossover.
        eta_mutation: distribution index of the mutation.

    Source: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II

    Differs:
        1. Asynchronous: survival is decided whenever ``population`` trials have settled.
        2. Crossed numbers are clipped to the unit cube. Choices, and parameters that one parent
           lacks, are inherited whole; a choice mutates to any other value.
        3. Constraints rank as in the paper (feasible first, then by the sum of violations); among
           equals a trial that ran further comes first. Failures never survive.
        4. Distribution indices of 10, where the paper has 20: wider steps, for budgets of hundreds of
           trials rather than ten thousands.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-objective", "constrained", "learns"}
    )

    population: int = 40
    crossover: float = 0.9
    mutation: float | None = None
    eta_crossover: float = 10.0
    eta_mutation: float = 10.0

    def __post_init__(self) -> None:
        check.integer("population", self.population, 4)
        check.number("crossover", self.crossover, 0.0, 1.0)
        if self.mutation is not None:
            check.number("mutation", self.mutation, 0.0, 1.0, open_low=True)
        check.number("eta_crossover", self.eta_crossover, 0.0)
        check.number("eta_mutation", self.eta_mutation, 0.0)

    def init(self, problem: Problem) -> State:
        return {"parents": [], "batch": []}

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        parents, units, space = state["parents"], history.units, problem.space
        if len(parents) < 2:
            return offspring(problem, history, n, key, None)
        stands = standing(parents)
        columns = {name: space.columns[name] for name in named(space)}
        choices = [name for name in columns if isinstance(space[name], Choice)]
        numbers = np.zeros(space.width, dtype=bool)
        for name, at in columns.items():
            numbers[at] = name not in choices
        rate = 1.0 / max(1, len(columns)) if self.mutation is None else self.mutation

        def win(rng: np.random.Generator) -> int:
            a, b = rng.choice(len(parents), size=2, replace=False)
            return int(a if stands[a] <= stands[b] else b)

        def breed(rng: np.random.Generator) -> tuple[Array, str]:
            i, j = win(rng), win(rng)
            first, words = units[parents[i][0]], f"a mutation of trial {parents[i][0]}"
            row = first.copy()
            if i != j and rng.random() < self.crossover:
                second = units[parents[j][0]]
                row = cross(space, first, second, rng)
                both = numbers & ~np.isnan(first) & ~np.isnan(second)
                row[both] = simulated_binary(first[both], second[both], self.eta_crossover, rng)
                words = f"a crossover of trials {parents[i][0]} and {parents[j][0]}"
            known = numbers & ~np.isnan(row)
            row[known] = polynomial(row[known], self.eta_mutation, rate, rng)
            for name in choices:
                value = float(row[columns[name]][0])
                if rng.random() < rate and value == value:
                    row[columns[name]] = another(value, int(space[name].size), rng)
            return row, f"{words} (fronts {stands[i][0]} and {stands[j][0]})"

        return offspring(problem, history, n, key, breed)

    def tell(self, problem: Problem, state: State, trial: Trial) -> Any:
        new, parents, batch = member(problem, trial), state["parents"], state["batch"]
        if any(m[0] == new[0] for m in parents):
            parents = [m for m in enter(parents, new) if None not in m[3:]]
            return {"parents": parents, "batch": batch}
        batch = enter(batch, new)
        size = sized(self.population, problem)
        if len(batch) < size:
            return {"parents": parents, "batch": batch}
        everybody = [m for m in parents + batch if None not in m[3:]]
        if not everybody:
            return {"parents": [], "batch": []}
        stands = standing(everybody)
        order = sorted(range(len(everybody)), key=lambda i: (stands[i], everybody[i][0]))
        return {"parents": [everybody[i] for i in order[:size]], "batch": []}
