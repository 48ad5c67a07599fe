"""Asking any surrogate where improvement is to be expected: the part that model-based samplers share.

A first design (the default and a Sobol sequence); then rows, steps and losses as ``observations.py`` gives them,
failures and partial runs included; a model of these; its largest log expected improvement over the mixed unit cube;
pending trials taken to give what the model predicts; a reason in numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foretune.base.key import Key
from foretune.numeric.acquisition import log_ei
from foretune.numeric.candidates import Field, maximise
from foretune.numeric.kernel import Columns
from foretune.numeric.surrogate import representative
from foretune.numeric.warp import WARPS, warp
from foretune.search.distinct import whole
from foretune.search.encoding import Encoding
from foretune.search.modelled import Frame, begun, design_size, encoded, first_design, one_thread
from foretune.search.observations import Observations
from foretune.search.sampler import Proposal
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["Build", "Model", "Scored", "ask", "shown", "unskewed"]

Array = NDArray[np.float64]

SAME = 1e-9  # rows closer than this in each column are one config
CENTRES = 4  # best rows whose neighbourhoods are searched


class Model(ABC):
    """A model of (warped) losses over rows of the unit cube; a row's last column is the step if steps differ."""

    TILT: ClassVar[float] = 1e-4  # step of the differences that stand in for a gradient

    @abstractmethod
    def mean(self, rows: Array) -> Array:
        """Return predicted means, (m,), of the warped loss."""

    @abstractmethod
    def value(self, rows: Array, best: float) -> Array:
        """Return log expected improvement over ``best``, (m,)."""

    @abstractmethod
    def gain(self, row: Array, best: float) -> float:
        """Return the expected improvement of one row, (1, d), in the unit of the loss."""

    @abstractmethod
    def believe(self, rows: Array) -> Model:
        """Take rows whose losses are awaited to give what is predicted there."""

    def gradient(self, rows: Array, best: float) -> tuple[Array, Array]:
        """Return values (m,) and gradients (m, d); here by central differences, NaN columns left at zero."""
        m, d = rows.shape
        shift = self.TILT * np.eye(d)
        around = np.concatenate([rows[:, None] + shift, rows[:, None] - shift], axis=1)
        found = self.value(np.concatenate([rows, around.reshape(-1, d)]), best)
        sides = found[m:].reshape(m, 2, d)
        slope = (sides[:, 0] - sides[:, 1]) / (2.0 * self.TILT)
        return found[:m], np.where(np.isnan(rows) | ~np.isfinite(slope), 0.0, slope)

    def move(self, row: Array, known: Array, enc: Encoding) -> tuple[Array, str]:
        """Change the chosen row (d,) if the model does not trust itself there; return it and a word on it."""
        return row, ""


class Scored(Model):
    """A model whose predictions are normal scores: mean and variance at each row are all that it needs to give."""

    @abstractmethod
    def both(self, rows: Array) -> tuple[Array, Array]:
        """Return mean and variance of the normal score at rows (m, d): (m,) each."""

    def mean(self, rows: Array) -> Array:
        return self.both(rows)[0]

    def value(self, rows: Array, best: float) -> Array:
        return log_ei(*self.both(rows), best)

    def gain(self, row: Array, best: float) -> float:
        return float(np.exp(self.value(row, best)[0]))


# (columns, rows (n, d), losses (n,), trial of each row, key) -> model
Build = Callable[[Columns, Array, Array, NDArray[np.intp], Key], Model]


def ask(
    problem: Problem,
    history: History,
    n: int,
    key: Key,
    *,
    word: str,
    initial: int | None,
    most: int,
    build: Build,
) -> list[Proposal]:
    """Propose ``n`` configs by a model.

    Args:
        word: the sampler's name, which its randomness hangs on.
        initial: trials before the model speaks; None: min(6, width + 1), at least 4.
        most: losses that the model is given at most.
        build: makes the model.
    """
    found, data = begun(problem, history, n, design_size(initial, problem.space.width), word)
    if data is None:
        return found
    with one_thread():
        return found + _modelled(problem, history, data, n - len(found), key, found, word, most, build)


