"""Gaussian process search: a model of the losses says where improvement is to be expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.numeric.acquisition import (
    lcb,
    lcb_gradient,
    log_ei,
    log_ei_gradient,
    log_kept,
    log_kept_gradient,
    log_noisy_ei,
)
from foretune.numeric.candidates import Field, candidates
from foretune.numeric.draws import Draws, draws
from foretune.numeric.surrogate import Surrogate, representative, surrogate
from foretune.numeric.trust_region import region
from foretune.search.modelled import (
    Bounds,
    Frame,
    Term,
    begun,
    bounds_of,
    design_size,
    encoded,
    first_design,
    first_new,
    in_order,
    one_thread,
    propose,
)
from foretune.search.observations import Observations
from foretune.search.sampler import Proposal, Sampler
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["GP", "improvement", "shown"]

__entry__ = "GP"

Array = NDArray[np.float64]

CENTRES = 4  # best rows whose neighbourhoods are searched
ACQUISITIONS = ("log_ei", "log_pi", "lcb", "thompson")
REGIONS = ("all", "turbo")
QUIET = 3e-3  # variance of the noise, in units of the losses', up to which the best predicted value counts as known
DRAWN = 16  # draws of the process where it does not
BETA = 2.0  # standard deviations below the mean, for the lower confidence bound


def improvement(model: Surrogate, frame: Frame, best: float, acquisition: str = "log_ei") -> Term:
    """Return log expected improvement (or another acquisition) at full length as a term to maximise."""

    def value(rows: Array) -> Array:
        mean, variance = model.predict(frame.lift(rows))
        if acquisition == "lcb":
            return lcb(mean, variance, BETA)
        return log_kept(mean, variance, best) if acquisition == "log_pi" else log_ei(mean, variance, best)

    def gradient(rows: Array) -> tuple[Array, Array]:
        found = model.posterior.gradients(frame.lift(rows))
        if acquisition == "lcb":
            v, g = lcb_gradient(*found, BETA)
        else:
            f = log_kept_gradient if acquisition == "log_pi" else log_ei_gradient
            v, g = f(*found, best)
        return v, g[:, : rows.shape[1]]

    return value, gradient


def noisy_improvement(drawn: Draws, frame: Frame, best: Array) -> Term:
    """Return the log of the improvement to be expected in each draw over its own best, averaged, as a term.

    Args:
        drawn: draws of the process.
        frame: how rows are made for it.
        best: (s,) least value of each draw at what was tried.
    """

    def value(rows: Array) -> Array:
        return log_noisy_ei(*drawn.predict(frame.lift(rows)), best)[0]

    def gradient(rows: Array) -> tuple[Array, Array]:
        v, g = drawn.gradients(frame.lift(rows), lambda means, variance: log_noisy_ei(means, variance, best))
        return v, g[:, : rows.shape[1]]

    return value, gradient


@final
@dataclass(frozen=True)
class GP(Sampler[None]):
    """Proposes where a Gaussian process expects the largest improvement.

    The first ``initial`` configs are the space's default and a Sobol sequence. Then the losses are
    modelled (see ``numeric/surrogate.py``): kernel and output warp are chosen by evidence, length
    scales, scales and noise are learned. The proposal maximises log expected improvement over the
    best predicted value. Columns of inactive parameters, choices, ints, failures and partial runs
    take part (``numeric/kernel.py``, ``search/observations.py``). Each constraint has a model of its own; trials
    that break one inform the model of the loss, too. Pending trials are taken to give
    what the model predicts, so that proposals keep away from them. While asking, linear algebra uses
    one thread.

    Args:
        initial: trials before the model speaks; None: min(6, width + 1), at least 4.
        most: losses that the model holds at most: the best half, the latest quarter, the rest spread
            over the ranks. It bounds the cost of an ask, which grows as its square.
        acquisition: "log_ei"; "log_pi", the log probability of improvement; "lcb", two standard deviations
            below the mean; "thompson", the minimum of a function drawn from the posterior.
        region: "all", or "turbo": the search stays in a box around the best trial, which grows with
            successes and shrinks with failures, and starts anew when it has shrunk away. For many
            dimensions and many trials.

    Source: Vanilla Bayesian Optimization Performs Great in High Dimensions
    Source: Unexpected Improvements to Expected Improvement for Bayesian Optimization
    Source: Constrained Bayesian Optimization with Noisy Experiments | improvement over draws' own best
    Source: Bayesian Optimization with Inequality Constraints | expected improvement times the probability of
        feasibility
    Source: Scalable Global Optimization via Local Bayesian Optimization | the option region
    Source: Optimizing Neural Network Hyperparameters with Gaussian Processes for Dialog Act Classification | what
        it saves against random search

    Differs:
        1. A trend of main effects (linear and quadratic, a constant for each category) is part of
           the covariance: with few trials in many dimensions, most of what can be known is there.
        2. Outputs are warped (none, square root, log), whichever has the largest evidence.
        3. The kernel (squared exponential or Matern 5/2) is chosen by evidence too.
        4. Improvement is counted from the best posterior mean at a tried config, not from the best
           observed value: a lucky noisy result does not stand in the way. Where the learned noise matters, draws
           of the process have each an incumbent of their own, and expected improvement is averaged over them.
        5. While no trial keeps all constraints, the expected improvement is that of the sum of what is
           broken, each constraint's excess squashed and scaled by its median.
        6. A restart of the trust region keeps what was learned before in the model.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "constrained", "learns"}
    )

    initial: int | None = None
    most: int = 500
    acquisition: str = "log_ei"
    region: str = "all"

    def __post_init__(self) -> None:
        if self.initial is not None:
            check.integer("initial", self.initial, 1)
        check.integer("most", self.most, 20)
        check.one_of("acquisition", self.acquisition, ACQUISITIONS)
        check.one_of("region", self.region, REGIONS)

    def _design(self, problem: Problem) -> int:
        return design_size(self.initial, problem.space.width)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        need = self._design(problem)
        if self.region == "turbo":
            need += region(_sequence(history), problem.space.width, need).since
        found, data = begun(problem, history, n, need)
        if data is None:
            return found
        with one_thread():
            return found + self._model(problem, history, data, n - len(found), key, found)

    def _model(
        self, problem: Problem, history: History, data: Observations, n: int, key: Key, before: list[Proposal]
    ) -> list[Proposal]:
        space, enc = problem.space, encoded(problem.space)
        frame = Frame(enc, data.graded)
        keep = representative(data.loss, self.most)
        number, place, loss = data.number[keep], data.place[keep], data.loss[keep]
        rows = history.units[number]
        pending = history.units[np.array(history.pending, dtype=int)]
        if before:
            pending = np.concatenate([pending, space.encode(p.config for p in before)])
        known = np.concatenate([history.units, pending[len(history.pending) :]])
        fitted = surrogate(frame.columns, frame.lift(rows, place), loss)
        kept = np.ones(len(rows), dtype=bool)
        if problem.constraints:
            kept = history.feasible[number]
        recent = kept
        side = None
        if self.region == "turbo":
            side, since = region(_sequence(history), space.width, self._design(problem))
            late = np.isin(number, in_order(history)[since:])
            recent = kept & late if (kept & late).any() else kept
        found: list[Proposal] = []
        for i in range(n):
            awaited = frame.lift(pending)
            model = fitted.believe(awaited)
            bounds = bounds_of(problem, history, self.most, pending) if problem.constraints else None
            mean, _ = model.predict(frame.lift(rows))
            ranked = np.where(recent, mean, np.inf) if recent.any() else mean
            order = np.argsort(ranked, kind="stable")
            rng = key.fold("gp", i).generator()
            best = float(mean[order[0]])
            if not kept.any():
                terms = []
            elif self.acquisition == "log_ei" and fitted.noise > QUIET:
                tried = rows[recent] if recent.any() else rows
                if not problem.constraints:  # else it is not known whether what is pending keeps them
                    tried = np.concatenate([tried, pending])
                drawn = draws(fitted, awaited, rng.standard_normal((DRAWN, len(rows) + len(awaited))))
                terms = [noisy_improvement(drawn, frame, drawn.predict(frame.lift(tried))[0].min(axis=0))]
            else:
                terms = [improvement(model, frame, best, self.acquisition)]
            if bounds is not None and (terms or bounds.total is None):
                terms.append((bounds.log_probability, bounds.gradient))
            elif bounds is not None and bounds.total is not None:
                terms.append(improvement(bounds.total[0], bounds.frame, bounds.total[1]))
            if not terms:  # all infeasible, and nothing can be learned from how
                return found + first_design(problem, history, n - i, before + found)
            box = None if side is None else _box(model, enc.soft, rows[order[0]], side)
            if self.acquisition == "thompson":
                chosen = _draw(model, bounds, frame, rows[order[:CENTRES]], known, rng, box)
            else:
                chosen = propose(enc, terms, rows[order[:CENTRES]], known, rng, box)
            if chosen is None:
                return found + first_design(problem, history, n - i, before + found)
            reason = explain(space, model, frame, chosen, best if kept.any() else None, rows, number, bounds)
            if side is not None:
                reason += f"; region of side {side:.2g}"
            found.append(Proposal(space.decode(chosen[None])[0], reason))
            pending = np.concatenate([pending, chosen[None]])
            known = np.concatenate([known, chosen[None]])
        return found


