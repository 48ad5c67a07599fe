"""Small finite spaces: a deterministic config that is proposed twice is a trial lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from foretune.base.key import Key
from foretune.bench.task import Family, Instance, Outcome
from foretune.space.domain import Choice, Int
from foretune.space.space import Space

__all__ = ["Duplicates"]

__entry__ = "Duplicates"


@final
class Duplicates(Family):
    """64, 72 and 96 configs; smooth in the ints, arbitrary in the choices. Race at most 60 trials."""

    group: ClassVar[str] = "duplicates"

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)

    def names(self) -> Sequence[str]:
        return ["choices64", "ints64", "mixed72", "mixed96"]

    def instance(self, name: str, seed: int) -> Instance:
        key = Key.of(seed).fold("race duplicates", name)
        word = tuple("abcd")
        space = {
            "choices64": Space({"a": Choice(word), "b": Choice(word), "c": Choice(word)}),
            "ints64": Space({"i": Int(1, 8), "j": Int(1, 8)}),
            "mixed72": Space({"i": Int(1, 6), "j": Int(1, 3), "c": Choice(word)}),
            "mixed96": Space({"i": Int(1, 6), "c": Choice(word), "d": Choice(word)}),
        }[name]
        rng = key.generator()
        centre = {n: rng.uniform(0.1, 0.9) for n in space}
        table = {n: rng.uniform(0.0, 0.5, math.ceil(d.size)) for n, d in space.items()}

        def judge(config: Mapping[str, Any]) -> float:
            total = 0.0
            for n, domain in space.items():
                if isinstance(domain, Choice):
                    total += float(table[n][domain.index(config[n])])
                else:
                    total += (domain.to_unit(config[n]) - centre[n]) ** 2
            return total

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(judge(config))

        from foretune.space.design import grid

        values = np.array([judge(c) for c in grid(space, 8)])
        return Instance(space, measure, judge, float(values.min()), float(np.median(values)))
