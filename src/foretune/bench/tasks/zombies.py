"""Trials that never report: a worker died, and its trial stays running for ever near the optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from foretune.base.key import Key
from foretune.bench.task import Family, Instance, Outcome
from foretune.space.domain import Float
from foretune.space.space import Space

__all__ = ["Zombies"]

__entry__ = "Zombies"

BEGIN = 15  # the first trial that is lost; from there every second one, until enough are
DRAWS = 1024


@final
class Zombies(Family):
    """The same quadratic with 0, 10 and 30 trials that never report: compare a contestant's regret between the three.

    Lost trials count as trials, so the runs of 10 and 30 have as many results fewer; race 100 trials.
    """

    group: ClassVar[str] = "zombies"

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)

    def names(self) -> Sequence[str]:
        return ["lost00", "lost10", "lost30"]

    def instance(self, name: str, seed: int) -> Instance:
        key = Key.of(seed).fold("race zombies")  # one function for all three
        lost = frozenset(range(BEGIN, BEGIN + 2 * int(name[4:]), 2))
        centre = key.fold("place").generator().uniform(0.1, 0.9, 4)
        space = Space({f"x{j}": Float(0.0, 1.0) for j in range(4)})

        def judge(config: Mapping[str, Any]) -> float:
            return float(((np.array([config[f"x{j}"] for j in range(4)]) - centre) ** 2).sum())

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(math.nan if draw in lost else judge(config))

        rows = key.fold("typical").generator().random((DRAWS, 4))
        return Instance(space, measure, judge, 0.0, float(np.median(((rows - centre) ** 2).sum(axis=1))))
