"""Batches: proposals of one batch are made from the same knowledge, whatever finishes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from foretune.base import check
from foretune.base.key import Key
from foretune.search.feasible import told
from foretune.search.sampler import Proposal, Sampler
from foretune.search.wrapping import Wrapper
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.recast import recast

__all__ = ["Batched"]

__entry__ = "Batched"


@final
@dataclass(frozen=True)
class Batched(Wrapper):
    """Shows ``inner`` the results of earlier batches only; its own batch counts as pending.

    Trial t belongs to batch t // size. Where the trials of a batch have all ended before the next begins
    (as many workers as ``size``, or experiments made in lots), the study does not depend on which of
    them was faster. A batch costs one ask a trial; the state of ``inner`` is folded anew at each ask.

    Args:
        size: trials in a batch.
        inner: proposes.
    """

    size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check.integer("size", self.size, 1)

    def init(self, problem: Problem) -> Any:
        self.wrapped.init(problem)  # it may refuse the problem
        return None

    def tell(self, problem: Problem, state: Any, trial: Any) -> Any:
        return None

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        first = len(history) - len(history) % self.size
        seen = recast(history, problem, hide=first)
        inner = self.wrapped.init(problem)
        if type(self.wrapped).tell is not Sampler.tell:
            for number in seen.settled:
                inner = self.wrapped.tell(problem, inner, told(self.wrapped, problem, seen[number]))
        found = self.wrapped.ask(problem, inner, seen, n, key)
        if len(found) < n:  # nothing is left but what this batch has tried: its results count after all
            found = self.wrapped.ask(problem, inner, history, n, key)
        said = f"batch {first // self.size + 1}"
        return [Proposal(p.config, f"{said}: {p.reason}") for p in found]
