"""Monotone warps of outputs: what is skewed becomes nearly normal. Box-Cox, chosen by evidence.

    z = (y - min y) / q + c,   q = median y - min y (at least 1e-100 of the range)
    power p > 0:  t = z^p / p;      power 0:  t = log z;      t is then standardised

The log density of y under a model of t is that of t plus the log Jacobian, sum_i log dt/dy_i: with
it, warps can be compared on the same data.

Source: An Analysis of Transformations
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["WARPS", "Warp", "warp"]

Array = NDArray[np.float64]

# name -> (power, c). c keeps the best value, where z would be 0, from becoming an outlier: a tenth
# of the way to the median.
WARPS = {"none": (1.0, 0.0), "root": (0.5, 0.1), "log": (0.0, 0.1)}

# Of outputs from 1e-300 to 1e100 in one study, too, squares are finite:
LEAST = 1e-100  # the scale, as a share of the range
FURTHEST = 460.0  # of a logarithm whose power is taken: 1e200 scales


@final
@dataclass(frozen=True)
class Warp:
    """A fitted warp: ``warp(y)`` gives standardised values; ``log_jacobian`` compares warps."""

    power: float
    offset: float
    low: float
    scale: float
    mean: float
    sd: float
    log_jacobian: float

    def __call__(self, y: Array) -> Array:
        """Map outputs (n,) to standardised ones."""
        return (_raw(y, self.power, self.offset, self.low, self.scale) - self.mean) / self.sd

    def inverse(self, t: Array) -> Array:
        """Map standardised values back to outputs; beyond the warp's range, to its end."""
        raw = t * self.sd + self.mean
        if self.power == 0.0:
            z = np.exp(np.minimum(raw, FURTHEST))
        else:
            z = raw if self.power == 1.0 else np.maximum(raw * self.power, 0.0) ** (1.0 / self.power)
        return (z - self.offset) * self.scale + self.low


def _raw(y: Array, power: float, offset: float, low: float, scale: float) -> Array:
    z = np.maximum((y - low) / scale + offset, 1e-12 if power < 1 else -np.inf)
    return np.log(z) if power == 0.0 else z**power / power if power != 1.0 else z


def warp(name: str, y: Array) -> Warp:
    """Fit the warp called ``name`` (a key of ``WARPS``) to outputs (n,), n >= 1, all finite."""
    power, offset = WARPS[name]
    low = float(y.min())
    scale = float(np.median(y)) - low
    if not scale > 0.0:  # half of the values equal the best: no median to scale by
        power, offset = WARPS["none"]
        scale = float(np.ptp(y)) or 1.0
    scale = max(scale, LEAST * float(np.ptp(y)))
    raw = _raw(y, power, offset, low, scale)
    sd = float(raw.std()) or 1.0
    z = np.maximum((y - low) / scale + offset, 1e-300)
    jacobian = (power - 1.0) * float(np.log(z).sum()) if power != 1.0 else 0.0
    jacobian -= len(y) * float(np.log(scale) + np.log(sd))
    return Warp(power, offset, low, scale, float(raw.mean()), sd, jacobian)
