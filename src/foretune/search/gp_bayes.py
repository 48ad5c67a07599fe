"""Gaussian process search that averages over hyperparameters instead of trusting one estimate of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.numeric.acquisition import log_ei, log_ei_gradient
from foretune.numeric.bayesian_gp import LogPosterior, mode, posterior_draws
from foretune.numeric.gp import Posterior, condition, prior
from foretune.numeric.kernel import KERNELS, Columns
from foretune.numeric.surrogate import checkpoint, representative, starts
from foretune.numeric.warp import WARPS, Warp, warp
from foretune.search import improvement
from foretune.search.improvement import Model
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["GPBayes"]

__entry__ = "GPBayes"

Array = NDArray[np.float64]

FIT_ROWS = 80  # rows that the draws look at, at most: a draw's cost grows as their cube
WAYS = ("hmc", "vi_mf", "vi_full")


@final
@dataclass(frozen=True)
class Mixture(Model):
    """Processes that differ in their hyperparameters; improvement is the mean of theirs."""

    posteriors: tuple[Posterior, ...]
    warp: Warp
    x: Array
    t: Array

    def mean(self, rows: Array) -> Array:
        return np.asarray(np.mean([p.predict(rows)[0] for p in self.posteriors], axis=0))

    def value(self, rows: Array, best: float) -> Array:
        each = np.array([log_ei(*p.predict(rows), best) for p in self.posteriors])
        top = each.max(axis=0)
        return np.asarray(top + np.log(np.exp(each - top).mean(axis=0)))

    def gradient(self, rows: Array, best: float) -> tuple[Array, Array]:
        found = [log_ei_gradient(*p.gradients(rows), best) for p in self.posteriors]
        each, slopes = np.array([v for v, _ in found]), np.array([g for _, g in found])
        top = each.max(axis=0)
        share = np.exp(each - top)
        value = top + np.log(share.mean(axis=0))
        share /= share.sum(axis=0)
        return value, (share[:, :, None] * slopes).sum(axis=0)

    def gain(self, row: Array, best: float) -> float:
        quantiles = require("scipy.special", "The GP sampler").ndtri((np.arange(32) + 0.5) / 32)
        moments = [p.predict(row) for p in self.posteriors]
        draws = np.concatenate([m[0] + np.sqrt(v[0]) * quantiles for m, v in moments])
        now = float(self.warp.inverse(np.array([best]))[0])
        return float(np.maximum(now - self.warp.inverse(draws), 0.0).mean())

    def believe(self, rows: Array) -> Mixture:
        x = np.concatenate([self.x, rows])
        fitted = tuple(
            condition(p.columns, p.kind, p.theta, x, np.concatenate([self.t, p.predict(rows)[0]]))
            for p in self.posteriors
        )
        return replace(self, posteriors=fitted)


@functools.lru_cache(maxsize=64)
def _draws(
    columns: Columns,
    kernel: str,
    inference: str,
    draws: int,
    warmup: int,
    x_bytes: bytes,
    y_bytes: bytes,
    key: Key,
) -> tuple[str, tuple[tuple[float, ...], ...]]:
    """Choose the warp by evidence, and draw hyperparameters given the rows up to a checkpoint."""
    y = np.frombuffer(y_bytes)
    x = np.frombuffer(x_bytes).reshape(len(y), columns.width)
    keep = representative(y, FIT_ROWS)
    x, y = x[keep], y[keep]
    middle, sd = prior(columns.width)
    best: tuple[float, str, LogPosterior, Array] | None = None
    for name in WARPS:
        warped = warp(name, y)
        target = LogPosterior(columns, x, warped(y), kernel, middle, sd)
        value, theta = mode(target, np.array(starts(columns.width)), 40)
        if best is None or value + warped.log_jacobian > best[0]:
            best = (value + warped.log_jacobian, name, target, theta)
    assert best is not None  # there is at least one warp
    # four chains side by side; from all they visit, evenly spread ones are kept
    found = posterior_draws(
        best[2], best[3], inference, 4 * draws, key.fold(len(y)), warmup=warmup, leapfrog=8, vi_steps=200
    )
    return best[1], tuple(tuple(row) for row in found[:: len(found) // draws][:draws].tolist())


@final
@dataclass(frozen=True)
class GPBayes(Sampler[None]):
    """Proposes where a Gaussian process with averaged hyperparameters expects the largest improvement.

    Expected improvement is the mean over ``draws`` hyperparameters of their posterior, so that early on a
    length scale that happened to fit does not rule out a column. Data, kernel and priors are the ``gp``
    sampler's; the draws are renewed at row counts that grow by a fifth, and all data enter each prediction.

    Args:
        inference: ``hmc`` (Hamiltonian Monte Carlo), ``vi_mf`` or ``vi_full`` (variational normals).
        draws: hyperparameters that are averaged over.
        warmup: iterations of Hamiltonian Monte Carlo before them, of each of four chains.
        kernel: "matern52" or "rbf".
        initial: trials before the model speaks; None: min(6, width + 1), at least 4.
        most: losses that the model holds at most.

    Source: Approximate Inference for Fully Bayesian Gaussian Process Regression

    Differs:
        1. The paper is about regression; improvement averaged over the posterior is Snoek, Larochelle and
           Adams' (Practical Bayesian Optimization of Machine Learning Algorithms, 2012).
        2. Hyperparameters are drawn given at most 80 rows.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "learns"}
    )

    inference: str = "hmc"
    draws: int = 8
    warmup: int = 60
    kernel: str = "matern52"
    initial: int | None = None
    most: int = 300

    def __post_init__(self) -> None:
        check.one_of("inference", self.inference, WAYS)
        check.integer("draws", self.draws, 1)
        check.integer("warmup", self.warmup, 1)
        check.one_of("kernel", self.kernel, KERNELS)
        if self.initial is not None:
            check.integer("initial", self.initial, 1)
        check.integer("most", self.most, 20)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        def build(columns: Columns, x: Array, y: Array, number: NDArray[np.intp], root: Key) -> Model:
            at = checkpoint(len(y))
            name, thetas = _draws(
                columns, self.kernel, self.inference, self.draws, self.warmup,
                np.ascontiguousarray(x[:at]).tobytes(), y[:at].tobytes(), root,
            )  # fmt: skip
            warped = warp(name, y)
            t = warped(y)
            fitted = tuple(condition(columns, self.kernel, np.array(theta), x, t) for theta in thetas)
            return Mixture(fitted, warped, x, t)

        return improvement.ask(
            problem, history, n, key, word="gp_bayes", initial=self.initial, most=self.most, build=build
        )
