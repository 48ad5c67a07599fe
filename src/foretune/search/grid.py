"""Grid search: every combination of a few levels, then the end."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from foretune.base import check
from foretune.base.key import Key
from foretune.search.distinct import signature
from foretune.search.sampler import Proposal, Sampler
from foretune.space import design
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["Grid"]

__entry__ = "Grid"


@functools.lru_cache(maxsize=4)
def _configs(space: Space, points: int) -> tuple[Mapping[str, Any], ...]:
    return tuple(design.grid(space, points))


@final
@dataclass(frozen=True)
class Grid(Sampler[None]):
    """Proposes each point of a grid once; fewer than asked for when the grid is used up.

    Args:
        points: levels of each number, ends included; a choice takes all its values.
        shuffle: go through the grid in an order drawn from the study's key, so that a budget
            smaller than the grid still covers the whole space.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "multi-objective", "independent", "exhaustible"}
    )

    points: int = 5
    shuffle: bool = False

    def __post_init__(self) -> None:
        check.integer("points", self.points, 1)
        check.flag("shuffle", self.shuffle)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        configs = _configs(problem.space, self.points)
        order = range(len(configs))
        if self.shuffle:
            order = problem.key.fold("grid").generator().permutation(len(configs)).tolist()
        seen = {signature(t.config) for t in history}
        found: list[Proposal] = []
        for place, i in enumerate(order):
            if len(found) == n:
                break
            if signature(configs[i]) not in seen:
                found.append(Proposal(dict(configs[i]), f"grid point {place + 1} of {len(configs)}"))
        return found
