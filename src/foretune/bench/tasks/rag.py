"""Retrieval-augmented generation: 162 complete configs on 12 splits; chosen on one split, judged on another."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np

from foretune.bench.grid import grid_space
from foretune.bench.task import Family, Instance, Outcome

__all__ = ["RAG"]

__entry__ = "RAG"

FILE = "rag_configurations_results.csv"
PARAMETERS = {
    "chunk_size": "Chunk Size", "overlap": "Chunk Overlap", "embedding": "Embedding Model", "top_k": "Top-K",
    "model": "Generative Mode",
}  # fmt: skip
METRIC = "LLMaaJ-AC"  # correctness of the answer, by a language model as judge; more is better


@final
class RAG(Family):
    """What the search sees is a development split; its choice is judged on the test split of the same questions' set.

    A task is named by the split that is searched. The five test splits are searched too, and judged on the development
    split: the gap between what was chosen on and what counts is the same in both directions.

    Source: An Analysis of Hyper-Parameter Optimization Methods for Retrieval Augmented Generation
    """

    source: ClassVar[str] = "rag-hpo-bench"

    def _rows(self) -> list[dict[str, str]]:
        with (self.folder() / FILE).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def names(self) -> Sequence[str]:
        return sorted({r["Dataset"] for r in self._rows()})

    def kin(self, name: str) -> str:
        return name.partition("-")[0]  # splits of one data set

    @staticmethod
    def judged_on(split: str) -> str:
        """Return the split on which a choice is judged.

        >>> RAG.judged_on("ClapNQ-Dev-Sampled"), RAG.judged_on("ClapNQ-Test")
        ('ClapNQ-Test', 'ClapNQ-Dev')
        """
        data, _, part = split.partition("-")
        return f"{data}-Dev" if part == "Test" else f"{data}-Test"

    def instance(self, name: str, seed: int) -> Instance:
        rows = self._rows()
        lists: dict[str, list[Any]] = {}
        for short, long in PARAMETERS.items():
            words = {r[long] for r in rows}
            numbers = all(w.replace(".", "").isdigit() for w in words)
            lists[short] = sorted(float(w) for w in words) if numbers else sorted(words)

        def place(row: Mapping[str, str]) -> tuple[int, ...]:
            return tuple(
                v.index(float(row[PARAMETERS[n]]) if isinstance(v[0], float) else row[PARAMETERS[n]])
                for n, v in lists.items()
            )

        seen = {place(r): -float(r[METRIC]) for r in rows if r["Dataset"] == name}
        test = {place(r): -float(r[METRIC]) for r in rows if r["Dataset"] == self.judged_on(name)}

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(seen[tuple(config[n] for n in lists)])

        def judge(config: Mapping[str, Any]) -> float:
            return test[tuple(config[n] for n in lists)]

        values = np.array(list(test.values()))
        return Instance(grid_space(lists), measure, judge, float(values.min()), float(np.median(values)))
