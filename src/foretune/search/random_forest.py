"""Random-forest search: trees predict the losses, expected improvement and local search say where to look."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.forest import grow
from foretune.numeric.kde import normal_mass
from foretune.numeric.surrogate import representative
from foretune.search.distinct import pick
from foretune.search.encoding import Encoding
from foretune.search.opening import opening
from foretune.search.random import draws
from foretune.search.ranking import overdue
from foretune.search.rows import described, unseen
from foretune.search.sampler import Proposal, Sampler
from foretune.search.settled import settled
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["RandomForest"]

__entry__ = "RandomForest"

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

UNIFORM = 500  # uniform candidates
STARTS = 8  # rows that local search starts from: half the best tried, half the best candidates
STEPS = 8  # rounds of local search at most
FORGOTTEN = 4.0  # times as overdue as trials usually are: a pending trial is taken to be lost
LEAF = 2  # rows of a leaf at least
NEAR = 4  # neighbours of a row in each number column, and in each choice at most
NORMAL = np.array(
    [-1.64, -1.04, -0.67, -0.39, -0.13, 0.13, 0.39, 0.67, 1.04, 1.64]
)  # ten equal parts' middles
WIDE = 32  # columns that are moved at once at most
SPREAD = (0.2, 0.05)  # standard deviations of a neighbour's step, in the unit cube


def warped(loss: Array) -> tuple[Array, float, float]:
    """Return log losses above the best: (n,), with the shift and the offset that undo it.

    z = log(loss - low + c), c = a tenth of (median - low): differences near the best count, outliers do not.
    """
    low = float(loss.min())
    offset = 0.1 * float(np.median(loss) - low) or 0.1 * float(np.ptp(loss)) or 1.0
    z: Array = np.log(loss - low + offset)
    return z, low, offset


def expected_improvement(mean: Array, variance: Array, best: float) -> Array:
    """Return E max(best - Z, 0) of normal predictions; within 1e-7, which ties what is hopeless."""
    sd = np.sqrt(np.maximum(variance, 1e-18))
    z = (best - mean) / sd
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    value: Array = sd * np.maximum(z * normal_mass(np.full_like(z, -40.0), z) + density, 0.0)
    return value


def neighbours(enc: Encoding, rows: Array, rng: np.random.Generator) -> Array:
    """Return legal rows that differ from each row in one column: (rows * columns * NEAR, d).

    In wide spaces only ``WIDE`` of the columns are moved, drawn anew at each call.
    """
    m, d = rows.shape
    moved = np.arange(d) if d <= WIDE else rng.permutation(d)[:WIDE]
    out = np.repeat(np.where(np.isnan(rows), rng.random(rows.shape), rows), len(moved) * NEAR, axis=0)
    column = np.tile(np.repeat(moved, NEAR), m)
    here = np.arange(len(out))
    scale = np.tile(np.resize(SPREAD, NEAR), m * len(moved))
    grain = np.where(enc.steps > 0, 1.0 / np.maximum(enc.steps, 1), 0.0)[column]
    step = rng.standard_normal(len(out)) * np.maximum(scale, grain)
    x = out[here, column]
    stepped = 1.0 - np.abs(1.0 - np.abs(x + step) % 2.0)
    k = np.array(enc.levels)[column]
    other = (np.floor(x * k) + 1 + np.floor(rng.random(len(out)) * np.maximum(k - 1, 1))) % np.maximum(k, 1)
    out[here, column] = np.where(k > 0, (other + 0.5) / np.maximum(k, 1), stepped)
    return enc.snap(out)


@final
@dataclass(frozen=True)
class RandomForest(Sampler[None]):
    """Proposes where a forest of random trees expects the largest improvement.

    The first ``initial`` configs are a Latin hypercube. Then extremely randomised trees are fitted to the log of the
    losses above the best (``numeric/forest.py``); their mean and variance give expected improvement, which local
    search climbs from the best tried configs and the best of 500 uniform ones. Now and then a uniform draw is
    proposed instead, so that no part of the space is left out for ever. Choices, ints and inactive parameters are
    what trees are good at. A partial run counts by its latest loss, at whatever step; a failed trial as the worst
    loss; pending ones are taken to give what the forest predicts, until more trials than usual have overtaken them.
    NumPy is all it needs.

    Trees are sure of themselves where little was tried: a branch of a conditional space whose first trials were bad
    would be left for good. So a share of the proposals goes to the branch with the fewest trials, other than that of
    the best, and improves on the best there: after a few of these the branch shows what it can do.

    Args:
        initial: trials before the forest speaks.
        trees: number of trees.
        interleave: share of uniform draws.
        elsewhere: share of the proposals, in spaces with branches, that are for another branch than the best one's.
        most: losses that the forest is fitted to at most: the best half, the latest quarter, the rest spread over the
            ranks. It bounds the cost of an ask.

    Source: Sequential Model-Based Optimization for General Algorithm Configuration

    Differs:
        1. Extremely randomised trees, not best splits: smoother between the data, and they grow all at once.
        2. The variance holds the spread within leaves too.
        3. One proposal an ask, a uniform one with probability ``interleave``; SMAC alternates lists and races them.
        4. The proposals for other branches.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "learns"}
    )

    initial: int = 10
    trees: int = 30
    interleave: float = 0.1
    elsewhere: float = 0.1
    most: int = 600

    def __post_init__(self) -> None:
        check.integer("initial", self.initial, 2)
        check.integer("trees", self.trees, 2)
        check.number("interleave", self.interleave, 0.0, 1.0)
        check.number("elsewhere", self.elsewhere, 0.0, 1.0)
        check.integer("most", self.most, 20)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        data = settled(history)
        finite = np.isfinite(data.loss)
        silent = finite.sum() < 2 or not problem.space.width or np.ptp(data.loss[finite]) == 0.0
        missing = n if silent else max(0, min(n, self.initial - len(history)))
        found = opening(problem, history, missing, self.initial, "random_forest") if missing else []
        if len(found) == n or silent:
            return found
        loss = np.where(finite, data.loss, data.loss[finite].max())
        keep = representative(loss, self.most)
        for i in range(len(found), n):
            more = self._one(problem, history, data.number[keep], loss[keep], key.fold("forest", i), found)
            if more is None:
                break
            found.append(more)
        return found

    def _one(
        self, problem: Problem, history: History, number: Ints, loss: Array, key: Key, before: list[Proposal]
    ) -> Proposal | None:
        space, rng = problem.space, key.generator()
        avoid = [p.config for p in before]
        why = f"a uniform draw, as {self.interleave:.0%} of the proposals are"
        chance = rng.random()
        if chance >= self.interleave:
            units = history.units
            if avoid:
                units = np.concatenate([units, space.encode(avoid)])
            waiting = np.array(history.pending, dtype=int)
            waiting = waiting[overdue(settled(history).number, waiting, len(history)) < FORGOTTEN]
            pending = np.concatenate([waiting, np.arange(len(history), len(units))])
            away = chance < self.interleave + self.elsewhere
            chosen = self._best(problem, units, pending, number, loss, rng, away)
            if chosen is not None:
                return chosen
            why = "a uniform draw: the candidates were all tried"
        uniform = pick(history, draws(space, key.fold("uniform")), 1, avoid)
        return Proposal(uniform[0][0], uniform[0][1] or why) if uniform else None

    def _best(
        self,
        problem: Problem,
        units: Array,
        pending: Ints,
        number: Ints,
        loss: Array,
        rng: np.random.Generator,
        away: bool = False,
    ) -> Proposal | None:
        space = problem.space
        enc, _ = described(space)
        rows = units[number]
        z, low, offset = warped(loss)
        forest = grow(rows, z, enc.levels, rng, trees=self.trees, leaf=LEAF)
        if len(pending):
            believed, _ = forest.predict(units[pending])
            given, z = np.concatenate([rows, units[pending]]), np.concatenate([z, believed])
            forest = grow(given, z, enc.levels, rng, trees=self.trees, leaf=LEAF)
        order = np.argsort(z[: len(rows)], kind="stable")
        top = float(z.max())
        branch = elsewhere(enc, rows, order[0], rng) if away and enc.optional else None
        if branch is not None:
            order = order[(np.isnan(rows[order]) == branch).all(axis=1)]
        best = (
            float(z[order[0]]) if len(order) else math.inf
        )  # of a branch that nothing is known of, all is good

        def value(x: Array) -> Array:
            mean, variance = forest.predict(x)
            gain = expected_improvement(mean, variance, best) if best < math.inf else np.ones(len(x))
            gain = gain - 1e-12 * mean  # the mean decides among the hopeless
            return gain if branch is None else np.where((np.isnan(x) == branch).all(axis=1), gain, -math.inf)

        x, v = climbed(enc, value, rows[order[: STARTS // 2]], rng)
        for i in np.argsort(-v, kind="stable").tolist():
            if unseen(x[i], units):
                mean, variance = forest.predict(x[i : i + 1])
                config = space.decode(x[i : i + 1])[0]
                moments = float(mean[0]), float(variance[0])
                why = explain(*moments, min(best, top), low, offset, x[i], rows, number, problem.goal)
                if branch is not None:
                    many = f"{len(order)} trials" if len(order) != 1 else "1 trial"
                    why = f"for another branch than the best one's, of {many}, whose best it is to improve: {why}"
                return Proposal(config, why)
        return None


def elsewhere(enc: Encoding, rows: Array, best: int, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """Choose the branch with the fewest rows, other than that of the best: which columns are inactive there, (d,).

    A branch is what exists together: the pattern of inactive columns. Those are known that were tried, or that
    occur among uniform rows.

    Returns:
        None if there is no other branch.
    """
    seen = np.isnan(np.concatenate([rows, enc.snap(rng.random((UNIFORM, rows.shape[1])))]))
    patterns, which = np.unique(seen, axis=0, return_inverse=True)
    count = np.bincount(which.reshape(-1)[: len(rows)], minlength=len(patterns))
    others = np.flatnonzero((patterns != np.isnan(rows[best])).any(axis=1))
    return patterns[others[np.argmin(count[others])]] if len(others) else None


def climbed(
    enc: Encoding, value: Callable[[Array], Array], centres: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Climb from uniform candidates and from good rows by changing one column at a time.

    Returns:
        All legal rows that were looked at, (m, d), and their values, (m,).
    """
    x = enc.snap(rng.random((UNIFORM, len(enc.levels))))
    v = value(x)
    top = np.argsort(-v, kind="stable")[: STARTS - len(centres)]
    at, high = np.concatenate([x[top], centres]), np.concatenate([v[top], np.full(len(centres), -np.inf)])
    seen, values = [x], [v]
    for _ in range(STEPS):
        near = neighbours(enc, at, rng)
        near_value = value(near)
        seen.append(near)
        values.append(near_value)
        part = near_value.reshape(len(at), -1)
        better = part.max(axis=1) > high
        if not better.any():
            break
        best = near.reshape(len(at), -1, near.shape[1])[np.arange(len(at)), part.argmax(axis=1)]
        at, high = np.where(better[:, None], best, at), np.maximum(part.max(axis=1), high)
    return np.concatenate(seen), np.concatenate(values)


def explain(
    mean: float, variance: float, best: float, low: float, offset: float, row: Array, rows: Array,
    number: Ints, goal: Goal,
) -> str:  # fmt: skip
    """Say what a proposal promises, in the goal's unit, and which trial it is nearest to."""
    z = mean + math.sqrt(variance) * NORMAL
    gain = np.maximum(math.exp(best) - np.exp(z), 0.0).mean()
    gap = np.nan_to_num(np.abs(rows - row), nan=1.0)
    near = int(number[int(np.argmin((gap**2).sum(axis=1)))])
    predicted = low - offset + math.exp(mean)
    return f"expected improvement {gain:.2g}, {goal.said(predicted)} predicted, near trial {near}"
