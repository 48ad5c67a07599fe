"""Schedulers prefer what keeps the constraints, where they are reported along the run."""

from __future__ import annotations

from typing import Any

import pytest

from foretune.base.key import Key
from foretune.schedule import make
from foretune.schedule.boss import pool
from foretune.space import Fidelity, Float, Space
from foretune.trial.constraint import parse_constraints
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

PROBLEM = Problem(
    Space({"x": Float(0.0, 1.0)}), (Goal("loss"),), Fidelity(20), Key.of(0),
    constraints=parse_constraints("memory <= 1"),
)  # fmt: skip


def running(curves: list[list[tuple[float, float | None]]], last: int = 20) -> History:
    """A history of trials whose curves are (loss, memory) at steps 1, 2, ...; those of full length are complete."""
    history = History(PROBLEM)
    for number, curve in enumerate(curves):
        history.apply([Event("start", number, 0.0, {"config": {"x": 0.5}, "plan": [20], "reason": "r"})])
        for step, (loss, memory) in enumerate(curve, 1):
            values: dict[str, Any] = {"loss": loss} | ({} if memory is None else {"memory": memory})
            history.apply([Event("report", number, 1.0, {"step": step, "values": values})])
        if len(curve) == last:
            history.apply([Event("complete", number, 1.0, {"reason": "r"})])
    return history


def falling(start: float, memory: float | None, steps: int = 20) -> list[tuple[float, float | None]]:
    return [(start / s**0.5, memory) for s in range(1, steps + 1)]


JUDGES = [
    ("median_stopping", {}),
    ("asha_stopping", {"eta": 2}),
    ("predictive_stop", {}),
    ("wilcoxon", {}),
    ("patience", {"reports": 3, "least": 10.0}),
]


@pytest.mark.parametrize(("name", "options"), JUDGES)
def test_a_good_loss_does_not_save_what_breaks_a_constraint(name: str, options: dict[str, Any]) -> None:
    """The best loss of a step goes on if it keeps the bound, or if nothing is known of it, and is stopped else."""
    scheduler = make(name, **options)
    others = [falling(2.0 + 0.1 * i, 0.5) for i in range(6)]
    said = {}
    for memory in (0.5, None, 3.0):
        history = running([*others, falling(1.0, memory, 10)])
        said[memory] = scheduler.judge(PROBLEM, history, history[6])
    assert (said[0.5].word, said[None].word, said[3.0].word) == ("go", "go", "stop")
    assert "e+" not in said[3.0].reason, "a reason speaks of losses as the user knows them"


@pytest.mark.parametrize(("name", "options"), JUDGES[:-1])
def test_what_keeps_the_constraints_is_not_stopped_by_what_breaks_them(
    name: str, options: dict[str, Any]
) -> None:
    """Where all others break the bound, a worse loss that keeps it goes on."""
    history = running([*[falling(1.0 + 0.1 * i, 3.0) for i in range(6)], falling(2.0, 0.5, 10)])
    verdict = make(name, **options).judge(PROBLEM, history, history[6])
    assert verdict.word == "go"
    assert "e+" not in verdict.reason


def test_half_of_the_others_may_break_a_constraint() -> None:
    """The median of an even number, half of them broken, stops what is broken and nothing that is kept."""
    others = [falling(1.0 + 0.1 * i, 3.0 if i % 2 else 0.5) for i in range(6)]
    for memory, word in ((0.5, "go"), (4.0, "stop")):
        history = running([*others, falling(9.0, memory, 10)])
        verdict = make("median_stopping").judge(PROBLEM, history, history[6])
        assert verdict.word == word
        assert "e+" not in verdict.reason


def test_wilcoxon_compares_with_what_keeps_the_constraints() -> None:
    """The competitor is the best complete trial that keeps them, not a better one that does not."""
    history = running([falling(1.0, 3.0), falling(3.0, 0.5), falling(2.0, 0.5, 10)])
    assert make("wilcoxon").judge(PROBLEM, history, history[2]).word == "go"
    assert make("wilcoxon").judge(
        PROBLEM, running([falling(1.0, 0.5), falling(2.0, 0.5, 10)]), history[2]
    ).word == ("stop")


def test_boss_inherits_from_what_keeps_the_constraints() -> None:
    """Parents that break one come after all that keep them."""
    history = running([falling(1.0, 3.0), falling(3.0, 0.5), falling(2.0, 0.5), falling(0.5, 2.0)])
    assert pool(history, 4) == [2, 1, 3, 0]
