"""Networks on 17 tabular data sets with learning curves over 52 epochs (LCBench, by YAHPO's surrogates)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np

from foretune.bench.data import parquet
from foretune.bench.sampled import Rows, SampledTables
from foretune.space.domain import Float, Int
from foretune.space.space import Space

__all__ = ["LCBench"]

__entry__ = "LCBench"

FILE = "lcbench_sample.parquet"


@final
class LCBench(SampledTables):
    """Validation error in percent after 3, 6, 13, 26 and 52 epochs, and the seconds of training until there.

    Epoch 1 of the published surrogate says nothing about later ones and is left out. Races over trials use the last
    epoch; races over simulated time all of them. Ranges are those of the benchmark.
    """

    source: ClassVar[str] = "yahpo"
    levels: ClassVar[tuple[float, ...]] = (3.0, 6.0, 13.0, 26.0, 52.0)
    unit: ClassVar[str] = "epochs"
    space: ClassVar[Space] = Space({
        "batch_size": Int(16, 512, log=True),
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "momentum": Float(0.1, 0.99),
        "weight_decay": Float(1e-5, 1e-1),
        "num_layers": Int(1, 5),
        "max_units": Int(64, 1024, log=True),
        "max_dropout": Float(0.0, 1.0),
    })  # fmt: skip

    def names(self) -> Sequence[str]:
        return sorted({str(t) for t in parquet(self.folder() / FILE)["task"]}, key=int)

    def rows(self, name: str) -> Rows:
        table = parquet(self.folder() / FILE)
        configs = read_configs(self.folder() / "lcbench_sample_configs.csv", self.space)
        n = len(configs)
        losses, seconds = np.empty((n, len(self.levels))), np.empty((n, len(self.levels)))
        mine = np.asarray(table["task"]) == int(name)
        epoch, config = np.asarray(table["epoch"])[mine], np.asarray(table["config"])[mine]
        for j, level in enumerate(self.levels):
            at = epoch == level
            losses[config[at], j] = 100.0 - np.asarray(table["val_accuracy"], dtype=float)[mine][at]
            seconds[config[at], j] = np.asarray(table["time"], dtype=float)[mine][at]
        return Rows(configs, losses, np.maximum.accumulate(seconds, axis=1))


def read_configs(path: Any, space: Space) -> list[dict[str, Any]]:
    """Read the shared configurations of a sample, in their order."""
    found = []
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            raw = {n: int(float(row[n])) if isinstance(d, Int) else float(row[n]) for n, d in space.items()}
            # the published numbers are rounded to seven digits: an end of a range may lie just outside
            found.append({n: min(max(v, space[n].low), space[n].high) for n, v in raw.items()})  # type: ignore[attr-defined]
    return found
