"""Genetic, cross-entropy, CMA and variable-length samplers: what their formulas and words promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretune.base.errors import ArgumentError, UnknownNameError
from foretune.base.key import Key
from foretune.numeric import pareto
from foretune.numeric.variation import polynomial, simulated_binary
from foretune.search import make
from foretune.search.breeding import another, cross, fitness, member, perturb, sized
from foretune.search.cross_entropy import CrossEntropy, refit
from foretune.search.genetic_algorithm import GeneticAlgorithm, succeed
from foretune.search.nsga2 import NSGA2, standing
from foretune.search.variable_length_genetic_algorithm import VariableLengthGeneticAlgorithm, lengths
from foretune.space import Choice, Float, Int, Space
from foretune.space.fidelity import Fidelity
from foretune.testing.samplers import CONDITIONAL, MIXED, MIXTURE, Walk
from foretune.trial.constraint import Constraint
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

FLOATS = Space({"x": Float(0.0, 1.0), "lr": Float(1e-5, 1e-1, log=True)})
DEEP = Space(
    {
        "layers": Int(1, 4),
        **{f"width{i}": Float(0.0, 1.0) for i in range(1, 5)},
        **{f"act{i}": Choice(("a", "b", "c")) for i in range(1, 5)},
    },
    when={f"{g}{i}": {"layers": list(range(i, 5))} for g in ("width", "act") for i in range(2, 5)},
)


def told(problem, rows):
    """A history of trials: (config, step, values, how it ended)."""
    history = History(problem)
    for i, (config, step, values, end) in enumerate(rows):
        history.apply(
            [Event("start", i, 0.0, {"config": config, "plan": [step], "by": "t", "why": "", "reason": "r"})]
        )
        if values is not None:
            history.apply([Event("report", i, 0.0, {"step": step, "values": values})])
        history.apply([Event(end, i, 0.0, {"reason": "r"})])
    return history


# -- standing --------------------------------------------------------------------------------------


def test_members_are_ordered():
    """Finite before failed, constraints kept before broken, further before halted, then less loss."""
    problem = Problem(FLOATS, steps=Fidelity(9), constraints=(Constraint("mem", "<=", 10.0),))
    config = {"x": 0.5, "lr": 1e-3}
    history = told(
        problem,
        [
            (config, 9, {"loss": 0.5, "mem": 1}, "complete"),
            (config, 9, {"loss": 0.1, "mem": 12}, "complete"),
            (config, 1, {"loss": 0.2, "mem": 1}, "pause"),
            (config, 9, {"loss": 0.3, "mem": 1}, "complete"),
            (config, 9, {"loss": "NaN", "mem": 1}, "complete"),
            (config, 9, None, "fail"),
            (config, 5, {"loss": 0.4, "mem": 1}, "complete"),
        ],
    )
    members = [member(problem, t) for t in history]
    assert [m[0] for m in sorted(members, key=fitness)] == [3, 6, 0, 2, 1, 4, 5]


def test_a_generation_takes_over_whole():
    """Parents are the elites of the old generation and the best of the new one; failures never breed."""

    def m(number, loss):
        return [number, 0.0, 9.0, loss]

    state = {"parents": [m(0, 0.1), m(1, 0.5), m(2, 0.6), m(3, 0.7)], "batch": []}
    for number, loss in ((4, 0.2), (5, None), (6, 0.9)):
        state = succeed(state, m(number, loss), 4, 1)
        assert [p[0] for p in state["parents"]] == [0, 1, 2, 3]
    state = succeed(state, m(7, 0.3), 4, 1)
    assert [p[0] for p in state["parents"]] == [0, 4, 7, 6]
    assert state["batch"] == []


@pytest.mark.parametrize(("budget", "size"), [(None, 20), (400, 20), (80, 10), (40, 8), (10, 8)])
def test_a_small_budget_makes_a_small_population(budget, size):
    """A known budget gives eight generations, of eight members at least."""
    assert sized(20, Problem(FLOATS, budget_trials=budget)) == size


# -- variation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [FLOATS, MIXED, CONDITIONAL, MIXTURE])
def test_perturb_changes_what_it_names(space):
    """Only the parameters named move; at least one does; the row stays in the unit cube."""
    rng = np.random.default_rng(0)
    for config in space.sample(30, Key.of(1)):
        row = space.encode([config])[0]
        child, changed = perturb(space, row, 0.3, 0.2, rng)
        assert changed
        for name in space:
            same = np.array_equal(row[space.columns[name]], child[space.columns[name]], equal_nan=True)
            assert same == (name not in changed)
        assert ((child >= 0) & (child <= 1))[~np.isnan(child)].all()


@pytest.mark.parametrize("k", [2, 3, 7])
def test_another_value_is_another(k):
    """Each other value of a choice is reached, the present one never."""
    rng = np.random.default_rng(0)
    for cell in range(k):
        found = {min(int(another((cell + 0.5) / k, k, rng) * k), k - 1) for _ in range(60)}
        assert found == set(range(k)) - {cell}


def test_cross_takes_parameters_whole():
    """Each parameter of a child is one parent's; a mixture's columns stay together; gaps are filled."""
    rng = np.random.default_rng(0)
    space = MIXTURE
    a, b = space.encode(space.sample(2, Key.of(2)))
    kinds = set()
    for _ in range(40):
        child = cross(space, a, b, rng)
        of = tuple(
            "a" if np.array_equal(child[c], a[c]) else "b"
            for c in (space.columns["mix"], space.columns["lr"])
        )
        assert all(
            np.array_equal(child[c], a[c]) or np.array_equal(child[c], b[c]) for c in space.columns.values()
        )
        kinds.add(of)
    assert kinds == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
    hole = a.copy()
    hole[space.columns["lr"]] = np.nan
    assert not np.isnan(cross(space, hole, b, rng)).any()


def test_simulated_binary_keeps_the_mean():
    """Children of inner parents have the parents' mean, and spread that shrinks as eta grows.

    n = 4,000 children: the mean is within five standard errors (false alarms below 1e-5).
    """
    rng = np.random.default_rng(0)
    a, b = np.full(4000, 0.45), np.full(4000, 0.55)
    spreads = []
    for eta in (2.0, 20.0):
        child = simulated_binary(
            np.where(rng.random(4000) < 0.5, a, b), np.where(rng.random(4000) < 0.5, a, b), eta, rng
        )
        assert abs(child.mean() - 0.5) < 5 * child.std() / math.sqrt(4000)
        spreads.append(np.abs(np.abs(simulated_binary(a, b, eta, rng) - 0.5) - 0.05).mean())
    assert spreads[1] < spreads[0]


def test_polynomial_mutation_has_its_distribution():
    """The step's distribution function is the formula's: F(0) = 1/2 and F(-d) = (1 - d)^(eta + 1) / 2.

    n = 20,000 steps: five standard errors of a share (false alarms below 1e-5).
    """
    rng = np.random.default_rng(0)
    eta, d = 5.0, 0.1
    step = polynomial(np.full(20_000, 0.5), eta, 1.0, rng) - 0.5
    for share, expected in ((np.mean(step < 0), 0.5), (np.mean(step < -d), (1 - d) ** (eta + 1) / 2)):
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / 20_000)
    assert np.array_equal(polynomial(np.full(9, 0.3), eta, 0.0, rng), np.full(9, 0.3))


# -- the samplers ----------------------------------------------------------------------------------


def test_children_are_no_copies():
    """In a space of many configs no proposal repeats an earlier one, failed ones included."""
    space = Space({f"c{j}": Choice(tuple(range(4))) for j in range(8)})  # 65,536 configs
    problem = Problem(space, steps=Fidelity(9), key=Key.of(1))
    walk = Walk(GeneticAlgorithm(population=8, mutation=0.1), problem, failing=4).go(80)
    assert len({tuple(t.config.values()) for t in walk.history}) == 80


def test_refit_is_maximum_likelihood():
    """With smoothing 1 a refit is the elite's mean, spread and frequencies exactly; with 1/2, halfway there."""
    problem = Problem(MIXED, steps=Fidelity(9), key=Key.of(2))
    sampler = CrossEntropy(population=8, elite=0.5, smoothing=1.0)
    walk = Walk(sampler, problem, failing=0, partial=0).go(16)
    found = sampler.distribution(problem, walk.state, walk.history)
    elite = walk.history.units[walk.state["elites"][-1]]
    numbers = [j for j in range(MIXED.width) if j not in found.shares]
    assert len(elite) == 4
    assert found.mean[numbers] == pytest.approx(elite[:, numbers].mean(axis=0), abs=1e-15)
    assert found.spread[numbers] == pytest.approx(elite[:, numbers].std(axis=0), abs=1e-15)
    (column,) = found.shares
    assert found.shares[column] == pytest.approx(
        np.bincount((elite[:, column] * 5).astype(int), minlength=5) / 4
    )
    before = CrossEntropy().distribution(problem, {"elites": [], "batch": []}, walk.history)
    half = refit(before, elite, 0.5)
    assert half.mean[numbers] == pytest.approx((before.mean + found.mean)[numbers] / 2)
    assert half.shares[column] == pytest.approx((before.shares[column] + found.shares[column]) / 2)


