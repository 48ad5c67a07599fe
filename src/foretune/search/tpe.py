"""Tree-structured Parzen estimator: a density of good configs over one of bad configs says where to look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.kde import Mixture, mixture
from foretune.search.distinct import pick
from foretune.search.opening import opening
from foretune.search.random import draws
from foretune.search.ranking import lateness, standing, thinned
from foretune.search.rows import described, unseen
from foretune.search.sampler import Proposal, Sampler
from foretune.search.settled import Settled, settled
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["TPE"]

__entry__ = "TPE"

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

LEAST = 1e-3  # weight of a good trial that is no better than the best bad one
ROUNDS = 8  # times that all candidates are drawn anew while each of them was tried already (discrete spaces)


@final
@dataclass(frozen=True)
class TPE(Sampler[None]):
    """Proposes, of configs drawn like the good ones, the one that is least like the bad ones.

        x = argmax l(x) / g(x),   l: density of the ``gamma`` best trials, g: of the others

    Both are mixtures of products over all columns at once, so that what belongs together stays together; a column
    that is inactive in a kernel or in a config counts as uniform, so that a tree of conditions needs no splitting
    into groups (``numeric/kde.py``). The first ``initial`` configs are a Latin hypercube.

    A good trial weighs as the square of its improvement on the best of the bad ones. Trials that stopped on the way
    are compared at the highest step that enough trials have reached; failed ones are bad ones. Pending trials
    push proposals away from themselves, until more trials than usual have overtaken them: one whose worker died
    without a word is soon forgotten. In a space without continuous parameters nothing is tried twice while there is
    anything else. Several goals: the good ones are the first fronts, the loneliest of the last one.

    An ask costs the same however many trials there are, but for one pass over columns of numbers: at most ``most``
    bad trials make g, the best half of them as they are, the rest evenly spaced in time, each standing for several.

    Args:
        initial: trials before the densities speak.
        gamma: share of the trials that count as good.
        most_good: good trials at most.
        candidates: draws that are compared.
        most: bad trials that g holds at most.
        prior: what the uniform part of each mixture counts, in trials.

    Source: Algorithms for Hyper-Parameter Optimization
    Source: Tree-Structured Parzen Estimator: Understanding Its Algorithm Components and Their Roles for Better Empirical Performance

    Differs:
        1. The prior is uniform, not a wide normal.
        2. Ints are densities of their place in the unit interval, with kernels at least half a value wide.
        3. g is the mean of two mixtures with the same centres: kernels as wide as the distance to the farther
           neighbour in each column, which keep off what was tried, and one normal-reference width a column
           (Scott), which shows where the good part of the space ends. Either alone was worse.
        4. Good trials weigh as the square of their improvement, not as the improvement itself, and a fifth of the
           trials are good: more centres, and most of the weight on the best.
        5. Pending trials are no observations; they lower the score of what is near them.
    """  # noqa: E501

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "multi-objective", "learns"}
    )

    initial: int = 10
    gamma: float = 0.2
    most_good: int = 25
    candidates: int = 24
    most: int = 256
    prior: float = 1.0

    def __post_init__(self) -> None:
        check.integer("initial", self.initial, 2)
        check.number("gamma", self.gamma, 0.0, 0.5, open_low=True)
        check.integer("most_good", self.most_good, 1)
        check.integer("candidates", self.candidates, 1)
        check.integer("most", self.most, 8)
        check.number("prior", self.prior, 0.0, open_low=True)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        data, space = settled(history), problem.space
        if len(data.number) < self.initial or not space.width:
            return opening(problem, history, n, self.initial, "tpe")
        units = history.units
        good, bad, numbers = self.densities(problem, history, data)
        waiting = np.array(history.pending, dtype=int)
        weight = lateness(data.number, waiting, len(history))[np.isin(waiting, data.unknown)]
        away = units[data.unknown]
        found: list[Proposal] = []
        for i in range(n):
            rng = key.fold("tpe", i).generator()
            chosen = self._best(space, good, bad, units, away, weight, rng)
            if chosen is None:
                avoid = [p.config for p in found]
                more = pick(history, draws(space, key.fold("rest", i)), 1, avoid=avoid)
                if not more:
                    break
                config, why = (
                    more[0][0],
                    more[0][1] or "a uniform draw: what is like the good ones was all tried",
                )
                row = space.encode([config])
            else:
                row, kernel, ratio = chosen
                config = space.decode(row)[0]
                whose = f"near trial {numbers[kernel]}" if kernel < len(numbers) else "drawn from the prior"
                others = len(data.number) - len(numbers)
                why = f"{ratio:.3g} times as dense in the {len(numbers)} good as in the {others} other trials, {whose}"
            found.append(Proposal(config, why))
            units, away = np.concatenate([units, row]), np.concatenate([away, row])
            weight = np.append(weight, 1.0)
        return found

    def densities(
        self, problem: Problem, history: History, data: Settled
    ) -> tuple[Mixture, tuple[Mixture, ...], Ints]:
        """Return l, g and the numbers of the good trials."""
        _, columns = described(problem.space)
        n = int(np.isfinite(data.loss).sum())
        order, comparable = standing(problem, history, data, self.most_good + self.most)
        k = min(math.ceil(self.gamma * n), self.most_good, max(1, (comparable + 1) // 2))
        good, bad = order[:k], order[k:]
        units = history.units
        merit = np.ones(k)
        if len(problem.goals) == 1 and k and k < comparable:
            gain = data.loss[bad[0]] - data.loss[good]
            if gain.max() > 0.0:
                merit = (gain / gain.max()) ** 2 + LEAST
                merit *= k / merit.sum()
        kept, weight = thinned(bad, self.most)
        rest = units[data.number[kept]]
        return (
            mixture(columns, units[data.number[good]], merit, prior=self.prior),
            tuple(
                mixture(columns, rest, weight, prior=self.prior, rule=rule) for rule in ("scott", "neighbour")
            ),
            data.number[good],
        )

    def _best(
        self, space: Space, good: Mixture, bad: tuple[Mixture, ...], units: Array, away: Array, weight: Array,
        rng: np.random.Generator,
    ) -> tuple[Array, int, float] | None:  # fmt: skip
        """Return the best new row, (1, d), the kernel that it was drawn from and l / g; None if none is new."""
        enc, _ = described(space)
        for _ in range(ROUNDS):
            rows, kernel = good.draw(self.candidates, rng)
            rows = enc.snap(rows)
            ratio = (
                good.log_density(rows)
                - np.logaddexp.reduce([g.log_density(rows) for g in bad])
                + math.log(len(bad))
            )
            score = ratio
            if len(away):
                score = ratio + np.log1p(-0.999 * weight * good.likeness(rows, away)).sum(axis=1)
            for i in np.argsort(-score, kind="stable").tolist():
                if unseen(rows[i], units):
                    return rows[i : i + 1], int(kernel[i]), math.exp(min(float(ratio[i]), 700.0))
        return None
