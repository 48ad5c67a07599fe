"""What a sampler is shown and told of a study with constraints: losses that put feasibility first.

A sampler with the tag ``constrained`` handles constraints itself, and sees things as they are; so does one that
ignores history. Every other one is shown the view in ``trial/feasibility.py`` and needs no line for it.
"""

from __future__ import annotations

from typing import Any

from foretune.search.sampler import Sampler
from foretune.trial.feasibility import feasible_first, ranked_trial
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["shown", "told"]


def _by_itself(sampler: Sampler[Any]) -> bool:
    return not sampler.tags.isdisjoint(("constrained", "independent"))


def shown(sampler: Sampler[Any], history: History) -> History:
    """Return the history as ``ask`` of a sampler is to see it; without constraints, the history itself."""
    return history if _by_itself(sampler) else feasible_first(history)


def told(sampler: Sampler[Any], problem: Problem, trial: Trial) -> Trial:
    """Return a settled trial as ``tell`` of a sampler is to see it; without constraints, the trial itself."""
    return trial if _by_itself(sampler) else ranked_trial(problem, trial)
