"""Differential evolution: differences of good configs are the steps to better ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from foretune.base import check
from foretune.base.key import Key
from foretune.search.breeding import sized
from foretune.search.distinct import pick
from foretune.search.random import draws
from foretune.search.regularized_evolution import settled_loss
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["DifferentialEvolution"]

__entry__ = "DifferentialEvolution"

# Slot -> [loss, number, config] of its best trial. JSON keeps only text keys.
State = dict[str, list[Any]]


@final
@dataclass(frozen=True)
class DifferentialEvolution(Sampler[State]):
    """Moves each member of a population by the difference of two others, and keeps what is better.

        v = x_a + F (x_b - x_c);    each coordinate of the child is v's with probability CR, one at least

    Trial t challenges slot t mod NP. The state is the population; the cost of an ask does not grow
    with the history.

    Args:
        population: number of slots, NP; a known budget gives eight generations at least (of 8 or more).
        factor: F.
        crossover: CR.

    Source: Differential Evolution - A Simple and Efficient Heuristic for Global Optimization over Continuous Spaces

    Differs:
        1. Works in the unit cube for all kinds of parameters; coordinates that leave it are
           reflected; inactive ones are drawn uniformly.
        2. Asynchronous: a slot is replaced as soon as its challenger settles.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "learns"})

    population: int = 20
    factor: float = 0.5
    crossover: float = 0.9

    def __post_init__(self) -> None:
        check.integer("population", self.population, 4)
        check.number("factor", self.factor, 0.0, 2.0, open_low=True)
        check.number("crossover", self.crossover, 0.0, 1.0)

    def init(self, problem: Problem) -> State:
        return {}

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        space, at, size = problem.space, len(history), sized(self.population, problem)
        if at < size or len(state) < 4:
            first = pick(history, draws(space, key), n)
            return [Proposal(c, note or "a uniform draw for the first population") for c, note in first]
        rng = key.generator()
        slots = sorted(state, key=int)
        units = space.encode(space.fill(state[s][2]) for s in slots)
        units = np.where(np.isnan(units), rng.random(units.shape), units)
        found: list[Proposal] = []
        for i in range(n):
            target = str((at + i) % size)
            others = [j for j, s in enumerate(slots) if s != target]

            def stream(target: str = target, others: list[int] = others) -> Iterator[Mapping[str, Any]]:
                while True:
                    a, b, c = units[rng.choice(others, size=3, replace=False)]
                    v = a + self.factor * (b - c)
                    v = np.clip(np.where(v < 0, -v, np.where(v > 1, 2 - v, v)), 0.0, 1.0)
                    taken = rng.random(space.width) < self.crossover
                    if space.width:
                        taken[rng.integers(space.width)] = True
                    own = units[slots.index(target)] if target in state else a
                    yield space.decode(np.where(taken, v, own)[None])[0]

            chosen = pick(history, stream(), 1, avoid=[p.config for p in found])
            if not chosen:
                break
            config, note = chosen[0]
            found.append(Proposal(config, note or f"a difference step that challenges slot {target}"))
        return found

    def tell(self, problem: Problem, state: State, trial: Trial) -> State:
        loss = settled_loss(problem, trial)
        slot = str(trial.number % sized(self.population, problem))
        holder = state.get(slot)
        if loss is None or (holder is not None and holder[1] != trial.number and holder[0] <= loss):
            return state
        return {**state, slot: [loss, trial.number, dict(trial.config)]}
