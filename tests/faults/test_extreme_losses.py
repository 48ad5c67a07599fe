"""Losses at the ends of what a float can hold: every sampler goes on by itself, without a warning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import foretune as ft
from foretune.numeric.stats import tamed
from foretune.search import make, names
from foretune.search.sampler import Sampler

SPACE = ft.Space(
    {"x": ft.Float(0, 1), "lr": ft.Float(1e-5, 1e-1, log=True), "c": ft.Choice(["a", "b"])}
)  # fmt: skip
# small, so that twelve trials leave the first design
SMALL = {
    "population": 6,
    "initial": 4,
    "training_steps": 20,
    "trees": 8,
    "warmup": 6,
    "draws": 2,
    "inner": "random",
}
LOSSES: dict[str, Callable[[float], float]] = {
    "huge": lambda x: 1e300 * (0.5 + x),
    "huge and negative": lambda x: -1e300 * (0.5 + x),
    "from end to end": lambda x: 1.7e308 * (2 * x - 1),
    "tiny": lambda x: 1e-300 * (0.5 + x),
    "denormal": lambda x: 5e-324 * round(10 * x),
    "of 600 orders": lambda x: 10.0 ** (600 * x - 300),
    "one huge": lambda x: 1e300 if x > 0.6 else x,
    "one huge and negative": lambda x: -1e300 if x > 0.6 else x,
    "equal and huge": lambda x: 1e300,
    "equal": lambda x: 0.0,
    "NaN and infinities": lambda x: math.nan if x < 0.4 else -math.inf if x < 0.6 else x,
    "differing in the last digits": lambda x: 1e15 + x,
}


def small(name: str) -> Sampler[Any]:
    fields = {f.name for f in dataclasses.fields(type(make(name)))}
    options = {k: v for k, v in SMALL.items() if k in fields}
    return make(name, **options, **({"sample": 4} if {"population", "sample"} <= fields else {}))


def trained(name: str, loss: Callable[[float], float]) -> ft.Result:
    """Tune; a sampler that raises or overflows warns, and warnings are errors."""

    def train(config: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": loss(config["x"]), "cost": 1 + config["x"]}

    return ft.tune(train, SPACE, sampler=small(name), budget=12, seed=1)


@pytest.mark.filterwarnings("ignore:Foretune. the sampler \\w+ was given no:RuntimeWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_samplers_survive_extreme_losses(name: str, loss: Callable[[float], float]) -> None:
    """All trials are trained, each proposed by the sampler itself."""
    result = trained(name, loss)
    assert len(result.history) == 12 or "exhausted" in result.reason
    assert not any("raised" in t.origin.reason for t in result.history)


@pytest.mark.parametrize("name", ["gp", "tradeoff", "hier_mab", "random_forest"])
@pytest.mark.parametrize("loss", ["huge", "from end to end", "of 600 orders"])
def test_the_best_is_still_the_best(name: str, loss: str) -> None:
    """Models see losses compressed; the best is that of the losses as they were reported."""
    result = trained(name, LOSSES[loss])
    assert result.best.value == min(t.values["loss"] for t in result.history)


def test_compression_keeps_the_order() -> None:
    """What is beyond 1e100 stays in order, and finite; what is not, and infinities and NaN, stay as they are."""
    values = [-math.inf, -1.7e308, -1e101, -1e100, -1.0, 0.0, 5e-324, 1e100, 1e101, 1.7e308, math.inf]
    found = tamed(values).tolist()
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    assert found[3:8] == values[3:8]
    assert max(abs(v) for v in found if math.isfinite(v)) < 1e103
    assert (found[0], found[-1]) == (-math.inf, math.inf)
    assert math.isnan(tamed([math.nan])[0])


@pytest.mark.parametrize("name", ["auto", "nsga2", "tpe"])
@pytest.mark.parametrize("loss", ["huge", "from end to end", "of 600 orders", "one huge"])
def test_extremes_of_two_goals(name: str, loss: str) -> None:
    """With two goals, too, all trials are trained without a warning."""

    def train(config: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": LOSSES[loss](config["x"]), "speed": LOSSES[loss](1 - config["x"])}

    result = ft.tune(train, SPACE, goal=["min loss", "max speed"], sampler=small(name), budget=12, seed=1)
    assert len(result.history) == 12
    assert result.front
