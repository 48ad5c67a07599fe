"""A prior of losses over hyperparameters: random functions on the unit cube, as tasks to learn from.

    y = w(f(x)) + noise,     f ~ GP(0, s M(r) + t T T'),     r^2 = sum_j (x_j - x'_j)^2 / l_j^2

M is squared exponential or Matern 5/2, T holds linear and quadratic main effects, w is the identity or a convex
warp (losses are skewed: bad configs are worse than good ones are good). Some columns take few values, in
the order of a hidden number of theirs or in none. Length scales follow the same law as the Gaussian process
sampler's, mixed with a rougher one.

Source: Vanilla Bayesian Optimization Performs Great in High Dimensions | the law of length scales
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.kernel import profile

__all__ = ["COLUMNS", "gaussian_process", "losses"]

Array = NDArray[Any]

COLUMNS = 12  # columns at most
_P_LEVELS = 0.15  # probability that a column takes few values


def gaussian_process(
    draw: np.random.Generator, b: int, n: int, d: int = 1, scale: float = 0.2, noise: float = 0.1
) -> tuple[Array, Array]:
    """Draw b tasks of n points of a unit squared-exponential process on the unit cube: (b, n, d), (b, n).

    Args:
        scale: length scale. noise: standard deviation.
    """
    x = draw.random((b, n, d))
    r2 = ((x[:, :, None] - x[:, None]) ** 2).sum(-1) / scale**2
    k = np.exp(-0.5 * r2) + (noise**2 + 1e-10) * np.eye(n)
    return x, (np.linalg.cholesky(k) @ draw.standard_normal((b, n, 1)))[..., 0]


def _points(draw: np.random.Generator, b: int, n: int, d: int) -> Array:
    """Draw points: uniform ones, and for half of the tasks a part crowded about a place, as a search leaves them."""
    x = draw.random((b, n, d))
    centre, width = draw.random((b, 1, d)), np.exp(draw.uniform(np.log(0.02), np.log(0.3), (b, 1, 1)))
    near = centre + width * draw.standard_normal((b, n, d))
    near = np.abs(near)
    near = np.clip(np.where(near > 1.0, 2.0 - near, near), 0.0, 1.0)
    crowded = draw.random((b, n)) < np.where(draw.random((b, 1)) < 0.5, draw.random((b, 1)), 0.0)
    return np.asarray(np.where(crowded[..., None], near, x))


def losses(draw: np.random.Generator, b: int, n: int) -> tuple[Array, Array]:
    """Draw b tasks of n points: x (b, n, d) with one random d of 1 to 12, y (b, n)."""
    d = int(min(COLUMNS, 1 + draw.geometric(0.22)))
    if draw.random() < 0.1:
        d = 1
    x = _points(draw, b, n, d)
    place = x.copy()  # where the function sees the point
    for j in range(d):  # columns of few values: x is the cell's middle, as an encoded choice or int
        few = draw.random(b) < _P_LEVELS
        k = draw.integers(2, 7, size=(b, 1))
        cell = np.minimum((x[:, :, j] * k).astype(int), k - 1)
        middle = (cell + 0.5) / k
        hidden = draw.random((b, 6))  # a category's own place: no order
        ordered = draw.random((b, 1)) < 0.5
        own = np.where(ordered, middle, np.take_along_axis(hidden, cell, axis=1))
        x[:, :, j] = np.where(few[:, None], middle, x[:, :, j])
        place[:, :, j] = np.where(few[:, None], own, place[:, :, j])
    smooth = draw.random((b, 1)) < 0.6
    centre = np.where(smooth, np.sqrt(2.0), np.log(0.5)) + 0.5 * np.log(d)
    spread = np.where(smooth, np.sqrt(3.0), 1.0)
    scale = np.exp(np.clip(centre + spread * draw.standard_normal((b, d)), np.log(0.05), np.log(50.0)))
    f = place / scale[:, None]
    square = (f * f).sum(-1)
    r2 = np.maximum(square[:, :, None] + square[:, None] - 2.0 * (f @ f.transpose(0, 2, 1)), 0.0)
    kind = draw.random((b, 1, 1)) < 0.5
    m = np.where(kind, profile("rbf", r2)[0], profile("matern52", r2)[0])
    z = 2.0 * place - 1.0
    effect = (
        np.concatenate([z, 1.5 * z * z - 0.5], axis=-1) * draw.exponential(1.0, (b, 1, 2 * d)) / np.sqrt(d)
    )
    t = np.where(
        draw.random((b, 1, 1)) < 0.7, np.exp(np.log(0.3) + 1.5 * draw.standard_normal((b, 1, 1))), 0.0
    )
    cov = m + t * (effect @ effect.transpose(0, 2, 1))
    size = np.sqrt(np.einsum("bii->b", cov) / n)[:, None]
    cov += 1e-6 * (size**2)[:, :, None] * np.eye(n)
    y = (np.linalg.cholesky(cov) @ draw.standard_normal((b, n, 1)))[..., 0] / size
    bend = np.where(draw.random((b, 1)) < 0.4, draw.uniform(0.2, 1.2, (b, 1)), 0.0)
    y = np.where(bend > 0.0, np.expm1(np.minimum(bend * y, 6.0)) / np.maximum(bend, 1e-9), y)
    sd = y.std(axis=1, keepdims=True)
    noise = np.exp(np.clip(-4.0 + 1.5 * draw.standard_normal((b, 1)), -8.0, -0.5))
    return x, y + noise * sd * draw.standard_normal(y.shape)
