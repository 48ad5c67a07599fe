"""BOHB: which rung is modelled, what the densities are, and that proposals follow them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import truncnorm

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.kde import Columns
from foretune.search.bohb import BOHB, densities
from foretune.search.random import Random
from foretune.space import Choice, Fidelity, Float, Space
from foretune.study.study import Study
from foretune.testing.samplers import Walk, loss_of
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.problem import Problem

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def history_of(arrivals, failed=0):
    """A history in which so many trials have come to each step; the loss is |x - 0.8| everywhere."""
    problem, events, n = Problem(SPACE, steps=Fidelity(27), key=Key.of(1)), [], 0
    for step, count in arrivals.items():
        for _ in range(count):
            config = {"x": (n * 0.618) % 1.0, "y": (n * 0.381) % 1.0}
            events.append(Event("start", n, 0.0, {"config": config, "plan": [step, 0], "reason": "r"}))
            for s in (1, 3, 9, 27):
                if s <= step:
                    events.append(
                        Event("report", n, 0.0, {"step": s, "values": {"loss": abs(config["x"] - 0.8)}})
                    )
            events.append(Event("complete" if step == 27 else "pause", n, 0.0, {"reason": "r"}))
            n += 1
    for _ in range(failed):
        config = {"x": 0.8, "y": 0.5}
        events.append(Event("start", n, 0.0, {"config": config, "plan": [1, 0], "reason": "r"}))
        events.append(Event("fail", n, 0.0, {"reason": "r"}))
        n += 1
    return problem, History(problem, events)


def test_the_highest_rung_with_enough_trials_is_modelled() -> None:
    """Five trials (two columns + 1 good + 2) are needed; trials that went on count below; failures count anywhere."""
    sampler = BOHB()
    for arrivals, failed, step, many in (
        ({1: 4}, 0, None, None), ({1: 5}, 0, 1, 3), ({1: 20, 3: 4}, 0, 1, 3), ({1: 20, 3: 5}, 0, 3, 3),
        ({1: 40, 27: 5}, 0, 27, 3), ({1: 100}, 0, 1, 15), ({1: 20, 3: 4}, 1, 3, 3),
    ):  # fmt: skip
        found = sampler.rung(*history_of(arrivals, failed))
        assert (found and found[0]) == step
        assert (found and found[2]) == many
    _, order, many = sampler.rung(*history_of({1: 20}, failed=3))
    assert order[-3:] == [20, 21, 22], "failed trials are the worst"


def test_proposals_follow_the_good() -> None:
    """Of 200 proposals the modelled two thirds gather near the good x = 0.8, the others are uniform.

    n = 200 draws; under uniform proposals a share above 0.5 within 0.15 of 0.8 has a chance below 1e-9.
    """
    problem, history = history_of({1: 60})
    found = BOHB().ask(problem, None, history, 200, problem.key)
    x = np.array([p.config["x"] for p in found])
    model = np.array(["log density ratio" in p.reason for p in found])
    assert 0.55 < model.mean() < 0.78
    assert (np.abs(x[model] - 0.8) < 0.15).mean() > 0.7
    assert (np.abs(x[~model] - 0.8) < 0.15).mean() < 0.5
    assert "at step 1, of 9 good and 51 other trials" in found[int(np.argmax(model))].reason


def test_densities_are_products_of_cut_normals() -> None:
    """Against SciPy: the mean of products over the rows, with the normal-reference width of each column."""
    rng = np.random.default_rng(0)
    rows, at = rng.random((6, 2)), rng.random((4, 2))
    density, wide = densities(Columns((0, 0), (0.0, 0.0)), rows, 3.0)
    width = 1.06 * rows.std(0) * 6 ** (-1 / 6)
    expected = np.zeros(4)
    for row in rows:
        product = np.ones(4)
        for j in range(2):
            a, b = -row[j] / width[j], (1 - row[j]) / width[j]
            product *= truncnorm.pdf(at[:, j], a, b, loc=row[j], scale=width[j])
        expected += product / 6
    assert np.allclose(np.exp(density.log_density(at)), expected, rtol=1e-4)
    assert np.allclose(wide.width, np.minimum(3.0 * width, 1.0))


def test_categories_and_inactive_columns() -> None:
    """A category is kept with the probability that its kernel says; inactive columns are alike everywhere."""
    columns = Columns((3, 0), (0.0, 0.0))
    rows = np.array([[0.5 / 3, 0.2], [0.5 / 3, 0.4], [2.5 / 3, np.nan]])
    density, _ = densities(columns, rows, 3.0)
    values = np.exp(density.log_density(np.array([[0.5 / 3, 0.3], [1.5 / 3, 0.3], [2.5 / 3, 0.3]])))
    assert values[0] > values[2] > values[1] > 0
    assert np.isfinite(density.log_density(np.array([[0.5 / 3, np.nan]]))).all()


def test_it_beats_random_in_time() -> None:
    """After 60 trials on a 3-d bowl its best is below random's in k = 13 of n = 16 seeds (false alarms: 0.011)."""
    space = Space({f"x{j}": Float(0.0, 1.0) for j in range(3)})
    wins = 0
    for seed in range(16):
        found = []
        for sampler, key in ((BOHB(), Key.of(seed)), (Random(), Key.of(100 + seed))):
            walk = Walk(sampler, Problem(space, steps=Fidelity(9), key=key), failing=0, partial=0).go(60)
            found.append(min(loss_of(space, t.config) for t in walk.history))
        wins += found[0] < found[1]
    assert wins >= 13


def test_it_works_with_hyperband() -> None:
    """Two rounds of Hyperband end near the optimum, of a choice too."""

    def train(config, run):
        for step in range(run.start, run.until):
            run.report(
                step + 1, loss=abs(config["x"] - 0.8) + (config["act"] == "b") * 0.2 + 1.0 / (step + 1)
            )

    space = Space({"x": Float(0.0, 1.0), "act": Choice(("a", "b"))})
    study = Study(space, steps=9, sampler="bohb", scheduler="hyperband", budget="34 trials")
    study.run(train)
    assert study.history.best.values["loss"] < 1 / 9 + 0.05


def test_wrong_settings_are_refused() -> None:
    """Each mistake names what is accepted."""
    for options, words in (
        ({"good": 0}, "good"), ({"least": 0}, "least"), ({"candidates": 0}, "candidates"), ({"random": 2}, "random"),
        ({"wider": 0.5}, "wider"), ({"eta": 1}, "eta"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=words):
            BOHB(**options)
