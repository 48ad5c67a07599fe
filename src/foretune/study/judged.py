"""The same trials, judged by another of a study's goals: its history with that goal first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Union

from foretune.base.errors import ArgumentError, did_you_mean
from foretune.study.description import problem_of
from foretune.trial.goal import Goal
from foretune.trial.history import History

if TYPE_CHECKING:
    from foretune.study.study import Study

__all__ = ["alone", "judged"]


def _place(goals: Sequence[Goal], wanted: Union[str, Goal]) -> int:
    """Return which of the goals is meant: by its metric, or written out, "min loss"."""
    names = [g.metric for g in goals]
    word = wanted.metric if isinstance(wanted, Goal) else wanted
    found = [i for i, g in enumerate(goals) if wanted == g or word in (g.metric, str(g))]
    if not found:
        raise ArgumentError(
            f"goal must be one of the study's own ({', '.join(names)}); got {wanted!r}."
            f"{did_you_mean(str(word).split()[-1] if str(word).split() else '', names)}"
        )
    return found[0]


def judged(study: Study, goal: Union[str, Goal, None] = None) -> History:
    """Return a study's history in which ``goal`` comes first: losses and the best are by it.

    Args:
        goal: one of the study's goals, by its metric; the first unless given.

    Raises:
        ArgumentError: the study has no such goal.

    >>> from foretune.space import Float, Space
    >>> from foretune.study.tune import tune
    >>> found = tune(lambda c: {"loss": c["x"], "mb": 1 - c["x"]}, Space({"x": Float(0, 1)}),
    ...              goal=["min loss", "min mb"], sampler="random", budget=9)
    >>> judged(found.study, "mb").best.values["mb"] == min(t.values["mb"] for t in found.history)
    True
    """
    goals = study.problem.goals
    at = 0 if goal is None else _place(goals, goal)
    if at == 0:
        return study.history
    log = study.store.read(study.name)
    order = (goals[at], *goals[:at], *goals[at + 1 :])
    return History(replace(problem_of(log[0].data), goals=order), log)


def alone(history: History) -> str:
    """Say by which goal a history is judged, where there are several; "" where there is one.

    >>> from foretune.space import Float, Space
    >>> from foretune.trial.problem import Problem
    >>> alone(History(Problem(Space({"x": Float(0, 1)}), (Goal("loss"), Goal("mb")))))
    'judged by loss alone, one of 2 goals'
    """
    many = len(history.problem.goals)
    return f"judged by {history.problem.goal.metric} alone, one of {many} goals" if many > 1 else ""
