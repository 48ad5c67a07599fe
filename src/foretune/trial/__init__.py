"""Trials, goals, events, problems, and the history that is folded from them."""

from foretune.trial.constraint import Constraint, parse_constraints
from foretune.trial.event import STUDY, Event
from foretune.trial.goal import Goal, parse_goals
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Origin, Plan, Report, Trial

__all__ = [
    "STUDY", "Constraint", "Event", "Goal", "History", "Origin", "Plan", "Problem", "Report", "Trial",
    "parse_constraints", "parse_goals",
]  # fmt: skip
