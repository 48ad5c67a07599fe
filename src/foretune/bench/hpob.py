"""HPO-B's published incumbent traces as runs: ranks known from elsewhere, to check ours against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from foretune.base.errors import ArgumentError
from foretune.bench.data import data_root
from foretune.bench.record import Run
from foretune.bench.task import DEVELOPMENT

__all__ = ["published_runs"]

FOLDER = "hpo-b"


def published_runs(data: str | Path | None = None) -> list[Run]:
    """Return the traces of 13 methods on 86 tasks under 5 seeds: normalised accuracies of 101 trials.

    The regret of a trace is 1 - its best accuracy so far, so the scale of each task is (-1, 0). The first of the 101
    values is the best of the initial design, so place 101 is "100 trials later".

    Raises:
        ArgumentError: the traces are not there.

    Source: HPO-B: A Large-Scale Reproducible Benchmark for Black-Box HPO based on OpenML
    """
    root = data_root(data)
    folder = None if root is None else root / FOLDER
    if folder is None or not (folder / "incumbent_traces.npz").exists():
        raise ArgumentError(
            "HPO-B's traces are not here: hpo-b/incumbent_traces.npz is looked for in the data folder."
        )
    index = json.loads((folder / "incumbent_traces_index.json").read_text(encoding="utf-8"))
    values = np.load(folder / "incumbent_traces.npz")["Y"].astype(float)  # (methods, tasks, seeds, trials)
    runs = []
    for i, method in enumerate(index["methods"]):
        for j, (space, data_set) in enumerate(index["tasks"]):
            for seed in range(values.shape[2]):
                best = np.maximum.accumulate(values[i, j, seed])
                rises = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
                trace = tuple((float(k + 1), -float(best[k]), -float(best[k])) for k in rises)
                runs.append(
                    Run(
                        f"hpob/{space}-{data_set}", "published", DEVELOPMENT, method, "published", seed, "trials",
                        len(best), (-1.0, 0.0), trace,
                    )
                )  # fmt: skip
    return runs
