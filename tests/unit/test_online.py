"""Online tuners: a setting for each job of a stream."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import foretune as ft
from foretune.base.errors import ArgumentError
from foretune.search.online import BanditTuner, NeuralIGW, OnlineTuner
from foretune.search.online.sor import poisson, sor_iters
from foretune.search.online.tuner import best_fixed_regret, play

GRID = (1.0, 1.2, 1.4, 1.6, 1.8)
TUNERS: list[tuple[OnlineTuner[Any], Any]] = [
    (BanditTuner(GRID), None),
    (BanditTuner(GRID, "chebcb", degree=3), 0.3),
    (NeuralIGW(5, 2, "square", width=8), [0.1, 0.9]),
    (NeuralIGW(5, 2, "kl", width=8), [0.1, 0.9]),
]
each_tuner = pytest.mark.parametrize(
    ("tuner", "context"), TUNERS, ids=lambda v: getattr(v, "algo", getattr(v, "loss", ""))
)


def some(tuner, context, jobs=30):
    """The state after a few jobs of random cost."""
    rng, state = np.random.default_rng(0), tuner.init()
    for t in range(jobs):
        arm = tuner.suggest(state, context, ft.Key.of(t))
        state = tuner.observe(state, context, arm, float(rng.random()))
    return state


@each_tuner
def test_the_state_is_json_and_behaviour_is_pure(tuner, context) -> None:
    """A JSON copy of the state gives the same probabilities and follows the same way; the old one is unchanged."""
    state = some(tuner, context)
    before = json.dumps(state)
    copy = json.loads(before)
    after = tuner.observe(state, context, 2, 0.5)
    assert json.dumps(state) == before
    assert json.dumps(tuner.observe(copy, context, 2, 0.5)) == json.dumps(after)
    assert tuner.suggest(state, context, ft.Key.of(7)) == tuner.suggest(copy, context, ft.Key.of(7))


@each_tuner
def test_suggestions_follow_the_probabilities(tuner, context) -> None:
    """Probabilities are positive and add up to 1; 1,500 draws agree with them within 5 standard deviations.

    A false alarm has a probability below 3e-6 for each of 5 arms.
    """
    state = some(tuner, context)
    p = tuner.probabilities(state, context)
    assert (p > 0).all()
    assert p.sum() == pytest.approx(1.0)
    drawn = np.bincount(
        [tuner.suggest(state, context, ft.Key.of(1).fold(i)) for i in range(1500)], minlength=5
    )
    assert (np.abs(drawn - 1500 * p) <= 5 * np.sqrt(1500 * p * (1 - p)) + 1).all()


def test_another_process_agrees() -> None:
    """The same stream in a fresh process leads to the same state."""
    code = (
        "import json\n"
        "from foretune.base.key import Key; from foretune.search.online import NeuralIGW\n"
        "t = NeuralIGW(3, 1, 'kl', width=4); s = t.init()\n"
        "for i in range(5): s = t.observe(s, [0.5], t.suggest(s, [0.5], Key.of(i)), 0.25)\n"
        "print(json.dumps(s))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    tuner = NeuralIGW(3, 1, "kl", width=4)
    state = tuner.init()
    for i in range(5):
        state = tuner.observe(state, [0.5], tuner.suggest(state, [0.5], ft.Key.of(i)), 0.25)
    assert json.loads(there) == state


def test_cost_estimates_have_no_bias() -> None:
    """The expected growth of each arm's estimated total is its cost, exactly, over the draw of the arm."""
    tuner, costs = BanditTuner(GRID), np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    state = some(tuner, None, 200)
    p = tuner.probabilities(state)
    mean = sum(p[a] * np.array(tuner.observe(state, None, a, float(costs[a]))["weighted"]) for a in range(5))
    assert mean - np.array(state["weighted"]) == pytest.approx(costs)


def test_the_best_fixed_value_is_found() -> None:
    """800 jobs, 5 values: over the last quarter the mean cost is within 10 % of the best value's.

    2 seeds, each must hold; measured excess 2 to 5 %.
    """
    base = np.array([40.0, 25.0, 20.0, 30.0, 80.0])
    for seed in range(2):
        table = base * (1 + 0.3 * np.random.default_rng(seed).random((800, 1)))
        _, costs = play(BanditTuner(GRID), [None] * 800, lambda t, a, x=table: x[t, a], ft.Key.of(seed))
        assert costs[-200:].mean() < 1.1 * table[-200:].mean(0).min()
        assert best_fixed_regret(costs, table)[-1] > 0


