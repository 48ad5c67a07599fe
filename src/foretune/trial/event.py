"""Events: the only things that are ever written. All else is a fold of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["DECISIONS", "KINDS", "STUDY", "Event"]

STUDY = -1  # the number of events that belong to the study and to no trial


class Event(NamedTuple):
    """One line of a study's log.

    Attributes:
        kind: one of ``KINDS``.
        number: the trial's number, or ``STUDY``.
        at: seconds since the epoch of the study's clock.
        data: JSON values; decisions carry their ``reason`` here.
    """

    kind: str
    number: int
    at: float
    data: Mapping[str, Any]


KINDS: Mapping[str, str] = {
    # the study's own
    "create": "a study begins: problem, sampler, scheduler, budget, seed",
    "space": "the space has become wider",
    "budget": "the budget has been extended",
    "steps": "a full trial has become longer: complete trials wait to be continued",
    "note": "a word for the reader; no effect",
    # decisions about a trial (each with a reason)
    "add": "a config waits for a worker",
    "start": "a worker trains a config until plan.until",
    "resume": "a worker takes a paused or waiting trial further",
    "pause": "the trial has done its plan and waits for a promotion",
    "stop": "the trial is ended before its full length",
    "complete": "the trial is at its full length",
    "fail": "the trial ended without a result",
    "lose": "the trial's worker vanished or gave it up; the trial waits to be continued",
    # facts
    "report": "metric values at a step",
    "lease": "the worker is alive and keeps the trial until data.until",
}

# Events that may change what a scheduler or a sampler decides next about somebody else's trial.
DECISIONS = frozenset(KINDS) - {"report", "lease", "note"}
