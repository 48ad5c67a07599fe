"""Forecasting Model Search: the weights of the checkpoints that were logged say what to train next."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentTypeError
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.numeric.acquisition import log_ei, log_ei_gradient
from foretune.numeric.deep_kernel import DeepKernel, fit_deep
from foretune.numeric.kernel import Columns
from foretune.numeric.neuron_graph import LENGTH, describe
from foretune.numeric.surrogate import Surrogate, checkpoint, representative, surrogate
from foretune.numeric.warp import Warp, warp
from foretune.search import improvement
from foretune.search.encoding import encoding
from foretune.search.improvement import Model, unskewed
from foretune.search.observations import observe
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["FMS", "Promise"]

__entry__ = "FMS"

Array = NDArray[np.float64]
# trial -> {step: arrays of the layers in order}; None: it has no checkpoint
Weights = Callable[[Trial], Mapping[float, Sequence[Any]] | None]

KAPPA = 2.0  # standard deviations below the mean that the lower confidence bound looks at: assumed
CURVE = 3  # numbers that describe a curve so far
FEWEST = 3  # finished trials that a forecast needs
FIT_ROWS = 100  # rows that the kernel is learned from, at most


@final
@dataclass(frozen=True)
class Forecasting(Model):
    """The process over configs, given finished trials and forecasts of the others."""

    fitted: Surrogate
    bound: bool

    def mean(self, rows: Array) -> Array:
        return self.fitted.predict(rows)[0]

    def value(self, rows: Array, best: float) -> Array:
        mean, variance = self.fitted.predict(rows)
        return best - mean + KAPPA * np.sqrt(variance) if self.bound else log_ei(mean, variance, best)

    def gradient(self, rows: Array, best: float) -> tuple[Array, Array]:
        mean, variance, d_mean, d_variance = self.fitted.posterior.gradients(rows)
        if not self.bound:
            return log_ei_gradient(mean, variance, d_mean, d_variance, best)
        sd = np.sqrt(variance)
        return best - mean + KAPPA * sd, -d_mean + KAPPA * d_variance / (2.0 * sd[:, None])

    def gain(self, row: Array, best: float) -> float:
        return _gain(*self.fitted.predict(row), best, self.fitted.warp)

    def believe(self, rows: Array) -> Forecasting:
        return replace(self, fitted=self.fitted.believe(rows))


def _gain(mean: Array, variance: Array, best: float, warp: Warp) -> float:
    quantiles = require("scipy.special", "Forecasting Model Search").ndtri((np.arange(64) + 0.5) / 64)
    draws = warp.inverse(mean[0] + np.sqrt(variance[0]) * quantiles)
    return float(np.maximum(float(warp.inverse(np.array([best]))[0]) - draws, 0.0).mean())


@functools.lru_cache(maxsize=32)
def _learned(columns: Columns, x_bytes: bytes, c_bytes: bytes, t_bytes: bytes, key: Key) -> DeepKernel:
    t = np.frombuffer(t_bytes)
    x = np.frombuffer(x_bytes).reshape(len(t), columns.width)
    c = np.frombuffer(c_bytes).reshape(len(t), -1)
    keep = representative(t, FIT_ROWS)
    return fit_deep(columns, x[keep], c[keep], t[keep], key.generator())


@dataclass(frozen=True)
class Promise:
    """What an unfinished trial promises at its full length.

    Attributes:
        number: the trial. loss: predicted (median). low, high: a 90 % interval. gain: expected improvement.
    """

    number: int
    loss: float
    low: float
    high: float
    gain: float


@final
@dataclass(frozen=True)
class FMS(Sampler[None]):
    """Models final losses over configs and over features of logged checkpoints together; proposes what improves most.

    A final loss is explained by its config and by what was there before it: the weights of an earlier checkpoint,
    described without regard to the order of neurons (``numeric/neuron_graph.py``), and the curve until then,
    through a learned kernel (``numeric/deep_kernel.py``). Unfinished trials are forecast by it
    (:meth:`promises`, which also says what to take further), and a Gaussian process over configs learns from
    finished trials and forecasts alike where improvement is to be expected.

    Args:
        weights: a function from a trial to its checkpoints, ``{step: [weight, bias, weight, ...]}`` (arrays, or CPU
            tensors in the order of the layers); it must give the same for the same trial. None: curves alone.
        probes: random inputs that are passed through a network to describe it.
        acquisition: "ei" (expected improvement) or "ucb" (confidence bound).
        initial: trials before the model speaks; None: min(6, width + 1), at least 4.
        most: losses that the model holds at most.

    Source: Improving Hyperparameter Optimization with Checkpointed Model Weights

    Differs:
        1. The graph network is not trained: its messages are the network's own activations on random inputs.
        2. A sampler proposes new configs; the paper's also decides which run to continue (:meth:`promises`).
           New configs have no checkpoint: they are judged by a process over configs that learns from forecasts,
           where the paper's one kernel sees zeros.
        3. There is no model hub: features come from the study's own trials.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "learns"}
    )

    weights: Weights | None = None
    probes: int = 64
    acquisition: str = "ei"
    initial: int | None = None
    most: int = 200

    def __post_init__(self) -> None:
        if self.weights is not None and not callable(self.weights):
            raise ArgumentTypeError(
                f"weights must be a function from a trial to {{step: arrays}}, or None; got {self.weights!r}."
            )
        check.integer("probes", self.probes, 2)
        check.one_of("acquisition", self.acquisition, ("ei", "ucb"))
        if self.initial is not None:
            check.integer("initial", self.initial, 1)
        check.integer("most", self.most, 20)

    def _features(self, problem: Problem, history: History, number: int, before: float) -> Array:
        """Describe what a trial had before a step: NaN where there was nothing."""
        at, losses = history.curve(number)
        past = [(s, x) for s, x in zip(at, losses, strict=True) if s < before and np.isfinite(x)]
        curve = np.full(CURVE, np.nan)
        if past:
            share = np.log(past[-1][0] / problem.steps.high)
            curve = np.array([share, past[-1][1], past[-1][1] - past[0][1]])
        if self.weights is None:
            return curve
        told = self.weights(history[number]) or {}
        known = [s for s in told if s < before]
        if not known:
            return np.full(CURVE + LENGTH, np.nan)
        return np.concatenate([np.nan_to_num(curve), describe(told[max(known)], probes=self.probes)])

    def _model(self, problem: Problem, history: History, columns: Columns, x: Array, y: Array,
               number: NDArray[np.intp], key: Key) -> tuple[DeepKernel, Warp]:  # fmt: skip
        graded = columns.width > problem.space.width
        place = x[:, -1] if graded else np.ones(len(x))
        span = np.log(problem.steps.high / problem.steps.low) or 1.0
        steps = problem.steps.high * np.exp(-(1.0 - place) * span) * (1.0 - 1e-9)
        c = np.array(
            [self._features(problem, history, int(i), s) for i, s in zip(number, steps, strict=True)]
        )
        at = checkpoint(len(y))
        name = unskewed(y[:at])
        warped, first = warp(name, y), warp(name, y[:at])(y[:at])
        t = warped(y)
        rows = (np.ascontiguousarray(a[:at]).tobytes() for a in (x, c))
        kernel = _learned(columns, *rows, first.tobytes(), key.fold("deep"))
        return kernel.given(x, c, t), warped

    def _forecasts(
        self,
        problem: Problem,
        history: History,
        columns: Columns,
        x: Array,
        y: Array,
        number: NDArray[np.intp],
        key: Key,
    ) -> tuple[list[int], Array, Array, Warp | None]:
        """Forecast unfinished trials that have features: their numbers, means, variances (warped), the warp."""
        graded = columns.width > problem.space.width
        open_ = [t.number for t in history if t.failure is None and 0.0 < t.step < problem.steps.high]
        known = {i: self._features(problem, history, i, np.inf) for i in open_}
        chosen = [i for i in open_ if np.isfinite(known[i]).all()]
        place = x[:, -1] if graded else np.ones(len(x))
        finished = set(number[place >= 1.0].tolist())
        if not chosen or len(finished) < FEWEST:
            return [], np.zeros(0), np.zeros(0), None
        kernel, warped = self._model(problem, history, columns, x, y, number, key)
        rows = history.units[np.array(chosen)]
        if graded:
            rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
        mean, variance = kernel.predict(rows, np.array([known[i] for i in chosen]))
        return chosen, mean, variance, warped

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        def build(columns: Columns, x: Array, y: Array, number: NDArray[np.intp], root: Key) -> Model:
            chosen, mean, _, warped = self._forecasts(problem, history, columns, x, y, number, root)
            if warped is not None:
                rows = history.units[np.array(chosen)]
                if columns.width > problem.space.width:
                    rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
                # a forecast may not promise more than was ever seen
                told = np.clip(warped.inverse(mean), y.min(), y.max())
                x, y = np.concatenate([x, rows]), np.concatenate([y, told])
            return Forecasting(surrogate(columns, x, y), self.acquisition == "ucb")

        return improvement.ask(
            problem, history, n, key, word="fms", initial=self.initial, most=self.most, build=build
        )

    def promises(self, problem: Problem, history: History) -> list[Promise]:
        """Predict the full length's loss of each unfinished trial that has features, most promising first.

        Unfinished: it has reported, and not at its full length. Needs three finished trials; else nothing is
        promised. The gain is that over the best finished loss.
        """
        data = observe(problem, history)
        if not len(data.loss) or np.ptp(data.loss) == 0.0:
            return []
        enc = encoding(problem.space)
        columns = Columns(enc.levels + ((0,) if data.graded else ()), enc.optional)
        keep = representative(data.loss, self.most)
        x = history.units[data.number[keep]]
        if data.graded:
            x = np.concatenate([x, data.place[keep][:, None]], axis=1)
        y, number = data.loss[keep], data.number[keep]
        chosen, means, variances, warped = self._forecasts(
            problem, history, columns, x, y, number, problem.key.fold("fms")
        )
        if warped is None:
            return []
        finished = y[data.place[keep] >= 1.0]
        best = float(warped(finished).min())
        found = []
        for i, mean, variance in zip(chosen, means, variances, strict=True):
            ends = warped.inverse(mean + np.sqrt(variance) * np.array([0.0, -1.645, 1.645]))
            gain = _gain(np.array([mean]), np.array([variance]), best, warped)
            found.append(Promise(i, float(ends[0]), float(ends[1]), float(ends[2]), gain))
        return sorted(found, key=lambda p: (-p.gain, p.loss, p.number))
