"""Problems: all that an algorithm may know besides the history."""

from __future__ import annotations

from dataclasses import dataclass, field

from foretune.base.key import Key
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.trial.constraint import Constraint
from foretune.trial.goal import Goal

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """Space + goals + steps + key.

    Attributes:
        space: what may be chosen.
        goals: one or more metrics with directions; the first is the one that rungs compare.
        steps: the fidelity axis.
        key: the root of all randomness of the study.
        budget_trials: how many trials the study may start, where the budget says so: grids and
            designs that depend on the total need it.
        constraints: bounds on further metrics; only a trial that keeps them all can be the best.
    """

    space: Space
    goals: tuple[Goal, ...] = (Goal("loss"),)
    steps: Fidelity = field(default_factory=Fidelity)
    key: Key = field(default_factory=lambda: Key.of(0))
    budget_trials: int | None = None
    constraints: tuple[Constraint, ...] = ()

    @property
    def goal(self) -> Goal:
        """The first goal."""
        return self.goals[0]
