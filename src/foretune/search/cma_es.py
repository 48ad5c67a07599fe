"""CMA-ES: a normal distribution that learns its mean, its scale and all its correlations."""

from __future__ import annotations

import math
import warnings
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.search.breeding import Member, enter, fitness, member, offspring
from foretune.search.encoding import encoding
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["CMAES"]

__entry__ = "CMAES"

Array = NDArray[np.float64]

# "generations": numbers of the trials of each, the best first; "batch": what has settled since.
State = dict[str, list[Any]]

TRIES = 32  # draws outside the unit cube before one is reflected into it
CONVERGED = 1e-4  # standard deviations in the unit cube below which it begins anew (assumed)
SHARE = 0.3  # how far the frequencies of a choice move towards those of a generation's better half (assumed)


@final
@dataclass
class _Strategy:
    """The distribution after some generations: the library's object for numbers, frequencies for choices."""

    es: Any  # None where the space has no numbers
    shares: dict[int, Array]
    numbers: NDArray[np.intp]  # the columns of numbers
    root: Array  # a root of the covariance, scale included
    restarts: int = 0


# history -> sampler -> (generations told, their numbers, strategy): a memo of a pure function of both
_MEMO: weakref.WeakKeyDictionary[History, dict[Any, tuple[list[list[int]], _Strategy]]] = (
    weakref.WeakKeyDictionary()
)


def popsize(population: int | None, width: int) -> int:
    """Return the population: 4 + floor(3 ln d), the method's default, unless given.

    >>> popsize(None, 6), popsize(12, 6)
    (9, 12)
    """
    return population or 4 + int(3 * math.log(max(1, width)))


def _root(es: Any) -> Array:
    scale = es.sigma * np.ones(len(es.mean)) * np.asarray(es.sigma_vec.scaling, dtype=float)
    values, vectors = np.linalg.eigh(np.asarray(es.C, dtype=float))
    return np.asarray(scale[:, None] * (vectors * np.sqrt(np.maximum(values, 0.0))))


