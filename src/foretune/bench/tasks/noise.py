"""Noisy objectives: what is reported is lucky, what is judged is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from foretune.base.key import Key
from foretune.bench.task import Family, Instance, Outcome
from foretune.bench.tasks.functions import Functions
from foretune.space.domain import Float
from foretune.space.space import Space

__all__ = ["SD", "Noise"]

__entry__ = "Noise"

SD = 0.1  # of the normal noise: shares of the distance from the best to the median config
DRAWS = 1024


@final
class Noise(Family):
    """A quadratic in three dimensions and three of the ten functions, with normal noise on each evaluation.

    Losses are divided by the distance between the least and the median one, so that regret and noise have one unit;
    a record's "optimism" over :data:`SD` is the winner's optimism in standard deviations.
    """

    group: ClassVar[str] = "noise"
    edition: ClassVar[int] = 2  # since runs record what methods name as their best
    split: ClassVar[str] = "functions"

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)

    def names(self) -> Sequence[str]:
        return ["ackley10", "branin2", "levy10", "quadratic3"]

    def instance(self, name: str, seed: int) -> Instance:
        key = Key.of(seed).fold("race noise", name)
        space, raw, best, typical = self._exact(name, seed, key)

        def judge(config: Mapping[str, Any]) -> float:
            return float((raw(config) - best) / (typical - best))

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            noise = key.fold("draw", draw).generator().standard_normal()
            return Outcome(judge(config) + SD * float(noise))

        return Instance(space, measure, judge, 0.0, 1.0, deterministic=False)

    @staticmethod
    def _exact(name: str, seed: int, key: Key) -> tuple[Space, Any, float, float]:
        if name != "quadratic3":
            exact = Functions().instance(name, seed)
            return exact.space, exact.judge, exact.best, exact.typical
        centre = key.fold("place").generator().uniform(0.1, 0.9, 3)
        space = Space({f"x{j}": Float(0.0, 1.0) for j in range(3)})

        def value(config: Mapping[str, Any]) -> float:
            return float(((np.array([config[f"x{j}"] for j in range(3)]) - centre) ** 2).sum())

        rows = key.fold("typical").generator().random((DRAWS, 3))
        return space, value, 0.0, float(np.median(((rows - centre) ** 2).sum(axis=1)))
