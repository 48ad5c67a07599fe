"""Successive over-relaxation: a solver whose one parameter decides how many sweeps it takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError

__all__ = ["poisson", "sor_iters"]

Array = NDArray[np.float64]


def poisson(side: int) -> Array:
    """Return the five-point Laplacian on a square of ``side`` x ``side`` inner points, (side^2, side^2).

    >>> poisson(2)[0].tolist()
    [4.0, -1.0, -1.0, 0.0]
    """
    check.integer("side", side, 1)
    line = 2.0 * np.eye(side) - np.eye(side, k=1) - np.eye(side, k=-1)
    return np.asarray(np.kron(np.eye(side), line) + np.kron(line, np.eye(side)) + 0.0, dtype=float)


def sor_iters(
    matrix: ArrayLike,
    right: ArrayLike,
    omega: ArrayLike,
    shift: ArrayLike = 0.0,
    tolerance: float = 1e-6,
    most: int = 1000,
) -> NDArray[np.intp]:
    """Count the sweeps that SOR takes from zero until the residual is ``tolerance`` times the right side.

        x_i <- x_i + omega (b_i - sum_j A_ij x_j) / A_ii   for i = 1, ..., n in turn,  A = matrix + shift I

    Many systems that differ in right side, shift and omega are swept side by side.

    Args:
        matrix: (n, n) with a positive diagonal.
        right: (n,) or (..., n) right sides b.
        omega: relaxation in (0, 2), one or (...).
        shift: c >= 0 added to the diagonal, one or (...).
        most: sweeps after which a system is given up and counts as ``most``.

    Returns:
        (...) sweeps, of the shape to which right sides, omegas and shifts broadcast.

    Raises:
        ArgumentError: shapes do not fit, or a number is out of range.

    Source: Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances

    >>> sor_iters(poisson(6), np.ones(36), [1.0, 1.4, 1.9]).tolist()
    [67, 19, 141]
    """
    a, b = np.asarray(matrix, dtype=float), np.asarray(right, dtype=float)
    w, c = np.asarray(omega, dtype=float), np.asarray(shift, dtype=float)
    n = len(a)
    if a.shape != (n, n) or b.shape[-1:] != (n,) or not (np.diag(a) > 0).all():
        raise ArgumentError(
            f"matrix must be square with a positive diagonal, right end in its size; got {a.shape}, {b.shape}."
        )
    if not ((w > 0) & (w < 2)).all() or not (c >= 0).all():
        raise ArgumentError(f"omega must lie in (0, 2) and shift be at least 0; got {omega!r}, {shift!r}.")
    check.number("tolerance", tolerance, 0.0, 1.0, open_low=True)
    check.integer("most", most, 1)
    shape = np.broadcast_shapes(b.shape[:-1], w.shape, c.shape)
    b = np.ascontiguousarray(np.broadcast_to(b, (*shape, n)).reshape(-1, n).T)  # (n, systems)
    w, c = (np.broadcast_to(v, shape).reshape(-1) for v in (w, c))
    others = [np.flatnonzero(row) for row in a - np.diag(np.diag(a))]
    count = np.zeros(b.shape[1], dtype=int)
    left = np.arange(b.shape[1])  # systems that are still swept
    x, goal = np.zeros_like(b), tolerance * np.sqrt((b**2).sum(0))
    for sweep in range(1, most + 1):
        wl, cl, bl = w[left], c[left], b[:, left]
        for i in range(n):
            gap = bl[i] - a[i, others[i]] @ x[others[i]]
            x[i] += wl * (gap / (a[i, i] + cl) - x[i])
        residual = np.sqrt(((bl - a @ x - cl * x) ** 2).sum(0))
        ended = residual <= goal[left]
        count[left] = sweep
        keep = ~ended & np.isfinite(residual)
        count[left[~np.isfinite(residual)]] = most
        if not keep.any():
            break
        left, x = left[keep], np.ascontiguousarray(x[:, keep])
    return count.reshape(shape)
