"""NeuralIGW: a small network predicts each arm's loss; arms are drawn by inverse-gap weights."""

from __future__ import annotations

import base64
import functools
import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.bandit import inverse_gap, inverse_gap_relative
from foretune.search.online.tuner import Context, OnlineTuner

__all__ = ["NeuralIGW"]

Array = NDArray[np.float64]
State = dict[str, Any]


def _pack(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode("ascii")


def _unpack(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), dtype="<f8").astype(float)


@final
@dataclass(frozen=True)
class NeuralIGW(OnlineTuner[State]):
    """Contextual bandit: online regression of losses by a network, choice by inverse-gap weights.

    A network of one hidden layer (ReLU) has an output f_a(x) for each arm. With random signs e_s and the
    start theta_0, ``ensemble`` perturbed outputs

        g_s(x) = f_a(x) + (perturb / width^(1/4)) e_s . (theta - theta_0),   s = 1, ..., S

    are fitted to the observed loss y in [0, 1] by one step of gradient descent on their mean loss, of length
    rate / (c |df_a/dtheta|^2) with c = 1 (square) or 1/4 (kl), and averaged for the prediction. A ``rate`` of 1
    corrects the whole error at once, to first order. ``"square"``: (g - y)^2 / 2 and p_a = 1 / (k + gamma (y_a - y_b));
    ``"kl"``: cross entropy of y and sigmoid(g), and p_a = y_b / (k y_b + gamma (y_a - y_b)), which explores less
    once the best arm's loss y_b is small.

    Args:
        arms: k.
        features: length of a context.
        loss: ``"square"`` or ``"kl"``.
        gamma: exploitation; large is greedy. After t jobs gamma sqrt(t) stands in the formulas, as the theory
            has it for a stream of t jobs.
        width: hidden units.
        rate: share of a job's error that a step corrects.
        perturb: size of the perturbation; 0 for none.
        ensemble: S.
        seed: of the initial weights and the signs.

    Source: Contextual Bandits with Online Neural Regression
    Source: Beyond UCB: Optimal and Efficient Contextual Bandits with Regression Oracles
    Source: Efficient First-Order Contextual Bandits: Prediction, Allocation, and Triangular Discrimination

    Differs:
        1. Arms share the hidden layer and have an output each; the paper gives each arm a context vector
           (zeros but for the arm's block), which makes a first layer for each.
        2. Steps are normalised by the gradient of the output, as in normalised least mean squares; there is no
           projection onto a ball around the start.
        3. The signs are drawn once, from ``seed``.
        4. gamma grows with the number of jobs so far; the theorems fix it for a known number.

    >>> tuner = NeuralIGW(arms=2, features=1)
    >>> state = tuner.init()
    >>> for _ in range(30): state = tuner.observe(tuner.observe(state, [1.0], 0, 0.0), [1.0], 1, 1.0)
    >>> int(tuner.predicted(state, [1.0]).argmin())
    0
    """

    arms: int = 2
    features: int = 1
    loss: str = "square"
    gamma: float = 20.0
    width: int = 64
    rate: float = 1.0
    perturb: float = 0.01
    ensemble: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check.integer("arms", self.arms, 2)
        check.integer("features", self.features, 1)
        check.one_of("loss", self.loss, ("square", "kl"))
        check.number("gamma", self.gamma, 0.0)
        check.integer("width", self.width, 1)
        check.number("rate", self.rate, 0.0, open_low=True)
        check.number("perturb", self.perturb, 0.0)
        check.integer("ensemble", self.ensemble, 1)
        Key.of(self.seed)

    @property
    def size(self) -> int:
        """How many weights there are."""
        return self.width * (self.features + 1) + self.arms * (self.width + 1)

    def _start(self) -> Array:
        rng = Key.of(self.seed).fold("weights").generator()
        first = rng.standard_normal((self.width, self.features + 1)) * math.sqrt(2.0 / self.features)
        last = rng.standard_normal((self.arms, self.width + 1)) / math.sqrt(self.width)
        first[:, -1] = last[:, -1] = 0.0
        return np.concatenate([first.reshape(-1), last.reshape(-1)])

    def _signs(self) -> Array:
        """Return (ensemble, size) numbers of size perturb / width^(1/4)."""
        rng = Key.of(self.seed).fold("signs").generator()
        signs = 2.0 * rng.integers(0, 2, (self.ensemble, self.size)) - 1.0
        return np.asarray(signs * (self.perturb / self.width**0.25), dtype=float)

    def init(self) -> State:
        weights = self._start()
        return {"jobs": 0, "weights": _pack(weights), "shifts": [0.0] * self.ensemble}

    def _context(self, context: Context) -> Array:
        x = np.asarray(context, dtype=float).reshape(-1)
        if x.shape != (self.features,) or not np.isfinite(x).all():
            raise ArgumentError(f"context must be {self.features} finite numbers; got {context!r}.")
        return np.append(x, 1.0)

    def _forward(self, weights: Array, x: Array) -> tuple[Array, Array, Array]:
        """Return hidden units (with a 1), outputs, and the weights of the last layer."""
        cut = self.width * (self.features + 1)
        hidden = np.maximum(weights[:cut].reshape(self.width, -1) @ x, 0.0)
        last = weights[cut:].reshape(self.arms, -1)
        h = np.append(hidden, 1.0)
        return h, last @ h, last

    def predicted(self, state: State, context: Context) -> Array:
        """Return the predicted loss of each arm, in [0, 1] for ``"kl"``."""
        _, out, _ = self._forward(_unpack(state["weights"]), self._context(context))
        raw = out[:, None] + np.array(state["shifts"])
        return np.asarray((_sigmoid(raw) if self.loss == "kl" else raw).mean(axis=1), dtype=float)

    def probabilities(self, state: State, context: Context = None) -> Array:
        y, gamma = self.predicted(state, context), self.gamma * math.sqrt(state["jobs"] + 1)
        return inverse_gap_relative(y, gamma) if self.loss == "kl" else inverse_gap(y, gamma)

    def observe(self, state: State, context: Context, arm: int, cost: float) -> State:
        y = check.number("cost", cost, 0.0, 1.0)
        weights, x = _unpack(state["weights"]), self._context(context)
        h, out, last = self._forward(weights, x)
        raw = out[arm] + np.array(state["shifts"])
        error = (_sigmoid(raw) if self.loss == "kl" else raw) - y  # (S,) slope of each member's loss
        signs = _memo_signs(self)
        grad = signs.T @ error / self.ensemble
        cut = self.width * (self.features + 1)
        slope, back = float(error.mean()), last[arm, :-1] * (h[:-1] > 0)
        grad[:cut] += slope * np.outer(back, x).reshape(-1)
        grad[cut:].reshape(self.arms, -1)[arm] += slope * h
        size = float(h @ h + (back @ back) * (x @ x))  # squared length of the output's gradient
        weights = weights - self.rate / ((0.25 if self.loss == "kl" else 1.0) * size) * grad
        shifts = signs @ (weights - _memo_start(self))
        return {"jobs": state["jobs"] + 1, "weights": _pack(weights), "shifts": shifts.tolist()}


@functools.lru_cache(maxsize=16)
def _memo_signs(tuner: NeuralIGW) -> Array:
    return tuner._signs()


@functools.lru_cache(maxsize=16)
def _memo_start(tuner: NeuralIGW) -> Array:
    return tuner._start()


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), dtype=float)
