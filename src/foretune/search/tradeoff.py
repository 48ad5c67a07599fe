"""Gaussian process search for a good trial that is also cheap: loss + weight * log(cost)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric import pareto
from foretune.numeric.acquisition import lcb, lcb_gradient, log_ei, log_ei_gradient
from foretune.numeric.surrogate import Surrogate, representative, surrogate
from foretune.search.gp import BETA, CENTRES, GP, shown
from foretune.search.modelled import Frame, Term, bounds_of, encoded, first_design, one_thread, propose
from foretune.search.observations import Observations, observe
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import COMPLETE, Trial

__all__ = ["Tradeoff"]

__entry__ = "Tradeoff"

Array = NDArray[np.float64]

ACQUISITIONS = ("ei", "ucb", "ei_per_second")
FAR = 5.0  # losses are cut so many times farther from the best than the median is


@final
@dataclass(frozen=True)
class Tradeoff(Sampler[None]):
    """Proposes where loss + weight * log(cost) is expected to fall most; loss and log cost have a model each.

    J(x) = loss(x) + weight * log cost(x). With weight w a trial that costs e times less may be worse by w,
    in the unit of the goal. ``recommend`` picks the trial, ``front`` lists what may be picked from.

    Args:
        weight: 0 is plain ``gp``, trial by trial.
        cost: "seconds" (training seconds of a trial) or a metric that trials report, such as "flops";
            greater than 0. While it is not known for three trials, this is ``gp`` too.
        acquisition: "ei", expected improvement of J; "ucb", two standard deviations below the mean of J;
            "ei_per_second", expected improvement of the loss divided by the predicted cost: the weight then
            matters for ``recommend`` alone.
        initial, most: as in ``gp``.

    Source: Bayesian Optimization for Selecting Efficient Machine Learning Models

    Differs:
        1. The kernel of both models, its trend and the treatment of choices, failures and partial runs
           are those of ``gp``; outputs are not warped, for a sum of warped outputs has no closed form.
           Losses far worse than the median are cut.
        2. The time is in its logarithm's unit, so that its unit does not matter.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "constrained", "cost-aware", "learns"}
    )

    weight: float = 0.1
    cost: str = "seconds"
    acquisition: str = "ei"
    initial: int | None = None
    most: int = 500

    def __post_init__(self) -> None:
        check.number("weight", self.weight, 0.0)
        check.name("cost", self.cost)
        check.one_of("acquisition", self.acquisition, ACQUISITIONS)
        if self.initial is not None:
            check.integer("initial", self.initial, 1)
        check.integer("most", self.most, 20)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        plain = GP(self.initial, self.most)
        if self.weight == 0.0 and self.acquisition == "ei":
            return plain.ask(problem, None, history, n, key)
        need = self.initial or max(4, min(10, problem.space.width + 1))
        data = observe(problem, history)
        cost = log_cost(history, self.cost)
        known = np.isfinite(cost[data.number]) if len(data.number) else np.zeros(0, dtype=bool)
        constant = len(data.loss) > 0 and np.ptp(data.loss) == 0.0
        if len(history) < need or known.sum() < 3 or problem.space.width == 0 or constant:
            return plain.ask(problem, None, history, n, key)
        with one_thread():
            return self._model(problem, history, data, cost, n, key)

    def _model(
        self, problem: Problem, history: History, data: Observations, cost: Array, n: int, key: Key
    ) -> list[Proposal]:
        space, enc = problem.space, encoded(problem.space)
        frame = Frame(enc, data.graded)
        quality = _model_of(frame, history, data, _cut(data.loss), self.most)
        # a trial gives its cost once, for its last report
        last = {int(i): k for k, i in enumerate(data.number)}
        once = np.array([k for i, k in last.items() if np.isfinite(cost[i])], dtype=int)
        final = Observations(data.number[once], data.place[once], data.loss[once], data.graded)
        price = _model_of(frame, history, final, cost[final.number], self.most)
        tried = np.unique(data.number)
        kept = history.feasible[tried] if problem.constraints else np.ones(len(tried), dtype=bool)
        rows = history.units[tried[kept]]
        pending = history.units[np.array(history.pending, dtype=int)]
        known = history.units
        found: list[Proposal] = []
        for i in range(n):
            awaited = frame.lift(pending)
            both = _Sum(quality.believe(awaited), price.believe(awaited), frame, self.weight)
            bounds = bounds_of(problem, history, self.most, pending) if problem.constraints else None
            terms: list[Term] = []
            centres = rows
            if len(rows):
                by = both.loss(rows)[0] if self.acquisition == "ei_per_second" else both.total(rows)[0]
                order = np.argsort(by, kind="stable")
                centres = rows[order[:CENTRES]]
                terms.append(both.term(float(by[order[0]]), self.acquisition))
            if bounds is not None:
                terms.append((bounds.log_probability, bounds.gradient))
            chosen = propose(enc, terms, centres, known, key.fold("gp", i).generator()) if terms else None
            if chosen is None:
                return found + first_design(problem, history, n - i, found)
            found.append(Proposal(space.decode(chosen[None])[0], self._explain(problem, both, chosen)))
            pending = np.concatenate([pending, chosen[None]])
            known = np.concatenate([known, chosen[None]])
        return found

    def _explain(self, problem: Problem, both: _Sum, row: Array) -> str:
        (loss, variance), (log, _) = both.loss(row[None]), both.log(row[None])
        goal, price = problem.goal, math.exp(min(float(log[0]), 700.0))
        doubt = math.sqrt(float(variance[0]))
        predicted = f"{goal.said(float(loss[0]))} +- {doubt:.2g} at {self.cost} {price:.3g} predicted"
        return f"{self.acquisition}: {predicted}; {shown(problem.space, row)}"

    def recommend(
        self, history: History, within: float | None = None, tolerance: float | None = None
    ) -> Trial | None:
        """Return the complete, feasible trial of least loss + weight * log(cost); None if there is none.

        Args:
            within: a limit of the cost: only trials within it count, and the loss alone decides.
            tolerance: how much worse than the least loss (within the limit) a trial may be, in the unit
                of the goal; the cheapest of these is returned.
        """
        numbers, losses, cost = self._results(history)
        if within is not None:
            cheap = np.exp(cost) <= check.number("within", within, 0.0, open_low=True) * (1.0 + 1e-12)
            numbers, losses, cost = numbers[cheap], losses[cheap], cost[cheap]
        if not len(numbers):
            return None
        if tolerance is not None:
            near = losses <= losses.min() + check.number("tolerance", tolerance, 0.0)
            value = np.where(near, cost, np.inf)
        else:
            value = losses + (self.weight * cost if within is None else 0.0)
        found: Trial = history[int(numbers[int(np.argmin(value))])]
        return found

    def front(self, history: History) -> tuple[Trial, ...]:
        """Return the complete, feasible trials that none beats in both loss and cost, the cheapest first."""
        numbers, losses, cost = self._results(history)
        if not len(numbers):
            return ()
        chosen = np.flatnonzero(pareto.front(np.stack([losses, cost], axis=1)))
        return tuple(history[int(numbers[i])] for i in chosen[np.argsort(cost[chosen], kind="stable")])

    def _results(self, history: History) -> tuple[NDArray[np.intp], Array, Array]:
        losses, cost = history.losses[:, 0], log_cost(history, self.cost)
        good = np.isfinite(losses) & np.isfinite(cost) & history.feasible
        numbers = np.array([i for i in history.numbers(COMPLETE) if good[i]], dtype=int)
        return numbers, losses[numbers], cost[numbers]


