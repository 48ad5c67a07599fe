"""What the samplers with Gaussian processes share: rows, first designs, models of bounds, proposals.

No sampler itself. A proposal maximises a sum of log terms over the legal rows of a space, such as log
expected improvement plus the log probability that all constraints are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base.lazy import require
from foretune.numeric.acquisition import log_kept, log_kept_gradient
from foretune.numeric.candidates import Field, maximise
from foretune.numeric.kernel import Columns
from foretune.numeric.surrogate import Surrogate, representative, surrogate
from foretune.search.distinct import DRAWS, SMALL, pick, signature, whole
from foretune.search.encoding import Encoding, encoding
from foretune.search.observations import Observations, observe
from foretune.search.sampler import Proposal
from foretune.search.sobol import points
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = [
    "Bounds", "Frame", "Term", "begun", "bounds_of", "design_size", "encoded", "first_design", "in_order",
    "one_thread", "propose", "values_of",
]  # fmt: skip

Array = NDArray[np.float64]
Term = tuple[Callable[[Array], Array], Callable[[Array], tuple[Array, Array]]]

SAME = 1e-9  # rows closer than this in each column are one config
FEWEST = 3  # values that a model needs


@functools.lru_cache(maxsize=1)
def _threads() -> Any:
    require("scipy.linalg.lapack", "The GP sampler")  # loaded first, so that its library is found
    try:
        return require("threadpoolctl", "The GP sampler").ThreadpoolController()
    except ImportError:
        return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread: beside training, more of them only wait for each other."""
    controller = _threads()
    if controller is None:
        yield
        return
    with controller.limit(limits=1, user_api="blas"):
        yield


@functools.lru_cache(maxsize=16)
def encoded(space: Space) -> Encoding:
    """Return the columns of a space; looked up where it was asked before."""
    return encoding(space)


def first_design(
    problem: Problem, history: History, n: int, before: Sequence[Proposal] = (), word: str = "gp"
) -> list[Proposal]:
    """Propose the space's default, then the points of a Sobol sequence, but for what was tried lately.

    Args:
        before: proposals of the same ask, to be counted and avoided.
        word: what the sequence hangs on; samplers with the same word begin alike.
    """
    at = len(history) + len(before)
    # rows of a large space may coincide too, where all that is active is discrete
    tried = {signature(t.config) for t in history[max(0, len(history) - SMALL) :]}

    def stream() -> Iterator[Mapping[str, Any]]:
        if at == 0:
            yield problem.space.default()
        refused = 0
        for config in points(problem.space, problem.key.fold(word), at, n + 1):
            if refused < DRAWS and signature(config) in tried:
                refused += 1
                continue
            yield config

    picked = pick(history, stream(), n, avoid=[p.config for p in before])
    why = [
        note or ("the default" if at + i == 0 else "the first design") for i, (_, note) in enumerate(picked)
    ]
    return [Proposal(c, w) for (c, _), w in zip(picked, why, strict=True)]


def design_size(initial: int | None, width: int) -> int:
    """Return how many trials precede the model: ``initial``, or min(6, width + 1), at least 4."""
    return initial or max(4, min(6, width + 1))


def begun(
    problem: Problem, history: History, n: int, need: int, word: str = "gp"
) -> tuple[list[Proposal], Observations | None]:
    """Make the proposals that need no model, and collect what a model of losses may learn.

    Args:
        need: how many trials the first design has.

    Returns:
        At most ``n`` proposals; and the observations, or None where nothing is left for a model to propose
        or it could not be made: fewer than three trials with results, no parameters, equal losses.
    """
    early = max(0, min(n, need - len(history)))
    found = first_design(problem, history, early, word=word) if early else []
    if len(found) == n:
        return found, None
    data = observe(problem, history)
    if len(set(data.number.tolist())) < FEWEST or problem.space.width == 0 or np.ptp(data.loss) == 0.0:
        return found + first_design(problem, history, n - len(found), found, word), None
    return found, data


@final
@dataclass(frozen=True)
class Frame:
    """The rows of a problem as a model takes them.

    Attributes:
        enc: the columns of the space.
        graded: whether a last column holds the step, log-scaled to [0, 1].
        at: the step's place where none is given; 1 is the full length.
    """

    enc: Encoding
    graded: bool = False
    at: float = 1.0

    @functools.cached_property
    def columns(self) -> Columns:
        """Kinds of the columns, the step's included."""
        return Columns(self.enc.levels + ((0,) if self.graded else ()), self.enc.optional)

    def lift(self, rows: Array, place: Array | float | None = None) -> Array:
        """Add the step's column to rows (m, d); 1 is the full length."""
        if not self.graded:
            return rows
        last = np.broadcast_to(np.asarray(self.at if place is None else place, dtype=float), (len(rows),))
        return np.concatenate([rows, last[:, None]], axis=1)


def in_order(history: History) -> list[int]:
    """Return the numbers of all trials: settled ones in the order in which they settled, then the others."""
    order = dict.fromkeys(history.settled)
    return [*order, *(i for i in range(len(history)) if i not in order)]


