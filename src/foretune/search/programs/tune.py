"""Constant tuning: damped Gauss-Newton towards the least largest error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foretune.search.programs.program import Program

__all__ = ["tuned", "worst"]

Array = NDArray[np.float64]

FIRST = 1e-3  # initial damping, as a share of the normal matrix's diagonal
POWER = 0.5  # how fast weights follow the errors from one step to the next


def worst(program: Program, x: Array, y: Array, scale: Array) -> float:
    """Return max |program(x) - y| / scale; inf where the program gives what is not finite."""
    found = np.max(np.abs(program(x) - y) / scale)
    return float(found) if np.isfinite(found) else float("inf")


def tuned(program: Program, x: Array, y: Array, scale: Array, steps: int) -> Program:
    """Move a program's constants so that its largest error shrinks; never returns a worse one.

    Each step is one of Levenberg and Marquardt's for sum w_i (error_i / scale_i)^2, whose weights are then
    multiplied by the size of the errors to the power 1/2 (a damped Lawson iteration): points that are met badly
    count for more, so that least squares turn towards the least maximum.

    Args:
        program: where to begin.
        x, y, scale: (n,) points, targets, and what errors are measured in.
        steps: how many steps at most.

    Returns:
        the best program met on the way, with its ``error`` on these points.

    Source: Contributions to the Theory of Linear Least Maximum Approximation | the weights
    """
    best = replace(program, error=worst(program, x, y, scale))
    if not program.constants or not np.isfinite(best.error):
        return best
    with np.errstate(all="ignore"):  # what overflows is refused
        return _improved(best, x, y, scale, steps)


def _improved(best: Program, x: Array, y: Array, scale: Array, steps: int) -> Program:
    here, weight, damping = best, np.ones(len(x)), FIRST
    for _ in range(steps):
        value, jacobian = here.gradient(x)
        r, j = (value - y) / scale, jacobian / scale[:, None]
        if not (np.isfinite(r).all() and np.isfinite(j).all()):
            break
        jw = j * weight[:, None]
        normal, slope = j.T @ jw, r @ jw
        diagonal = np.diag(normal)
        loss = float(weight @ r**2)
        moved = None
        for _ in range(6):
            try:
                step = np.linalg.solve(normal + np.diag(damping * diagonal + 1e-300), -slope)
            except np.linalg.LinAlgError:
                damping *= 10.0
                continue
            there = replace(here, constants=tuple((np.asarray(here.constants) + step).tolist()))
            miss = (there(x) - y) / scale
            if np.isfinite(miss).all() and float(weight @ miss**2) <= loss:
                moved, damping = there, max(damping / 5.0, 1e-12)
                break
            damping *= 5.0
        if moved is None:
            break
        gain = 1.0 - float(weight @ miss**2) / loss if loss > 0.0 else 0.0
        here = replace(moved, error=float(np.max(np.abs(miss))))
        if here.error < best.error:
            best = here
        if gain < 1e-3 or loss == 0.0:
            size = np.abs(miss)
            top = float(size.max())
            if top == 0.0:
                break
            weight = weight * (size / top) ** POWER + 1e-12
            weight /= weight.sum() / len(weight)
    return best
