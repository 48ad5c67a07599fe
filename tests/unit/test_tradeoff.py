"""The trade-off sampler: plain search at weight 0, cheaper picks beyond, the pick and the front."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import foretune as ft
from foretune.base.errors import ArgumentError
from foretune.search import make
from foretune.search.modelled import Frame, encoded
from foretune.search.observations import observe
from foretune.search.tradeoff import Tradeoff, _model_of, _Sum

SPACE = ft.Space({"x": ft.Float(0.0, 1.0), "width": ft.Int(1, 64, log=True)})


def train(config: dict[str, Any]) -> dict[str, float]:
    """Wider is a little better and much dearer; x is best at 0.3."""
    return {
        "loss": (config["x"] - 0.3) ** 2 + 0.1 / config["width"] ** 0.5,
        "flops": 10.0 * config["width"] ** 2,
    }


def run(sampler: Any, trials: int = 18, seed: int = 0, **options: Any) -> Any:
    return ft.tune(train, SPACE, sampler=sampler, budget=f"{trials} trials", seed=seed, **options)


def test_weight_zero_is_plain_search() -> None:
    """With weight 0 configs and reasons are those of gp, trial by trial."""
    plain, ours = run("gp", 14), run(make("tradeoff", weight=0.0, cost="flops"), 14)
    assert [t.config for t in plain.history] == [t.config for t in ours.history]
    assert [t.origin.reason for t in plain.history] == [t.origin.reason for t in ours.history]


@pytest.mark.parametrize("acquisition", ["ei", "ucb", "ei_per_second"])
def test_the_gradient_equals_differences(acquisition: str) -> None:
    """Gradients of each acquisition agree with central differences."""
    history = run("random", 12).history
    frame, data = Frame(encoded(SPACE)), observe(history.problem, history)
    cost = np.log(history.metric("flops"))
    both = _Sum(
        _model_of(frame, history, data, data.loss, 100),
        _model_of(frame, history, data, cost[data.number], 100),
        frame,
        0.3,
    )
    rows = np.random.default_rng(0).uniform(0.1, 0.9, (5, 2))
    best = both.loss(rows) if acquisition == "ei_per_second" else both.total(rows)
    value, gradient = both.term(float(best[0].mean()), acquisition)
    for j in range(2):
        h = np.zeros(2)
        h[j] = 1e-6
        numeric = (value(rows + h) - value(rows - h)) / 2e-6
        assert np.allclose(gradient(rows)[1][:, j], numeric, rtol=1e-2, atol=1e-2)
    assert np.allclose(gradient(rows)[0], value(rows))


def test_a_heavier_weight_picks_a_cheaper_trial() -> None:
    """The pick of weight 0.05 costs less than half of plain search's best, and loses at most what it trades."""
    sampler = Tradeoff(weight=0.05, cost="flops")
    result = run(sampler)
    pick, plain = sampler.recommend(result.history), run("gp").history.best
    assert pick.values["flops"] < 0.5 * plain.values["flops"]
    saved = math.log(plain.values["flops"] / pick.values["flops"])
    assert pick.values["loss"] - plain.values["loss"] <= 0.05 * saved + 1e-3


def test_the_pick_obeys_a_limit_and_stands_on_the_front() -> None:
    """Within a limit the pick is the least loss there; the front falls in loss as it grows in cost."""
    sampler = Tradeoff(weight=0.05, cost="flops")
    result = run(sampler, 14)
    front = sampler.front(result.history)
    losses = [t.values["loss"] for t in front]
    assert all(np.diff([t.values["flops"] for t in front]) > 0)
    assert all(np.diff(losses) < 0)
    assert sampler.recommend(result.history).number in {t.number for t in front}
    limit = front[len(front) // 2].values["flops"]
    picked = sampler.recommend(result.history, within=limit)
    assert picked.number == front[len(front) // 2].number
    assert sampler.recommend(result.history, within=1e-9) is None
    near = sampler.recommend(result.history, tolerance=0.02)
    assert near.values["loss"] <= min(losses) + 0.02
    cheaper = [t for t in front if t.values["flops"] < near.values["flops"]]
    assert all(t.values["loss"] > min(losses) + 0.02 for t in cheaper)


def test_seconds_are_the_cost_unless_named() -> None:
    """Without a metric the training seconds count, as they stand in the log."""
    study = ft.Study(SPACE, sampler=Tradeoff(weight=0.05), budget="9 trials")
    for _ in range(9):
        trial = study.next()
        values = train(dict(trial.config))
        study.finish(trial.number, {"loss": values["loss"]}, seconds=values["flops"])
    assert "at seconds" in study.history[8].origin.reason
    assert study.history.metric("seconds")[3] == pytest.approx(train(dict(study.history[3].config))["flops"])


def test_bounds_are_kept() -> None:
    """With a bound on another metric the pick keeps it."""
    sampler = Tradeoff(weight=0.01, cost="flops")
    result = run(sampler, 14, constraints="flops <= 1000")
    assert sampler.recommend(result.history).values["flops"] <= 1000


def test_wrong_options_are_refused() -> None:
    """A negative weight and an unknown acquisition name what is accepted."""
    with pytest.raises(ArgumentError, match="weight"):
        Tradeoff(weight=-1.0)
    with pytest.raises(ArgumentError, match="ei_per_second"):
        Tradeoff(acquisition="ei per second")
