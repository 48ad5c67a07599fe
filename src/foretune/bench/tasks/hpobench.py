"""MLPs on four OpenML data sets: complete tables of 30,000 configs, five seeds each (HPOBench)."""

from __future__ import annotations

from typing import ClassVar, final

from foretune.bench.grid import CompleteTables

__all__ = ["HPOBench"]

__entry__ = "HPOBench"


@final
class HPOBench(CompleteTables):
    """Validation balanced accuracy, negated; the mean of five seeds is exact and deterministic here."""

    file: ClassVar[str] = "hpobench"
