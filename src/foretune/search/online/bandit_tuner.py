"""BanditTuner: one scalar setting over a stream of related jobs, from their costs alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.numeric.bandit import inverse_gap, tsallis
from foretune.search.online.tuner import Context, OnlineTuner

__all__ = ["BanditTuner"]

Array = NDArray[np.float64]
State = dict[str, Any]


@final
@dataclass(frozen=True)
class BanditTuner(OnlineTuner[State]):
    """Picks a value of a grid for each job, nearing the best fixed value, or the best value for each context.

    ``"tsallis-inf"`` (no context): with estimated total costs L_i in units of the mean cost so far,

        p_i = 4 / (eta (L_i - x))^2,   eta = 2 rate / sqrt(t)

    where L_i grows by b_i + [i chosen] (cost - b_i) / p_i, and b_i = 1/2 if p_i >= eta^2, else 0: without bias, and
    of less variance than importance weighting alone (costs are counted from ``least``).

    ``"chebcb"`` (a context c in [low, high]): for each value the cost is regressed on the Chebyshev polynomials
    T_0(c), ..., T_degree(c); the value is drawn by inverse-gap weights of the predictions, with

        gamma = rate sqrt(k m^2 T / (k m^3 + T)),   m = degree + 1, k values, T jobs so far

    Args:
        grid: the values.
        algo: ``"tsallis-inf"`` or ``"chebcb"``.
        rate: multiplies the learning rate.
        degree: of the polynomials.
        low, high: range of the context.
        least: the smallest possible cost.

    Source: Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances

    Source: Tsallis-INF: An Optimal Algorithm for Stochastic and Adversarial Bandits

    Differs:
        1. The regression is ridge (penalty 1 on coefficients of costs scaled by their mean, the k-th coefficient's
           times k^2 as in the paper's bounds of 1/k), updated by normal equations; the authors' code solves
           least squares under bounds.
        2. The authors' code weights by importance alone (b_i = 0); the estimator here is that of Tsallis-INF's paper.
        3. The number of jobs is not known beforehand: T in gamma is the number so far.

    >>> tuner = BanditTuner((1.0, 1.5, 1.9))
    >>> state = tuner.observe(tuner.init(), None, 1, 20.0)
    >>> bool(tuner.probabilities(state)[1] < 1 / 3)
    True
    """

    grid: tuple[float, ...]
    algo: str = "tsallis-inf"
    rate: float = 1.0
    degree: int = 4
    low: float = 0.0
    high: float = 1.0
    least: float = 0.0

    def __post_init__(self) -> None:
        values = tuple(check.number("grid", v) for v in self.grid)
        if len(values) < 2 or len(set(values)) != len(values):
            raise ArgumentError(f"grid must hold at least two different values; got {self.grid!r}.")
        object.__setattr__(self, "grid", values)
        check.one_of("algo", self.algo, ("tsallis-inf", "chebcb"))
        check.number("rate", self.rate, 0.0, open_low=True)
        check.integer("degree", self.degree, 0)
        check.number("least", self.least)
        if not check.number("low", self.low) < check.number("high", self.high):
            raise ArgumentError(f"low must be less than high; got low={self.low!r}, high={self.high!r}.")

    @property
    def arms(self) -> int:  # type: ignore[override]
        """How many values there are."""
        return len(self.grid)

    def value(self, arm: int) -> float:
        """Return the grid's value of an arm."""
        return self.grid[arm]

    def init(self) -> State:
        k, m = len(self.grid), self.degree + 1
        state: State = {"jobs": 0, "paid": 0.0, "weighted": [0.0] * k}
        if self.algo == "chebcb":
            state["gram"] = np.zeros((k, m, m)).tolist()
            state["moment"] = np.zeros((k, m)).tolist()
        return state

    def _features(self, context: Context) -> Array:
        c = check.number("context", context, self.low, self.high)
        x = 2.0 * (c - self.low) / (self.high - self.low) - 1.0
        return np.asarray(np.cos(np.arange(self.degree + 1) * math.acos(min(1.0, max(-1.0, x)))), dtype=float)

    def predicted(self, state: State, context: Context) -> Array:
        """Return the predicted cost of each value (``"chebcb"``), in units of the mean cost above ``least``."""
        z = self._features(context)
        mean = state["paid"] / state["jobs"] if state["jobs"] else 1.0
        penalty = np.diag(np.maximum(np.arange(len(z)), 1.0) ** 2)
        theta = np.linalg.solve(np.array(state["gram"]) + penalty, np.array(state["moment"])[:, :, None])[
            :, :, 0
        ]
        return np.asarray(theta @ z / (mean or 1.0), dtype=float)

    def probabilities(self, state: State, context: Context = None) -> Array:
        t, k = state["jobs"] + 1, len(self.grid)
        if self.algo == "chebcb":
            m = self.degree + 1
            gamma = self.rate * math.sqrt(k * m**2 * t / (k * m**3 + t))
            return inverse_gap(self.predicted(state, context), gamma)
        scale = state["paid"] / state["jobs"] if state["jobs"] else 1.0
        return tsallis(np.array(state["weighted"]) / (scale or 1.0), 2.0 * self.rate / math.sqrt(t))

    def observe(self, state: State, context: Context, arm: int, cost: float) -> State:
        paid = check.number("cost", cost, self.least) - self.least
        p, jobs = self.probabilities(state, context), state["jobs"]
        half = 0.5 * state["paid"] / jobs if jobs and self.algo == "tsallis-inf" else 0.0
        base = np.where(p >= 4.0 * self.rate**2 / (jobs + 1), half, 0.0)
        weighted = np.array(state["weighted"]) + base
        weighted[arm] += (paid - base[arm]) / p[arm]
        after = {**state, "jobs": jobs + 1, "paid": state["paid"] + paid, "weighted": weighted.tolist()}
        if self.algo == "chebcb":
            z = self._features(context)
            gram, moment = np.array(state["gram"]), np.array(state["moment"])
            gram[arm] += np.outer(z, z)
            moment[arm] += paid * z
            after["gram"], after["moment"] = gram.tolist(), moment.tolist()
        return after

    def regret(self, state: State) -> tuple[float, float]:
        """Estimate the regret against the best fixed value from what was seen, and name that value.

        What was paid, less the smallest estimated total; without bias for each value, but noisy,
        and too large on average, as the smallest of noisy totals is too small.

        Returns:
            (regret in the cost's unit, the value).
        """
        best = int(np.argmin(state["weighted"]))
        return state["paid"] - state["weighted"][best], self.grid[best]
