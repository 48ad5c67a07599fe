"""Trials whose workers were lost, and that were given up, say nothing of their configs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretune.base.key import Key
from foretune.search import make
from foretune.search.earlier import Earlier
from foretune.search.observations import observe
from foretune.search.sampler import Proposal
from foretune.search.settled import settled
from foretune.space import Fidelity, Float, Space
from foretune.testing.samplers import Walk
from foretune.trial.event import Event
from foretune.trial.problem import Problem

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def walk(name: str, seed: int, lost: int, guilty: bool = False) -> Walk:
    """24 uniform trials, and some near the best place that were lost, or failed by themselves."""
    found = Walk(
        make(name), Problem(SPACE, steps=Fidelity(9), key=Key.of(seed)), failing=0, partial=0,
        objective=lambda s, c: (c["x"] - 0.5) ** 2 + (c["y"] - 0.5) ** 2,
    )  # fmt: skip
    for config in SPACE.sample(24, Key.of(seed)):
        found.end(found.start(Proposal(config, "uniform")))
    rng = np.random.default_rng(seed)
    for _ in range(lost):
        x, y = 0.5 + 0.03 * rng.standard_normal(2)
        number = found.start(Proposal({"x": x, "y": y}, "near the best"))
        if not guilty:
            found.log(Event("lose", number, 1.0, {"reason": "its worker vanished"}))
        found.log(Event("fail", number, 1.0, {"reason": "no more tries"}))
    return found


def test_a_lost_trial_has_no_loss() -> None:
    """It is failed, its loss is what it has reported or unknown, and models leave it out; a failure stays one."""
    history = walk("random", 0, 2).history
    assert history.count("failed") == 2
    assert math.isnan(history.loss(24))
    assert np.isnan(history.losses[24:]).all()
    assert set(observe(history.problem, history).number) == set(range(24)) == set(settled(history).number)
    assert len(Earlier.of(history, "old").rows) == 24
    number = len(history)
    history.apply(
        [
            Event("start", number, 2.0, {"config": {"x": 0.1, "y": 0.1}, "plan": [9]}),
            Event("report", number, 2.0, {"step": 1, "values": {"loss": 0.7}}),
            Event("lose", number, 2.0, {"reason": "its worker vanished"}),
            Event("fail", number, 2.0, {"reason": "no more tries"}),
        ]
    )
    assert history.loss(number) == 0.7
    assert history.best is not None
    assert history.best.number != number
    guilty = walk("random", 0, 2, guilty=True).history
    assert guilty.loss(24) == math.inf
    assert set(observe(guilty.problem, guilty).number) == set(range(26))


def test_a_trial_that_was_lost_and_then_failed_by_itself_has_failed() -> None:
    """Taken up again after a loss, it raises: that is its own failure."""
    history = walk("random", 0, 0).history
    history.apply(
        [
            Event("start", 24, 2.0, {"config": {"x": 0.1, "y": 0.1}, "plan": [9]}),
            Event("lose", 24, 2.0, {"reason": "its worker vanished"}),
            Event("resume", 24, 2.0, {"plan": [9]}),
            Event("fail", 24, 2.0, {"reason": "it raised"}),
        ]
    )
    assert history.loss(24) == math.inf


@pytest.mark.parametrize("name", ["tpe", "random_forest", "gp", "cqr"])
def test_lost_trials_keep_no_one_from_their_place(name: str) -> None:
    """With 8 lost near the best place, the median of 24 proposals is as near to it: at most 1.5 times as far.

    Where they count as failures, it is farther off, for the Gaussian process more than ten times.
    """

    def distance(lost: int) -> float:
        asked = [p.config for seed in range(6) for p in walk(name, seed, lost).ask(4)]
        return float(np.median([math.hypot(c["x"] - 0.5, c["y"] - 0.5) for c in asked]))

    assert distance(8) <= 1.5 * distance(0)
