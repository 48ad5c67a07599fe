"""A proposal that costs next to nothing: a mutation of one of the best trials. For when asks are dear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from foretune.base.key import Key
from foretune.search.distinct import pick
from foretune.search.random import draws
from foretune.search.regularized_evolution import mutate
from foretune.search.sampler import Proposal
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["cheap"]

BEST = 5  # trials of which one is changed
STEP = 0.1  # standard deviation of a number's mutation in the unit cube, as in regularised evolution
UNIFORM = 0.2  # share of uniform draws, so that the search does not get stuck


def cheap(problem: Problem, history: History, key: Key) -> Proposal | None:
    """Change one parameter of one of the five best trials, or draw uniformly now and then.

    Returns:
        None if the space is exhausted.
    """
    rng = key.generator()
    losses = history.losses[:, 0]
    known = np.flatnonzero(np.isfinite(losses))
    why = "a uniform draw"
    stream: Iterator[Mapping[str, Any]] = draws(problem.space, key.fold("draw"))
    if len(known) and rng.random() >= UNIFORM:
        best = known[np.argsort(losses[known], kind="stable")[:BEST]]
        parent = int(best[rng.integers(len(best))])
        config = problem.space.fill(history[parent].config)
        why = f"a mutation of trial {parent}"

        def children() -> Iterator[Mapping[str, Any]]:
            while True:
                yield mutate(problem.space, config, STEP, rng)

        stream = children()
    found = pick(history, stream, 1) or pick(history, draws(problem.space, key.fold("again")), 1)
    return Proposal(found[0][0], found[0][1] or why) if found else None
