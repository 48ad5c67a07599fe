"""A function and its scatter by ridge regression on random Fourier features: closed form, any number of rows.

    y ~ w . phi(x),    phi_j(x) = sqrt(2 / p) cos(a_j . x + b_j),    a_j ~ N(0, 1 / l^2),  b_j ~ U(0, 2 pi)

The scale l and the penalty are those with the least error in five-fold validation; the scatter is a second
ridge on the log of the squared errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ridge", "ridge"]

Array = NDArray[np.float64]

FEATURES = 256
SCALES = (0.25, 0.5, 1.0, 2.0)  # of l, in units of sqrt(columns)
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # times the number of rows
FOLDS = 5
LEAST_SCATTER = 0.05  # of the outputs' deviation: a fit is never believed to be exact


@final
@dataclass(frozen=True)
class Ridge:
    """A fitted mean and scatter; ``predict`` gives both at rows of features."""

    a: Array  # (q, p)
    b: Array  # (p,)
    mean: Array  # (p + 1,)
    scatter: Array  # (p + 1,)
    floor: float

    def _phi(self, x: Array) -> Array:
        return _features(x, self.a, self.b)

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation at rows (m, q) -> (m,), (m,)."""
        phi = self._phi(x)
        sd: Array = np.exp(0.5 * np.clip(phi @ self.scatter, -20.0, 20.0))
        return phi @ self.mean, np.maximum(sd, self.floor)


def _features(x: Array, a: Array, b: Array) -> Array:
    phi: Array = float(np.sqrt(2.0 / len(b))) * np.cos(x @ a + b)
    return np.concatenate([phi, np.ones((len(x), 1))], axis=1)


def _solve(phi: Array, y: Array, penalty: float) -> Array:
    p = phi.shape[1]
    gram = phi.T @ phi
    ridge_ = np.full(p, penalty * len(y) / p)
    ridge_[-1] = 1e-9 * len(y)  # the intercept is free
    return np.asarray(np.linalg.solve(gram + np.diag(ridge_), phi.T @ y), dtype=float)


def ridge(x: Array, y: Array, rng: np.random.Generator) -> Ridge:
    """Fit.

    Args:
        x: (n, q) features of the rows, of order one.
        y: (n,) outputs.
        rng: for the random features and the folds.
    """
    n, q = x.shape
    base, b = rng.standard_normal((q, FEATURES)), rng.uniform(0.0, 2.0 * np.pi, FEATURES)
    fold = rng.permutation(n) % FOLDS
    best: tuple[float, Array, float, Array] | None = None
    for scale in SCALES:
        a = base / float(scale * np.sqrt(max(q, 1)))
        phi = _features(x, a, b)
        for penalty in PENALTIES:
            errors = np.empty(n)
            for k in range(FOLDS):
                held = fold == k
                if held.any() and not held.all():
                    errors[held] = y[held] - phi[held] @ _solve(phi[~held], y[~held], penalty)
                else:
                    errors[held] = y[held] - y.mean()
            score = float((errors**2).mean())
            if best is None or score < best[0]:
                best = score, a, penalty, errors
    assert best is not None  # there is at least one scale and one penalty
    _, a, penalty, errors = best
    phi = _features(x, a, b)
    floor = LEAST_SCATTER * max(float(y.std()), 1e-12)
    # E log chi-square(1) = -1.27: without it the scatter would be too small
    logs = np.log(np.maximum(errors**2, floor**2 * 1e-2)) + 1.27
    return Ridge(a, b, _solve(phi, y, penalty), _solve(phi, logs, max(PENALTIES)), floor)
