"""Goals: a metric with a direction and a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from foretune.base import check
from foretune.base.errors import ArgumentError

__all__ = ["Goal", "parse_goals"]

_WORDS = {
    "min": "min",
    "minimize": "min",
    "minimise": "min",
    "max": "max",
    "maximize": "max",
    "maximise": "max",
}


@dataclass(frozen=True, slots=True)
class Goal:
    """A metric to minimise or maximise.

    >>> Goal.parse("max accuracy")
    Goal(metric='accuracy', direction='max', unit='1')
    """

    metric: str
    direction: str = "min"
    unit: str = "1"

    def __post_init__(self) -> None:
        check.name("goal.metric", self.metric)
        check.one_of("goal.direction", self.direction, ("min", "max"))

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read ``"min loss"``, ``"max accuracy"`` or ``"min loss [nats/byte]"``."""
        words = text.replace("[", " ").replace("]", " ").split() if isinstance(text, str) else []
        if len(words) not in (2, 3) or words[0] not in _WORDS:
            raise ArgumentError(f"goal must read like 'min loss' or 'max accuracy'; got {text!r}.")
        return cls(words[1], _WORDS[words[0]], words[2] if len(words) == 3 else "1")

    @property
    def sign(self) -> float:
        """What a raw value is multiplied by so that less is better."""
        return 1.0 if self.direction == "min" else -1.0

    def said(self, loss: float, digits: int = 3) -> str:
        """Say a loss (sign * value, less is better) as the user knows it: the metric and its value.

        >>> Goal.parse("max accuracy").said(-0.912)
        'accuracy 0.912'
        """
        return f"{self.metric} {self.sign * loss + 0.0:.{digits}g}"  # + 0.0: never "-0"

    def __str__(self) -> str:
        return f"{self.direction} {self.metric}"


def parse_goals(goal: Union[str, Goal, Sequence[Union[str, Goal]]]) -> tuple[Goal, ...]:
    """Read one goal or several."""
    items = [goal] if isinstance(goal, (str, Goal)) else list(goal)
    goals = tuple(g if isinstance(g, Goal) else Goal.parse(g) for g in items)
    if not goals:
        raise ArgumentError("goal must name at least one metric, such as 'min loss'.")
    if len({g.metric for g in goals}) < len(goals):
        raise ArgumentError(f"goal names a metric twice: {', '.join(map(str, goals))}.")
    return goals
