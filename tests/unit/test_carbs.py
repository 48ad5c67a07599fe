"""CARBS: local, indifferent to bounds, growing the front; its power laws against known ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, UnknownNameError
from foretune.base.key import Key
from foretune.numeric import pareto
from foretune.search import make
from foretune.search.carbs import Carbs, _log_density, around, moves, scaling_fits
from foretune.search.modelled import encoded
from foretune.trial import Event, History, Problem

SPACE = ft.Space(
    {
        "n": ft.Float(1e5, 1e11, log=True, default=1e7),
        "d": ft.Float(1e6, 1e13, log=True, default=2e8),
        "lr": ft.Float(1e-6, 1.0, log=True, default=1e-2),
    }
)


def train(config: dict[str, Any]) -> dict[str, float]:
    """Chinchilla's law, and a penalty on a learning rate that is off its best."""
    n, d = config["n"], config["d"]
    off = math.log10(config["lr"] / (3e-3 * (n / 1e8) ** -0.3))
    return {"loss": 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28 + 0.3 * off**2, "flops": 6 * n * d}


def covered(result: Any) -> float:
    """Hypervolume in loss and log cost, below loss 5 and 1e24 FLOP."""
    history = result.history
    rows = np.stack([history.losses[:, 0], np.log(history.metric("flops"))], axis=1)
    return pareto.hypervolume(rows, (5.0, math.log(1e24)))


def test_the_front_grows_beyond_random_and_obeys_the_ceiling() -> None:
    """In 30 trials the front covers more than random's for 3 of 3 seeds (by chance 1 in 8)."""
    for seed in range(3):
        sampler = make("carbs", cost="flops", ceiling=1e24)
        ours = ft.tune(train, SPACE, sampler=sampler, budget="30 trials", seed=seed)
        random = ft.tune(train, SPACE, sampler="random", budget="30 trials", seed=seed)
        assert covered(ours) > covered(random)
        assert (ours.history.metric("flops") < 3e24).all()
        assert "front of" in ours.history[29].origin.reason


def test_widening_the_bounds_changes_no_candidate() -> None:
    """Around the same centre, in decades, a space a million times wider gives the same candidates."""
    wide = ft.Space({k: ft.Float(d.low / 1e3, d.high * 1e3, log=True) for k, d in SPACE.items()})
    found = []
    for space in (SPACE, wide):
        centre = space.encode([{"n": 1e8, "d": 1e9, "lr": 1e-3}])
        rng = np.random.default_rng(0)
        rows = around(encoded(space), centre, moves(space, 0.3), 50, rng)
        found.append([list(c.values()) for c in space.decode(rows)])
    assert np.allclose(np.log(found[0]), np.log(found[1]))


def events(configs: list[dict[str, Any]], values: list[dict[str, float]]) -> History:
    history = History(Problem(SPACE))
    for i, (config, value) in enumerate(zip(configs, values, strict=True)):
        history.apply(
            [
                Event("start", i, 0.0, {"config": config, "plan": [1]}),
                Event("report", i, 1.0, {"step": 1, "values": value}),
                Event("complete", i, 1.0, {"reason": "done"}),
            ]
        )
    return history


def test_scaling_fits_recover_exact_laws() -> None:
    """From trials on exact power laws, dominated ones beside them, the exponents come back."""
    costs = np.logspace(18, 24, 7)
    configs = [{"n": 0.1 * c**0.45, "d": c**0.55 / 0.6, "lr": 30.0 * c**-0.1} for c in costs]
    values = [{"loss": float(c**-0.05), "flops": float(c)} for c in costs]
    dominated = [{**c, "lr": 1e-5} for c in configs]
    worse = [{**v, "loss": v["loss"] + 1.0} for v in values]
    fits = scaling_fits(events(configs + dominated, values + worse), "flops")
    assert {k: round(v.exponent, 6) for k, v in fits.items()} == {"n": 0.45, "d": 0.55, "lr": -0.1}
    assert all(v.n == 7 and v.error < 1e-9 for v in fits.values())
    assert fits["lr"].at(1e20) == pytest.approx(30.0 * 1e20**-0.1)


def test_scaling_fits_need_a_cost_and_a_front() -> None:
    """A misspelt metric is an error that suggests the right one; too short a front gives no law."""
    history = events([{"n": 1e6, "d": 1e8, "lr": 1e-2}], [{"loss": 1.0, "flops": 1.0}])
    assert scaling_fits(history, "flops") == {}
    with pytest.raises(UnknownNameError, match="flops"):
        scaling_fits(history, "flop")


def test_failures_are_avoided() -> None:
    """Where all large models fail, at most a third of the later proposals fail again."""

    def failing(config: dict[str, Any]) -> dict[str, float]:
        if config["n"] > 1e7:
            raise MemoryError("too large")
        return train(config)

    result = ft.tune(failing, SPACE, sampler=make("carbs", cost="flops"), budget="24 trials")
    assert sum(n >= 12 for n in result.history.numbers("failed")) <= 4


def test_without_costs_it_is_a_local_search() -> None:
    """Where no cost is known proposals stay around the best, and the loss falls."""
    result = ft.tune(lambda c: train(c)["loss"], SPACE, sampler="carbs", budget="15 trials", seed=1)
    assert result.best.value < result.history.loss(0)
    first = SPACE.encode([t.config for t in result.history])[:4]
    assert np.abs(first - first[0]).max() < 0.5


def test_the_same_history_gives_the_same_proposals() -> None:
    """Asking twice gives the same; three proposals at once differ."""
    result = ft.tune(train, SPACE, sampler=make("carbs", cost="flops"), budget="8 trials")
    problem, history = result.study.problem, result.history
    found = Carbs(cost="flops").ask(problem, None, history, 3, Key.of(1))
    assert found == Carbs(cost="flops").ask(problem, None, history, 3, Key.of(1))
    assert len({tuple(p.config.values()) for p in found}) == 3


def test_wrong_options_are_refused() -> None:
    """A radius of nothing is refused."""
    with pytest.raises(ArgumentError, match="radius"):
        Carbs(radius=0.0)


def test_moves_in_many_columns_stay_inside() -> None:
    """In a thousand columns some coordinate always leaves the cube: it is drawn again, and few end at a face."""
    space = ft.Space({f"x{i}": ft.Float(0, 1) for i in range(1000)})
    centre = np.linspace(0.02, 0.98, 1000)[None]
    rows = around(encoded(space), centre, moves(space, 0.3), 200, np.random.default_rng(0))
    assert rows.shape == (200, 1000)
    assert ((rows >= 0.0) & (rows <= 1.0)).all()
    assert np.mean((rows == 0.0) | (rows == 1.0)) < 0.002
    # each column is the normal around its centre, cut to the cube: near an end its mean moves inwards
    assert rows[:, 500].mean() == pytest.approx(0.5, abs=0.1)
    assert rows[:, 0].mean() == pytest.approx(0.25, abs=0.1)


def test_density_is_that_of_the_nearest_origin() -> None:
    """As summed column by column; inactive columns count as the middle."""
    rng = np.random.default_rng(0)
    rows, origins, step = rng.random((30, 7)), rng.random((4, 7)), rng.uniform(0.1, 0.9, 7)
    rows[3, 2] = np.nan
    gap = (np.nan_to_num(rows, nan=0.5)[:, None] - origins[None]) / step
    assert _log_density(rows, origins, step) == pytest.approx(-0.5 * (gap**2).sum(axis=2).min(axis=1))
