"""DEHB: differential evolution in each rung of Hyperband, fed by the best of the rung below."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.search.breeding import offspring
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED, Trial

__all__ = ["DEHB"]

__entry__ = "DEHB"

Array = NDArray[np.float64]

# rung -> slot -> [loss, number] of the trial that holds it. JSON keeps only text keys.
State = dict[str, dict[str, list[Any]]]

PARENTS = 3  # trials that a difference step is made of


def groups(eta: float, rungs: int) -> tuple[int, ...]:
    """Return how many trials Hyperband's brackets begin, from the lowest rung's to the highest's.

    n_s = ceil(rungs / (s + 1) * eta^s) for s = rungs - 1, ..., 0

    >>> groups(3, 5)
    (81, 34, 15, 8, 5)
    """
    return tuple(math.ceil(rungs / (s + 1) * eta**s * (1 - 1e-12)) for s in range(rungs - 1, -1, -1))


def slots(eta: float, rungs: int, least: int) -> tuple[int, ...]:
    """Return the size of each rung's subpopulation: the most trials that any bracket brings there.

    >>> slots(3, 3, 4)
    (9, 5, 4)
    """
    begun = groups(eta, rungs)
    return tuple(
        max(least, *(math.floor(n / eta ** (k - first)) for first, n in enumerate(begun[: k + 1])))
        for k in range(rungs)
    )


@final
@dataclass(frozen=True)
class DEHB(Sampler[State]):
    """Breeds what Hyperband's brackets begin with by differential evolution; for the scheduler ``hyperband``.

        v = x_a + F (x_b - x_c);    each coordinate of the child is v's with probability CR, one at least

    Each rung has a subpopulation of slots. A trial that begins at rung k challenges the slot of its
    place there. Its a, b, c are drawn from the best of rung k - 1 (as many as rung k has slots), at
    the lowest rung from its own subpopulation; where there are fewer than three, trials of all rungs
    help out. A trial that was promoted to a rung challenges the worst slot there. The first bracket, and a
    target's slot that is empty, are uniform draws.

    With another scheduler each trial begins at the lowest rung; without rungs this is differential
    evolution.

    Args:
        eta: as the scheduler's.
        low: as the scheduler's; the lowest rung's step, ``steps.low`` if None.
        factor: F.
        crossover: CR.
        population: least number of slots of a subpopulation.

    Source: DEHB: Evolutionary Hyperband for Scalable, Robust and Efficient Hyperparameter Optimization

    Differs:
        1. Between the rungs of a bracket the best trials are promoted and go on training where they
           paused, as in Hyperband; the paper does so in the first bracket and trains evolved children from
           the start afterwards. Evolution takes place where brackets begin.
        2. A coordinate that leaves the unit cube is drawn uniformly there, as in the authors' code;
           those of inactive parameters are drawn uniformly too.
        3. Asynchronous: the subpopulations are those of the moment at which a child is bred.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "learns"}
    )

    eta: float = 3
    low: float | None = None
    factor: float = 0.5
    crossover: float = 0.5
    population: int = 4

    def __post_init__(self) -> None:
        check.number("eta", self.eta, 1, open_low=True)
        if self.low is not None:
            check.number("low", self.low, 0, open_low=True)
        check.number("factor", self.factor, 0.0, 2.0, open_low=True)
        check.number("crossover", self.crossover, 0.0, 1.0)
        check.integer("population", self.population, 4)

    def init(self, problem: Problem) -> State:
        return {}

    def next_rung(self, problem: Problem, history: History, ahead: int = 0) -> int:
        """Return the rung at which the next trial but ``ahead`` begins, if Hyperband runs the brackets.

        Brackets are told by the plans of the trials so far; one that has begun more trials than
        Hyperband's is another scheduler's, and begins trials at the lowest rung.
        """
        begun = groups(self.eta, len(problem.steps.rungs(self.eta, self.low)))
        bracket, within = 0, 0
        for number in range(len(history) - 1, -1, -1):
            if number == len(history) - 1:
                bracket = history.plan(number).bracket
            if history.plan(number).bracket != bracket or within > begun[0]:
                break
            within += 1
        if within > begun[bracket % len(begun)]:
            return 0
        within += ahead
        while within >= begun[bracket % len(begun)]:
            within -= begun[bracket % len(begun)]
            bracket += 1
        return bracket % len(begun)

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        sizes = slots(self.eta, len(problem.steps.rungs(self.eta, self.low)), self.population)
        units = history.units
        found: list[Proposal] = []
        for i in range(n):
            number = len(history) + i
            rung = self.next_rung(problem, history, i)
            pool, whose = self._pool(state, rung, sizes)
            slot = str(number % sizes[rung])
            own = state.get(str(rung), {}).get(slot)
            words = f"against slot {slot} of rung {rung}, parents {whose}"

            def breed(
                rng: np.random.Generator, pool: list[int] = pool, own: Any = own, words: str = words
            ) -> tuple[Array, str]:
                a, b, c = rng.choice(pool, size=PARENTS, replace=False)
                v = units[a] + self.factor * (units[b] - units[c])
                v = np.where((v < 0.0) | (v > 1.0), rng.random(len(v)), v)
                target = rng.random(len(v)) if own is None else units[own[1]]
                taken = rng.random(len(v)) < self.crossover
                taken[rng.integers(len(v))] = True
                return np.where(taken, v, target), f"{a} + {self.factor:g} ({b} - {c}) {words}"

            ready = number >= sizes[0] and len(pool) >= PARENTS
            found += offspring(
                problem, history, 1, key.fold(i) if i else key, breed if ready else None,
                "a uniform draw for the first bracket", [p.config for p in found],
            )  # fmt: skip
        return found

    def _pool(self, state: State, rung: int, sizes: tuple[int, ...]) -> tuple[list[int], str]:
        """Return the trials that may be parents at a rung, and in words where they come from."""
        source = max(0, rung - 1)
        best = sorted(state.get(str(source), {}).values())
        pool = [number for _, number in (best if rung == 0 else best[: sizes[rung]])]
        if len(pool) >= PARENTS:
            return pool, "of its own" if rung == 0 else f"from the best {len(pool)} of rung {source}"
        everybody = [number for k in sorted(state) for _, number in sorted(state[k].values())]
        return list(dict.fromkeys(pool + everybody)), "from all rungs"

    def tell(self, problem: Problem, state: State, trial: Trial) -> State:
        ladder = problem.steps.rungs(self.eta, self.low)
        sizes = slots(self.eta, len(ladder), self.population)
        entry = trial.plan.bracket % len(ladder)
        new = dict(state)
        for k in range(entry, len(ladder)):
            loss = _loss(problem, trial, ladder[k])
            if loss is None:
                break
            at = trial.number % sizes[k] if k == entry else None
            new[str(k)] = _challenge(new.get(str(k), {}), [loss, trial.number], sizes[k], at)
        return new


def _loss(problem: Problem, trial: Trial, step: float) -> float | None:
    """Return the loss at a trial's first report at or after a step; None if there is no finite one."""
    if trial.state == FAILED:
        return None
    for report in trial.reports:
        if report.step >= step and problem.goal.metric in report.values:
            loss = History.loss_of(report.values[problem.goal.metric], problem.goal.sign)
            return loss if math.isfinite(loss) else None
    return None


def _challenge(rung: dict[str, list[Any]], new: list[Any], size: int, at: int | None) -> dict[str, list[Any]]:
    """Let a trial challenge slot ``at``, or the worst one; an empty slot is taken, a tie is won."""
    if any(number == new[1] for _, number in rung.values()):
        return rung  # it has been here before, and has settled again further on
    if at is None:
        empty = next((i for i in range(size) if str(i) not in rung), None)
        slot = str(empty) if empty is not None else max(rung, key=lambda s: rung[s])
    else:
        slot = str(at)
    if slot in rung and rung[slot][0] < new[0]:
        return rung
    return {**rung, slot: new}
