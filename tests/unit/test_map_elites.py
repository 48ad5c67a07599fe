"""MAP-Elites: cells, elites that never worsen, and archives of any history."""

from __future__ import annotations

import json

import numpy as np
import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from foretune.base.key import Key
from foretune.search import make
from foretune.search.map_elites import MapElites
from foretune.space import Choice, Constant, Float, Int, Simplex, Space
from foretune.space.fidelity import Fidelity
from foretune.study.description import describe, rebuild
from foretune.testing.samplers import CONDITIONAL, MIXED, Walk
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

FLAT = Space({"x": Float(0.0, 1.0), "lr": Float(1e-4, 1.0, log=True), "act": Choice(("a", "b", "c"))})


def run(*values, space=FLAT, goals=(Goal("loss"),)):
    """A history of complete trials from (config, metrics)."""
    history = History(Problem(space, goals, Fidelity(9)))
    for i, (config, metrics) in enumerate(values):
        said = {"config": config, "plan": [9], "by": "t", "why": "", "reason": "r"}
        history.apply([Event("start", i, 0.0, said), Event("report", i, 0.0, {"step": 9, "values": metrics})])
        history.apply([Event("complete", i, 0.0, {"reason": "r"})])
    return history


def at(x, lr=1e-2, act="a"):
    return {"x": x, "lr": lr, "act": act}


def test_cells_follow_the_unit_cube():
    """A log range is cut by its logarithm, a choice by its values; an end belongs to the last cell."""
    history = run(
        (at(0.0, 1e-4, "a"), {"loss": 1.0}), (at(1.0, 1.0, "c"), {"loss": 2.0}), (at(0.49, 2e-3, "b"), {"loss": 3.0})
    )  # fmt: skip
    sampler = MapElites(("x", "lr", "act"), bins=4)
    archive = sampler.archive(history)
    assert archive.number.shape == (4, 4, 3)
    assert (archive.number[0, 0, 0], archive.number[3, 3, 2], archive.number[1, 1, 1]) == (0, 1, 2)
    assert archive.coverage == pytest.approx(3 / 48)
    assert archive.axes[1].edges == pytest.approx((1e-4, 1e-3, 1e-2, 1e-1, 1.0))
    assert archive.axes[2].values == ("a", "b", "c")


def test_scores_are_their_formulas():
    """The heat map holds each cell's best loss, the QD score their distance from the worst, never below 0."""
    history = run(
        (at(0.1), {"loss": 1.0}), (at(0.2), {"loss": 0.5}), (at(0.9), {"loss": 7.0}), (at(0.6), {"loss": "NaN"})
    )  # fmt: skip
    archive = MapElites(("x",), bins=2).archive(history)
    assert archive.loss.tolist() == [0.5, 7.0]
    assert archive.number.tolist() == [1, 2]
    assert archive.qd_score(5.0) == pytest.approx(4.5)
    assert archive.elites() == [1, 2]


def test_metrics_are_descriptors():
    """A reported metric places a trial; beyond an end it counts to the last cell, unreported to none."""
    history = run(
        (at(0.1), {"loss": 1.0, "ms": 12.0}),
        (at(0.2), {"loss": 2.0, "ms": 500.0}),
        (at(0.3), {"loss": 0.1}),
        (at(0.4), {"loss": 3.0, "ms": -4.0}),
    )
    archive = MapElites((("ms", 0.0, 40.0),), bins=4).archive(history)
    assert archive.number.tolist() == [3, 0, -1, 1]
    assert archive.axes[0].edges == pytest.approx((0.0, 10.0, 20.0, 30.0, 40.0))


@pytest.mark.parametrize("goal", [Goal("loss"), Goal("loss", "max")])
def test_the_state_is_the_archive_and_never_worsens(goal):
    """Trial after trial, each cell's elite is the best so far there, and the archive of the history agrees."""
    problem = Problem(MIXED, (goal,), Fidelity(9), Key.of(4))
    walk = Walk(MapElites(("lr", "layers"), bins=(5, 4), initial=10), problem, partial=0)
    best: dict[str, float] = {}
    for _ in range(60):
        walk.end(walk.start(walk.ask()[0]))
        for cell, m in walk.state.items():
            assert m[3] <= best.get(cell, np.inf)
            best[cell] = m[3]
        assert set(walk.state) == set(best)
    archive = walk.sampler.archive(walk.history)
    assert {tuple(map(int, c.split(","))): m[0] for c, m in walk.state.items()} == {
        tuple(map(int, c)): archive.number[tuple(c)] for c in np.argwhere(archive.number >= 0)
    }


