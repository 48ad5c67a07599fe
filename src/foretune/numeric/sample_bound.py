"""How many tasks it takes to tune a parameter for a whole distribution of tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError

__all__ = [
    "MultiTask",
    "count_oscillations",
    "gap_bound",
    "multi_task_tune",
    "pseudo_dimension",
    "tuning_sample_bound",
]

Array = NDArray[np.float64]


def count_oscillations(utility: ArrayLike) -> int:
    """Count the oscillations of a curve: over all levels z, the most changes of [u(alpha) >= z] along the grid.

    Counted on the grid's points, so it is a lower bound for the curve itself; NaN points are left out.

    Args:
        utility: (points,) values along a dense grid.

    >>> count_oscillations([0.0, 1.0, 0.0, 1.0]), count_oscillations([0.0, 0.2, 0.9]), count_oscillations([1.0, 1.0])
    (3, 1, 0)
    """
    u = np.asarray(utility, dtype=float).reshape(-1)
    u = u[~np.isnan(u)]
    above = u[None, :] >= np.unique(u)[:, None]  # (levels, points): only these levels change the pattern
    return int((above[:, 1:] != above[:, :-1]).sum(1).max(initial=0))


def pseudo_dimension(oscillations: int) -> int:
    """Bound the pseudo-dimension of a class whose dual curves have at most B oscillations.

    d curves with a level each cut the parameter's range into at most d B + 1 pieces of equal pattern, so that
    2^d <= d B + 1 whenever d are shattered: the largest such d, of order ln B.

    >>> pseudo_dimension(1), pseudo_dimension(10), pseudo_dimension(1000)
    (1, 5, 13)
    """
    b = check.integer("oscillations", oscillations, 0)
    d = 0
    while 2 ** (d + 1) <= (d + 1) * b + 1:
        d += 1
    return d


def gap_bound(
    oscillations: int, span: float, tasks: int, delta: float = 0.05, constant: float = 1.0
) -> float:
    """Return the gap between mean utilities on ``tasks`` tasks and on all: constant H sqrt((ln B + ln 1/delta) / m).

    With probability 1 - delta it holds for all parameter values at once, so also for the tuned one.

    Args:
        oscillations: B; counted as at least 1.
        span: H, the range of the utility.
        tasks: m.
        constant: of the bound. The theory gives the order alone; 1 is the usual reading.
    """
    b = max(1, check.integer("oscillations", oscillations, 0))
    check.number("span", span, 0.0, open_low=True)
    check.integer("tasks", tasks, 1)
    if not 0.0 < check.number("delta", delta, 0.0, 1.0) < 1.0:
        raise ArgumentError(f"delta must be in (0, 1); got {delta!r}.")
    check.number("constant", constant, 0.0, open_low=True)
    return constant * span * math.sqrt((math.log(b) + math.log(1.0 / delta)) / tasks)


def tuning_sample_bound(
    num_oscillations: int, range_h: float, eps: float, delta: float = 0.05, constant: float = 1.0
) -> int:
    """Return how many tasks make the gap at most ``eps``: constant^2 (H / eps)^2 (ln B + ln 1/delta), rounded up.

    Args:
        num_oscillations: B, of each task's utility as a function of the parameter.
        range_h: H, the range of the utility.
        eps: the gap allowed between the mean utility on the tasks and on the distribution they come from.
        delta: probability that the bound fails.

    Source: Sample complexity of data-driven tuning of model hyperparameters in neural networks with structured parameter-dependent dual function

    Differs:
        1. The paper bounds B by properties of the network (for piecewise polynomial duals); here it is counted
           on curves (:func:`count_oscillations`).
        2. The constant is not given there; it is an argument, 1 by default.

    >>> tuning_sample_bound(10, 1.0, 0.1)
    530
    """  # noqa: E501 - the title's one line
    check.number("eps", eps, 0.0, open_low=True)
    one = gap_bound(num_oscillations, range_h, 1, delta, constant)
    return max(1, math.ceil((one / eps) ** 2 - 1e-9))


@dataclass(frozen=True)
class MultiTask:
    """A parameter tuned on several tasks.

    Attributes:
        alpha: the value with the largest mean utility.
        utility: that mean.
        low, high: interval of the mean utility over the distribution of tasks (:func:`gap_bound`).
        oscillations: the most that any task's curve has.
        tasks: how many tasks there were.
    """

    alpha: float
    utility: float
    low: float
    high: float
    oscillations: int
    tasks: int


def multi_task_tune(
    utilities: ArrayLike, alpha_grid: ArrayLike, span: float, delta: float = 0.05, constant: float = 1.0
) -> MultiTask:
    """Tune one parameter for all tasks together, with an interval that a new task's mean utility keeps to.

    Args:
        utilities: (tasks, points) utility of each task at each value; larger is better.
        alpha_grid: (points,) the values.
        span: H, the range of the utility: 1 for an accuracy.

    Raises:
        ArgumentError: shapes do not fit, or a utility is not finite.

    Source: Sample complexity of data-driven tuning of model hyperparameters in neural networks with structured parameter-dependent dual function

    >>> multi_task_tune([[0.5, 0.9, 0.4], [0.6, 0.8, 0.7]], [0.0, 0.5, 1.0], 1.0).alpha
    0.5
    """  # noqa: E501 - the title's one line
    u, grid = np.asarray(utilities, dtype=float), np.asarray(alpha_grid, dtype=float)
    if u.ndim != 2 or grid.shape != u.shape[1:] or not np.isfinite(u).all() or not u.size:
        raise ArgumentError(
            f"utilities must be finite, of shape (tasks, {grid.size}) for the grid; got the shape {u.shape}."
        )
    mean = u.mean(axis=0)
    best = int(np.argmax(mean))
    most = max(count_oscillations(row) for row in u)
    gap = gap_bound(most, span, len(u), delta, constant)
    value = float(mean[best])
    return MultiTask(float(grid[best]), value, value - gap, value + gap, most, len(u))
