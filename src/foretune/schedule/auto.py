"""The scheduler for those who do not want to choose one: early stopping where time is what is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from foretune.base.key import Key
from foretune.schedule.asha_stopping import AshaStopping
from foretune.schedule.full import Full
from foretune.schedule.multi_objective_asha import MultiObjectiveAsha
from foretune.schedule.scheduler import Action, Done, Rung, Scheduler, Verdict, Wait
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import PAUSED, STOPPED, Trial

__all__ = ["Auto"]

__entry__ = "Auto"

WIDE = 9.0  # steps.high over steps.low from which trials are compared on their way: at three rungs
LOWEST = 27.0  # the lowest rung is at this fraction of steps.high at least: before it, losses say little


@final
@dataclass(frozen=True)
class Auto(Scheduler):
    """Chooses by rules, and says which one applied: each reason of a start or a promotion begins with the choice.

        no steps, or less than nine times as many as at the first rung      full
        a number of trials is wanted                                        full
        one goal, and a budget of time or of another kind                   asha_stopping
        several goals, likewise                                             multi_objective_asha

    Who asks for forty trials gets forty, each trained to the end; who gives two hours gets the best that two
    hours can find: most trials end at an early rung, the first of them at a 27th of the steps. Stopping trials
    and not pausing them needs nothing of the training, which reports and is told to stop. A study in which trials
    were left early goes on so, also when a number of trials is asked for later.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"judges", "multi-objective"})

    def choice(self, problem: Problem, history: History | None = None) -> tuple[Scheduler, str]:
        """Return the scheduler that the rules name, and why."""
        high = problem.steps.high
        low = max(problem.steps.low, high / LOWEST)
        early = MultiObjectiveAsha(low=low) if len(problem.goals) > 1 else AshaStopping(low=low)
        word = "multi_objective_asha" if len(problem.goals) > 1 else "asha_stopping"
        if high < WIDE * problem.steps.low:
            return Full(), "full (auto: trials are not compared on their way)"
        if problem.budget_trials is None:
            return early, f"{word} (auto: a budget that counts no trials)"
        if history is not None and _left_early(history, high):
            return early, f"{word} (auto: as the study began)"
        return Full(), f"full (auto: {problem.budget_trials} trials are wanted)"

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        scheduler, why = self.choice(problem, history)
        found: Any = scheduler.next(problem, history, key)
        return found if isinstance(found, (Done, Wait)) else replace(found, reason=f"{why}: {found.reason}")

    def judge(self, problem: Problem, history: History, trial: Trial) -> Verdict:
        return self.choice(problem, history)[0].judge(problem, history, trial)

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        return self.choice(problem)[0].plan(problem, trials)


def _left_early(history: History, high: float) -> bool:
    """Whether trials were stopped by judgement, or with several goals wait at a rung."""
    if len(history.problem.goals) == 1:
        return history.count(STOPPED) > 0
    return any(history.plan(i).until < high for i in history.numbers(PAUSED))