def _sequence(history: History) -> list[float]:
    """The losses of the settled trials in order; infinite where a trial failed or broke a constraint."""
    feasible = history.feasible if history.problem.constraints else None
    order = dict.fromkeys(history.settled)
    return [history.loss(i) if feasible is None or feasible[i] else np.inf for i in order]


def _box(model: Surrogate, soft: NDArray[np.bool_], centre: Array, side: float) -> tuple[Array, Array]:
    """Return the ends of a region around a row: longer where the model's length scale is, of the same volume.

    Columns that are not moved by gradient, and those that are inactive at the centre, stay free.
    """
    d = len(centre)
    free = ~soft | np.isnan(centre)
    low, high = np.zeros(d), np.ones(d)
    if not free.all():
        logs = model.posterior.theta[:d][~free]
        # a length scale far beyond the cube says that the column does not matter, and no more
        logs = np.minimum(logs, np.log(4.0))
        half = 0.5 * side * np.exp(logs - logs.mean())
        low[~free] = np.clip(centre[~free] - half, 0.0, 1.0)
        high[~free] = np.clip(centre[~free] + half, 0.0, 1.0)
    return low, high


def _draw(
    model: Surrogate, bounds: Bounds | None, frame: Frame, centres: Array, known: Array,
    rng: np.random.Generator, box: tuple[Array, Array] | None,
) -> Array | None:  # fmt: skip
    """Thompson sampling: draw functions over candidates; the least loss among those that keep the bounds.

    Where none keeps them, the least sum of what is broken.
    """
    enc = frame.enc
    nothing = np.zeros((0, len(enc.levels)))

    def no(rows: Array) -> Array:
        return np.zeros(len(rows))

    def none(rows: Array) -> tuple[Array, Array]:
        return no(rows), np.zeros(rows.shape)

    field = Field(no, none, enc.snap, enc.soft, enc.steps, np.array(enc.levels) == 0)
    rows = candidates(field, centres, nothing, rng, box)
    loss = model.sample(frame.lift(rows), rng.standard_normal((1, len(rows))))[0]
    if bounds is None:
        return first_new(rows[np.argsort(loss, kind="stable")], known)
    excess = np.zeros(len(rows))
    for bound, at in bounds.models:
        drawn = bound.sample(bounds.frame.lift(rows), rng.standard_normal((1, len(rows))))[0]
        excess += np.maximum(drawn - at, 0.0)
    return first_new(rows[np.lexsort((loss, excess))], known)