def test_contexts_beat_the_best_fixed_value() -> None:
    """Where the best value moves with the context, chebcb ends below the best fixed value; regret is reported."""
    rng = np.random.default_rng(0)
    c = rng.random(1500)
    table = 10 + 100 * (np.arange(5)[None] / 4 - c[:, None]) ** 2
    tuner = BanditTuner(GRID, "chebcb", rate=10.0)
    _, costs = play(tuner, c.tolist(), lambda t, a: table[t, a], ft.Key.of(0))
    assert costs[-400:].mean() < 0.95 * table[-400:].mean(0).min()
    _, value = tuner.regret(some(tuner, 0.5))
    assert value in GRID


def test_sweeps_are_those_of_a_plain_loop() -> None:
    """Counts of many systems at once equal those of a loop written down element by element."""
    a, rng = poisson(4), np.random.default_rng(0)
    b, shift = rng.standard_normal((3, 16)), np.array([0.0, 0.5, 2.0])
    omegas = np.array([1.0, 1.3, 1.8])
    found = sor_iters(a, b[:, None], omegas, shift[:, None], tolerance=1e-8)
    for s in range(3):
        for k, w in enumerate(omegas):
            m, x, sweeps = a + shift[s] * np.eye(16), np.zeros(16), 0
            while np.linalg.norm(b[s] - m @ x) > 1e-8 * np.linalg.norm(b[s]):
                for i in range(16):
                    x[i] += w * (b[s, i] - m[i] @ x) / m[i, i]
                sweeps += 1
            assert found[s, k] == sweeps


def test_the_best_relaxation_is_the_known_one() -> None:
    """For the model problem the best omega on a grid is the one nearest 2 / (1 + sin(pi / (side + 1)))."""
    side = 10
    omegas = np.linspace(1.0, 1.9, 10)
    known = 2 / (1 + np.sin(np.pi / (side + 1)))
    found = sor_iters(poisson(side), np.ones(side**2), omegas, tolerance=1e-10)
    assert abs(omegas[np.argmin(found)] - known) <= 0.1
    assert sor_iters(poisson(side), np.ones(side**2), 1.0, most=5) == 5


def bandit_costs(tuner, x, y, seed):
    """Zero-one costs of a classification stream."""
    return play(tuner, list(x), lambda t, a: float(a != y[t]), ft.Key.of(seed))[1]


@pytest.mark.parametrize("loss", ["square", "kl"])
def test_the_network_learns_which_arm_is_right(loss: str) -> None:
    """Three classes told apart by a linear rule, 600 jobs: less than 0.25 wrong in the last 200; uniform has 0.67."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((600, 4))
    y = np.argmax(x[:, :3], axis=1)
    costs = bandit_costs(NeuralIGW(3, 4, loss, width=32), x, y, 0)
    assert costs[-200:].mean() < 0.25


def test_perturbations_vanish_with_their_size() -> None:
    """Without perturbation all ensemble members agree; with it they spread, around the same prediction."""
    plain, spread = (some(NeuralIGW(3, 2, perturb=p, width=16), [0.3, 0.1]) for p in (0.0, 0.05))
    assert plain["shifts"] == [0.0] * 10
    assert np.std(spread["shifts"]) > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: BanditTuner((1.0,)), "two different values"),
        (lambda: BanditTuner(GRID, "tsallis"), "Did you mean 'tsallis-inf'"),
        (lambda: BanditTuner(GRID, low=1.0, high=1.0), "low must be less"),
        (
            lambda: BanditTuner(GRID, "chebcb").probabilities(BanditTuner(GRID, "chebcb").init(), 2.0),
            "context",
        ),
        (lambda: BanditTuner(GRID).observe(BanditTuner(GRID).init(), None, 0, -1.0), "cost"),
        (lambda: NeuralIGW(3, 2, "hinge"), "loss"),
        (lambda: NeuralIGW(3, 2).predicted(NeuralIGW(3, 2).init(), [1.0]), "2 finite numbers"),
        (lambda: NeuralIGW(3, 2).observe(NeuralIGW(3, 2).init(), [1.0, 2.0], 0, 1.5), "cost"),
        (lambda: sor_iters(poisson(3), np.ones(4), 1.0), "matrix must be square"),
        (lambda: sor_iters(poisson(3), np.ones(9), 2.0), "omega"),
    ],
)
def test_wrong_arguments_are_named(call, words) -> None:
    """A wrong hyperparameter, context or cost raises an error that says what is accepted."""
    with pytest.raises(ArgumentError, match=words):
        call()
