"""Legal rows of the unit cube: how densities and trees see a space, and whether a row is new."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from foretune.numeric.kde import Columns
from foretune.search.encoding import Encoding, encoding
from foretune.space.domain import Int
from foretune.space.space import Space

__all__ = ["described", "unseen"]

Array = NDArray[np.float64]


@functools.lru_cache(maxsize=16)
def described(space: Space) -> tuple[Encoding, Columns]:
    """Return the columns of a space: how rows are made legal, and how densities see them."""
    enc = encoding(space)
    grain = [0.0] * space.width
    for name, domain in space.items():
        if isinstance(domain, Int):
            grain[space.columns[name].start] = 1.0 / domain.size
    return enc, Columns(enc.levels, tuple(grain))


def unseen(row: Array, units: Array) -> bool:
    """Whether a legal row, (d,), differs from each of the rows (n, d); NaN where inactive.

    >>> unseen(np.array([0.5, np.nan]), np.array([[0.5, np.nan], [0.2, 0.1]]))
    False
    """
    active = ~np.isnan(row)  # equal there: equal everywhere, for the parents decide what is active
    return not bool((units[:, active] == row[active]).all(axis=1).any())
