"""A sampler that proposes nothing: its study trains what was queued, and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from foretune.base.key import Key
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["Queued"]


@final
@dataclass(frozen=True)
class Queued(Sampler[None]):
    """Leaves all choices to whoever queues configs with ``study.add``."""

    tags: ClassVar[frozenset[str]] = frozenset(
        {"exhaustible", "independent", "conditional", "mixed", "multi-objective"}
    )

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        """Propose nothing."""
        return []