def _modelled(
    problem: Problem, history: History, data: Observations, n: int, key: Key, before: list[Proposal],
    word: str, most: int, build: Build,
) -> list[Proposal]:  # fmt: skip
    space, enc = problem.space, encoded(problem.space)
    frame = Frame(enc, data.graded)
    lift = frame.lift
    keep = representative(data.loss, most)
    number, place, loss = data.number[keep], data.place[keep], data.loss[keep]
    rows = history.units[number]
    pending = history.units[np.array(history.pending, dtype=int)]
    if before:
        pending = np.concatenate([pending, space.encode(p.config for p in before)])
    known = np.concatenate([history.units, pending[len(history.pending) :]])
    fitted = build(frame.columns, lift(rows, place), loss, number, problem.key.fold(word))
    found: list[Proposal] = []
    for i in range(n):
        model = fitted.believe(lift(pending)) if len(pending) else fitted
        mean = model.mean(lift(rows))
        order = np.argsort(mean, kind="stable")
        best = float(mean[order[0]])
        chosen = _best(enc, model, lift, rows[order[:CENTRES]], best, known, key.fold(word, i).generator())
        if chosen is None:
            return found + first_design(problem, history, n - i, before + found, word)
        chosen, remark = model.move(chosen, known[: len(history)], enc)
        if _taken(chosen, known):
            return found + first_design(problem, history, n - i, before + found, word)
        gap = np.nan_to_num(np.abs(rows - chosen), nan=1.0)
        near = int(number[int(np.argmin((gap**2).sum(axis=1)))])
        gain = model.gain(lift(chosen[None]), best)
        reason = f"expected improvement {gain:.2g} near trial {near}{remark}; {shown(space, chosen)}"
        found.append(Proposal(space.decode(chosen[None])[0], reason))
        pending = np.concatenate([pending, chosen[None]])
        known = np.concatenate([known, chosen[None]])
    return found


def _taken(row: Array, known: Array) -> bool:
    if not len(known):
        return False
    gap = np.abs(np.where(np.isnan(known), -1.0, known) - np.where(np.isnan(row), -1.0, row))
    return bool(gap.max(axis=1).min() <= SAME)


def _best(
    enc: Encoding,
    model: Model,
    lift: Any,
    centres: Array,
    best: float,
    known: Array,
    rng: np.random.Generator,
) -> Array | None:
    d = len(enc.levels)

    def value(rows: Array) -> Array:
        return model.value(lift(rows), best)

    def gradient(rows: Array) -> tuple[Array, Array]:
        v, g = model.gradient(lift(rows), best)
        return v, g[:, :d]

    field = Field(value, gradient, enc.snap, enc.soft, enc.steps, np.array(enc.levels) == 0)
    everything = whole(enc.space)
    extra = np.zeros((0, d))
    if everything is not None:
        extra = enc.space.encode(everything)
        extra = np.where(np.isnan(extra), 0.5, extra)
    rows, _ = maximise(field, centres, extra, rng)
    for row in rows:
        if not _taken(row, known):
            return np.asarray(row)
    return None


def unskewed(y: Array) -> str:
    """Name the warp after which losses (n,) are least skewed."""

    def skew(name: str) -> float:
        t = warp(name, y)(y)
        return abs(float(((t - t.mean()) ** 3).mean())) / max(float(t.std()) ** 3, 1e-12)

    return min(WARPS, key=skew)


def shown(space: Space, row: Array) -> str:
    """Name the first four values of a row's config."""
    config = space.decode(row[None])[0]
    words = [f"{k} {f'{v:.3g}' if isinstance(v, float) else v}" for k, v in config.items()]
    return ", ".join(words[:4]) + (", ..." if len(words) > 4 else "")
