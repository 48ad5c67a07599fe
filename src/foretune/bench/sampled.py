"""Sampled tables: a family whose tasks are forests over published rows."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foretune.bench.surrogate import Forest
from foretune.bench.task import Family, Instance, Outcome
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space

__all__ = ["Rows", "SampledTables"]

Array = NDArray[np.float64]


class Rows:
    """The rows of one task.

    Args:
        configs: as they were evaluated.
        losses: (n, levels), less is better.
        seconds: (n, levels) of training until each level, rising; None: one second each.
    """

    def __init__(self, configs: list[dict[str, Any]], losses: Array, seconds: Array | None = None) -> None:
        self.configs, self.losses = configs, losses
        self.seconds = np.ones_like(losses) if seconds is None else seconds


class SampledTables(Family):
    """Tasks made of rows by :class:`~foretune.bench.surrogate.Forest`: the same under every seed.

    Between the levels of a table losses are linear in the logarithm of the step, seconds in the step; below the first
    level the loss is that of the first.
    """

    space: ClassVar[Space]
    levels: ClassVar[tuple[float, ...]] = (1.0,)
    unit: ClassVar[str] = "steps"

    @abstractmethod
    def rows(self, name: str) -> Rows:
        """Read the rows of a task."""

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a family lives as long as its race
    def _made(self, name: str) -> Instance:
        rows, k = self.rows(name), len(self.levels)
        forest = Forest(self.space.encode(rows.configs), np.concatenate([rows.losses, rows.seconds], axis=1))
        space, levels = self.space, self.levels

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            found = forest(space.encode([config])[0])
            if k == 1:
                return Outcome(float(found[0]), float(found[1]))
            loss = np.interp(math.log(step), np.log(levels), found[:k])
            return Outcome(float(loss), float(np.interp(step, (0.0, *levels), (0.0, *found[k:]))))

        def judge(config: Mapping[str, Any]) -> float:
            return measure(config, levels[-1], 0).loss

        final = rows.losses[:, -1]
        steps = Fidelity(levels[-1], levels[0], self.unit)
        return Instance(space, measure, judge, float(final.min()), float(np.median(final)), steps, levels)

    def instance(self, name: str, seed: int) -> Instance:
        return self._made(name)