def test_inactive_columns_keep_their_distribution():
    """A column that no elite has stays as it was; one that some have is fitted to those."""
    rows = np.array([[0.2, np.nan, np.nan], [0.4, 0.6, np.nan]])
    before = CrossEntropy().distribution(
        Problem(Space({c: Float(0, 1) for c in "abc"})), {"elites": []}, History(Problem(FLOATS))
    )
    after = refit(before, rows, 1.0)
    assert after.mean == pytest.approx([0.3, 0.6, before.mean[2]])
    assert after.spread == pytest.approx([0.1, 0.0, before.spread[2]])


def test_draws_stay_in_the_cube():
    """Draws are truncated to the unit cube wherever the mean lies, and never less spread than asked."""
    rng = np.random.default_rng(0)
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    start = CrossEntropy().distribution(Problem(space), {"elites": []}, History(Problem(space)))
    corner = refit(start, np.array([[0.0, 1.0], [0.0, 1.0]]), 1.0)
    rows = np.stack([corner.draw(0.05, rng) for _ in range(400)])
    assert ((rows >= 0) & (rows <= 1)).all()
    assert 0.02 < rows[:, 0].std() < 0.05  # a half normal's spread is 0.6 of the whole one's


@pytest.mark.slow
def test_cma_learns_a_narrow_valley():
    """On a rotated valley of condition 10^4 CMA-ES ends far below independent columns: k = 3 of n = 3 seeds.

    If both were alike this would happen with probability 1/8.
    """
    space = Space({f"x{j}": Float(0.0, 1.0) for j in range(4)})
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]

    def valley(space, config):
        z = turn @ (space.encode([config])[0] - 0.4)
        return float((np.array([1, 20, 500, 1e4]) * z**2).sum())

    for seed in range(3):
        problem = Problem(space, steps=Fidelity(1), key=Key.of(seed))
        best = {}
        for name in ("cma_es", "cross_entropy"):
            walk = Walk(make(name), problem, failing=0, partial=0, objective=valley).go(400)
            best[name] = min(walk.history.losses[:, 0])
        assert best["cma_es"] < 0.3 * best["cross_entropy"]


