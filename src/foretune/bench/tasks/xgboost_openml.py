"""XGBoost's ten hyperparameters on 15 OpenML data sets (rbv2, by YAHPO's surrogates)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np

from foretune.bench.data import parquet
from foretune.bench.sampled import Rows, SampledTables
from foretune.bench.tasks.lcbench import read_configs
from foretune.space.domain import Float, Int
from foretune.space.space import Space

__all__ = ["XGBoostOpenML"]

__entry__ = "XGBoostOpenML"

FILE = "rbv2_xgboost_sample.parquet"


@final
class XGBoostOpenML(SampledTables):
    """Error rate of gradient-boosted trees; ranges are those of the benchmark (powers of e on log scales)."""

    source: ClassVar[str] = "yahpo"
    space: ClassVar[Space] = Space({
        "nrounds": Int(7, 2981, log=True),
        "eta": Float(math.exp(-7), 1.0, log=True),
        "gamma": Float(math.exp(-10), math.exp(2), log=True),
        "lambda": Float(math.exp(-7), math.exp(7), log=True),
        "alpha": Float(math.exp(-7), math.exp(7), log=True),
        "subsample": Float(0.1, 1.0),
        "max_depth": Int(1, 15),
        "min_child_weight": Float(math.e, math.exp(5), log=True),
        "colsample_bytree": Float(0.01, 1.0),
        "colsample_bylevel": Float(0.01, 1.0),
    })  # fmt: skip

    def names(self) -> Sequence[str]:
        return sorted({str(t) for t in parquet(self.folder() / FILE)["task"]}, key=int)

    def rows(self, name: str) -> Rows:
        table = parquet(self.folder() / FILE)
        configs = read_configs(self.folder() / "rbv2_xgboost_sample_configs.csv", self.space)
        mine = np.asarray(table["task"]) == int(name)
        losses = np.empty((len(configs), 1))
        losses[np.asarray(table["config"])[mine], 0] = 1.0 - np.asarray(table["acc"], dtype=float)[mine]
        return Rows(configs, losses)