def explain(
    space: Space, model: Surrogate, frame: Frame, row: Array, best: float | None, rows: Array,
    number: NDArray[np.intp], bounds: Bounds | None = None,
) -> str:  # fmt: skip
    """Say what a proposal promises: improvement in the goal's unit, the nearest trial, the values.

    Args:
        best: the warped loss to improve on; None while no trial keeps the constraints.
    """
    words = ["no trial keeps the constraints yet"] if best is None else []
    if best is not None:
        mean, variance = model.predict(frame.lift(row[None]))
        quantiles = require("scipy.special", "The GP sampler").ndtri((np.arange(64) + 0.5) / 64)
        draws = model.warp.inverse(mean[0] + np.sqrt(variance[0]) * quantiles)
        now = float(model.warp.inverse(np.array([best]))[0])
        words.append(f"expected improvement {float(np.maximum(now - draws, 0.0).mean()):.2g}")
    if bounds is not None:
        words.append(f"feasible with probability {float(np.exp(bounds.log_probability(row[None])[0])):.2g}")
    gap = np.nan_to_num(np.abs(rows - row), nan=1.0)
    near = int(number[int(np.argmin((gap**2).sum(axis=1)))])
    return f"{', '.join(words)} near trial {near}; {shown(space, row)}"


def shown(space: Space, row: Array) -> str:
    """Say the first values of a row's config."""
    config = space.decode(row[None])[0]
    said = [(k, f"{v:.3g}" if isinstance(v, float) else str(v)) for k, v in config.items()]
    return ", ".join(f"{k} {v}" for k, v in said[:4]) + (", ..." if len(said) > 4 else "")