def test_a_longer_run_takes_the_cell():
    """A complete trial takes the cell of a halted one with a smaller loss; a promoted trial moves with its metric."""
    history = History(Problem(FLAT, steps=Fidelity(9)))
    sampler = MapElites((("ms", 0.0, 10.0),), bins=2)
    state = sampler.init(history.problem)

    def step(kind, number, **data):
        nonlocal state
        settled = []
        history.apply([Event(kind, number, 0.0, data)], settled.append)
        for trial in settled:
            state = sampler.tell(history.problem, state, trial)

    for number, x in ((0, 0.1), (1, 0.2)):
        step("start", number, config=at(x), plan=[1], by="t", why="", reason="r")
    step("report", 0, step=1, values={"loss": 0.1, "ms": 1.0})
    step("pause", 0, reason="r")
    assert state == {"0": [0, 0.0, 1.0, 0.1]}
    step("report", 1, step=9, values={"loss": 0.9, "ms": 2.0})
    step("complete", 1, reason="r")
    assert state == {"0": [1, 0.0, 9.0, 0.9]}
    step("resume", 0, plan=[9], reason="r")
    step("report", 0, step=9, values={"loss": 0.05, "ms": 9.0})
    step("complete", 0, reason="r")
    assert {c: m[0] for c, m in state.items()} == {"0": 1, "1": 0}


@pytest.mark.slow
def test_its_elites_are_better_than_random_ones():
    """On a 6-d bowl its QD score after 400 trials is above random's in k = 5 of n = 5 seeds (false alarms: 0.03)."""
    space = Space({f"x{j}": Float(0.0, 1.0) for j in range(6)})
    sampler = MapElites(("x0", "x1"), bins=6, initial=40)
    for seed in range(5):
        scores = []
        for used in (sampler, make("random")):
            problem = Problem(space, (Goal("loss"),), Fidelity(1), Key.of(seed))
            walk = Walk(used, problem, failing=0, partial=0).go(400)
            scores.append(sampler.archive(walk.history).qd_score(2.0))
        assert scores[0] > scores[1]


def test_a_study_finds_its_archive_again():
    """A study's description makes an equal sampler, with metrics as descriptors too; its result has an archive."""
    sampler = MapElites((("ms", 0.0, 40.0), "x"), bins=(4, 5), initial=5)
    again = rebuild(
        "foretune.search", "sampler", json.loads(json.dumps(describe("foretune.search", sampler)))
    )
    assert again == sampler

    def train(config):
        return {"loss": config["x"] ** 2, "ms": 40.0 * config["x"]}

    result = ft.tune(train, FLAT, sampler=sampler, budget="20 trials", seed=1)
    archive = sampler.archive(result.history)
    assert archive.coverage > 0.1
    assert archive.elites()[0] == result.best.number


def test_defaults_and_empty_grids():
    """Without names the first two parameters that are always active are taken; with none there is one cell."""
    assert [a.name for a in MapElites().axes(CONDITIONAL)] == ["opt", "blocks"]
    history = run(({"only": 3}, {"loss": 1.0}), space=Space({"only": Constant(3)}))
    archive = MapElites().archive(history)
    assert archive.number.shape == ()
    assert archive.coverage == 1.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: MapElites("x"), ArgumentTypeError, "list of 1 to 4"),
        (lambda: MapElites((("ms", 1.0),)), ArgumentError, "parameter's name or"),
        (lambda: MapElites((("ms", 2.0, 1.0),)), ArgumentError, "greater than 2"),
        (lambda: MapElites(("x",), bins=(3, 4)), ArgumentError, "one for each descriptor"),
        (lambda: MapElites(bins=0), ArgumentError, "bins"),
        (lambda: MapElites(("lrr",)).axes(FLAT), UnknownNameError, "Did you mean 'lr'"),
        (lambda: MapElites(("x", "lr"), bins=2000).axes(FLAT), ArgumentError, "at most 1000000 cells"),
        (lambda: MapElites(("m",)).axes(Space({"m": Simplex(("a", "b"))})), ArgumentError, "simplex"),
        (lambda: MapElites(("i",)).axes(Space({"i": Constant(1)})), ArgumentError, "constant"),
        (lambda: MapElites(("i",)).axes(Space({"i": Int(1, 3)})), None, ""),
    ],
)
def test_wrong_descriptors_are_named(call, error, words):
    """A descriptor that cannot be an axis is refused by name; what can be is taken."""
    if error is None:
        assert len(call()) == 1
        return
    with pytest.raises(error, match=words):
        call()