@final
@dataclass(frozen=True)
class CMAES(Sampler[State]):
    """Draws from a normal distribution that CMA-ES adapts, by the package ``cma``.

    The state holds the trials of each generation, ranked; the distribution is computed from them by
    telling them to the library in turn, and followed generation by generation as a history grows. It
    depends on the ranks alone. Once all standard deviations have fallen below 0.0001, or the library
    finds that it can go no further, it begins anew around a uniform draw.

    Numbers (floats, ints, simplexes) are columns of the distribution. Draws outside the unit cube are
    repeated, at last reflected. An int of few values keeps a standard deviation of at least half of
    one of its values. Choices have frequencies of their own, independent of all else, that move towards those
    in the better half of each generation; the least is a tenth of the uniform one. An inactive number
    enters its generation as a draw from the distribution, so that it moves nothing in the mean.

    Args:
        population: draws of a generation; None: 4 + floor(3 ln d) for d columns.
        step: initial standard deviation in the unit cube; the first mean is the space's default.

    Raises:
        MissingExtraError: the package ``cma`` is not installed.

    Source: The CMA Evolution Strategy: A Tutorial

    Differs:
        1. Asynchronous: a generation is whatever trials settle next, whichever distribution drew them.
        2. The values tried, rounded to the space, are told, not the draws before rounding.
        3. Choices are no part of the method; their frequencies move by 0.3 a generation (assumed).
        4. Trials that were halted early rank behind those that went further; failures rank last.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "constrained", "learns"})

    population: int | None = None
    step: float = 0.3

    def __post_init__(self) -> None:
        if self.population is not None:
            check.integer("population", self.population, 4)
        check.number("step", self.step, 0.0, 1.0, open_low=True)

    def init(self, problem: Problem) -> State:
        return {"generations": [], "batch": []}

    def ask(self, problem: Problem, state: State, history: History, n: int, key: Key) -> list[Proposal]:
        if problem.space.width == 0:
            return offspring(problem, history, n, key, None)
        strategy = self._follow(problem, history, state["generations"])
        sigma = f"step {strategy.es.sigma:.2g}" if strategy.es is not None else "choices only"
        again = f", restart {strategy.restarts}" if strategy.restarts else ""
        reason = f"a draw of generation {len(state['generations']) + 1}, {sigma}{again}"

        def breed(rng: np.random.Generator) -> tuple[Array, str]:
            row = np.full(problem.space.width, np.nan)
            if strategy.es is not None:
                row[strategy.numbers] = self._draw(strategy, rng)
            for j, share in strategy.shares.items():
                p = np.maximum(share, 0.1 / len(share))
                row[j] = (rng.choice(len(p), p=p / p.sum()) + 0.5) / len(p)
            return row, reason

        return offspring(problem, history, n, key, breed)

    def tell(self, problem: Problem, state: State, trial: Trial) -> State:
        new = member(problem, trial)
        if any(new[0] in g for g in state["generations"]):
            return state  # it was promoted: its generation has passed
        batch: list[Member] = enter(state["batch"], new)
        if len(batch) < popsize(self.population, problem.space.width):
            return {**state, "batch": batch}
        if all(m[3] is None for m in batch):
            return {**state, "batch": []}
        ranked = [m[0] for m in sorted(batch, key=fitness)]
        return {"generations": [*state["generations"], ranked], "batch": []}

    # -- the distribution -------------------------------------------------------------------------

    @staticmethod
    def _draw(strategy: _Strategy, rng: np.random.Generator) -> Array:
        mean = np.asarray(strategy.es.mean, dtype=float)
        for _ in range(TRIES):
            x = mean + strategy.root @ rng.standard_normal(len(mean))
            if ((x >= 0.0) & (x <= 1.0)).all():
                return np.asarray(x)
        x = np.abs(x) % 2.0
        return np.asarray(np.where(x > 1.0, 2.0 - x, x))

    def _begin(self, problem: Problem, restarts: int) -> _Strategy:
        space = problem.space
        enc = encoding(space)
        shares = {j: np.full(k, 1.0 / k) for j, k in enumerate(enc.levels) if k}
        numbers = np.array([j for j in range(space.width) if j not in shares], dtype=int)
        if not len(numbers):
            return _Strategy(None, shares, numbers, np.zeros((0, 0)), restarts)
        with (
            warnings.catch_warnings()
        ):  # its import warns where matplotlib is missing, which is not used here
            warnings.simplefilter("ignore", UserWarning)
            cma = require("cma", "The CMA-ES sampler")
        rng = problem.key.fold("cma_es", restarts).generator()
        start = rng.random(space.width)
        if restarts == 0:
            start = np.nan_to_num(space.encode([space.default()])[0], nan=0.5)
        options: dict[str, Any] = {
            "seed": np.nan,  # NumPy's global generator is left alone
            "randn": lambda *shape: np.zeros(shape),  # its own draws are not used
            "popsize": popsize(self.population, space.width),
            # what is told are ranks: criteria on losses say nothing
            "tolfun": 0,
            "tolfunhist": 0,
            "tolfunrel": 0,
            "tolstagnation": 0,
            "tolflatfitness": math.inf,
            "verbose": -9,
            "verb_log": 0,
        }
        # never above the first deviation, which an int of one value would otherwise ask for
        coarse = np.array([min(0.5 / enc.steps[j], self.step) if enc.steps[j] else 0.0 for j in numbers])
        if coarse.any():
            options["minstd"] = coarse
        es = cma.CMAEvolutionStrategy(
            start[numbers].tolist() if len(numbers) > 1 else [float(start[numbers[0]])], self.step, options
        )
        return _Strategy(es, shares, numbers, _root(es), restarts)

    def _follow(self, problem: Problem, history: History, generations: list[list[int]]) -> _Strategy:
        """Return the distribution after the generations, told anew or followed from the last call."""
        memo = _MEMO.setdefault(history, {})
        mark = (self, problem.space.digest, problem.key)
        told, strategy = memo.get(mark, ([], None))
        if strategy is None or told != generations[: len(told)]:
            told, strategy = [], self._begin(problem, 0)
        for ranked in generations[len(told) :]:
            strategy = self._tell(problem, strategy, history.units[ranked], ranked)
        memo[mark] = (list(generations), strategy)
        return strategy

    def _tell(self, problem: Problem, strategy: _Strategy, rows: Array, ranked: list[int]) -> _Strategy:
        """Tell a generation, the best first."""
        half = rows[: max(1, len(rows) // 2)]
        for j, share in strategy.shares.items():
            k = len(share)
            known = half[~np.isnan(half[:, j]), j]
            if len(known):
                found = np.bincount(np.minimum((known * k).astype(int), k - 1), minlength=k) / len(known)
                strategy.shares[j] = (1 - SHARE) * share + SHARE * found
        if strategy.es is None:
            return strategy
        points = rows[:, strategy.numbers]
        for i, number in enumerate(ranked):
            missing = np.isnan(points[i])
            if missing.any():
                drawn = self._draw(strategy, problem.key.fold("inactive", number).generator())
                points[i, missing] = drawn[missing]
        strategy.es.ask()  # the library counts generations by its own draws
        strategy.es.tell(list(points), list(range(len(points))), check_points=False)
        strategy.root = _root(strategy.es)
        wide = np.sqrt((strategy.root**2).sum(axis=1))[encoding(problem.space).soft[strategy.numbers]]
        if (len(wide) and (wide < CONVERGED).all()) or strategy.es.stop():
            fresh = self._begin(problem, strategy.restarts + 1)
            fresh.shares.update(strategy.shares)
            return fresh
        return strategy
