"""MOBSTER: a Gaussian process over configs and steps together, with fantasies for what is still running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.acquisition import log_ei, log_ei_gradient
from foretune.numeric.gp import Posterior, condition
from foretune.numeric.surrogate import Surrogate, representative, surrogate
from foretune.search.gp import CENTRES, explain, improvement
from foretune.search.modelled import (
    Frame,
    Term,
    begun,
    design_size,
    encoded,
    first_design,
    one_thread,
    propose,
)
from foretune.search.observations import Observations
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["Mobster"]

__entry__ = "Mobster"

Array = NDArray[np.float64]


def place_of(problem: Problem, step: float) -> float:
    """Return a step log-scaled to [0, 1], as in ``observe``: 1 is the full length.

    >>> from foretune.space import Fidelity, Space
    >>> round(place_of(Problem(Space({}), steps=Fidelity(81)), 9), 3)
    0.5
    """
    steps = problem.steps
    if steps.high <= steps.low:
        return 1.0
    span = float(np.log(steps.high / steps.low))
    return float(np.clip(1.0 - np.log(max(steps.high / max(step, 1e-300), 1.0)) / span, 0.0, 1.0))


def target_place(data: Observations, need: int) -> float:
    """Return the largest place that ``need`` trials have come to; the largest that all have, if they are fewer."""
    furthest: dict[int, float] = {}
    for number, place in zip(data.number.tolist(), data.place.tolist(), strict=True):
        furthest[number] = max(place, furthest.get(number, 0.0))
    ranked = sorted(furthest.values(), reverse=True)
    return ranked[min(need, len(ranked)) - 1]


def next_step(problem: Problem, history: History, number: int, eta: float) -> float:
    """Return where a pending trial will be compared next: a rung beyond its last report, or its plan's end."""
    until, at = history.plan(number).until, history.curve(number)[0]
    reached = at[-1] if at else 0.0
    until = until if until > 0 else problem.steps.high
    return min((s for s in problem.steps.rungs(eta) if reached < s < until), default=until)


@final
@dataclass(frozen=True)
class _Fantasies:
    """A posterior for each joint draw of what the pending trials will report: one variance, many means.

    Attributes:
        posterior: that of data and pending rows.
        alphas: (n, draws) weights, a column a draw.
        best: (draws,) the value to improve on.
    """

    posterior: Posterior
    alphas: Array
    best: Array

    @classmethod
    def of(
        cls, fitted: Surrogate, pending: Array, tried: Array, count: int, rng: np.random.Generator
    ) -> _Fantasies:
        p = fitted.posterior
        noise = float(np.exp(0.5 * p.theta[p.columns.width + 2]))
        drawn = fitted.sample(pending, rng.standard_normal((count, len(pending))))
        drawn = drawn + noise * rng.standard_normal(drawn.shape)
        x = np.concatenate([fitted.x, pending])
        first = np.concatenate([fitted.t, drawn[0]])
        base = condition(p.columns, p.kind, p.theta, x, first)
        t = np.concatenate([np.repeat(fitted.t[:, None], count, axis=1), drawn.T])
        alphas = base.inverse.T @ (base.inverse @ t)
        best = replace(base, alpha=alphas).predict(tried)[0].min(axis=0)
        return cls(base, alphas, best)

    def term(self, lift: Callable[[Array], Array]) -> Term:
        """Return the log of the expected improvement, averaged over the draws, as a term to maximise."""
        together = replace(self.posterior, alpha=self.alphas)
        single = [replace(self.posterior, alpha=a) for a in self.alphas.T]

        def value(rows: Array) -> Array:
            mean, variance = together.predict(lift(rows))
            each = np.array([log_ei(m, variance, float(b)) for m, b in zip(mean.T, self.best, strict=True)])
            total: Array = np.logaddexp.reduce(each, axis=0) - np.log(len(each))
            return total

        def gradient(rows: Array) -> tuple[Array, Array]:
            found = [
                log_ei_gradient(*p.gradients(lift(rows)), float(b))
                for p, b in zip(single, self.best, strict=True)
            ]
            each = np.array([v for v, _ in found])
            total = np.logaddexp.reduce(each, axis=0)
            share = np.exp(each - total)
            slope = sum(s[:, None] * g[:, : rows.shape[1]] for s, (_, g) in zip(share, found, strict=True))
            return total - np.log(len(each)), np.asarray(slope)

        return value, gradient


