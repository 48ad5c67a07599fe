"""Transfer by rankings: models of earlier tasks, each with the weight that it earns by ranking this one's results."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.kernel import Columns
from foretune.numeric.surrogate import Surrogate, representative, surrogate
from foretune.search import improvement
from foretune.search.earlier import Earlier, carried, sources_of
from foretune.search.encoding import encoding
from foretune.search.sampler import Proposal
from foretune.search.transferring import known_of, normal_scores, thompson
from foretune.search.wrapping import Wrapper
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["RankingTransfer", "ranking_weights"]

__entry__ = "RankingTransfer"

Array = NDArray[np.float64]

ROWS = 100  # results of a source that its model holds at most
MOST = 200  # own results that the target's model holds at most
OWN = 3  # own results from which on rankings can be compared
DRAWS = 256  # draws from each model's posterior, for the weights


def ranking_weights(
    means: Array, deviations: Array, y: Array, rng: np.random.Generator, dilution: float = 0.95
) -> Array:
    """Return the share of draws in which each model misorders the fewest pairs of results.

    Args:
        means, deviations: (models, n) predictions at the n results; the last model is the target's, whose
            predictions are made without the result they are for.
        y: (n,) results.
        dilution: a source whose median loss exceeds this quantile of the target's is left out, so that many
            poor sources cannot drown a good target model.

    Returns:
        (models,) weights that sum to 1.
    """
    n = len(y)
    draws = means[:, None] + deviations[:, None] * rng.standard_normal((len(means), DRAWS, n))
    order = y[:, None] < y[None, :]
    # a pair is misordered if the draw orders it otherwise; the target's own predictions see neither side's result
    wrong = np.empty((len(means), DRAWS))
    for m in range(len(means)):
        other = draws[m][:, :, None] < draws[m][:, None, :]
        wrong[m] = (other ^ order).sum(axis=(1, 2))
    allowed = np.median(wrong, axis=1) <= np.quantile(wrong[-1], dilution)
    allowed[-1] = True
    wrong[~allowed] = np.inf
    best = wrong == wrong.min(axis=0)
    best[:-1, best[-1]] = False  # a tie goes to the target
    share = best / best.sum(axis=0)
    found: Array = share.mean(axis=1)
    return found


@functools.lru_cache(maxsize=8)
def _models(
    sources: tuple[Earlier, ...], problem: Problem
) -> tuple[Columns, tuple[Any, ...], tuple[Surrogate, ...]]:
    """Fit one Gaussian process to each source's normal scores."""
    enc = encoding(problem.space)
    columns = Columns(enc.levels, enc.optional)
    known = known_of(sources, problem) if problem.space.width else []
    models = []
    for _, x, z in known:
        keep = representative(z, ROWS)
        models.append(surrogate(columns, np.ascontiguousarray(x[keep]), z[keep], ("none",)))
    return columns, tuple(known), tuple(models)


def _predict(model: Surrogate, rows: Array) -> tuple[Array, Array]:
    """Return mean and variance in normal scores, the warp undone."""
    mean, variance = model.predict(rows)
    edges = model.warp.inverse(np.array([0.0, 1.0]))  # "none" is linear
    scale = float(edges[1] - edges[0])
    return edges[0] + scale * mean, scale**2 * variance


@dataclass(frozen=True)
class _Ensemble(improvement.Scored):
    """A weighted mean of posteriors: mean sum w_i m_i, variance sum w_i^2 v_i."""

    width: int
    models: tuple[Surrogate, ...]  # the sources', then the target's
    weights: Array

    def both(self, rows: Array) -> tuple[Array, Array]:
        mean, variance = np.zeros(len(rows)), np.full(len(rows), 1e-12)
        last = len(self.models) - 1
        for i, (model, w) in enumerate(zip(self.models, self.weights, strict=True)):
            if w > 0.0:
                m, v = _predict(model, rows if i == last else rows[:, : self.width])
                mean, variance = mean + w * m, variance + w * w * v
        return mean, variance

    def believe(self, rows: Array) -> _Ensemble:
        last = len(self.models) - 1
        return replace(
            self,
            models=tuple(
                m.believe(rows if i == last else rows[:, : self.width]) for i, m in enumerate(self.models)
            ),
        )


