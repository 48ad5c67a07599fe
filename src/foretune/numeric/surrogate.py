"""A surrogate of skewed, noisy data: kernel and output warp chosen by evidence, scales refitted.

Two steps, so that the cost of one more point is small and the result is still a pure function of
the data:
    1. At checkpoints (row counts that grow by a fifth) kernel and warp are chosen and theta is fitted
       from fixed starts, on the rows up to the checkpoint. The choice is memoised: it is the same
       whether it is looked up or computed anew.
    2. Theta is refitted on all rows by a few steps of L-BFGS from the checkpoint's theta.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.gp import Evidence, Posterior, condition, fit, prior
from foretune.numeric.kernel import KERNELS, Columns
from foretune.numeric.warp import WARPS, Warp, warp

__all__ = ["Surrogate", "checkpoint", "representative", "surrogate"]

Array = NDArray[np.float64]

FIRST = 3  # rows at the first checkpoint
CHOICE_ROWS = 100  # rows that a choice of kernel and warp looks at, at most
FIT_ROWS = 200  # rows that a fit of theta looks at, at most
CHOICE_STEPS = 40  # L-BFGS iterations from each of the three starts
FIT_STEPS = 8  # L-BFGS iterations of the refit


@final
@dataclass(frozen=True)
class Surrogate:
    """A posterior over warped outputs, with the warp."""

    posterior: Posterior
    warp: Warp
    name: str
    x: Array  # (n, d)
    t: Array  # (n,) warped outputs

    @property
    def noise(self) -> float:
        """Variance of the noise of warped outputs, which have unit variance."""
        return float(np.exp(self.posterior.theta[-1]))

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and variance of the warped output at rows (m, d)."""
        return self.posterior.predict(x)

    def sample(self, x: Array, normals: Array) -> Array:
        """Draw functions from the posterior, at rows (m, d) jointly.

        Args:
            normals: (s, m) standard normal numbers.

        Returns:
            (s, m) warped outputs, noise-free.
        """
        mean, covariance = self.posterior.joint(x)
        # Eigenvalues below rounding are noise: a factor of the rest is exact enough, and always exists.
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(mean + (normals * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)

    def believe(self, pending: Array) -> Surrogate:
        """Take rows (k, d) whose outputs are awaited to give what the mean predicts.

        The mean stays as it is, the uncertainty there goes.
        """
        if not len(pending):
            return self
        p = self.posterior
        x = np.concatenate([self.x, pending])
        t = np.concatenate([self.t, p.predict(pending)[0]])
        return replace(self, posterior=condition(p.columns, p.kind, p.theta, x, t), x=x, t=t)


def checkpoint(n: int) -> int:
    """Return the last checkpoint that ``n`` rows have reached.

    >>> [checkpoint(n) for n in (3, 9, 20, 200)]
    [3, 9, 19, 181]
    """
    at = FIRST
    while (after := max(at + 1, int(at * 1.2))) <= n:
        at = after
    return min(at, n)


def representative(y: Array, most: int) -> NDArray[np.intp]:
    """Choose at most ``most`` rows: the best half, the latest quarter, the rest spread over the ranks.

    Args:
        y: (n,) outputs, in the order of time.

    Returns:
        Sorted indices.
    """
    n = len(y)
    if n <= most:
        return np.arange(n)
    order = np.argsort(y, kind="stable")
    chosen = set(order[: most // 2].tolist()) | set(range(n - most // 4, n))
    others = [i for i in order.tolist() if i not in chosen]
    places = np.linspace(0, len(others) - 1, most - len(chosen)).astype(int)
    return np.array(sorted(chosen | {others[i] for i in places}))


def starts(d: int) -> list[Array]:
    """Return where a fit begins: the prior's mean, a rougher function, and a smooth one under noise."""
    mean, _ = prior(d)
    rough, noisy = mean.copy(), mean.copy()
    rough[:d] = np.log(0.3) + 0.25 * np.log(max(d, 1))
    noisy[-1] = np.log(0.1)
    return [mean, rough, noisy]


@functools.lru_cache(maxsize=64)
def _choose(
    columns: Columns, x_bytes: bytes, y_bytes: bytes, warps: tuple[str, ...]
) -> tuple[str, str, tuple[float, ...]]:
    y = np.frombuffer(y_bytes)
    x = np.frombuffer(x_bytes).reshape(len(y), columns.width)
    keep = representative(y, CHOICE_ROWS)
    x, y = x[keep], y[keep]
    best: tuple[float, str, str, Array] | None = None
    for kind in KERNELS:
        for name in warps:
            warped = warp(name, y)
            evidence = Evidence(columns, x, warped(y), kind)
            value, theta = fit(evidence, starts(columns.width), CHOICE_STEPS)
            value += warped.log_jacobian
            if best is None or value > best[0]:
                best = (value, kind, name, theta)
    assert best is not None  # there is at least one kernel and one warp
    return best[1], best[2], tuple(best[3].tolist())


def surrogate(columns: Columns, x: Array, y: Array, warps: tuple[str, ...] = tuple(WARPS)) -> Surrogate:
    """Fit a surrogate.

    Args:
        columns: kinds of the columns.
        x: (n, d) rows of the unit cube, in the order of time, NaN where inactive.
        y: (n,) finite outputs, less is better.
        warps: names of the warps that are compared.
    """
    at = checkpoint(len(y))
    kind, name, theta = _choose(columns, np.ascontiguousarray(x[:at]).tobytes(), y[:at].tobytes(), warps)
    warped = warp(name, y)
    t = warped(y)
    rows = representative(y, FIT_ROWS)
    _, fitted = fit(Evidence(columns, x[rows], t[rows], kind), [np.array(theta)], FIT_STEPS)
    posterior = condition(columns, kind, fitted, x, t)
    return Surrogate(posterior, warped, f"{kind}/{name}", x, t)
