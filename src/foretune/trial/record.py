"""A trial while it is being folded: mutable, and never handed out; ``History`` gives frozen copies."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from foretune.trial.trial import FAILED, RUNNING, WAITING, Origin, Plan, Report, Trial

__all__ = ["Record", "loss_of", "number"]

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NOTHING: Mapping[str, float] = MappingProxyType({})


def number(value: Any) -> float:
    """Read a number as the log writes it.

    >>> number("Infinity"), number(3)
    (inf, 3.0)
    """
    return _SPECIAL[value] if isinstance(value, str) else float(value)


def loss_of(value: float | None, sign: float) -> float:
    """Normalise one raw value: NaN if there is none, +inf if it is not finite.

    >>> loss_of(0.9, -1.0), loss_of(None, 1.0), loss_of(float("nan"), 1.0), loss_of(float("-inf"), 1.0)
    (-0.9, nan, inf, inf)
    """
    if value is None:
        return math.nan
    return sign * value if math.isfinite(value) else math.inf


class Record:
    """What is known of one trial so far.

    Attributes:
        told, steps, losses: one entry a report: (values, seconds, standard errors or None) as the log has
            them; its step; its loss (first goal, normalised), NaN where it lacks the metric.
        base: the step that it began at: that of the trial whose state it continues, else 0.
        committed: the steps that the trial counts for in the study's total.
        tries: losses of its workers in a row, without a new report in between.
        since, before: when it was last started or resumed, and its seconds at that moment.
    """

    __slots__ = (
        "_reports",
        "base",
        "before",
        "by",
        "committed",
        "config",
        "cost",
        "failure",
        "lease",
        "losses",
        "notes",
        "number",
        "plan",
        "reason",
        "seconds",
        "since",
        "started",
        "state",
        "steps",
        "told",
        "trial",
        "tries",
        "why",
        "worker",
    )  # fmt: skip

    def __init__(self, number: int, config: Mapping[str, Any], plan: Plan, data: Mapping[str, Any]) -> None:
        self.number = number
        self.config = config
        self.plan = plan
        self.by = data.get("by", "user")
        self.why = data.get("why", "")
        self.reason = data.get("reason", "")
        self.state = WAITING
        self.told: list[tuple[Mapping[str, Any], float, Mapping[str, Any] | None]] = []
        self._reports: list[Report] = []
        self.steps: list[float] = []
        self.losses: list[float] = []
        self.failure: str | None = None
        self.worker: str | None = None
        self.lease = math.inf
        self.tries = 0
        self.seconds = 0.0
        self.cost = 0.0
        self.base = 0.0
        self.committed = 0.0
        self.started = math.nan
        self.since = math.nan
        self.before = 0.0
        self.notes: dict[str, Any] = {"seed": data["seed"]} if "seed" in data else {}
        self.trial: Trial | None = None

    @property
    def reports(self) -> list[Report]:
        """The reports; made when somebody looks, for most workers never look at most trials."""
        for i in range(len(self._reports), len(self.told)):
            values, seconds, sem = self.told[i]
            errors = {k: number(v) for k, v in sem.items()} if sem else _NOTHING
            self._reports.append(
                Report(self.steps[i], {k: number(v) for k, v in values.items()}, seconds, errors)
            )
        return self._reports

    def take_back(self) -> Report:
        """Remove and return the last report."""
        last = self.reports.pop()
        self.told.pop(), self.steps.pop(), self.losses.pop()
        return last

    @property
    def step(self) -> float:
        """The last reported step; 0 before any."""
        return self.steps[-1] if self.steps else 0.0

    @property
    def failed(self) -> bool:
        """Whether it failed by itself: what becomes of a trial whose workers are lost says nothing of its config."""
        return self.state == FAILED and "lost" not in self.notes

    @property
    def loss(self) -> float:
        """The last known loss; NaN before any."""
        return next((x for x in reversed(self.losses) if x == x), math.nan)

    def last(self, metric: str, reports: int | None = None) -> float | None:
        """The value of a metric in the last report (of the first ``reports``) that has it; None if there is none."""
        told = self.told if reports is None else self.told[:reports]
        return next((number(values[metric]) for values, *_ in reversed(told) if metric in values), None)

    @property
    def due(self) -> float:
        """The steps that the trial has done or, while it is awaited, is sent to do."""
        reached = max(self.step, self.plan.until) if self.state in (RUNNING, WAITING) else self.step
        return max(0.0, reached - self.base)

    def place(self, step: float) -> int | None:
        """The place of the first report at or after ``step`` with a known loss; None if there is none."""
        first = bisect.bisect_left(self.steps, step)
        return next((i for i in range(first, len(self.losses)) if self.losses[i] == self.losses[i]), None)

    def freeze(self) -> Trial:
        """Return the trial as it stands now; the same object until something changes."""
        if self.trial is None:
            self.trial = Trial(
                self.number, self.config, self.plan, Origin(self.by, self.why), self.state,
                tuple(self.reports), self.failure, self.reason, self.worker, self.lease, self.tries, self.seconds,
                self.started, self.notes,
            )  # fmt: skip
        return self.trial
