"""What a model may learn from a history: rows, steps, losses; failures and partial runs included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.stats import tamed
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED

__all__ = ["Observations", "observe"]

Array = NDArray[np.float64]

LEVELS = 3  # losses that a trial contributes at most: at its last report, and at earlier rungs


@final
@dataclass(frozen=True)
class Observations:
    """Data for a model, in the order in which trials settled; running ones with reports come last.

    Attributes:
        number: (n,) the trial that each row belongs to.
        place: (n,) the step, log-scaled to [0, 1]: 1 is the full length.
        loss: (n,) finite losses, tamed beyond 1e100; a failed or diverged trial has the worst finite one, one that
            a limit of time or memory cut short its own so far, or the median where that is worse.
        graded: whether steps differ, so that ``place`` carries information.
        censored: (n,) rows of trials that were cut short: their true loss is not known.
    """

    number: NDArray[np.intp]
    place: Array
    loss: Array
    graded: bool
    censored: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))


def observe(problem: Problem, history: History) -> Observations:
    """Collect the losses of all trials that have one.

    A trial that ran part of the way gives its last loss at its last step, and its losses at up to
    two earlier rungs (each a fourth of the step before), so that a model with the step as a column
    learns what training longer does. A failed or diverged trial counts as the worst finite loss at
    full length; it is known, so it is not proposed again. A trial that was given up because its workers were lost
    counts by what it has reported, if anything.

    A trial that was cut by a limit of time or memory is censored: what it would have reached is not known.
    The worst loss would be a lie about its neighbours (the best model is often the largest that fits), and
    its last loss an invitation to be cut again. It counts as the worse of its last loss and the median.
    """
    steps = problem.steps
    span = float(np.log(steps.high / steps.low)) or 1.0
    rows: list[tuple[int, float, float]] = []
    censored: set[int] = set()
    pending = set(history.pending)
    order = list(dict.fromkeys(history.settled))
    settled = set(order)
    order += [i for i in range(len(history)) if i not in settled]
    for number in order:
        last = history.loss(number)
        if last != last:
            continue
        if np.isinf(last):
            cut = history.state(number) == FAILED and "cut" in history[number].notes
            so_far = [x for x in history.curve(number)[1] if np.isfinite(x)][-1:] if cut else []
            rows.append((number, 1.0, so_far[0] if so_far else np.inf))
            if cut:
                censored.add(number)
            continue
        at, losses = history.curve(number)
        taken = [(at[-1], losses[-1])]
        target = at[-1] / 4.0
        for s, x in zip(reversed(at[:-1]), reversed(losses[:-1]), strict=True):
            if s <= target and s >= steps.low and np.isfinite(x) and len(taken) < LEVELS:
                taken.append((s, x))
                target = s / 4.0
        if number not in pending or at[-1] >= steps.low:
            for s, x in reversed(taken):
                place = (
                    1.0 - float(np.log(max(steps.high / s, 1.0))) / span if steps.high > steps.low else 1.0
                )
                rows.append((number, float(np.clip(place, 0.0, 1.0)), x))
    number_, place_, loss = (np.array([r[k] for r in rows]) for k in range(3))
    cut_ = np.array([r[0] in censored for r in rows], dtype=bool)
    loss = tamed(loss)
    whole = np.isfinite(loss) & ~cut_
    if whole.any():
        middle = float(np.median(loss[whole]))
        loss = np.where(cut_, np.where(np.isfinite(loss), np.maximum(loss, middle), middle), loss)
    finite = np.isfinite(loss)
    if finite.any():
        loss = np.where(finite, loss, loss[finite].max())
    else:
        loss = np.zeros(len(loss))
    graded = len(place_) > 0 and float(np.ptp(place_)) > 0.0
    return Observations(number_.astype(int), place_.astype(float), loss.astype(float), graded, cut_)