def log_cost(history: History, metric: str) -> Array:
    """Return log costs of all trials, (n,); NaN where unknown or not greater than 0."""
    cost = history.metric(metric)
    return np.log(np.where(np.isfinite(cost) & (cost > 0.0), cost, np.nan))


def _cut(loss: Array) -> Array:
    best, middle = float(loss.min()), float(np.median(loss))
    return np.minimum(loss, middle + FAR * (middle - best)) if middle > best else loss


def _model_of(frame: Frame, history: History, data: Observations, y: Array, most: int) -> Surrogate:
    keep = representative(y, most)
    rows = frame.lift(history.units[data.number[keep]], data.place[keep])
    return surrogate(frame.columns, rows, y[keep], ("none",))


@final
@dataclass(frozen=True)
class _Sum:
    """The models of loss and log cost at full length, and of their weighted sum."""

    quality: Surrogate
    price: Surrogate
    frame: Frame
    weight: float

    @staticmethod
    def _raw(model: Surrogate, mean: Array, variance: Array) -> tuple[Array, Array]:
        return model.warp.inverse(mean), variance * (model.warp.sd * model.warp.scale) ** 2

    def loss(self, rows: Array) -> tuple[Array, Array]:
        """Mean and variance of the loss."""
        return self._raw(self.quality, *self.quality.predict(self.frame.lift(rows)))

    def log(self, rows: Array) -> tuple[Array, Array]:
        """Mean and variance of the log cost."""
        return self._raw(self.price, *self.price.predict(self.frame.lift(rows)))

    def total(self, rows: Array) -> tuple[Array, Array]:
        """Mean and variance of loss + weight * log cost; the two are taken to be independent."""
        (a, va), (b, vb) = self.loss(rows), self.log(rows)
        return a + self.weight * b, va + self.weight**2 * vb

    def _gradients(self, model: Surrogate, rows: Array) -> tuple[Array, Array, Array, Array]:
        mean, variance, d_mean, d_variance = model.posterior.gradients(self.frame.lift(rows))
        unit, d = model.warp.sd * model.warp.scale, rows.shape[1]
        raw, spread = self._raw(model, mean, variance)
        return raw, spread, unit * d_mean[:, :d], unit**2 * d_variance[:, :d]

    def term(self, best: float, acquisition: str) -> Term:
        """Return the acquisition to maximise, given the least loss (per second) or sum so far."""
        each = acquisition == "ei_per_second"

        def value(rows: Array) -> Array:
            if each:
                return log_ei(*self.loss(rows), best) - self.log(rows)[0]
            total = self.total(rows)
            return lcb(*total, BETA) if acquisition == "ucb" else log_ei(*total, best)

        def gradient(rows: Array) -> tuple[Array, Array]:
            one, two = self._gradients(self.quality, rows), self._gradients(self.price, rows)
            if each:
                v, g = log_ei_gradient(*one, best)
                return v - two[0], g - two[2]
            w = (self.weight, self.weight**2, self.weight, self.weight**2)
            a, b, c, e = (p + f * q for p, q, f in zip(one, two, w, strict=True))
            if acquisition == "ucb":
                return lcb_gradient(a, b, c, e, BETA)
            return log_ei_gradient(a, b, c, e, best)

        return value, gradient
