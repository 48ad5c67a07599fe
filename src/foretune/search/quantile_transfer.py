"""Transfer by quantiles: a config's rank in earlier tasks is the prior of its rank in this one."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.gp import Evidence, Posterior, condition, fit
from foretune.numeric.kernel import Columns
from foretune.numeric.ridge import Ridge, ridge
from foretune.numeric.surrogate import representative, starts
from foretune.search import improvement
from foretune.search.earlier import Earlier, carried, sources_of
from foretune.search.encoding import encoding
from foretune.search.sampler import Proposal
from foretune.search.transferring import known_of, normal_scores, thompson
from foretune.search.wrapping import Wrapper
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["QuantileTransfer"]

__entry__ = "QuantileTransfer"

Array = NDArray[np.float64]

OWN = 5  # settled trials of its own from which on the residual model speaks
MOST = 200  # own results that the residual model holds at most
STEPS = 20  # L-BFGS iterations of its fit


@functools.lru_cache(maxsize=8)
def _prior(sources: tuple[Earlier, ...], problem: Problem) -> tuple[Columns, Ridge | None, tuple[Any, ...]]:
    """Fit the mapping from configs to normal scores through all sources at once."""
    enc = encoding(problem.space)
    columns = Columns(enc.levels, enc.optional)
    known = known_of(sources, problem)
    if not known or problem.space.width == 0:
        return columns, None, tuple(known)
    x, z = np.concatenate([x for _, x, _ in known]), np.concatenate([z for _, _, z in known])
    return columns, ridge(columns.embed(x)[0], z, Key.of(0).fold("quantile").generator()), tuple(known)


@dataclass(frozen=True)
class _Residual(improvement.Scored):
    """score(x) = mu(x) + sigma(x) r(x): the sources' mapping, corrected by a process through the residuals."""

    columns: Columns  # of the space, without the step
    prior: Ridge
    posterior: Posterior
    x: Array
    r: Array
    scale: float

    def _mu(self, rows: Array) -> tuple[Array, Array]:
        return self.prior.predict(self.columns.embed(rows[:, : self.columns.width])[0])

    def both(self, rows: Array) -> tuple[Array, Array]:
        mu, sigma = self._mu(rows)
        mean, variance = self.posterior.predict(rows)
        factor = sigma * self.scale
        return mu + factor * mean, factor**2 * variance

    def believe(self, rows: Array) -> _Residual:
        p = self.posterior
        x = np.concatenate([self.x, rows])
        r = np.concatenate([self.r, p.predict(rows)[0]])
        return replace(self, posterior=condition(p.columns, p.kind, p.theta, x, r), x=x, r=r)


@final
@dataclass(frozen=True)
class QuantileTransfer(Wrapper):
    """Learns from earlier tasks which quantile a config reaches, and corrects that by the results of this one.

        z = Phi^-1(rank / n) in each task;   z(x) = mu(x) + sigma(x) r(x)

    mu and sigma are fitted through all sources. The first trials are Thompson draws from N(mu, sigma^2);
    from five results on, a Gaussian process through the residuals r of the own scores makes the prior right
    for this task, and expected improvement decides. Ranks make losses of different levels, scales and
    metrics comparable, so that sources need not share the goal.

    Args:
        sources: earlier tasks (``foretune.earlier("study.db:NAME")``), in this or another space
            (see :func:`foretune.search.earlier.carried`).
        own: results of this task before its residuals are modelled.
        inner: proposes where no source says anything.

    Source: A Quantile-based Approach for Hyperparameter Transfer Learning

    Differs:
        1. mu and sigma are ridge regressions on random Fourier features instead of a neural network with
           Gaussian output: fitted in closed form, in a second for thousands of results.
        2. The first trials are Thompson draws (the paper's first method), later ones come from the
           process on residuals (its second method): one sampler for both. The first trial is the
           least mean, and draws are among the best twentieth by the mean.
        3. The paper's own scores come from the ranks among the own results, which are no random sample
           once the search has begun: here their mean and spread are those that the prior expects of them.
    """

    sources: tuple[Earlier, ...] = ()
    own: int = OWN

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sources", sources_of(self.sources))
        check.integer("own", self.own, 3)
        if self.sources:
            kept = self.tags - {"independent", "exhaustible", "multi-objective", "constrained"}
            object.__setattr__(self, "tags", kept | {"learns"})

    def init(self, problem: Problem) -> Any:
        for source in self.sources:
            carried(source, problem.space)  # refuses what has nothing in common with the space
        return super().init(problem)

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        plain = Problem(problem.space)
        columns, prior, known = _prior(self.sources, plain) if self.sources else (None, None, ())
        if prior is None or columns is None:
            return self.wrapped.ask(problem, state, history, n, key)
        losses = history.losses[:, 0]
        results = int(np.isfinite(losses).sum())
        if results < self.own or float(np.ptp(losses[np.isfinite(losses)])) == 0.0:

            def predict(rows: Array) -> tuple[Array, Array]:
                return prior.predict(columns.embed(rows)[0])

            return thompson(problem, history, n, key.fold("quantile"), predict, known, "quantiles")

        def build(wide: Columns, rows: Array, y: Array, number: NDArray[np.intp], key: Key) -> _Residual:
            mu, sigma = prior.predict(columns.embed(rows[:, : columns.width])[0])
            z = normal_scores(y)
            # the own configs are no random sample: their scores get the level and spread expected of them
            z = mu.mean() + z * np.sqrt(mu.var() + (sigma**2).mean()) / max(float(z.std()), 1e-12)
            r = (z - mu) / sigma
            scale = max(float(np.sqrt((r**2).mean())), 1e-6)
            keep = representative(y, MOST)
            x, t = rows[keep], r[keep] / scale
            theta = fit(Evidence(wide, x, t, "matern52"), starts(wide.width), STEPS)[1]
            posterior = condition(wide, "matern52", theta, x, t)
            return _Residual(columns, prior, posterior, x, t, scale)

        found = improvement.ask(problem, history, n, key, word="quantile", initial=1, most=MOST, build=build)
        return [
            Proposal(p.config, f"quantiles of {len(known)} tasks (in normal scores): {p.reason}")
            for p in found
        ]
