"""The first configs of a model-based search: a Latin hypercube, a row for each trial number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from foretune.search.distinct import pick
from foretune.search.random import draws
from foretune.search.rows import described, unseen
from foretune.search.sampler import Proposal
from foretune.space.design import latin_hypercube
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["opening"]

SPARE = 32  # uniform draws that are looked through for one that was not tried


def opening(
    problem: Problem, history: History, n: int, points: int, name: str, before: Sequence[Proposal] = ()
) -> list[Proposal]:
    """Propose ``n`` configs from a design of ``points`` rows, uniform draws after its end.

    The design depends on the study's key and on ``name`` alone; trial t gets row t. What was tried already is left
    out while there is anything else.
    """
    enc, _ = described(problem.space)
    key, at = problem.key.fold(name), len(history) + len(before)
    design = latin_hypercube(points, problem.space.width, key)

    def stream() -> Iterator[Mapping[str, Any]]:
        beyond = key.fold("beyond", at)
        rows = np.concatenate([design[at:], beyond.generator().random((SPARE + n, len(enc.levels)))])
        rows = enc.snap(rows)
        yield from problem.space.decode(rows[[unseen(row, history.units) for row in rows]])
        yield from draws(problem.space, beyond.fold("any"))

    found = pick(history, stream(), n, avoid=[p.config for p in before])
    return [
        Proposal(
            c,
            note
            or (f"the first design: trial {at + i} of {points}" if at + i < points else "a uniform draw"),
        )
        for i, (c, note) in enumerate(found)
    ]