@final
@dataclass(frozen=True)
class Mobster(Sampler[None]):
    """Model-based asynchronous halving: for the schedulers "asha" and "asha_stopping", with many workers.

    Losses at all rungs are modelled together: the step, log-scaled, is a further column of the Gaussian
    process (see ``numeric/surrogate.py``). The proposal maximises log expected improvement at the largest
    step that ``need`` trials have come to, over the best predicted value there of a tried config.

    Pending trials are not ignored: what they will report at their next rung is drawn from the model,
    jointly, ``fantasies`` times, and the improvement is averaged over the draws. With nothing pending it is
    sequential expected improvement. Failures count as the worst finite loss at full length.

    Args:
        initial: trials before the model speaks; None: min(6, width + 1), at least 4.
        fantasies: joint draws of what is pending, at least 1.
        eta: of the scheduler; tells at which rung a trial that runs without pause is compared next.
        most: losses that the model holds at most.

    Source: Model-based Asynchronous Hyperparameter and Neural Architecture Search

    Differs:
        1. Kernel, output warp and trend are those of the sampler "gp", chosen by evidence; there is no
           exponential-decay kernel. A trial gives its last loss and those at two earlier rungs.
        2. Improvement is counted from the best posterior mean, not from the best observed value.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "learns"}
    )

    initial: int | None = None
    fantasies: int = 8
    eta: float = 3
    most: int = 300

    def __post_init__(self) -> None:
        if self.initial is not None:
            check.integer("initial", self.initial, 1)
        check.integer("fantasies", self.fantasies, 1)
        check.number("eta", self.eta, 1, open_low=True)
        check.integer("most", self.most, 20)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        found, data = begun(problem, history, n, design_size(self.initial, problem.space.width))
        if data is None:
            return found
        with one_thread():
            return found + self._model(problem, history, data, n - len(found), key, found)

    def _model(
        self, problem: Problem, history: History, data: Observations, n: int, key: Key, before: list[Proposal]
    ) -> list[Proposal]:
        space, enc = problem.space, encoded(problem.space)
        at = target_place(data, space.width + 1)
        frame = Frame(enc, data.graded, at)
        keep = representative(data.loss, self.most)
        number, place, loss = data.number[keep], data.place[keep], data.loss[keep]
        rows = history.units[number]
        fitted = surrogate(frame.columns, frame.lift(rows, place), loss)

        waiting = np.array(history.pending, dtype=int)
        pending = history.units[waiting]
        steps = [next_step(problem, history, i, self.eta) for i in waiting.tolist()]
        places = np.array([place_of(problem, s) for s in steps])
        first = place_of(problem, problem.steps.rungs(self.eta)[0])
        if before:
            pending = np.concatenate([pending, space.encode(p.config for p in before)])
            places = np.concatenate([places, np.full(len(before), first)])
        known = np.concatenate([history.units, pending[len(waiting) :]])
        tried = frame.lift(rows)
        found: list[Proposal] = []
        for i in range(n):
            rng = key.fold("gp", i).generator()
            model = fitted.believe(frame.lift(pending, places))
            mean, _ = model.predict(tried)
            order = np.argsort(mean, kind="stable")
            best = float(mean[order[0]])
            if len(pending):
                draw = key.fold("fantasies", i).generator()
                awaited = frame.lift(pending, places)
                term = _Fantasies.of(fitted, awaited, tried, self.fantasies, draw).term(frame.lift)
            else:
                term = improvement(model, frame, best)
            chosen = propose(enc, [term], rows[order[:CENTRES]], known, rng)
            if chosen is None:
                return found + first_design(problem, history, n - i, before + found)
            reason = explain(space, model, frame, chosen, best, rows, number)
            if data.graded:
                reason += f"; at step {problem.steps.high * (problem.steps.low / problem.steps.high) ** (1 - at):.3g}"
            if len(pending):
                reason += f", over {self.fantasies} draws of {len(pending)} pending"
            found.append(Proposal(space.decode(chosen[None])[0], reason))
            pending = np.concatenate([pending, chosen[None]])
            places = np.append(places, first)
            known = np.concatenate([known, chosen[None]])
        return found
