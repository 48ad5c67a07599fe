"""A convolution kernel on six graphics cards: a complete table with configs that fail."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np

from foretune.bench.data import parquet
from foretune.bench.grid import grid_space
from foretune.bench.task import Family, Instance, Outcome

__all__ = ["Kernels"]

__entry__ = "Kernels"

FILE = "convolution_milo.parquet"
NAMES = (
    "block_size_x", "block_size_y", "tile_size_x", "tile_size_y", "read_only", "use_padding", "use_shmem",
)  # fmt: skip


@final
class Kernels(Family):
    """Milliseconds of a kernel; what breaks a rule of the tuning space, or did not run, fails.

    The published space has 4,362 configs of a grid of 10,240: the others break the tuner's rules. Here they are
    failures like those that did not compile, so that more than half of all random configs fail.
    """

    source: ClassVar[str] = "kernel-autotuning"

    def names(self) -> Sequence[str]:
        return sorted(set(parquet(self.folder() / FILE)["gpu"]))

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a family lives as long as its race
    def _made(self, name: str) -> Instance:
        table = parquet(self.folder() / FILE)
        lists = {n: sorted({int(v) for v in table[n]}) for n in NAMES}
        space = grid_space(lists)
        times: dict[tuple[int, ...], float] = {}
        mine = [i for i, gpu in enumerate(table["gpu"]) if gpu == name]
        for i in mine:
            times[tuple(lists[n].index(int(table[n][i])) for n in NAMES)] = float(table["time_ms"][i])
        known = np.array([t for t in times.values() if math.isfinite(t)])

        def judge(config: Mapping[str, Any]) -> float:
            found = times.get(tuple(config[n] for n in NAMES), math.nan)
            return found if math.isfinite(found) else math.inf

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(judge(config))

        return Instance(space, measure, judge, float(known.min()), float(np.median(known)))

    def instance(self, name: str, seed: int) -> Instance:
        return self._made(name)