def _without_itself(model: Surrogate, y: Array) -> tuple[Array, Array]:
    """Return the model's predictions at its own points, each without that point: mean and deviation, (n,)."""
    p = model.posterior
    precision = (p.inverse**2).sum(axis=0)
    mean = model.t - p.alpha / precision
    edges = model.warp.inverse(np.array([0.0, 1.0]))
    scale = float(edges[1] - edges[0])
    return edges[0] + scale * mean, scale / np.sqrt(precision)


@final
@dataclass(frozen=True)
class RankingTransfer(Wrapper):
    """Weighs models of earlier tasks by how well they rank the results of this one, and its own model with them.

    Each source has a Gaussian process, as this task has. A model's weight is the share of posterior draws
    in which it misorders fewer pairs of results than all others; expected improvement of the weighted mean decides.
    With no result yet, all sources weigh the same. Sources that mislead lose their weight within a few trials.

    Args:
        sources: earlier tasks (``foretune.earlier("study.db:NAME")``), in this or another space
            (see :func:`foretune.search.earlier.carried`).
        inner: proposes where no source says anything.

    Source: Scalable Meta-Learning for Bayesian Optimization using Ranking-Weighted Gaussian Process Ensembles

    Differs:
        1. Losses of each task are replaced by normal scores of their ranks, which are robust to the scale and
           the tail of a task, where the paper standardises.
        2. A source's model holds at most 100 of its results: the best half, the rest spread over the ranks.
        3. Draws are taken independently from point to point, not from the joint posterior.
    """

    sources: tuple[Earlier, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sources", sources_of(self.sources))
        check.integer("number of sources", len(self.sources), 0, 200)
        if self.sources:
            kept = self.tags - {"independent", "exhaustible", "multi-objective", "constrained"}
            object.__setattr__(self, "tags", kept | {"learns"})

    def init(self, problem: Problem) -> Any:
        for source in self.sources:
            carried(source, problem.space)  # refuses what has nothing in common with the space
        return super().init(problem)

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        columns, known, models = (
            _models(self.sources, Problem(problem.space)) if self.sources else (None, (), ())
        )
        if not models or columns is None:
            return self.wrapped.ask(problem, state, history, n, key)
        losses = history.losses[:, 0]
        finite = losses[np.isfinite(losses)]
        if len(finite) < OWN or float(np.ptp(finite)) == 0.0:

            def predict(rows: Array) -> tuple[Array, Array]:
                found = [_predict(m, rows) for m in models]
                mean = np.mean([m for m, _ in found], axis=0)
                return mean, np.sqrt(np.mean([v + (m - mean) ** 2 for m, v in found], axis=0))

            return thompson(problem, history, n, key.fold("ranking"), predict, known, "rankings")
        said: list[str] = []

        def build(wide: Columns, rows: Array, y: Array, number: NDArray[np.intp], key: Key) -> _Ensemble:
            z = normal_scores(y)
            target = surrogate(wide, rows, z, ("none",))
            own = _without_itself(target, z)
            full = rows[:, -1] >= 1.0 if wide.width > columns.width else np.ones(len(z), dtype=bool)
            full = full if full.sum() >= OWN else np.ones(len(z), dtype=bool)
            # the pairs of the best hundred are enough to weigh by, and bound the cost
            at = np.flatnonzero(full)
            at = at[representative(z[at], ROWS)]
            pairs = [_predict(m, rows[at][:, : columns.width]) for m in models]
            means = np.stack([m for m, _ in pairs] + [own[0][at]])
            sds = np.stack([np.sqrt(v) for _, v in pairs] + [own[1][at]])
            weights = ranking_weights(means, sds, z[at], key.fold("weights", len(z)).generator())
            top = sorted(zip(weights, [k[0] for k in known] + ["this task"], strict=True), reverse=True)[:2]
            said.append(" and ".join(f"{w:.2f} {name}" for w, name in top))
            return _Ensemble(columns.width, (*models, target), weights)

        found = improvement.ask(problem, history, n, key, word="ranking", initial=1, most=MOST, build=build)
        weights = f" (in normal scores; weights {said[0]})" if said else ""
        return [Proposal(p.config, f"rankings{weights}: {p.reason}") for p in found]
