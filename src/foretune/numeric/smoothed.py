"""Noisy results seen through a model: what each point is worth once its neighbours have been asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.gp import Evidence, condition, fit, prior
from foretune.numeric.kernel import KERNELS, Columns

__all__ = ["Smoothed", "smoothed"]

Array = NDArray[np.float64]

LEAST = 8  # points below which a model of the noise is not believed
MOST = 300  # points that are modelled at most; the cost grows as their cube
STEPS = 40  # L-BFGS iterations of each fit
NOISY = 0.3  # share of the outputs' variance that one of the starts takes for noise


@final
@dataclass(frozen=True)
class Smoothed:
    """Posterior of the noise-free values at the points themselves.

    Attributes:
        rows: which points were modelled, (k,).
        mean, sd: (k,) posterior means and standard deviations, in the outputs' unit.
        noise: the standard deviation of the noise, as the evidence has it.
    """

    rows: NDArray[np.intp]
    mean: Array
    sd: Array
    noise: float


def smoothed(columns: Columns, x: Array, y: Array) -> Smoothed | None:
    """Fit a Gaussian process with noise and return its posterior at the points.

    Outputs are not warped, for a warp would turn symmetric noise into bias. Kernel and scales are chosen by
    evidence, from starts with little and with much noise.

    Args:
        columns: kinds of the columns.
        x: (n, d) rows of the unit cube, NaN where inactive.
        y: (n,) finite outputs, less is better.

    Returns:
        None where fewer than eight points, or equal outputs, say nothing of noise.
    """
    n = len(y)
    spread = float(y.std()) if n else 0.0
    if n < LEAST or not spread > 0.0 or columns.width == 0:
        return None
    # Outliers (a diverged corner of the space) would pass for signal and hide the noise elsewhere.
    order = np.argsort(y, kind="stable")
    low, middle = y[order[0]], float(np.median(y))
    sane = np.flatnonzero(y <= middle + 5.0 * max(middle - low, 1e-300))
    rows = sane
    if len(rows) > MOST:
        ranked = sane[np.argsort(y[sane], kind="stable")]
        others = ranked[MOST // 2 :]
        spread_out = others[np.linspace(0, len(others) - 1, MOST - MOST // 2).astype(int)]
        rows = np.sort(np.concatenate([ranked[: MOST // 2], spread_out]))
    if len(rows) < LEAST or float(y[rows].std()) == 0.0:
        return None
    at, scale = float(y[rows].mean()), float(y[rows].std())
    t = (y[rows] - at) / scale
    first, _ = prior(columns.width)
    quiet, noisy = first.copy(), first.copy()
    noisy[-1] = np.log(NOISY)
    best: tuple[float, str, Array] | None = None
    for kind in KERNELS:
        value, theta = fit(Evidence(columns, x[rows], t, kind), [quiet, noisy], STEPS)
        if best is None or value > best[0]:
            best = value, kind, theta
    if best is None or not np.isfinite(best[0]):
        return None
    mean, variance = condition(columns, best[1], best[2], x[rows], t).predict(x[rows])
    noise = float(np.sqrt(np.exp(best[2][-1])))
    return Smoothed(rows, at + scale * mean, scale * np.sqrt(variance), scale * noise)
