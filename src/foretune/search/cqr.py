"""Conformal quantile regression search: quantiles of the loss, made honest by held-out trials, sampled at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.quantile_boost import QuantileModel, boost, conformal
from foretune.numeric.surrogate import representative
from foretune.search.distinct import pick
from foretune.search.opening import opening
from foretune.search.random import draws
from foretune.search.random_forest import neighbours
from foretune.search.rows import described, unseen
from foretune.search.sampler import Proposal, Sampler
from foretune.search.settled import settled
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["CQR"]

__entry__ = "CQR"

Array = NDArray[np.float64]

CENTRES = 4  # best configs whose neighbours are candidates too


def fitted(rows: Array, loss: Array, sizes: tuple[int, ...], sampler: CQR, key: Key) -> QuantileModel:
    """Fit the quantiles, and correct them by a random part of the trials where there are enough."""
    n = len(loss)
    levels = np.arange(1, sampler.quantiles + 1) / (sampler.quantiles + 1)
    if n < sampler.least:
        return boost(rows, loss, sizes, levels, trees=sampler.trees)
    out = max(1, round(sampler.held * n))
    order = key.fold("held").generator().permutation(n)
    model = boost(rows[order[out:]], loss[order[out:]], sizes, levels, trees=sampler.trees)
    return conformal(model, rows[order[:out]], loss[order[:out]])


def _explain(goal: Goal, n: int, drawn: float, level: float, quantile: Array) -> str:
    """Say what was drawn, and from where, in the user's metric."""
    low, high = sorted((goal.sign * float(quantile[0]) + 0.0, goal.sign * float(quantile[-1]) + 0.0))
    at = level if goal.sign > 0.0 else 1.0 - level
    return f"best of {n} draws: {goal.said(drawn)}, quantile {at:.2f} of [{low:.3g}, {high:.3g}]"


@final
@dataclass(frozen=True)
class CQR(Sampler[None]):
    """Proposes the candidate whose loss, drawn at random among its predicted quantiles, is least.

    Quantiles of the loss are predicted by boosted trees, all at once (``numeric/quantile_boost.py``): no shape of the
    noise is assumed, and it may differ from place to place. From ``least`` trials on, a random part of them is held
    out to widen or narrow the quantiles until they cover what they should. One quantile is then drawn for each of
    the candidates (Thompson sampling), and the least wins. The first ``initial`` configs are a Latin hypercube.

    Partial runs: each config counts by its latest loss, at whatever step, so that the sampler goes with any
    scheduler, ASHA foremost. A failed trial counts as the worst loss. Pending trials are told apart by the random
    draws, and are not proposed again. NumPy is all it needs.

    Args:
        initial: trials before the quantiles speak.
        quantiles: number of quantiles, odd or even: i / (quantiles + 1).
        candidates: uniform draws that are compared.
        trees: boosting rounds.
        held: share of the trials that are held out.
        least: trials from which on some are held out.
        most: trials that the model is fitted to at most: the best half, the latest quarter, the rest spread over the
            ranks. It bounds the cost of an ask.

    Source: Optimizing Hyperparameters with Conformal Quantile Regression

    Differs:
        1. Trees are grown on a fixed list of at most 17 questions a column, at a rate of 0.1 for 60 rounds.
        2. The candidates are joined by neighbours of the four best configs.
        3. Failed trials take part.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "learns"}
    )

    initial: int = 10
    quantiles: int = 5
    candidates: int = 1000
    trees: int = 60
    held: float = 0.1
    least: int = 32
    most: int = 500

    def __post_init__(self) -> None:
        check.integer("initial", self.initial, 2)
        check.integer("quantiles", self.quantiles, 1)
        check.integer("candidates", self.candidates, 1)
        check.integer("trees", self.trees, 1)
        check.number("held", self.held, 0.0, 0.5, open_low=True)
        check.integer("least", self.least, 8)
        check.integer("most", self.most, 20)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        data, space = settled(history), problem.space
        finite = np.isfinite(data.loss)
        silent = finite.sum() < 2 or not space.width or np.ptp(data.loss[finite]) == 0.0
        missing = n if silent else max(0, min(n, self.initial - len(history)))
        found = opening(problem, history, missing, self.initial, "cqr") if missing else []
        if len(found) == n or silent:
            return found
        enc, _ = described(space)
        loss = np.where(finite, data.loss, data.loss[finite].max())
        keep = representative(loss, self.most)
        number, loss = data.number[keep], loss[keep]
        rows = history.units[number]
        model = fitted(rows, loss, enc.levels, self, key)
        centres = rows[np.argsort(loss, kind="stable")[:CENTRES]]
        units = history.units
        if found:
            units = np.concatenate([units, space.encode(p.config for p in found)])
        for i in range(len(found), n):
            rng = key.fold("draw", i).generator()
            x = enc.snap(rng.random((self.candidates, space.width)))
            x = np.concatenate([x, neighbours(enc, centres, rng)])
            quantile = model.predict(x)
            which = rng.integers(self.quantiles, size=len(x))
            drawn = quantile[np.arange(len(x)), which]
            order = np.argsort(drawn, kind="stable").tolist()
            chosen = next((j for j in order if unseen(x[j], units)), None)
            if chosen is None:
                avoid = [p.config for p in found]
                more = pick(history, draws(space, key.fold("beyond", i)), 1, avoid=avoid)
                if not more:
                    break
                config, why = more[0][0], more[0][1] or "a uniform draw: the candidates were all tried"
            else:
                config = space.decode(x[chosen : chosen + 1])[0]
                level = (which[chosen] + 1) / (self.quantiles + 1)
                why = _explain(problem.goal, len(x), float(drawn[chosen]), level, quantile[chosen])
            found.append(Proposal(config, why))
            units = np.concatenate([units, space.encode([config])])
        return found
