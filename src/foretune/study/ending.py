"""How a trial's plan ended: complete, paused, stopped or failed, with the reason and the last values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from foretune.base.errors import ArgumentError, did_you_mean
from foretune.schedule.scheduler import Verdict
from foretune.study.opening import WHOLE_RUN
from foretune.trial.problem import Problem
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, STOPPED, Trial

__all__ = ["WITHOUT", "Ending", "conclude"]

WITHOUT = "it ended without "  # how the reasons of trials begin that lack a metric


@dataclass(frozen=True, slots=True)
class Ending:
    """A state, its reason, and the values (at a step) that the trial's reports lack so far."""

    state: str
    reason: str
    step: float
    values: Mapping[str, float] | None = None


def _missing(problem: Problem, trial: Trial, final: Mapping[str, float], step: float) -> str | None:
    """Say which metric is missing: a goal's, or at the full length a constraint's; None if none is."""
    known = {*final, *(name for report in trial.reports for name in report.values)}
    for goal in problem.goals:
        if goal.metric not in known:
            told = (
                f"it reported {', '.join(sorted(known))}.{did_you_mean(goal.metric, known)}" if known else ""
            )
            return f"{WITHOUT}the goal's metric {goal.metric!r}: {told or 'it reported nothing.'}"
    for constraint in problem.constraints if step >= problem.steps.high else ():
        if constraint.metric not in known:
            near = did_you_mean(constraint.metric, known)
            return (
                f"{WITHOUT}{constraint.metric!r}, which is constrained ({constraint}): it reported "
                f"{', '.join(sorted(known))}.{near}"
            )
    return None


def conclude(
    problem: Problem, trial: Trial, final: Mapping[str, float], verdict: Verdict | None, state: str | None,
    reason: str | None,
) -> Ending:  # fmt: skip
    """Work out how a trial's plan ended.

    Args:
        final: the metrics it ended with, if any.
        verdict: what it was told, if it was told to leave.
        state, reason: what the caller says, if anything.

    Raises:
        ArgumentError: ``state`` is "failed" without a reason, or "complete" without the metrics of goals and
            constraints.
    """
    whole = problem.steps.unit == WHOLE_RUN
    step = trial.step
    something = bool(final or trial.reports)
    if whole and something:
        step = max(step, 1.0)
    elif something and verdict is None and state in (None, COMPLETE, PAUSED):
        step = max(step, trial.plan.until)  # it ended by itself: its last values are its result
    missing = _missing(problem, trial, final, step)
    if state is None and missing is not None and (verdict is None or verdict.word != "stop"):
        return Ending(FAILED, missing, step, final or None)
    if state == COMPLETE and missing is not None:
        raise ArgumentError(f"finish(state='complete') of trial {trial.number} lacks a result: {missing}")
    if state == FAILED and not reason:
        raise ArgumentError("finish(state='failed') needs a reason: what went wrong, in a sentence.")
    values = None
    if final:
        values = final
    elif trial.reports and step > trial.step:
        values = trial.values
    if state is not None:
        said = reason or f"set to {state} by the caller"
    else:
        state, said = _state_at(problem, step, trial, verdict, reason)
    if state != FAILED:
        said = _diverged(problem, {**trial.values, **(values or {})}, said)
    return Ending(state, said, step, values)


def _diverged(problem: Problem, last: Mapping[str, float], reason: str) -> str:
    """Put it first in the reason if the last value of the first goal is no finite number."""
    metric = problem.goal.metric
    value = last.get(metric, 0.0)
    if math.isfinite(value):
        return reason
    return f"{metric} is {'NaN' if math.isnan(value) else 'infinite'}: diverged ({reason})"


def _state_at(
    problem: Problem, step: float, trial: Trial, verdict: Verdict | None, reason: str | None
) -> tuple[str, str]:
    if verdict is not None and verdict.word == "stop":
        return STOPPED, verdict.reason
    if step >= problem.steps.high:
        whole = problem.steps.unit == WHOLE_RUN
        return COMPLETE, reason or ("ran to its end" if whole else f"reached step {step:g}, the full length")
    if verdict is not None:
        return PAUSED, verdict.reason
    return PAUSED, reason or f"reached step {trial.plan.until:g}, where trials are compared"
