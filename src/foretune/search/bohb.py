"""BOHB: kernel densities of good and bad configs at the highest rung that has enough of them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.kde import Columns, Mixture
from foretune.search.distinct import DRAWS, pick, signature
from foretune.search.random import draws
from foretune.search.rows import described
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED

__all__ = ["BOHB"]

__entry__ = "BOHB"

Array = NDArray[np.float64]

# Of a kernel, in the unit cube. The authors' code has 1e-3: widths then follow the spread of the good configs down,
# and on a smooth bowl all proposals fall on one place that is not the best one.
LEAST_WIDTH = 0.06


def densities(columns: Columns, rows: Array, wider: float) -> tuple[Mixture, Mixture]:
    """Fit a product kernel to each row: the density itself, and a wider one to draw from.

        s_j = 1.06 sd_j n^(-1 / (4 + d)),    s_j = the share of other values for a category

    Args:
        rows: (n, d), n at least 1, NaN where inactive.
        wider: factor of the widths of the second.
    """
    n, d = len(rows), len(columns.levels)
    rate = n ** (-1.0 / (4 + d))
    c = rows[:, columns.numbers]
    on = ~np.isnan(c)
    count = np.maximum(on.sum(0), 1)
    middle = np.where(on, c, 0.0).sum(0) / count
    sd = np.sqrt(np.where(on, (c - middle) ** 2, 0.0).sum(0) / count)
    least = np.maximum(LEAST_WIDTH, 0.5 * np.array(columns.grain)[columns.numbers])
    width = np.clip(1.06 * sd * rate, least, 1.0)
    levels = columns.sizes
    shares = np.zeros(len(levels))
    for k, j in enumerate(columns.categories):
        cell = np.floor(rows[:, j][~np.isnan(rows[:, j])] * levels[k])
        most = np.unique(cell, return_counts=True)[1].max() / len(cell) if len(cell) else 1.0
        shares[k] = 1.06 * math.sqrt(most * (1.0 - most)) * rate
    weight = np.append(np.full(n, 1.0 / n), 0.0)
    made = []
    for factor in (1.0, wider):
        s = np.clip(np.broadcast_to(width * factor, c.shape), least, 1.0)
        spill = np.clip(shares * factor, LEAST_WIDTH, 1.0)
        made.append(Mixture(columns, rows, s, spill, weight))
    return made[0], made[1]


def untried(stream: Iterator[Mapping[str, Any]], known: set[Hashable]) -> Iterator[Mapping[str, Any]]:
    """Follow a stream, skipping configs that were tried, as long as not too many in a row were."""
    skipped = 0
    for config in stream:
        if skipped < DRAWS and signature(config) in known:
            skipped += 1
            continue
        skipped = 0
        yield config


@final
@dataclass(frozen=True)
class BOHB(Sampler[None]):
    """Proposes what is likelier under a density of good configs than under one of bad ones: for "hyperband".

    Losses are compared within a rung only. The model is built at the highest rung with at least
    ``least`` + 2 trials: the best ``good`` of them, ``least`` at the fewest, give the one density l, the
    others the density g. Of ``candidates`` draws from l, widened by ``wider``, the one with the largest l / g is
    proposed. A share of proposals is drawn uniformly, so that Hyperband's guarantee stays. Failed and
    diverged trials count as the worst of every rung. In an inactive column all configs are alike. An ask
    costs O(n d).

    Args:
        good: share of the trials of a rung that are good.
        least: fewest good trials; None: number of columns + 1.
        candidates: draws, of which the best is proposed.
        random: share of proposals that are drawn uniformly.
        wider: factor of the kernels' widths for drawing.
        eta: of the scheduler; with a scheduler that does not pause, rungs are steps.high / eta^k.

    Source: BOHB: Robust and Efficient Hyperparameter Optimization at Scale | Algorithm 2, and its constants

    Differs:
        1. Kernels are cut at the ends of the unit cube and normalised there.
        2. Inactive parameters are left out of a kernel; the authors' code fills them with draws of other configs'.
        3. A kernel is never narrower than 0.06 of the unit cube (the authors' code: 0.001), for narrower
           ones collapse on a cluster of good configs; found on a bowl, where it is no better than random then.
        4. A category's kernel has the normal-reference width of its most frequent value's indicator.
    """

    # not "learns", which promises a gain within some twenty trials: a third of its proposals are uniform
    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "multi-fidelity"})

    good: float = 0.15
    least: int | None = None
    candidates: int = 64
    random: float = 1 / 3
    wider: float = 3.0
    eta: float = 3

    def __post_init__(self) -> None:
        check.number("good", self.good, 0, 1, open_low=True)
        if self.least is not None:
            check.integer("least", self.least, 1)
        check.integer("candidates", self.candidates, 1)
        check.number("random", self.random, 0, 1)
        check.number("wider", self.wider, 1)
        check.number("eta", self.eta, 1, open_low=True)

    def rung(self, problem: Problem, history: History) -> tuple[float, list[int], int] | None:
        """Return the rung that is modelled: its step, its trials from best to worst, and how many are good."""
        steps = {*problem.steps.rungs(self.eta)}
        steps |= {u for i in range(len(history)) if (u := history.plan(i).until) > 0}
        failed = {n: math.inf for n in history.numbers(FAILED) if history.loss(n) == math.inf}
        least = self.least or problem.space.width + 1
        for step in sorted(steps, reverse=True):
            loss = {**history.rung(step), **failed}
            finite = sum(map(math.isfinite, loss.values()))
            if finite and len(loss) >= least + 2:
                order = sorted(loss, key=lambda n: (loss[n], n))
                many = min(max(least, int(self.good * len(order))), finite, len(order) - 1)
                return step, order, many
        return None

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        space = problem.space
        known = self.rung(problem, history) if space.width else None
        found: list[Proposal] = []
        tried = {signature(t.config) for t in history}
        for i in range(n):
            rng = key.fold("bohb", i).generator()
            avoid = [p.config for p in found]
            uniform = untried(draws(space, key.fold("uniform", i)), tried)
            if known is None or rng.random() < self.random:
                chosen = pick(history, uniform, 1, avoid)
                why = "a uniform draw" if known else "a uniform draw: no rung has enough trials for a model"
            else:
                step, order, many = known
                enc, columns = described(space)
                rows = history.units[np.array(order)]
                better, wide = densities(columns, rows[:many], self.wider)
                others, _ = densities(columns, rows[many:], self.wider)
                drawn = enc.snap(wide.draw(self.candidates, rng)[0])
                floor = math.log(1e-32)  # the authors' code's least density
                ratio = better.log_density(drawn) - np.maximum(others.log_density(drawn), floor)
                best = np.argsort(-ratio, kind="stable")

                def stream(
                    drawn: Array = drawn, best: Any = best, uniform: Iterator[Mapping[str, Any]] = uniform
                ) -> Iterator[Mapping[str, Any]]:
                    yield from untried(iter(space.decode(drawn[best])), tried)
                    yield from uniform

                chosen = pick(history, stream(), 1, avoid)
                why = (
                    f"log density ratio {ratio[best[0]]:.3g} at step {step:g}, of {many} good and "
                    f"{len(order) - many} other trials"
                )
            if not chosen:
                break
            config, note = chosen[0]
            found.append(Proposal(config, note or why))
        return found
