"""The 24 noiseless functions of BBOB in five dimensions; an instance (shift, rotation) for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from foretune.base.errors import MissingExtraError
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.bench.task import Family, Instance, Outcome
from foretune.space.domain import Float
from foretune.space.space import Space

__all__ = ["BBOB"]

__entry__ = "BBOB"

DIMENSION = 5
FUNCTIONS = 24
DRAWS = 1024


@final
class BBOB(Family):
    """Values come from the ``coco-experiment`` package; without it the family has no tasks.

    Seed s is COCO's instance s + 1; the box is [-5, 5]^5.
    """

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)

    def names(self) -> Sequence[str]:
        try:
            require("cocoex", "BBOB")
        except MissingExtraError:
            return []
        return [f"f{i:02d}" for i in range(1, FUNCTIONS + 1)]

    def instance(self, name: str, seed: int) -> Instance:
        bare = require("cocoex", "BBOB").BareProblem("bbob", int(name[1:]), DIMENSION, seed + 1)
        best = float(bare.best_value())
        names = [f"x{j}" for j in range(DIMENSION)]
        space = Space({n: Float(-5.0, 5.0) for n in names})

        def judge(config: Mapping[str, Any]) -> float:
            return max(float(bare([config[n] for n in names])), best)

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(judge(config))

        rows = Key.of(seed).fold("race bbob", name).generator().uniform(-5.0, 5.0, (DRAWS, DIMENSION))
        return Instance(space, measure, judge, best, float(np.median([bare(r) for r in rows])))
