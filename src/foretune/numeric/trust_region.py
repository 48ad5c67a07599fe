"""The side of a trust region, from the losses that it led to: wider after successes, narrower after failures.

Source: Scalable Global Optimization via Local Bayesian Optimization | TuRBO-1, its constants
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Region", "region"]

FIRST, SHORTEST, LONGEST = 0.8, 0.5**7, 1.6
SUCCESSES = 3  # in a row, before the side doubles
LEAST = 1e-3  # an improvement counts from this part of the best loss on


class Region(NamedTuple):
    """Where a search stands.

    Attributes:
        side: of the region, in units of the cube.
        since: how many losses came before the present start: 0, or the place of the last restart.
    """

    side: float
    since: int


def region(losses: Sequence[float], d: int, design: int) -> Region:
    """Fold losses, in the order in which they came, into the side of the region.

    The side doubles after three improvements in a row and halves after max(4, d) losses in a row that
    improve on nothing; below 2^-7 the search starts anew.

    Args:
        losses: less is better; infinite for failures.
        d: number of dimensions.
        design: losses after each start that come from a space-filling design and do not count.

    >>> region([5.0, 4.0, 3.0, 2.0, 1.0], d=2, design=2)
    Region(side=1.6, since=0)
    """
    side, since, best, won, lost = FIRST, 0, math.inf, 0, 0
    for i, loss in enumerate(losses):
        if i - since >= design:
            if loss < best - LEAST * abs(best):
                won, lost = won + 1, 0
            else:
                won, lost = 0, lost + 1
            if won == SUCCESSES:
                side, won = min(2.0 * side, LONGEST), 0
            elif lost == max(4, d):
                side, lost = side / 2.0, 0
        best = min(best, loss)
        if side < SHORTEST:
            side, since, best, won, lost = FIRST, i + 1, math.inf, 0, 0
    return Region(side, since)
