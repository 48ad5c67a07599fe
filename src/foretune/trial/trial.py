"""Trials: one config and all that is known of it. Immutable; made by ``History``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = [
    "COMPLETE", "ENDED", "FAILED", "PAUSED", "RUNNING", "STATES", "STOPPED", "WAITING", "Origin", "Plan",
    "Report", "Trial",
]  # fmt: skip

WAITING, RUNNING, PAUSED, STOPPED, COMPLETE, FAILED = (
    "waiting", "running", "paused", "stopped", "complete", "failed",
)  # fmt: skip
STATES = (WAITING, RUNNING, PAUSED, STOPPED, COMPLETE, FAILED)
ENDED = frozenset({STOPPED, COMPLETE, FAILED})

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Plan(NamedTuple):
    """How far a trial is to go now.

    Attributes:
        until: the step to reach before the next judgement.
        bracket: which bracket of the scheduler the trial belongs to.
        continues: the number of the trial whose state this one starts from, at that trial's step, if any.
        weights_from: the number of the trial whose weights alone it starts from, if any.
        teacher: the number of the trial whose network it learns from, if any.
    """

    until: float
    bracket: int = 0
    continues: int | None = None
    weights_from: int | None = None
    teacher: int | None = None


class Report(NamedTuple):
    """Metric values at a step, as they were reported (raw signs, NaN kept).

    Attributes:
        step: position on the fidelity axis.
        values: metric -> value.
        seconds: training seconds the trial has spent in all until here.
        sem: metric -> standard error of the mean, where known.
    """

    step: float
    values: Mapping[str, float]
    seconds: float = 0.0
    sem: Mapping[str, float] = _NOTHING


class Origin(NamedTuple):
    """Where a config came from: the proposer's name and its reason."""

    by: str = "user"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One config and all that is known of it.

    Attributes:
        number: position in the study, from 0.
        config: the choices, in the study's present space.
        plan: how far it was last sent.
        state: waiting, running, paused, stopped, complete or failed.
        reports: all reports, by increasing step.
        failure: the reason of a failed trial, else None.
        reason: the reason of the last decision.
        worker: who runs it, or ran it last.
        lease: until when a running trial belongs to its worker (clock seconds).
        tries: how many times it was lost in a row, without a new report in between.
        seconds: training seconds spent.
        started: when it first started (clock seconds), NaN before.
    """

    number: int
    config: Mapping[str, Any]
    plan: Plan
    origin: Origin = Origin()  # noqa: RUF009 - a named tuple: shared, and immutable
    state: str = WAITING
    reports: tuple[Report, ...] = ()
    failure: str | None = None
    reason: str = ""
    worker: str | None = None
    lease: float = math.inf
    tries: int = 0
    seconds: float = 0.0
    started: float = math.nan
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """The last reported step; 0 before any."""
        return self.reports[-1].step if self.reports else 0.0

    @property
    def values(self) -> Mapping[str, float]:
        """The last reported values; empty before any."""
        return self.reports[-1].values if self.reports else _NOTHING

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it (unless the study is extended)."""
        return self.state in ENDED
