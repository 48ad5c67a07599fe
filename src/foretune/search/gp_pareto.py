"""Gaussian processes for several goals: proposals where the front is expected to grow most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric import pareto
from foretune.numeric.ehvi import Nodes, directions, log_ehvi, log_ehvi_gradient, nodes
from foretune.numeric.stats import tamed
from foretune.numeric.surrogate import Surrogate, representative, surrogate
from foretune.search.gp import GP, improvement, shown
from foretune.search.modelled import (
    Bounds,
    Frame,
    Term,
    bounds_of,
    design_size,
    encoded,
    first_design,
    one_thread,
    propose,
    values_of,
)
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["GPPareto"]

__entry__ = "GPPareto"

Array = NDArray[np.float64]

FRONTS = 16  # fronts drawn from the posterior
CONSIDERED = 100  # trials that may be on a drawn front, at most: the best by rank and crowding
CENTRES = 6  # trials of the front whose neighbourhoods are searched
OUTER = 0.75  # quantile of all losses that the default reference does not fall below


@final
@dataclass(frozen=True)
class GPPareto(Sampler[None]):
    """Proposes where the hypervolume of the front is expected to grow most, for any number of goals.

    Each goal has a Gaussian process of its own, as in ``gp`` (warped outputs, mixed and conditional spaces,
    the step as a column); each constraint too. The proposal maximises the log of the noisy expected
    hypervolume improvement, plus the log probability that the constraints are kept. The front is not that
    of the observed values, which noise flatters, but is drawn from the posterior. With one goal this
    is ``gp``.

    Args:
        initial: trials before the models speak; None: min(6, width + 1), at least 4.
        most: losses that a model holds at most.
        reference: one value a goal, in the goal's own sign, that results shall beat. None: chosen anew
            at each ask, a tenth beyond the worst of the front or the upper quartile of all results,
            whichever is farther out.

    Source: Faster, Cheaper, Better: Multi-Objective Hyperparameter Optimization for LLM and RAG Systems
    Source: Parallel Bayesian Optimization of Multiple Noisy Objectives with Expected Hypervolume Improvement

    Differs:
        1. The expectation is a quadrature in polar coordinates around the reference
           (``numeric/ehvi.py``), not a Monte Carlo mean over box decompositions.
        2. Proposals for several workers are made one after the other: awaited trials are taken to give
           what the models predict.
        3. Without a reference of the user's, the one chosen here moves with the results.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "multi-objective", "constrained", "learns"}
    )

    initial: int | None = None
    most: int = 500
    reference: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.initial is not None:
            check.integer("initial", self.initial, 1)
        check.integer("most", self.most, 20)
        if self.reference is not None:
            values = check.several("reference", self.reference, "numbers, one a goal")
            object.__setattr__(self, "reference", tuple(check.number("reference", v) for v in values))

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        goals = problem.goals
        if self.reference is not None and len(self.reference) != len(goals):
            raise ArgumentError(
                f"reference must have one value a goal, {len(goals)} of them; got {list(self.reference)}."
            )
        if len(goals) == 1:
            return GP(self.initial, self.most).ask(problem, None, history, n, key)
        need = design_size(self.initial, problem.space.width)
        early = max(0, min(n, need - len(history)))
        found = first_design(problem, history, early) if early else []
        if len(found) == n:
            return found
        losses = tamed(history.losses)
        finite = np.isfinite(losses).all(axis=1)
        if finite.sum() < 3 or problem.space.width == 0 or (np.ptp(losses[finite], axis=0) == 0.0).all():
            return found + first_design(problem, history, n - len(found), found)
        with one_thread():
            return found + self._model(problem, history, losses, n - len(found), key, found)

    def _model(
        self, problem: Problem, history: History, losses: Array, n: int, key: Key, before: list[Proposal]
    ) -> list[Proposal]:
        space, enc = problem.space, encoded(problem.space)
        pending = history.units[np.array(history.pending, dtype=int)]
        if before:
            pending = np.concatenate([pending, space.encode(p.config for p in before)])
        known = np.concatenate([history.units, pending[len(history.pending) :]])
        frame, fitted = _models(problem, history, losses, self.most)
        finite = np.isfinite(losses).all(axis=1)
        good: NDArray[np.bool_] = np.logical_and(finite, history.feasible)
        found: list[Proposal] = []
        for i in range(n):
            models = [m.believe(frame.lift(pending)) for m in fitted]
            bounds = bounds_of(problem, history, self.most, pending) if problem.constraints else None
            rng = key.fold("gp_pareto", i).generator()
            over = self._nodes(problem, history, losses, good, frame, models, rng) if good.any() else None
            terms = [_growth(models, frame, over)] if over is not None else []
            if bounds is not None and (terms or bounds.total is None):
                terms.append((bounds.log_probability, bounds.gradient))
            elif bounds is not None and bounds.total is not None:
                terms.append(improvement(bounds.total[0], bounds.frame, bounds.total[1]))
            if not terms:
                return found + first_design(problem, history, n - i, before + found)
            around = np.flatnonzero(good if good.any() else finite)
            centres = around[pareto.best(losses[around], CENTRES)]
            chosen = propose(enc, terms, history.units[centres], known, rng)
            if chosen is None:
                return found + first_design(problem, history, n - i, before + found)
            reason = _explain(problem, models, frame, over, bounds, chosen)
            found.append(Proposal(space.decode(chosen[None])[0], reason))
            pending = np.concatenate([pending, chosen[None]])
            known = np.concatenate([known, chosen[None]])
        return found

    def _nodes(
        self, problem: Problem, history: History, losses: Array, good: NDArray[np.bool_], frame: Frame,
        models: list[Surrogate], rng: np.random.Generator,
    ) -> Nodes:  # fmt: skip
        """Draw fronts from the posterior and lay the nodes of the integral."""
        numbers = np.flatnonzero(good)
        numbers = numbers[pareto.best(losses[numbers], CONSIDERED)]
        rows = frame.lift(history.units[numbers])
        drawn = np.stack(
            [m.warp.inverse(m.sample(rows, rng.standard_normal((FRONTS, len(rows))))) for m in models], axis=2
        )
        seen = losses[good]
        at = seen[pareto.front(seen)]
        ideal = at.min(axis=0)
        if self.reference is not None:
            signs = np.array([g.sign for g in problem.goals])
            reference = signs * np.array(self.reference)
            ideal = np.minimum(ideal, reference)
        else:
            outer = np.maximum(at.max(axis=0), np.quantile(seen, OUTER, axis=0))
            reference = outer + 0.1 * (outer - ideal)
        span = np.ptp(seen, axis=0)
        unit = np.maximum(reference - ideal, 1e-3 * np.where(span > 0.0, span, 1.0))

        def warp(y: Array) -> Array:
            return np.stack([m.warp(y[:, j]) for j, m in enumerate(models)], axis=1)

        return nodes(drawn, reference - unit, reference, directions(len(models), rng), warp)


