"""User priors: where the user expects good configs, tried first, and trusted as long as the results agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Union, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError, ConfigError, did_you_mean
from foretune.base.key import Key
from foretune.search.distinct import pick
from foretune.search.sampler import Proposal
from foretune.search.wrapping import Table, Wrapper, table
from foretune.space.domain import Choice, Float, Int
from foretune.space.space import Space
from foretune.trial.feasibility import feasible_first
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["CONFIDENCE", "UserPrior"]

__entry__ = "UserPrior"

Array = NDArray[np.float64]

# Words for a confidence: standard deviation in the unit interval of a number, weight of a choice's value
# against 1 of each other. The deviations are those of NePS; the weights are assumed.
CONFIDENCE: Mapping[str, tuple[float, float]] = {
    "low": (0.5, 2.0),
    "medium": (0.25, 4.0),
    "high": (0.125, 8.0),
}
UNKNOWN_BUDGET = 10.0  # trials after which half of the belief is left, where no budget is known
_NORMAL = NormalDist()


@dataclass(frozen=True)
class _Belief:
    """One parameter's prior: a normal truncated to the unit interval, or weights of a choice's values."""

    column: int
    mode: float
    sd: float = 0.0
    weights: tuple[float, ...] = ()

    def draw(self, u: float) -> float:
        """Return the value of the unit interval at the ``u`` quantile."""
        if self.weights:
            at = int(np.searchsorted(np.cumsum(self.weights), u * sum(self.weights), side="right"))
            return (min(at, len(self.weights) - 1) + 0.5) / len(self.weights)
        low, high = (_NORMAL.cdf((e - self.mode) / self.sd) for e in (0.0, 1.0))
        p = min(max(low + u * (high - low), 1e-12), 1.0 - 1e-12)
        return min(max(self.mode + self.sd * _NORMAL.inv_cdf(p), 0.0), 1.0)

    def density(self, u: Array) -> Array:
        """Return the density at coordinates (n,), 1 on average over the interval; 1 where inactive."""
        known = np.where(np.isnan(u), 0.5, u)
        if self.weights:
            k = len(self.weights)
            share = np.array(self.weights) / sum(self.weights) * k
            found = share[np.minimum((known * k).astype(int), k - 1)]
        else:
            low, high = (_NORMAL.cdf((e - self.mode) / self.sd) for e in (0.0, 1.0))
            z = (known - self.mode) / self.sd
            found = np.exp(-0.5 * z * z) / (self.sd * math.sqrt(2.0 * math.pi) * (high - low))
        return np.where(np.isnan(u), 1.0, found)


def beliefs(space: Space, prior: Mapping[str, Any], confidence: Union[str, float]) -> list[_Belief]:
    """Read a prior against a space.

    Raises:
        ArgumentError: a name or a value that the space lacks, or a parameter that is neither number nor choice.
    """
    found = []
    for name, said in prior.items():
        if name not in space:
            raise ArgumentError(f"prior names {name!r}, which the space lacks.{did_you_mean(name, space)}")
        domain, trust = space[name], confidence
        if not isinstance(domain, (Choice, Float, Int)):
            raise ArgumentError(f"prior: {name!r} is a {domain.type}; a prior is for numbers and choices.")
        if isinstance(said, tuple) and len(said) == 2 and not isinstance(domain, Choice):
            said, trust = said
        column = space.columns[name].start
        if isinstance(domain, Choice) and isinstance(said, Mapping):
            found.append(_Belief(column, 0.5, weights=_weights(name, domain, said)))
            continue
        try:
            value = domain.check(name, said)
        except ConfigError as error:
            raise ArgumentError(f"prior: {error}") from None
        sd, weight = _strength(trust)
        mode = float(domain.encode(value)[0])
        if isinstance(domain, Choice):
            weights = tuple(weight if i == domain.index(value) else 1.0 for i in range(len(domain.values)))
            found.append(_Belief(column, mode, weights=weights))
        else:
            found.append(_Belief(column, mode, sd))
    return found


def _strength(confidence: Union[str, float]) -> tuple[float, float]:
    if isinstance(confidence, str):
        return CONFIDENCE[check.one_of("confidence", confidence, tuple(CONFIDENCE))]
    sd = check.number("confidence", confidence, 0.0, open_low=True)
    return sd, 1.0 / sd


def _weights(name: str, domain: Choice, said: Mapping[str, Any]) -> tuple[float, ...]:
    values = [str(v) for v in domain.values]
    for word in said:
        if word not in values:
            raise ArgumentError(f"prior: {name!r} has no value {word!r}.{did_you_mean(word, values)}")
    weights = tuple(check.number(f"prior[{name!r}]", said.get(v, 0.0), 0.0) for v in values)
    if sum(weights) <= 0.0:
        raise ArgumentError(f"prior[{name!r}] gives no value a weight greater than 0; got {dict(said)!r}.")
    return weights


@final
@dataclass(frozen=True)
class UserPrior(Wrapper):
    """Draws from the user's prior with a probability that falls with the trials, else asks ``inner``.

        p = beta / (beta + n) * trust,    trust = min(1, mean vote of the best third / mean vote of all)

    n trials have settled; a trial's vote is pi / (pi + 1), pi its prior density relative to a uniform one. So
    a prior whose region turns out bad is left early, and any prior in the end. The first config is the
    prior's mode.

    Args:
        prior: parameter -> where its best value is expected: a value; for a number also (value,
            confidence); for a choice also weights, {"adam": 3, "sgd": 1}. Parameters that are not named
            have a uniform prior.
        confidence: "low", "medium" or "high", or the standard deviation in the unit interval.
        beta: trials after which half of the belief is left; a tenth of the budget (10 where there is
            none) unless given.
        inner: asked otherwise.

    Source: PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning
    Source: PiBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization

    Differs:
        1. piBO multiplies an acquisition function by pi^(beta / n); here draws from the prior are mixed
           in instead, as in PriorBand, so that any sampler can be inside. beta is piBO's in spirit.
        2. PriorBand weighs the prior against the neighbourhood of the incumbent by densities of the
           best configs; here the votes of the best are held against those of all, because configs drawn
           from a prior have a high density under it whether they are good or not.
    """

    prior: Mapping[str, Any] = field(default_factory=lambda: Table({}))
    confidence: Union[str, float] = "medium"
    beta: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "prior", table("prior", self.prior))
        _strength(self.confidence)
        if self.beta is not None:
            check.number("beta", self.beta, 0.0, open_low=True)

    def init(self, problem: Problem) -> Any:
        beliefs(problem.space, self.prior, self.confidence)
        return super().init(problem)

    def probability(self, problem: Problem, history: History) -> tuple[float, float]:
        """Return the probability of a draw from the prior, and the trust in it."""
        beta = self.beta
        if beta is None:
            beta = max(1.0, problem.budget_trials / 10.0) if problem.budget_trials else UNKNOWN_BUDGET
        losses = feasible_first(history).losses[:, 0]
        known = np.flatnonzero(np.isfinite(losses))
        trust = 1.0
        if len(known) >= 3:
            pi = np.ones(len(known))
            for belief in beliefs(problem.space, self.prior, self.confidence):
                pi *= belief.density(history.units[known, belief.column])
            vote = pi / (pi + 1.0)
            best = np.argsort(losses[known], kind="stable")[: max(1, len(known) // 3)]
            trust = min(1.0, float(vote[best].mean()) / max(float(vote.mean()), 1e-300))
        return beta / (beta + len(history.settled)) * trust, trust

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        if not self.prior:
            return self.wrapped.ask(problem, state, history, n, key)
        p, trust = self.probability(problem, history)
        rng = key.fold("prior").generator()
        wanted = int((rng.random(n) < p).sum())
        mode = not len(history)
        found: list[Proposal] = []
        said = beliefs(problem.space, self.prior, self.confidence)
        if wanted or mode:
            picked = pick(history, self._draws(problem.space, said, rng, mode), max(wanted, 1 if mode else 0))
            for i, (config, note) in enumerate(picked):
                why = "the mode of the prior" if mode and i == 0 else "a draw from the prior"
                found.append(Proposal(config, note or f"{why} (probability {p:.2f}, trust {trust:.2f})"))
        marks = [dict(f.config) for f in found]
        if len(found) < n:
            rest = self.wrapped.ask(problem, state, history, n if found else n - len(found), key)
            found += [q for q in rest if dict(q.config) not in marks]
        return found[:n]

    @staticmethod
    def _draws(
        space: Space, said: list[_Belief], rng: np.random.Generator, mode: bool
    ) -> Iterator[Mapping[str, Any]]:
        if mode:
            row = space.encode([space.default()])[0]
            row = np.where(np.isnan(row), 0.5, row)
            for belief in said:
                k = len(belief.weights)
                row[belief.column] = (int(np.argmax(belief.weights)) + 0.5) / k if k else belief.mode
            yield space.decode(row[None])[0]
        while True:
            row = rng.random(space.width)
            for belief in said:
                row[belief.column] = belief.draw(float(rng.random()))
            yield space.decode(row[None])[0]