def test_cma_is_the_same_followed_or_told_anew():
    """A history followed trial by trial and one read at once give the same proposals."""
    problem = Problem(CONDITIONAL, steps=Fidelity(9), key=Key.of(5))
    sampler = make("cma_es", population=6)
    walk = Walk(sampler, problem).go(30)
    walk.ask()
    for _ in range(10):
        walk.end(walk.start(walk.ask()[0]))
    again = walk.replay()
    assert len(walk.state["generations"]) >= 5
    assert walk.ask(3) == again.ask(3)


def test_cma_begins_anew_when_it_has_converged():
    """On a flat bowl in one dimension it narrows below 0.0001, then restarts; the reason says so."""
    problem = Problem(Space({"x": Float(0.0, 1.0)}), steps=Fidelity(1), key=Key.of(0))
    walk = Walk(make("cma_es", population=6), problem, failing=0, partial=0).go(240)
    assert "restart" in walk.proposals[-1].reason
    assert min(walk.history.losses[:, 0]) < 1e-6


def test_standing_puts_constraints_before_fronts():
    """Feasible members come first, then smaller violations, then longer runs; fronts and crowding within each."""
    members = [
        [0, 0.0, 9.0, 1.0, 4.0],
        [1, 0.0, 9.0, 3.0, 5.0],  # dominated by 0
        [2, 0.5, 9.0, 0.0, 0.0],  # breaks a constraint
        [3, 0.1, 9.0, 9.0, 9.0],  # breaks it less
        [4, 0.0, 9.0, 4.0, 1.0],
        [5, 0.0, 9.0, 2.0, 3.0],
        [6, 0.0, 1.0, 0.1, 0.1],  # halted early
    ]
    found = standing(members)
    assert [f for f, _ in found] == [0, 1, 4, 3, 0, 0, 2]
    assert found[0][1] == found[4][1] == -math.inf
    assert -math.inf < found[5][1] < 0