def _models(problem: Problem, history: History, losses: Array, most: int) -> tuple[Frame, list[Surrogate]]:
    """Model each goal: a failed or diverged trial counts as the worst finite loss, at full length."""
    steps = problem.steps
    broken = np.isposinf(losses).any(axis=1)
    span = np.log(steps.high / steps.low) or 1.0
    place = 1.0 - np.log(np.maximum(steps.high / np.maximum(history.steps, steps.low), 1.0)) / span
    place = np.where(broken, 1.0, np.clip(place, 0.0, 1.0))
    told = ~np.isnan(losses).all(axis=1)
    frame = Frame(encoded(problem.space), bool(told.any() and np.ptp(place[told]) > 0.0))
    models = []
    for column in losses.T:
        known = np.isfinite(column)
        column = np.where(broken, column[known].max(), column)
        number, y = values_of(history, column)
        keep = representative(y, most)
        number = number[keep]
        rows = frame.lift(history.units[number], place[number])
        models.append(surrogate(frame.columns, rows, y[keep]))
    return frame, models


def _growth(models: list[Surrogate], frame: Frame, over: Nodes) -> Term:
    """Return log expected hypervolume improvement at full length as a term to maximise."""

    def value(rows: Array) -> Array:
        lifted = frame.lift(rows)
        found = [m.predict(lifted) for m in models]
        return log_ehvi(np.stack([f[0] for f in found], 1), np.stack([f[1] for f in found], 1), over)

    def gradient(rows: Array) -> tuple[Array, Array]:
        lifted = frame.lift(rows)
        found = [m.posterior.gradients(lifted) for m in models]
        mean, variance, d_mean, d_variance = (np.stack([f[k] for f in found], 1) for k in range(4))
        v, g = log_ehvi_gradient(mean, variance, d_mean, d_variance, over)
        return v, g[:, : rows.shape[1]]

    return value, gradient


def _explain(
    problem: Problem, models: list[Surrogate], frame: Frame, over: Nodes | None, bounds: Bounds | None,
    row: Array,
) -> str:  # fmt: skip
    """Say by how much the front is expected to grow, and what is predicted for each goal."""
    words = []
    lifted = frame.lift(row[None])
    found = [m.predict(lifted) for m in models]
    if over is None:
        words.append("no trial keeps the constraints yet")
    else:
        grows = log_ehvi(np.stack([f[0] for f in found], 1), np.stack([f[1] for f in found], 1), over)
        words.append(
            f"the front is expected to grow by {float(np.exp(grows[0])):.2g} of the box below the reference"
        )
    if bounds is not None:
        words.append(f"feasible with probability {float(np.exp(bounds.log_probability(row[None])[0])):.2g}")
    said = [
        g.said(float(m.warp.inverse(f[0])[0])) for g, m, f in zip(problem.goals, models, found, strict=True)
    ]
    return f"{', '.join(words)}; predicted {', '.join(said)}; {shown(problem.space, row)}"
