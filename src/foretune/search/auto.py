"""The sampler for those who do not want to choose one: a Gaussian process where it pays, densities elsewhere."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from foretune.base.key import Key
from foretune.search.feasible import shown
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["Auto"]

__entry__ = "Auto"

# Above this many trials the budget is so large for its space that a model's advice is worth less
# than its time; the Gaussian process also caps its training set near here.
MOST_TRIALS = 1000
WIDE = 200  # columns from which length scales cannot be learned from an affordable number of trials


@final
@dataclass(frozen=True)
class Auto(Sampler[None]):
    """Chooses by rules, and says which one applied: each reason begins with the choice.

        several goals                             gp_pareto
        one goal                                  gp
        more than 1,000 trials planned or made,
        more than 200 columns, or no SciPy        tpe

    An unknown budget counts as a small one. Constraints keep the Gaussian process, which models them, however
    many trials there are. The choice looks at the problem and the number of trials only, so that a study that
    is resumed goes on as one that was not.
    """

    tags: ClassVar[frozenset[str]] = frozenset(
        {"conditional", "mixed", "simplex", "multi-fidelity", "multi-objective", "constrained", "learns"}
    )

    def choice(self, problem: Problem, made: int = 0) -> tuple[Sampler[Any], str]:
        """Return the sampler that the rules name after ``made`` trials, and why."""
        from foretune.search.gp import GP
        from foretune.search.gp_pareto import GPPareto
        from foretune.search.tpe import TPE

        planned, width = problem.budget_trials, problem.space.width
        if importlib.util.find_spec("scipy") is None:
            return TPE(), "tpe (auto: SciPy is not installed)"
        if not problem.constraints:
            if planned is not None and planned > MOST_TRIALS:
                return TPE(), f"tpe (auto: a budget of {planned} trials)"
            if made > MOST_TRIALS:
                return TPE(), f"tpe (auto: after {made} trials)"
            if width > WIDE:
                return TPE(), f"tpe (auto: {width} columns)"
        if len(problem.goals) > 1:
            return GPPareto(), f"gp_pareto (auto: {len(problem.goals)} goals)"
        return GP(), "gp (auto)"

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        sampler, why = self.choice(problem, len(history))
        found = sampler.ask(problem, sampler.init(problem), shown(sampler, history), n, key)
        return [replace(p, reason=f"{why}: {p.reason}") for p in found]
