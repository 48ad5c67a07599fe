"""The sampler that chooses a sampler."""

from __future__ import annotations

import pytest

from foretune.search.auto import Auto
from foretune.space import Float, Space
from foretune.trial.constraint import parse_constraints
from foretune.trial.goal import parse_goals
from foretune.trial.problem import Problem


@pytest.mark.parametrize(
    ("goals", "width", "budget", "made", "bounds", "chosen", "why"),
    [
        ("min loss", 1, None, 0, None, "GP", "gp"),
        ("min loss", 1, 2000, 0, None, "TPE", "2000 trials"),
        ("min loss", 1, None, 1500, None, "TPE", "after 1500"),
        ("min loss", 500, 50, 0, None, "TPE", "500 columns"),
        ("min loss", 500, 2000, 0, {"memory": "<= 1"}, "GP", "gp"),
        (["min loss", "min cost"], 1, 50, 0, None, "GPPareto", "2 goals"),
        (["min loss", "min cost"], 1, 5000, 0, None, "TPE", "5000 trials"),
    ],
)
def test_the_choice_and_its_reason(
    goals: str | list[str], width: int, budget: int | None, made: int, bounds: dict[str, str] | None,
    chosen: str, why: str,
) -> None:  # fmt: skip
    """Models are used where they pay and can know the problem; the reason says which rule applied."""
    space = Space({f"x{i}": Float(0, 1) for i in range(width)})
    problem = Problem(
        space, parse_goals(goals), budget_trials=budget, constraints=parse_constraints(bounds or {})
    )
    sampler, reason = Auto().choice(problem, made)
    assert type(sampler).__name__ == chosen
    assert why in reason