def two_goals(sampler, seed, trials=160):
    """Run a sampler on two bowls and return the hypervolume of its losses."""
    space = Space({f"x{j}": Float(0.0, 1.0) for j in range(4)})
    goals = (Goal("loss"), Goal("gain", "max"))
    problem = Problem(space, goals, Fidelity(1), Key.of(seed), budget_trials=trials)
    history, state = History(problem), sampler.init(problem)
    for i in range(trials):
        config = dict(sampler.ask(problem, state, history, 1, Key.of(seed).fold(i))[0].config)
        x = np.array(list(config.values()))
        values = {"loss": float(((x - 0.2) ** 2).sum()), "gain": -float(((x - 0.8) ** 2).sum())}
        history.apply(
            [Event("start", i, 0.0, {"config": config, "plan": [1], "by": "t", "why": "", "reason": "r"})]
        )
        history.apply(
            [
                Event("report", i, 0.0, {"step": 1, "values": values}),
                Event("complete", i, 0.0, {"reason": "r"}),
            ]
        )
        state = sampler.tell(problem, state, history[i])
    return pareto.hypervolume(history.losses, [1.5, 1.5])


def test_nsga2_finds_the_front():
    """After 160 trials on two goals its hypervolume is above random's in k = 5 of n = 5 seeds (false alarms: 0.03)."""
    for seed in range(5):
        assert two_goals(NSGA2(), seed) > two_goals(make("random"), 100 + seed)


def test_growth_follows_the_length():
    """Stages begin at the shortest length, each child has the stage's length, and inherits its parents' genes."""
    assert lengths(DEEP, None) == ("layers", (1, 2, 3, 4))
    sampler = VariableLengthGeneticAlgorithm(population=8, generations=1, mutation=0.01)
    problem = Problem(DEEP, steps=Fidelity(1), key=Key.of(1))

    def longer_is_better(space, config):
        return 1.0 / config["layers"] + 0.01 * config["width1"]

    walk = Walk(sampler, problem, failing=0, partial=0, objective=longer_is_better).go(40)
    assert [t.config["layers"] for t in walk.history] == [1] * 8 + [2] * 8 + [3] * 8 + [4] * 16
    first = {t.config["width1"] for t in walk.history[:8]}
    inherited = [t.config["width1"] in first for t in walk.history[8:16]]
    assert sum(inherited) >= 5
    assert "at layers = 2" in walk.proposals[8].reason


def test_growth_ends_where_it_does_not_help():
    """When a length is no better than the one before, evolution goes on at the earlier one."""
    sampler = VariableLengthGeneticAlgorithm(population=8, generations=1)
    problem = Problem(DEEP, steps=Fidelity(1), key=Key.of(1))
    walk = Walk(
        sampler, problem, failing=0, partial=0, objective=lambda s, c: abs(c["layers"] - 2) + c["width1"]
    ).go(40)
    assert [t.config["layers"] for t in walk.history] == [1] * 8 + [2] * 8 + [3] * 8 + [2] * 16


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: make("genetic_algorithm", population=3), ArgumentError, "at least 4"),
        (lambda: make("cross_entropy", smoothing=0), ArgumentError, "smoothing"),
        (lambda: make("nsga2", mutation=2), ArgumentError, "mutation"),
        (lambda: make("cma_es", step=0), ArgumentError, "step"),
        (lambda: lengths(DEEP, "layrs"), UnknownNameError, "Did you mean 'layers'"),
        (lambda: lengths(DEEP, "width1"), ArgumentError, "int of at most"),
        (lambda: lengths(CONDITIONAL, "nesterov"), ArgumentError, "always active"),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    """A wrong hyperparameter or length gives an error that says what is accepted."""
    with pytest.raises(error, match=words):
        call()
