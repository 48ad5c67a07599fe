"""CARBS: local search around the front of performance and cost, in spaces whose bounds do not matter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import UnknownNameError, did_you_mean
from foretune.base.key import Key
from foretune.numeric import pareto
from foretune.numeric.acquisition import log_h, log_kept
from foretune.numeric.surrogate import Surrogate, representative, surrogate
from foretune.search.distinct import pick
from foretune.search.encoding import Encoding
from foretune.search.gp import shown
from foretune.search.modelled import Frame, bounds_of, encoded, first_design, first_new, one_thread
from foretune.search.observations import Observations, observe
from foretune.search.sampler import Proposal, Sampler
from foretune.search.tradeoff import log_cost
from foretune.space.domain import Float, Int
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import COMPLETE

__all__ = ["Carbs", "Scaling", "scaling_fits"]

__entry__ = "Carbs"

Array = NDArray[np.float64]

CELLS = 2_000_000  # candidates times columns at most: a bound on an ask's work in many dimensions
REDRAWS = 8  # times that a coordinate outside of the cube is drawn again, before it goes to the face
REDRAWN = 0.3  # chance that a candidate draws a category anew
FEWEST = 3  # trials that a model, or a law, needs


class Scaling(NamedTuple):
    """A power law of a hyperparameter along the front: value = value_at(cost) = a * cost^exponent.

    Attributes:
        exponent: the slope of log value against log cost.
        error: its standard error (residuals being independent); NaN for two trials.
        log_a: natural logarithm of a.
        n: trials of the front.
    """

    exponent: float
    error: float
    log_a: float
    n: int

    def at(self, cost: float) -> float:
        """Return the value that the law says for a cost."""
        return math.exp(self.log_a + self.exponent * math.log(cost))


@final
@dataclass(frozen=True)
class Carbs(Sampler[None]):
    """Proposes near the front of loss and cost, where the loss is expected to fall below the front.

    The first trials are drawn around the search centre, which is the space's default: a normal with
    ``radius`` in decades for log domains, in ranges for others. Then candidates are drawn the same way
    around the trials of the front, and the one is proposed for which

        E max(front(cost(x)) - loss(x), 0) * density(x) * P(success)

    is largest: loss and log cost have a Gaussian process each, ``front(c)`` is the least loss at cost c,
    cut at its value at a cost drawn log-uniformly along the front, so that cheap and bad trials stop being
    interesting; density is that of the nearest front trial's normal. Bounds only say what is legal: a
    space may be wider than anybody would search, and the search walks where costs and losses lead it.
    :func:`scaling_fits` reads the laws from a history.

    Args:
        cost: "seconds" or a metric that trials report; greater than 0. Where it is not known, all trials
            cost the same, and this is local search around the best.
        initial: trials before the models speak.
        radius: standard deviation of the moves.
        candidates: how many are drawn a dimension.
        ceiling: the largest predicted cost that is proposed; None: no limit.
        most: trials that a model holds at most.

    Source: Tune As You Scale: Hyperparameter Optimization For Compute Efficient Training

    Differs:
        1. Front members are not trained again to average their noise: the front is that of the modelled
           losses at the trials.
        2. The front's value at a cost is interpolated linearly in log cost, not by a third process; the
           probability of success is a regression on 0 and 1.
        3. Choices, which the paper leaves out, are drawn anew by a chance of 0.3.
        4. The first trial is the search centre itself.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "constrained", "cost-aware", "learns"}
    )

    cost: str = "seconds"
    initial: int = 4
    radius: float = 0.3
    candidates: int = 100
    ceiling: float | None = None
    most: int = 500

    def __post_init__(self) -> None:
        check.name("cost", self.cost)
        check.integer("initial", self.initial, 1)
        check.number("radius", self.radius, 0.0, open_low=True)
        check.integer("candidates", self.candidates, 1)
        check.integer("most", self.most, 20)
        if self.ceiling is not None:
            check.number("ceiling", self.ceiling, 0.0, open_low=True)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        if problem.space.width == 0:
            return first_design(problem, history, n)
        data = _last(observe(problem, history))
        alive = np.isfinite(history.losses[data.number, 0]) if len(data.number) else np.zeros(0, dtype=bool)
        found: list[Proposal] = []
        early = n if alive.sum() < FEWEST else max(0, min(n, self.initial - len(history)))
        if early:
            found = self._centre(problem, history, early, key)
        if len(found) == n or len(found) < early:  # done, or nothing is left to try
            return found
        with one_thread():
            return found + self._model(problem, history, data, alive, n - len(found), key, found)

    def _centre(self, problem: Problem, history: History, n: int, key: Key) -> list[Proposal]:
        space, enc = problem.space, encoded(problem.space)
        middle = space.encode([space.default()])
        rng = key.fold("carbs", "centre").generator()
        skipped = len(history)  # a draw for each trial, so that a failed one is not drawn again
        rows = around(enc, middle, moves(space, self.radius), skipped + 64 + n, rng)[skipped:]
        first = [space.default()] if not skipped else []
        stream = chain(first, (space.decode(row[None])[0] for row in rows))
        picked = pick(history, stream, n, avoid=[t.config for t in history])
        found = [Proposal(c, note or "around the search centre") for c, note in picked]
        # a narrow normal may hold too few different configs of a discrete space
        return found + (first_design(problem, history, n - len(found), found) if len(found) < n else [])

    def _model(
        self, problem: Problem, history: History, data: Observations, alive: NDArray[np.bool_], n: int,
        key: Key, before: list[Proposal],
    ) -> list[Proposal]:  # fmt: skip
        space, enc = problem.space, encoded(problem.space)
        frame = Frame(enc, data.graded)
        cost = log_cost(history, self.cost)[data.number]
        if not np.isfinite(cost).any():
            cost = np.zeros(len(cost))
        good = alive & np.isfinite(cost)
        if problem.constraints and (good & history.feasible[data.number]).any():
            good &= history.feasible[data.number]
        lifted = frame.lift(history.units[data.number], data.place)
        learn = alive & np.isfinite(cost)
        quality = _fit(frame, lifted[alive], data.loss[alive], self.most)
        price = _fit(frame, lifted[learn], cost[learn], self.most, ("none",)) if np.ptp(cost[learn]) else None
        failing = None
        if not alive.all():
            failing = _fit(frame, lifted, np.where(alive, 0.0, 1.0), self.most, ("none",))
        pending = history.units[np.array(history.pending, dtype=int)]
        if before:
            pending = np.concatenate([pending, space.encode(p.config for p in before)])
        known = np.concatenate([history.units, pending[len(history.pending) :]])
        step = moves(space, self.radius)
        found: list[Proposal] = []
        for i in range(n):
            model = quality.believe(frame.lift(pending))
            bounds = bounds_of(problem, history, self.most, pending) if problem.constraints else None
            rng = key.fold("carbs", i).generator()
            tried = data.number[good] if good.any() else data.number[alive]
            own = cost[good] if good.any() else cost[alive]
            mean, _ = model.predict(frame.lift(history.units[tried]))
            price_at, value_at, members = _front(own, mean)
            origins = history.units[tried[members]]
            origins = np.where(np.isnan(origins), rng.random(origins.shape), origins)
            wanted = min(self.candidates * len(step), max(self.candidates, CELLS // len(step)))
            rows = around(enc, origins, step, wanted, rng)
            log_price = np.zeros(len(rows))
            if price is not None:
                log_price = price.warp.inverse(price.predict(frame.lift(rows))[0])
            cut = float(np.interp(rng.uniform(price_at[0], price_at[-1]), price_at, value_at))
            target = np.minimum(np.interp(log_price, price_at, value_at), cut)
            mean, variance = model.predict(frame.lift(rows))
            sd = np.sqrt(variance)
            score = np.log(sd) + log_h((target - mean) / sd)[0] + _log_density(rows, origins, step)
            if failing is not None:
                half = float(failing.warp(np.array([0.5]))[0])
                score += log_kept(*failing.predict(frame.lift(rows)), half)
            if bounds is not None:
                score += bounds.log_probability(rows)
            if self.ceiling is not None:
                dear = log_price > math.log(self.ceiling)
                # where all are too dear, the cheapest leads back
                score = np.where(dear, -1e6 - log_price, score)
            chosen = first_new(rows[np.argsort(-score, kind="stable")], known)
            if chosen is None:
                return found + first_design(problem, history, n - i, before + found)
            at = int(np.flatnonzero((np.nan_to_num(rows) == np.nan_to_num(chosen)).all(axis=1))[0])
            loss = float(model.warp.inverse(mean[at : at + 1])[0])
            reason = f"front of {len(members)} trials: {problem.goal.said(loss)} predicted"
            if price is not None:
                reason += f" at {self.cost} {math.exp(min(float(log_price[at]), 700.0)):.3g}"
            found.append(Proposal(space.decode(chosen[None])[0], f"{reason}; {shown(space, chosen)}"))
            pending = np.concatenate([pending, chosen[None]])
            known = np.concatenate([known, chosen[None]])
        return found


def moves(space: Space, radius: float) -> Array:
    """Return the standard deviation of a move in each column, in units of the cube: (width,).

    ``radius`` counts decades in log domains and ranges in others, so that widening a log domain changes
    nothing.
    """
    step = np.full(space.width, radius)
    for name, domain in space.items():
        if isinstance(domain, (Float, Int)) and domain.log:
            step[space.columns[name]] = radius / max(math.log10(domain.high / domain.low), 1e-9)
    return step


def around(enc: Encoding, origins: Array, step: Array, n: int, rng: np.random.Generator) -> Array:
    """Draw ``n`` legal rows around origins (k, d), no NaN among these: (n, d)."""
    origins = np.where(np.isnan(origins), 0.5, origins)
    centre = origins[rng.integers(len(origins), size=n)]
    rows = centre + step * rng.standard_normal(centre.shape)
    i, j = np.nonzero((rows < 0.0) | (rows > 1.0))
    for _ in range(REDRAWS):  # coordinates that leave the cube: of many columns some always do
        drawn = centre[i, j] + step[j] * rng.standard_normal(len(i))
        rows[i, j] = drawn
        out = (drawn < 0.0) | (drawn > 1.0)
        i, j = i[out], j[out]
    category = np.flatnonzero(np.array(enc.levels) > 0)
    if len(category):
        shape = (n, len(category))
        anew = rng.random(shape) < REDRAWN
        rows[:, category] = np.where(anew, rng.random(shape), centre[:, category])
    return enc.snap(np.clip(rows, 0.0, 1.0))


def _log_density(rows: Array, origins: Array, step: Array) -> Array:
    """Log of the nearest origin's normal, up to a constant: distances in standard deviations."""
    a, b = np.where(np.isnan(rows), 0.5, rows) / step, origins / step
    gap = (a * a).sum(axis=1)[:, None] - 2.0 * (a @ b.T) + (b * b).sum(axis=1)
    return np.asarray(-0.5 * np.maximum(gap, 0.0).min(axis=1))


def _last(data: Observations) -> Observations:
    """Keep the last row of each trial."""
    last = sorted({int(i): k for k, i in enumerate(data.number)}.values())
    place = data.place[last]
    graded = len(place) > 0 and float(np.ptp(place)) > 0.0
    return Observations(data.number[last], place, data.loss[last], graded)


def _fit(frame: Frame, rows: Array, y: Array, most: int, warps: tuple[str, ...] | None = None) -> Surrogate:
    keep = representative(y, most)
    if warps is None:
        return surrogate(frame.columns, rows[keep], y[keep])
    return surrogate(frame.columns, rows[keep], y[keep], warps)


def _front(cost: Array, loss: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Return log costs and losses along the front, by increasing cost, and who its members are."""
    members = np.flatnonzero(pareto.front(np.stack([cost, loss], axis=1)))
    members = members[np.argsort(cost[members], kind="stable")]
    return cost[members], loss[members], members


def scaling_fits(history: History, cost: str = "seconds") -> dict[str, Scaling]:
    """Fit a power law in the cost to each positive number that is chosen, along the front.

    The front is that of the complete, feasible trials: none other is both cheaper and better. Least
    squares of log value on log cost.

    Args:
        history: of any study whose trials report a cost.
        cost: as in :class:`Carbs`.

    Returns:
        Parameter -> law; empty while the front has fewer than three trials of different cost.

    Raises:
        UnknownNameError: no trial reports that metric.
    """
    price, losses = log_cost(history, cost), history.losses[:, 0]
    if len(history) and not np.isfinite(price).any():
        known = sorted({name for t in history for r in t.reports for name in r.values})
        raise UnknownNameError(
            f"No trial reports the cost {cost!r} (greater than 0).{did_you_mean(cost, known)} "
            f"Reported are {', '.join(known) or 'none'}."
        )
    good = np.isfinite(losses) & np.isfinite(price) & history.feasible
    numbers = np.array([i for i in history.numbers(COMPLETE) if good[i]], dtype=int)
    if not len(numbers):
        return {}
    at, _, members = _front(price[numbers], losses[numbers])
    configs = [history[int(numbers[i])].config for i in members]
    fits = {}
    for name, domain in history.space.items():
        if not isinstance(domain, (Float, Int)):
            continue
        pairs = [(x, c[name]) for x, c in zip(at.tolist(), configs, strict=True) if c.get(name, 0) > 0]
        x, y = np.array([p[0] for p in pairs]), np.log([p[1] for p in pairs])
        if len(pairs) < FEWEST or np.ptp(x) == 0.0:
            continue
        gap = x - x.mean()
        slope = float(gap @ y / (gap @ gap))
        rest = y - y.mean() - slope * gap
        error = math.sqrt(float(rest @ rest) / (len(x) - 2) / float(gap @ gap)) if len(x) > 2 else math.nan
        fits[name] = Scaling(slope, error, float(y.mean() - slope * x.mean()), len(x))
    return fits
