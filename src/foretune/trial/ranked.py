"""One trial's loss with feasibility first: a number that puts what breaks a constraint behind all else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from foretune.trial.constraint import Constraint

__all__ = ["BROKEN", "excess", "ranked"]

# Losses of trials that break a constraint begin here, where losses hardly ever are; there is room for their sums.
BROKEN = 1e300
LEAST = 1e-12  # what counts as broken by the smallest violation


def excess(constraints: Iterable[Constraint], last: Callable[[str], float | None]) -> float:
    """Return by how much constraints are broken, in sum, each measured by its bound (by 1 where that is 0).

    Args:
        last: metric -> its last value, or None; what is not known breaks nothing.

    >>> bounds = [Constraint("memory", "<=", 16), Constraint("score", ">=", 0)]
    >>> excess(bounds, {"memory": 20, "score": 0.5}.get), excess(bounds, {"memory": 20, "score": -1}.get)
    (0.25, 1.25)
    """
    total = 0.0
    for constraint in constraints:
        by = constraint.violation(last(constraint.metric))
        if by > 0.0:
            total += max(by / (abs(constraint.bound) or 1.0), LEAST)
    return total


def ranked(loss: float, by: float) -> float:
    """Return a loss that is compared with others: a finite one becomes ``BROKEN`` or more where ``by`` exceeds 0.

    >>> ranked(0.5, 0.0), ranked(0.5, 1.0) / BROKEN, ranked(math.inf, 1.0)
    (0.5, 1.5, inf)
    """
    if not by > 0.0 or not loss < math.inf:
        return loss
    return BROKEN * (1.0 + (by / (1.0 + by) if by < math.inf else 1.0))
