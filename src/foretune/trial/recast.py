"""A history as a sampler sees it that is shown fewer parameters, earlier trials, or fewer results."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from foretune.trial.feasibility import FeasibleFirst, feasible_first
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.record import Record
from foretune.trial.trial import COMPLETE, FAILED, RUNNING, STOPPED, Plan

__all__ = ["Known", "recast"]

Convert = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Known(NamedTuple):
    """A result from elsewhere: config, normalised loss (None: failed), and how much of a full trial it took."""

    config: Mapping[str, Any]
    loss: float | None
    fraction: float = 1.0


def recast(
    history: History,
    problem: Problem,
    *,
    before: Sequence[Known] = (),
    keep: Sequence[int] | None = None,
    hide: int | None = None,
    convert: Convert = dict,
) -> History:
    """Copy a history with other trials in front, some left out, or results hidden. Costs O(n) a call. A copy of the
    view with feasibility first is such a view.

    Args:
        problem: what the copy is a history of.
        before: results that come first, as trials 0, 1, ...; complete, or stopped where ``fraction`` < 1.
        keep: numbers of the trials that follow, in order; all unless given.
        hide: trials from this number on look as if they were running, without reports.
        convert: makes a config of ``problem.space`` of a trial's config.
    """
    seen = History(problem)
    kept = range(len(history)) if keep is None else keep
    place: dict[int, int] = {}
    for known in before:
        seen._records.append(_earlier(len(seen._records), known, problem))
    for number in kept:
        record = copy.copy(history._records[number])
        place[number] = record.number = len(seen._records)
        record.config, record.trial = convert(record.config), None
        if hide is not None and number >= hide:
            record.told, record.steps, record.losses, record._reports = [], [], [], []
            record.state, record.failure = RUNNING, None
        seen._records.append(record)
    for record in seen._records:
        seen._in[record.state][record.number] = None
        seen.seconds += record.seconds
    seen.settled = list(range(len(before)))
    seen.settled += [place[i] for i in history.settled if i in place and (hide is None or i < hide)]
    for number in dict.fromkeys(seen.settled):
        record = seen._records[number]
        loss = record.loss
        if record.state != COMPLETE or not loss < math.inf or not seen._keeps(record):
            continue
        if seen._best is None or loss < seen._best[0]:
            seen._best = loss, number
            seen._best_trace.append((number, loss))
    return feasible_first(seen) if isinstance(history, FeasibleFirst) else seen


def _earlier(number: int, known: Known, problem: Problem) -> Record:
    step = problem.steps.high * known.fraction
    record = Record(number, known.config, Plan(step), {"by": "earlier"})
    if known.loss is None:
        record.state, record.failure = FAILED, "it failed in an earlier study"
        return record
    record.state = COMPLETE if known.fraction >= 1.0 else STOPPED
    record.steps, record.losses = [step], [known.loss]
    value = problem.goal.sign * known.loss
    values = {problem.goal.metric: value if math.isfinite(value) else "NaN"}
    record.told = [(values, 0.0, None)]
    return record
