"""Search by a prior-fitted network: a small transformer that has seen random losses predicts this study's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.kernel import Columns
from foretune.numeric.pfn.binned import Binned
from foretune.numeric.pfn.network import FittedPFN, stored
from foretune.numeric.stats import spearman
from foretune.numeric.warp import Warp, warp
from foretune.search import improvement
from foretune.search.improvement import Model, unskewed
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["PFNSearch"]

__entry__ = "PFNSearch"

Array = NDArray[np.float64]

TINY = 1e-300


@final
@dataclass(frozen=True, eq=False)
class Amortised(Model):
    """The network and the trials that it is shown. NaN (inactive) is read as the middle."""

    TILT: ClassVar[float] = 0.01  # the network computes in single precision

    network: FittedPFN
    warp: Warp
    chosen: NDArray[np.intp]  # columns that the network sees
    x: Array
    t: Array

    def _predict(self, rows: Array) -> Binned:
        return self.network.predict(self.x, self.t, _filled(rows[:, self.chosen]))

    def mean(self, rows: Array) -> Array:
        return self._predict(rows).mean

    def value(self, rows: Array, best: float) -> Array:
        found: Array = np.log(self._predict(rows).expected_improvement(best) + TINY)
        return found

    def gain(self, row: Array, best: float) -> float:
        draws = self._predict(row).quantiles(list((np.arange(64) + 0.5) / 64))[0]
        now = float(self.warp.inverse(np.array([best]))[0])
        return float(np.maximum(now - self.warp.inverse(draws), 0.0).mean())

    def believe(self, rows: Array) -> Amortised:
        seen = _filled(rows[:, self.chosen])
        mean = self._predict(rows).mean
        return replace(self, x=np.concatenate([self.x, seen]), t=np.concatenate([self.t, mean]))


def _filled(rows: Array) -> Array:
    return np.where(np.isnan(rows), 0.5, rows)


def telling(x: Array, t: Array, most: int) -> NDArray[np.intp]:
    """Choose at most ``most`` columns of rows (n, d): those whose ranks go most with the losses' (n,)."""
    d = x.shape[1]
    if d <= most:
        return np.arange(d)
    # the square about the middle sees what rises to both sides
    strength = [max(_rank(x[:, j], t), _rank((x[:, j] - np.median(x[:, j])) ** 2, t)) for j in range(d)]
    return np.sort(np.argsort(-np.array(strength), kind="stable")[:most])


def _rank(a: Array, b: Array) -> float:
    found = abs(spearman(a, b))
    return found if found == found else 0.0


@final
@dataclass(frozen=True)
class PFNSearch(Sampler[None]):
    """Proposes where a prior-fitted network expects the largest improvement: no fit, one forward pass.

    The network (``numeric/pfn``) was trained on random losses over up to 12 columns, categorical and coarse ones
    among them; it comes with the package and runs in NumPy. Losses are warped to little skew first.

    What it cannot represent: an inactive parameter counts as the middle of its range; of more than 12 columns
    those are shown whose ranks go most with the losses', the others move at random; categories are told
    apart by their place only. Partial runs take part through the step as a column.

    Args:
        initial: trials before the model speaks; None: min(6, width + 1), at least 4.
        most: losses that the network is shown, at most; it was trained with up to 80.

    Source: Transformers Can Do Bayesian Inference

    Differs:
        1. The paper is about prediction; searching by the network's expected improvement follows Mueller et al.
           (PFNs4BO: In-Context Learning for Bayesian Optimization, 2023).
        2. 0.2 million weights, trained on one core in minutes.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "learns"}
    )

    initial: int | None = None
    most: int = 80

    def __post_init__(self) -> None:
        if self.initial is not None:
            check.integer("initial", self.initial, 1)
        check.integer("most", self.most, 10)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        def build(columns: Columns, x: Array, y: Array, number: NDArray[np.intp], root: Key) -> Model:
            network = stored()
            warped = warp(unskewed(y), y)
            t, filled = warped(y), _filled(x)
            chosen = telling(filled, t, network.features)
            return Amortised(network, warped, chosen, filled[:, chosen], t)

        return improvement.ask(
            problem, history, n, key, word="pfn", initial=self.initial, most=self.most, build=build
        )
