"""The reasons of proposals speak of the user's metric, not of what an algorithm makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

import foretune as ft
from foretune.schedule import names as scheduler_names
from foretune.search import make, names

SPACE = ft.Space(
    {"x": ft.Float(0, 1), "opt": ft.Choice(("a", "b")), "y": ft.Float(0, 1)}, when={"y": {"opt": ["a"]}}
)
NEGATIVE = re.compile(r"(?<![\w.])-\d")  # not the exponent of 1e-05
TAKEN = [name for name in names() if "independent" not in make(name).tags]

# wrappers are tried bare, too
pytestmark = pytest.mark.filterwarnings("ignore:Foretune. the sampler \\w+ was given no:RuntimeWarning")


def train(config: Mapping[str, Any]) -> dict[str, float]:
    return {"accuracy": 70 + 10 * config["x"] + config.get("y", 0.5), "cost": 1 + config["x"]}


@pytest.mark.parametrize("name", TAKEN)
def test_reasons_speak_in_the_goals_own_sign(name: str) -> None:
    """Where a positive accuracy is to be maximised, no reason has a negative number or speaks of a loss."""
    result = ft.tune(train, SPACE, goal="max accuracy", sampler=name, budget=13, seed=1)
    said = [t.origin.reason for t in result.history]
    assert all(said)
    assert [r for r in said if NEGATIVE.search(r) or "loss" in r] == []


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cqr", {"initial": 4}, r"best of \d+ draws: accuracy [78]\d(\.\d)?, quantile 0\.\d+ of \[[78]"),
        ("random_forest", {"initial": 4}, r"accuracy [78]\d(\.\d)? predicted"),
        ("greedy_coordinate", {}, r"held so far: accuracy [78]\d"),
        ("rising_bandits", {}, r"best accuracy [78]\d"),
        ("tradeoff", {"initial": 4}, r"accuracy [78]\d(\.\d)? \+- "),
        ("carbs", {"initial": 4}, r"accuracy [78]\d(\.\d)? predicted"),
    ],
)
def test_predictions_name_the_metric(name: str, options: dict[str, Any], words: str) -> None:
    """What is predicted or held is said as a value of the metric."""
    result = ft.tune(train, SPACE, goal="max accuracy", sampler=make(name, **options), budget=13, seed=1)
    assert re.search(words, result.history[12].origin.reason), result.history[12].origin.reason


@pytest.mark.parametrize("name", scheduler_names())
def test_reasons_of_schedulers_speak_in_the_goals_own_sign(name: str) -> None:
    """What a scheduler says of a positive accuracy has no negative number, and speaks of no loss."""

    def learn(config: Mapping[str, Any], run: Any) -> None:
        for step in range(run.start, run.until):
            run.report(step + 1, accuracy=70 + 10 * config["x"] + step)

    found = ft.tune(
        learn, SPACE, goal="max accuracy", sampler="random", scheduler=name, steps=9, budget="12 trials"
    )
    said = [e.data["reason"] for e in found.study.store.read("study") if "reason" in e.data]
    assert len(said) > 12
    assert [r for r in said if NEGATIVE.search(r) or "loss" in r] == []
