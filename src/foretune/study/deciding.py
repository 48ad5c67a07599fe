"""What a free worker does now: budgets first, then trials that wait, then the scheduler. Pure.

A trial that was given up, because its worker vanished or because a budget ran out, goes on with the plan
it had before anything else is begun. What the scheduler says never concerns it.
"""

from __future__ import annotations

from collections.abc import Mapping

from foretune.schedule.scheduler import Action, Done, Resume, Scheduler, Start, Wait
from foretune.study.budget import Budget
from foretune.trial.history import History
from foretune.trial.trial import RUNNING, WAITING, Trial

__all__ = ["decide"]


def decide(history: History, scheduler: Scheduler, budget: Budget, now: float) -> Action:
    """Decide on the next action within the budget.

    Args:
        now: the time, for trials that have not reported yet: their clocks run all the same.
    """
    running = history.count(RUNNING)

    def end(reason: str) -> Action:
        if running:
            return Wait(f"{reason}; {running} trials are still running")
        return Done(reason + _untrained(history))

    spent = budget.spent_by(_spent(history, budget, now))
    if spent is not None:
        return end(spent)
    waiting = history.numbers(WAITING)
    for number in waiting:
        plan = history.plan(number)
        if plan.until > 0:
            return Resume(number, plan, f"taken up again after it was given up ({history[number].reason})")
    key = history.problem.key.fold("next", len(history), len(history.settled))
    action = scheduler.next(history.problem, history, key)
    if isinstance(action, Start) and action.config is None and waiting:
        action = Resume(waiting[0], action.plan, f"queued: {history[waiting[0]].reason}")
    refused = _beyond(history, budget, action)
    if refused is not None:
        return end(refused)
    if isinstance(action, Wait) and not running:
        return end(f"nothing runs and nothing can be started: {action.reason}")
    return Done(action.reason + _untrained(history)) if isinstance(action, Done) else action


def _untrained(history: History) -> str:
    """Name the configs that were queued and found no place, as the end of a reason; "" if there are none."""
    left = [str(n) for n in history.numbers(WAITING) if history.plan(n).until <= 0]
    if not left:
        return ""
    which = f"trial {left[0]} is" if len(left) == 1 else f"trials {', '.join(left)} are"
    return f"; {which} still queued, for there was no place left to train what was added"


def _spent(history: History, budget: Budget, now: float) -> Mapping[str, float]:
    seconds = history.seconds
    if budget.seconds is not None:
        for number in history.numbers(RUNNING):
            trial: Trial = history[number]
            since, before = history.since(number)
            if trial.seconds <= before:  # nothing reported since it was last taken up
                seconds += max(0.0, now - since)
    return {"seconds": seconds, "cost": history.cost}


def _beyond(history: History, budget: Budget, action: Action) -> str | None:
    """Say why an action would exceed the budget; None if it does not."""
    if isinstance(action, (Wait, Done)):
        return None
    if isinstance(action, Start) and budget.trials is not None and len(history) >= budget.trials:
        return f"the budget of {budget.trials} trials is used up"
    if budget.steps is not None:
        source = action.plan.continues if isinstance(action, Start) else action.number
        done = 0.0 if source is None else history[source].step
        if history.committed_steps + action.plan.until - done > budget.steps * (1 + 1e-12):
            return f"the budget of {budget.steps:g} steps would be exceeded"
    return None
