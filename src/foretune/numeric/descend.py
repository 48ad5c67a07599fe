"""Quasi-Newton descent of many points at once inside the unit cube: batched BFGS with projection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["descend"]

Array = NDArray[np.float64]

FIRST = 0.03  # largest coordinate of the first step: small against the cube, large against rounding
LONGEST = 0.3  # largest coordinate of any step
ARMIJO = 1e-4  # part of the linear decrease that a step must reach (Nocedal and Wright, ch. 3)


def descend(
    f: Callable[[Array], tuple[Array, Array]],
    start: Array,
    free: NDArray[np.bool_],
    steps: int,
    tolerance: float = 1e-7,
    low: Array | float = 0.0,
    high: Array | float = 1.0,
) -> tuple[Array, Array]:
    """Minimise a function from several points, one call of it a step for all points together.

    Each point has its own inverse Hessian (BFGS). Coordinates at a face of the cube whose gradient
    points outward are held for the step; a step that fails Armijo's condition is retried shorter.

    Args:
        f: (b, d) points -> (b,) values and (b, d) gradients.
        start: (b, d) points; entries that are not free are passed on untouched (NaN too).
        free: (b, d) which entries may move.
        steps: calls of ``f`` at most.
        low, high: ends of the box, each one number or (d,); the unit cube unless given.
        tolerance: a decrease below this, twice in a row, ends a point's descent.

    Returns:
        (b, d) points and (b,) values, never worse than at the start.
    """
    b, d = start.shape
    x = start.copy()
    value, slope = f(x)
    slope = np.where(free, slope, 0.0)
    inverse = np.broadcast_to(np.eye(d), (b, d, d)).copy()
    inverse *= (FIRST / np.maximum(np.abs(slope).max(axis=1, initial=0.0), 1e-12))[:, None, None]
    fresh = np.ones(b, dtype=bool)  # no curvature seen yet
    length, calm = np.ones(b), np.zeros(b, dtype=int)
    for _ in range(steps):
        held = ~free | ((x <= low) & (slope > 0.0)) | ((x >= high) & (slope < 0.0))
        g = np.where(held, 0.0, slope)
        p = -np.where(held, 0.0, (inverse @ g[:, :, None])[:, :, 0])
        uphill = (p * g).sum(axis=1) >= 0.0
        p[uphill] = -g[uphill]
        p *= (length * np.minimum(1.0, LONGEST / np.maximum(np.abs(p).max(axis=1), 1e-300)))[:, None]
        trial = np.where(free, np.clip(x + p, low, high), x)
        new, new_slope = f(trial)
        new_slope = np.where(free, new_slope, 0.0)
        s = np.where(free, trial - x, 0.0)
        better = new <= value + ARMIJO * (g * s).sum(axis=1)
        better &= calm < 2
        y = new_slope - slope
        curvature = (s * y).sum(axis=1)
        update = better & (curvature > 1e-12)
        first = update & fresh
        if first.any():
            scale = curvature[first] / np.maximum((y[first] ** 2).sum(axis=1), 1e-300)
            inverse[first] = scale[:, None, None] * np.eye(d)
            fresh &= ~first
        if update.any():
            inverse[update] = _bfgs(inverse[update], s[update], y[update], curvature[update])
        small = np.abs(value - new) < tolerance
        calm = np.where(better & small, calm + 1, np.where(better, 0, np.where(length < 1e-3, 2, calm)))
        length = np.where(better, 1.0, length * 0.3)
        x = np.where(better[:, None], trial, x)
        value = np.where(better, new, value)
        slope = np.where(better[:, None], new_slope, slope)
        if (calm >= 2).all():
            break
    return x, value


def _bfgs(h: Array, s: Array, y: Array, sy: Array) -> Array:
    """Update inverse Hessians: (I - s y'/sy) H (I - y s'/sy) + s s'/sy."""
    hy = (h @ y[:, :, None])[:, :, 0]
    yhy = (y * hy).sum(axis=1)
    outer = s[:, :, None] * hy[:, None, :]
    twice = ((sy + yhy) / sy**2)[:, None, None] * (s[:, :, None] * s[:, None, :])
    updated: Array = h + twice - (outer + outer.transpose(0, 2, 1)) / sy[:, None, None]
    return updated
