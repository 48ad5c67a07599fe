"""XGBoost's eight hyperparameters on ten data sets: 5,000 real evaluations each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np

from foretune.bench.data import parquet
from foretune.bench.sampled import Rows, SampledTables
from foretune.space.domain import Float, Int
from foretune.space.space import Space

__all__ = ["XGBoost"]

__entry__ = "XGBoost"

FILE = "xgboost.parquet"


@final
class XGBoost(SampledTables):
    """Error of gradient-boosted trees; log2 hyperparameters are searched on that scale, as published.

    Source: A Quantile-based Approach for Hyperparameter Transfer Learning
    """

    source: ClassVar[str] = "quantile-transfer"
    space: ClassVar[Space] = Space({
        "log2_min_child_weight": Float(-8.0, 6.0),
        "subsample": Float(0.5, 1.0),
        "colsample_bytree": Float(0.3, 1.0),
        "log2_gamma": Float(-20.0, 6.0),
        "log2_lambda": Float(-10.0, 8.0),
        "eta": Float(0.0, 1.0),
        "max_depth_index": Int(0, 12),
        "log2_alpha": Float(-20.0, 8.0),
    })  # fmt: skip

    def names(self) -> Sequence[str]:
        return sorted(set(parquet(self.folder() / FILE)["task"]))

    def rows(self, name: str) -> Rows:
        table = parquet(self.folder() / FILE)
        mine = np.array([t == name for t in table["task"]])
        columns = {n: np.asarray(table[f"hp_{n}"])[mine].tolist() for n in self.space}
        configs = [
            self.space.check(dict(zip(columns, v, strict=True))) for v in zip(*columns.values(), strict=True)
        ]
        return Rows(configs, np.asarray(table["metric_error"], dtype=float)[mine][:, None])