def values_of(history: History, values: Array) -> tuple[NDArray[np.intp], Array]:
    """Return the trials with a finite value, in order, and these values.

    Args:
        values: (n,) one a trial; NaN where unknown.
    """
    number = np.array([i for i in in_order(history) if np.isfinite(values[i])], dtype=int)
    return number, values[number]


@final
@dataclass(frozen=True)
class Bounds:
    """The probability that a trial keeps all constraints, by one model a constraint.

    Attributes:
        frame: how rows are made for the models.
        models: a model of each constraint's violation (squashed), and the warped value of its bound.
        total: while no trial keeps all constraints, a model of the sum of what is broken, and its least
            predicted value at a trial.
    """

    frame: Frame
    models: tuple[tuple[Surrogate, float], ...]
    total: tuple[Surrogate, float] | None = None

    def log_probability(self, rows: Array) -> Array:
        """Return the log probability at rows (m, d): (m,)."""
        total = np.zeros(len(rows))
        for model, at in self.models:
            total += log_kept(*model.predict(self.frame.lift(rows)), at)
        return total

    def gradient(self, rows: Array) -> tuple[Array, Array]:
        """Return the log probability and its gradient: (m,), (m, d)."""
        value, slope = np.zeros(len(rows)), np.zeros(rows.shape)
        for model, at in self.models:
            v, g = log_kept_gradient(*model.posterior.gradients(self.frame.lift(rows)), at)
            value += v
            slope += g[:, : rows.shape[1]]
        return value, slope

    @property
    def term(self) -> Term:
        """The log probability as a term of an acquisition."""
        return self.log_probability, self.gradient


def bounds_of(problem: Problem, history: History, most: int, pending: Array) -> Bounds | None:
    """Model each constraint of a problem; None if there is none, or nothing is known of any.

    Violations v are squashed, asinh(v / median |v|): the bound stays at 0, and far ones do not outweigh the
    near. A value that is not finite counts as the worst finite one; a failed trial says nothing here.

    Args:
        most: values that a model holds at most; those nearest the bound come first.
        pending: (k, d) rows whose result is awaited.
    """
    frame, models = Frame(encoded(problem.space)), []
    violations = history.violations if problem.constraints else np.zeros((0, 0))
    excess = np.zeros(len(history))
    failed = set(history.numbers("failed"))
    for column in violations.T:
        known = np.isfinite(column)
        if known.any():
            broken = np.isposinf(column)
            broken[list(failed)] = False
            column = np.where(broken, column[known].max(), column)
        number, v = values_of(history, column)
        scale = (float(np.median(np.abs(v))) or float(np.abs(v).max())) if len(v) else 1.0
        excess += np.maximum(np.arcsinh(column / (scale or 1.0)), 0.0)
        if len(v) < FEWEST or np.ptp(v) == 0.0:
            continue
        keep = representative(np.abs(v), most)
        number, v = number[keep], v[keep]
        model = surrogate(frame.columns, history.units[number], np.arcsinh(v / scale), ("none",))
        models.append((model.believe(pending), float(model.warp(np.zeros(1))[0])))
    if not models:
        return None
    number, e = values_of(history, excess)
    if (e <= 0.0).any() or len(e) < FEWEST or np.ptp(e) == 0.0:
        return Bounds(frame, tuple(models))
    keep = representative(e, most)
    rows = history.units[number[keep]]
    total = surrogate(frame.columns, rows, e[keep]).believe(pending)
    return Bounds(frame, tuple(models), (total, float(total.predict(rows)[0].min())))


def propose(
    enc: Encoding, terms: Sequence[Term], centres: Array, known: Array, rng: np.random.Generator,
    box: tuple[Array, Array] | None = None,
) -> Array | None:  # fmt: skip
    """Maximise a sum of terms over the legal rows that are not known yet.

    Args:
        terms: pairs of functions of rows (m, d): the value, (m,); the value and its gradient, (m,), (m, d).
        centres: (c, d) rows to look around.
        known: (k, d) rows that are not proposed again.
        box: low and high ends, (d,) each, of the part of the cube that is searched; None: all.

    Returns:
        The best new row; None if all that were found are known.
    """

    def value(rows: Array) -> Array:
        total = terms[0][0](rows)
        for f, _ in terms[1:]:
            total = total + f(rows)
        return total

    def gradient(rows: Array) -> tuple[Array, Array]:
        v, g = terms[0][1](rows)
        for _, f in terms[1:]:
            more, slope = f(rows)
            v, g = v + more, g + slope
        return v, g

    field = Field(value, gradient, enc.snap, enc.soft, enc.steps, np.array(enc.levels) == 0)
    everything = whole(enc.space)
    extra = np.zeros((0, len(enc.levels)))
    if everything is not None:
        extra = enc.space.encode(everything)
        extra = np.where(np.isnan(extra), 0.5, extra)
    rows, _ = maximise(field, centres, extra, rng, box)
    return first_new(rows, known)


def first_new(rows: Array, known: Array) -> Array | None:
    """Return the first row that is not among the known ones; None if there is none."""
    filled = np.where(np.isnan(known), -1.0, known)
    for row in rows:
        probe = np.where(np.isnan(row), -1.0, row)
        if not len(filled) or np.abs(filled - probe).max(axis=1).min() > SAME:
            return np.asarray(row)
    return None
