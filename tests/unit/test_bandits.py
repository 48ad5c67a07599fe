"""Bandits over algorithms, parameters and values: rising bandits, the hierarchical bandit, greedy sweeps."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, UnknownNameError
from foretune.numeric.bandit import inverse_gap, inverse_gap_relative, tsallis, ucb
from foretune.search.arms import arm_of, follow, part, restrict
from foretune.search.factor_order import factor_importance, order_study
from foretune.search.greedy_coordinate import GreedyCoordinate
from foretune.search.hier_mab import HierMab
from foretune.search.regularized_evolution import RegularizedEvolution
from foretune.search.rising_bandits import RisingBandits, bounds, candidates
from foretune.space.design import grid
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.problem import Problem

CASH = ft.Space(
    {
        "algo": ft.Choice(("svm", "knn", "tree")),
        "c": ft.Float(1e-3, 1e3, log=True),
        "gamma": ft.Float(0.0, 1.0),
        "rbf": ft.Choice((True, False)),
        "k": ft.Int(1, 30),
    },
    when={"c": {"algo": ["svm"]}, "rbf": {"algo": ["svm"]}, "gamma": {"rbf": [True]}, "k": {"algo": ["knn"]}},
)


def concave(rng: np.random.Generator, n: int) -> np.ndarray:
    """A curve of best losses that falls ever more slowly."""
    steps = np.sort(rng.exponential(size=n) * rng.random(n))[::-1]
    return rng.normal() - np.cumsum(steps) * rng.random()


def test_an_arm_that_will_win_is_never_dropped() -> None:
    """Concave curves: at no moment of a race in turns is the arm dropped that would be best at its end.

    100 races of 2 to 6 arms over 10 to 120 trials, windows 1 to 20; exact, so no false alarms.
    """
    rng = np.random.default_rng(0)
    for _ in range(100):
        arms, total, window = int(rng.integers(2, 7)), int(rng.integers(10, 121)), int(rng.integers(1, 21))
        curves = [concave(rng, total) for _ in range(arms)]
        pulls, alive = [0] * arms, list(range(arms))
        for t in range(total):
            pulls[min(alive, key=lambda i: (pulls[i], i))] += 1
            bound = [bounds(c[:p], window, total - t - 1) for c, p in zip(curves, pulls, strict=True)]
            alive = candidates(bound)
            for curve, p, (low, _) in zip(curves, pulls, bound, strict=True):
                assert low <= curve[min(total, p + total - t - 1) - 1] + 1e-9
            # each arm that is gone could not have come below what the leader holds already
            leader = min(high for _, high in bound)
            gone = [i for i in range(arms) if i not in alive]
            assert all(curves[i][min(total, pulls[i] + total - t - 1) - 1] >= leader - 1e-9 for i in gone)


def test_an_arm_that_stands_still_is_dropped() -> None:
    """No progress for a window and worse than another: dropped; equal and still: the first stays."""
    still = bounds([0.5] * 5, 4, 50)
    assert still == (0.5, 0.5)
    assert candidates([still, (0.1, 0.4)]) == [1]
    assert candidates([still, still]) == [0]
    assert candidates([bounds([math.inf] * 5, 4, 50), (0.4, 0.9)]) == [1]
    assert bounds([0.5], 4, 50, least=-1.0) == (-1.0, 0.5)


def test_restricted_spaces_hold_legal_configs() -> None:
    """Each config of a part is a config of the whole; parameters of the other algorithms are gone."""
    assert list(restrict(CASH, "algo", "tree")) == ["algo"]
    assert list(restrict(CASH, "algo", "svm")) == ["algo", "c", "gamma", "rbf"]
    assert "gamma" in restrict(CASH, "algo", "svm").when
    for value in ("svm", "knn", "tree"):
        for config in restrict(CASH, "algo", value).sample(20, ft.Key.of(1)):
            assert CASH.check(config) == config
            assert config["algo"] == value


def test_the_arm_is_found_or_named() -> None:
    """The choice that most depends on; one that is conditional, or none, is refused with a hint."""
    assert arm_of(CASH) == "algo"
    assert arm_of(ft.Space({"x": ft.Float(0, 1), "act": ft.Choice(("relu", "gelu"))})) is None
    with pytest.raises(UnknownNameError, match="Did you mean 'algo'"):
        arm_of(CASH, "alg")
    with pytest.raises(UnknownNameError, match="Did you mean 'gp'"):
        RisingBandits(searcher="gpp")
    with pytest.raises(UnknownNameError, match="always active"):
        arm_of(CASH, "rbf")


def lookup(config) -> float:
    """A loss by which svm with c near 1 wins."""
    if config["algo"] == "svm":
        return 0.1 + 0.02 * abs(math.log10(config["c"])) + 0.05 * (not config["rbf"])
    return 0.3 + (0.01 * config["k"] if config["algo"] == "knn" else 0.2)


def test_the_better_algorithm_gets_the_trials() -> None:
    """In 60 trials the winning algorithm gets at least half of them, the others are dropped; reasons say so."""
    sampler = RisingBandits(searcher="random")
    result = ft.tune(lookup, CASH, sampler=sampler, budget="60 trials", seed=3)
    counts = {a: sum(t.config["algo"] == a for t in result.history) for a in CASH["algo"].values}
    assert counts["svm"] >= 30
    assert sampler.standing(result.history.problem, result.history)[1] == [0]
    assert "can still win" in result.history[40].origin.reason
    assert "can reach" in result.history[40].origin.reason


def test_a_part_of_a_history_tells_the_same() -> None:
    """Losses, states and order of settling of the trials of one arm are those of the whole history."""

    def fragile(config):
        if config["algo"] == "knn" and config["k"] > 20:
            raise RuntimeError("too many")
        return lookup(config)

    history = ft.tune(fragile, CASH, sampler="random", budget="40 trials", seed=5).history
    for value in CASH["algo"].values:
        numbers = [t.number for t in history if t.config["algo"] == value]
        problem = Problem(restrict(CASH, "algo", value))
        smaller, ends = part(problem, history, numbers)
        smaller.apply(ends)
        assert np.array_equal(smaller.losses, history.losses[numbers])
        assert [history[n].config for n in numbers] == [t.config for t in smaller]
        assert [numbers[i] for i in smaller.settled] == [n for n in history.settled if n in numbers]
    _, state = follow(RegularizedEvolution(), problem, history, numbers)
    assert [m[0] for m in state] == smaller.settled


def table() -> tuple[ft.Space, list, np.ndarray]:
    """A table of 4 x 3 x 3 configs in which 'model' matters most, 'chunk' least."""
    space = ft.Space(
        {"chunk": ft.Choice((1, 2, 3, 4)), "model": ft.Choice(("s", "m", "l")), "k": ft.Choice((1, 3, 5))}
    )
    configs = grid(space, 5)
    effect = {"s": 0.0, "m": 0.5, "l": 0.3}
    loss = np.array(
        [1 - effect[c["model"]] - 0.1 * (c["k"] == 3) - 0.02 * (c["chunk"] == 2) for c in configs]
    )
    return space, configs, loss


def test_factors_are_ranked_by_main_effects() -> None:
    """Shares of the variance: 'model' first, 'chunk' last; of an additive table they add up to one."""
    _, configs, loss = table()
    shares = factor_importance(configs, loss)
    assert list(shares) == ["model", "k", "chunk"]
    assert sum(shares.values()) == pytest.approx(1.0)
    numbers = [{"x": float(x)} for x in np.linspace(0, 1, 100)]
    assert factor_importance(numbers, [c["x"] for c in numbers])["x"] > 0.95
    with pytest.raises(ArgumentError, match="at least two"):
        factor_importance(configs[:2], [1.0, math.nan])


def test_greedy_sweeps_find_the_best_of_an_additive_table() -> None:
    """One pass reaches the optimum in 1 + 3 + 2 + 2 trials from any start, in any order of the parameters."""
    space, configs, loss = table()
    orders = {"important": list(factor_importance(configs, loss)), "space": list(space)}
    curves = order_study(space, configs, loss, orders, [ft.Key.of(i) for i in range(6)], 10)
    for curve in curves.values():
        assert curve.shape == (6, 10)
        assert np.allclose(curve[:, 7], loss.min())
    assert curves["important"][:, 2].mean() < curves["space"][:, 2].mean()
    with pytest.raises(ArgumentError, match="it lacks"):
        order_study(space, configs[:5], loss[:5], orders, [ft.Key.of(0)], 10)
    with pytest.raises(UnknownNameError, match="Did you mean 'model'"):
        order_study(space, configs, loss, {"wrong": ["modell"]}, [ft.Key.of(0)], 3)


def test_greedy_refines_numbers() -> None:
    """After the sweeps a separable function of two numbers is brought within 1e-4 of its optimum in 60 trials."""
    space = {"x": ft.Float(0, 1), "y": ft.Float(0, 1)}
    result = ft.tune(lambda c: (c["x"] - 0.37) ** 2 + (c["y"] - 0.81) ** 2, space, sampler="greedy_coordinate",
                     budget="60 trials")  # fmt: skip
    assert result.best.value < 1e-4
    assert result.history[1].origin.reason.startswith("sweep 1, x")


def test_greedy_goes_on_while_results_are_pending() -> None:
    """With nothing settled a second worker gets the next config of the sweep, then of the next parameter."""
    space, _, _ = table()
    history = History(Problem(space))
    asked = GreedyCoordinate().ask(history.problem, None, history, 6, ft.Key.of(0))
    assert len({tuple(p.config.items()) for p in asked}) == 6
    assert "model" in asked[5].reason


def run_table(sampler, space, configs, loss, trials, seed) -> np.ndarray:
    """Best losses so far of a search in a table."""
    by = {tuple(c.items()): x for c, x in zip(configs, loss, strict=True)}
    result = ft.tune(
        lambda c: by[tuple(c.items())], space, sampler=sampler, budget=f"{trials} trials", seed=seed
    )
    return np.minimum.accumulate(result.history.losses[:, 0])


def test_hier_mab_moves_one_parameter_at_a_time() -> None:
    """Each config differs from the one before in one parameter, until the moves from it are used up."""
    space, configs, loss = table()
    by = {tuple(c.items()): x for c, x in zip(configs, loss, strict=True)}
    history = ft.tune(lambda c: by[tuple(c.items())], space, sampler="hier_mab", budget="14 trials").history
    for a, b in itertools.pairwise(history):
        assert sum(a.config[n] != b.config[n] for n in space) == 1
        assert "is moved" in b.origin.reason


def test_hier_mab_settles_on_the_good_values() -> None:
    """Noisy rewards, 150 pulls with repeats: over the last half the best model is held most of the time.

    2 seeds, seen rate of the best value 0.55 or more in each; uniform pulls would give 1/3 with a standard
    deviation of 0.054 (75 pulls): a uniform rule would pass with a probability below 1e-4 a seed.
    """
    space, _, _ = table()
    effect = {"s": 0.0, "m": 0.6, "l": 0.2}
    for seed in range(2):
        rng = np.random.default_rng(seed)
        result = ft.tune(lambda c, r=rng: 1 - effect[c["model"]] + 0.1 * r.normal(), space, budget="150 trials",
                         sampler=HierMab(repeat=True, high=0.3, low=0.3), seed=seed)  # fmt: skip
        assert np.mean([t.config["model"] == "m" for t in result.history[75:]]) >= 0.55


@pytest.mark.slow
def test_hier_mab_follows_a_drift_when_it_discounts() -> None:
    """When the best value changes half-way, discounted rewards give a smaller loss over the last quarter.

    5 seeds; smaller in each. If discounting did nothing the chance of that would be 1/32 = 0.03.
    """
    space = {"a": ft.Choice((0, 1, 2)), "b": ft.Choice((0, 1))}
    wins = 0
    for seed in range(5):
        ends = []
        for discount in (1.0, 0.95):
            rng, count = np.random.default_rng(seed), iter(range(10**6))

            def loss(c, r=rng, i=count):
                return abs(c["a"] - (0 if next(i) < 80 else 2)) + 0.1 * c["b"] + 0.05 * r.normal()

            result = ft.tune(loss, space, sampler=HierMab(repeat=True, discount=discount, high=0.2, low=0.2),
                             budget="160 trials", seed=seed)  # fmt: skip
            ends.append(result.history.losses[120:, 0].mean())
        wins += ends[1] < ends[0]
    assert wins == 5


def test_failed_trials_have_no_reward() -> None:
    """A value whose trials fail is pulled less often than the others."""
    space = {"a": ft.Choice(tuple(range(4))), "b": ft.Choice(tuple(range(40)))}

    def fragile(config):
        if config["a"] == 0:
            raise RuntimeError("no")
        return 0.1 * config["a"]

    history = ft.tune(fragile, space, sampler=HierMab(high=0.3, low=0.3), budget="80 trials").history
    counts = np.bincount([t.config["a"] for t in history], minlength=4)
    assert counts[0] < counts[1]


def test_confidence_bounds() -> None:
    """The formula by hand; unpulled arms come first; draws break ties without NaN."""
    found = ucb([3.0, 1.0, 0.0], [3, 1, 0], [3, 2, 0], 2.0)
    expected = [1 + 2 * math.sqrt(math.log(5) / 3), 1 + 2 * math.sqrt(math.log(5) / 2)]
    assert found[:2] == pytest.approx(expected)
    assert found[2] == math.inf
    drawn = ucb([0.0] * 3, [0] * 3, [0] * 3, 1.0, np.random.default_rng(0))
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_are_probabilities(seed: int) -> None:
    """All three rules give positive numbers that add up to 1, and the smallest loss the largest share."""
    rng = np.random.default_rng(seed)
    y = rng.random(int(rng.integers(2, 30)))
    for p in (tsallis(y * 100, 0.3), inverse_gap(y, 50.0), inverse_gap_relative(y, 50.0)):
        assert p.sum() == pytest.approx(1.0, abs=1e-12)
        assert (p > 0).all()
        assert np.argmax(p) == np.argmin(y)
    t = tsallis(y, 0.7)
    x = y.min() - 2 / (0.7 * math.sqrt(t.max()))
    assert t == pytest.approx(4 / (0.7 * (y - x)) ** 2, rel=1e-9)
    assert inverse_gap(y, 0.0) == pytest.approx(np.full(len(y), 1 / len(y)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: RisingBandits(window=0),
        lambda: RisingBandits(total=0),
        lambda: HierMab(values=1),
        lambda: HierMab(discount=0.0),
        lambda: HierMab(high=-1.0),
        lambda: GreedyCoordinate(passes=0),
        lambda: GreedyCoordinate(start="middle"),
    ],
)
def test_wrong_hyperparameters_are_refused(call) -> None:
    """A hyperparameter out of range raises an error that names it."""
    with pytest.raises(ArgumentError, match=r"must be|Did you mean"):
        call()


def test_queued_configs_are_taken_along() -> None:
    """A config that was added and waits is pending in its arm's history."""
    history = History(Problem(CASH))
    config = CASH.fill({"algo": "tree"})
    history.apply([Event("add", 0, 0.0, {"config": config, "plan": [0, 0]})])
    smaller, _ = part(Problem(restrict(CASH, "algo", "tree")), history, [0])
    assert smaller.pending == [0]
