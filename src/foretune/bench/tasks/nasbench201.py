"""Cells of six operations on two image data sets: complete tables of 15,625 architectures (NAS-Bench-201)."""

from __future__ import annotations

from typing import ClassVar, final

from foretune.bench.grid import CompleteTables

__all__ = ["NASBench201"]

__entry__ = "NASBench201"


@final
class NASBench201(CompleteTables):
    """Validation accuracy in percent, negated; the mean of the two or three seeds that there are.

    Six choices of five words each: a space without any order.
    """

    file: ClassVar[str] = "nasbench201"
