"""No config twice: for deterministic objectives, where a repetition tells nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.search.distinct import whole
from foretune.search.random import draws
from foretune.search.regularized_evolution import mutate
from foretune.search.sampler import Proposal
from foretune.search.wrapping import Wrapper
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["Deduplicated"]

__entry__ = "Deduplicated"

Array = NDArray[np.float64]

TRIES = 4  # times that the inner sampler is asked again for something new
NEAR = 64  # mutations of what it proposed that are tried next, with growing steps
UNIFORM = 2048  # uniform draws that are tried last; fewer new configs than one in so many count as none


def _rows(space: Space, configs: list[Mapping[str, Any]]) -> Array:
    return np.where(np.isnan(rows := space.encode(configs)), -1.0, rows)


def _new(rows: Array, row: Array, tolerance: float) -> bool:
    """Whether no row is the same: within ``tolerance`` in every coordinate."""
    if not len(rows):
        return True
    if rows.shape[1] == 0:
        return False
    return bool((np.abs(rows - row).max(axis=1) > tolerance).all())


@final
@dataclass(frozen=True)
class Deduplicated(Wrapper):
    """Proposes no config that the study has tried, whatever became of it; ends when all were tried.

    What ``inner`` repeats is replaced: by another proposal of its own, by a near config that is new, by
    a uniform draw. With ``tolerance``, configs that differ by no more than that in every coordinate of
    the unit cube count as the same.

    Args:
        tolerance: in lengths of the unit cube; 0 for equality.
        inner: proposes.
    """

    tolerance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check.number("tolerance", self.tolerance, 0.0, 1.0)

    def _tags(self, inner: frozenset[str]) -> frozenset[str]:
        return inner | {"once"}

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        space = problem.space
        rows = np.where(np.isnan(history.units), -1.0, history.units)
        found: list[Proposal] = []
        for attempt in range(TRIES):
            fresh = key if attempt == 0 else key.fold("again", attempt)
            repeated: list[Proposal] = []
            for proposal in self.wrapped.ask(problem, state, history, n, fresh):
                row = _rows(space, [proposal.config])[0]
                if len(found) < n and _new(rows, row, self.tolerance):
                    found.append(proposal)
                    rows = np.concatenate([rows, row[None]])
                else:
                    repeated.append(proposal)
            if len(found) == n:
                return found
            if not repeated:  # it has nothing more to propose
                break
        for proposal in self._others(space, repeated, key.fold("others")):
            row = _rows(space, [proposal.config])[0]
            if _new(rows, row, self.tolerance):
                found.append(proposal)
                rows = np.concatenate([rows, row[None]])
                if len(found) == n:
                    break
        return found

    @staticmethod
    def _others(space: Space, repeated: list[Proposal], key: Key) -> Iterator[Proposal]:
        rng = key.generator()
        for proposal in repeated:
            for k in range(NEAR):
                config = mutate(space, space.fill(proposal.config), 0.02 + 0.3 * k / NEAR, rng)
                yield Proposal(config, f"near what was tried already ({proposal.reason})")
        everything = whole(space)
        if everything is not None:
            for i in rng.permutation(len(everything)):
                yield Proposal(everything[int(i)], "one of the configs left untried")
            return
        stream = draws(space, key.fold("draws"))
        for _ in range(UNIFORM):
            yield Proposal(next(stream), "a uniform draw, for what was proposed was tried already")
