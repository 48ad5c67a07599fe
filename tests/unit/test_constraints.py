"""Outcome constraints: read, stored, obeyed by the best, learned from."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, ArgumentTypeError, StudyError
from foretune.search import make
from foretune.study.study import Study
from foretune.trial import Constraint, Event, Goal, History, Problem, parse_constraints

SPACE = ft.Space({"x": ft.Float(0.0, 1.0), "y": ft.Float(0.0, 1.0)})


def test_constraints_are_read_from_texts_mappings_and_objects() -> None:
    """All ways of saying the same constraint give the same object, and its text reads back."""
    wanted = Constraint("memory_gb", "<=", 16.0)
    for given in ({"memory_gb": "<= 16"}, "memory_gb<=16", ["memory_gb ≤ 16"], [wanted], wanted):
        assert parse_constraints(given) == (wanted,)
    assert parse_constraints(str(wanted)) == (wanted,)
    unit = Constraint.parse("latency >= 1e-2 [s]")
    assert unit == Constraint("latency", ">=", 0.01, "s")
    assert parse_constraints(None) == ()


@pytest.mark.parametrize(
    "given",
    ["memory", {"memory": "16"}, {"memory": "< 16"}, ["memory <= many"], ["a <= 1", "a <= 2"], [{"a": 1}]],
)
def test_constraints_that_are_not_understood_are_refused(given: Any) -> None:
    """A bound that cannot be read raises an error that speaks of constraints."""
    with pytest.raises(ArgumentError, match="constraint"):
        parse_constraints(given)


def test_constraints_of_another_type_are_refused() -> None:
    """A number is no constraint."""
    with pytest.raises(ArgumentTypeError, match="constraints must be"):
        parse_constraints(16)


def test_violation_is_signed_and_knows_what_is_unknown() -> None:
    """Kept bounds give at most 0, broken ones the excess; no value NaN, a value that is not finite +inf."""
    upper, lower = Constraint("m", "<=", 2), Constraint("m", ">=", 2)
    assert (upper.violation(3.5), upper.violation(2.0), lower.violation(3.5)) == (1.5, 0.0, -1.5)
    assert math.isnan(upper.violation(None))
    assert upper.violation(math.nan) == math.inf


def history(rows: list[tuple[float, float | None]], **problem: Any) -> History:
    """A history of complete trials with (loss, memory)."""
    found = History(Problem(SPACE, constraints=parse_constraints("memory <= 1"), **problem))
    for i, (loss, memory) in enumerate(rows):
        values = {"loss": loss} | ({} if memory is None else {"memory": memory})
        config = {"x": (i + 0.5) / len(rows), "y": 0.5}
        found.apply(
            [
                Event("start", i, 0.0, {"config": config, "plan": [1]}),
                Event("report", i, 1.0, {"step": 1, "values": values, "seconds": 2.0}),
                Event("complete", i, 1.0, {"reason": "done"}),
            ]
        )
    return found


def test_the_best_is_the_best_feasible() -> None:
    """A lower loss that breaks the bound, or whose bound is not known, is never the best."""
    found = history([(5.0, 0.5), (1.0, 1.5), (0.5, None), (3.0, 1.0), (4.0, 0.1)])
    assert found.best is not None
    assert found.best.number == 3
    assert [n for n, _ in found.best_trace] == [0, 3]
    assert found.feasible.tolist() == [True, False, False, True, True]
    assert found.violations[1, 0] == pytest.approx(0.5)
    assert found.metric("memory")[:2].tolist() == [0.5, 1.5]
    assert found.metric("seconds").tolist() == [2.0] * 5


def test_an_unfinished_trial_is_best_only_if_it_breaks_nothing_known() -> None:
    """Before any trial is complete, those that are known to break a bound do not count."""
    found = History(Problem(SPACE, constraints=parse_constraints("memory <= 1")))
    for i, values in enumerate(({"loss": 2.0}, {"loss": 1.0, "memory": 3.0})):
        found.apply(
            [
                Event("start", i, 0.0, {"config": {"x": 0.1 * i, "y": 0.0}, "plan": [1]}),
                Event("report", i, 1.0, {"step": 0.5, "values": values}),
            ]
        )
    assert found.best is not None
    assert found.best.number == 0


def train(config: dict[str, float]) -> dict[str, float]:
    """A bowl whose minimum, at 0.8, breaks memory <= 1: the best feasible lies on x + y = 1."""
    return {"loss": sum((v - 0.8) ** 2 for v in config.values()), "memory": config["x"] + config["y"]}


def test_a_study_keeps_its_constraints_in_its_store(tmp_path: Any) -> None:
    """Constraints come back with the study; other ones are refused; studies without any still open."""
    path = str(tmp_path / "study.db")
    study = Study(SPACE, store=path, constraints={"memory": "<= 1"}, sampler="random", budget="4 trials")
    study.run(train)
    again = Study(store=path)
    assert again.problem.constraints == (Constraint("memory", "<=", 1.0),)
    assert np.array_equal(again.history.violations, study.history.violations)
    with pytest.raises(ArgumentError, match="memory <= 1"):
        Study(store=path, constraints={"memory": "<= 2"})
    Study(SPACE, store=path, name="old", sampler="random", about={"note": 1})
    assert Study(store=path, name="old").problem.constraints == ()
    assert Study(store=path, name="old").about["schema"] == 1
    with pytest.raises(ArgumentError, match="constraints"):
        Study(SPACE, name="mine", about={"constraints": 1})


def test_a_trial_without_the_constrained_metric_fails() -> None:
    """A complete trial that does not report what is constrained fails, and the reason names the metric."""
    result = ft.tune(
        lambda c: {"loss": c["x"], "memroy": 1.0}, SPACE, constraints="memory <= 1", sampler="random",
        budget="2 trials",
    )  # fmt: skip
    assert result.history.count("failed") == 2
    assert "'memory'" in str(result.history[0].failure)


def test_no_feasible_trial_is_an_error_that_names_the_nearest() -> None:
    """Where every trial breaks a bound, the error says how many and by how little."""
    result = ft.tune(train, SPACE, constraints="memory <= -1", sampler="random", budget="3 trials")
    with pytest.raises(StudyError, match="3 of 3 trials broke a constraint"):
        _ = result.best


def test_the_gp_finds_the_constrained_optimum() -> None:
    """In 25 trials the best feasible loss is within 0.01 of the optimum 0.18 on the bound, for 2 of 2 seeds."""
    for seed in range(2):
        result = ft.tune(train, SPACE, constraints="memory <= 1", sampler="gp", budget="25 trials", seed=seed)
        assert sum(result.best.config.values()) <= 1.0
        assert result.best.value < 0.19
        assert "feasible" in result.history[24].origin.reason


def test_the_gp_looks_for_feasible_configs_first() -> None:
    """Where no trial keeps a bound yet, the proposals go where it is most likely kept, and get there."""
    result = ft.tune(
        lambda c: {"loss": c["x"], "gap": abs(c["x"] - 0.83) + abs(c["y"] - 0.21)}, SPACE,
        constraints="gap <= 0.02", sampler="gp", budget="25 trials",
    )  # fmt: skip
    assert result.history.feasible.any()


def test_without_constraints_nothing_changes() -> None:
    """A problem without constraints has a violation matrix of no columns, and all that is not failed is feasible."""
    plain = History(Problem(SPACE, (Goal("loss"),)))
    plain.apply([Event("start", 0, 0.0, {"config": {"x": 0.1, "y": 0.1}, "plan": [1]})])
    assert plain.violations.shape == (1, 0)
    assert plain.feasible.tolist() == [True]
    assert json.dumps(dict(make("gp").ask(plain.problem, None, plain, 1, plain.problem.key)[0].config))


def test_the_command_line_takes_constraints(cli: Any, tmp_path: Any) -> None:
    """--constraint bounds a metric of a function; the summary names it, and the best keeps it."""
    (tmp_path / "bounded.py").write_text(
        "def train(config):\n    return {'loss': config['lr'], 'memory_gb': 1.0 / config['lr']}\n"
    )
    ran = cli(
        "tune", "bounded.py:train", "--space", "space.toml", "--sampler", "random", "--budget", "6 trials",
        "--constraint", "memory_gb<=200", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["constraints"] == ["memory_gb <= 200"]
    assert 1.0 / ran.json["best"]["config"]["lr"] <= 200
    wrong = cli(
        "tune", "bounded.py:train", "--space", "space.toml", "--constraint", "memory", "--budget", "1 trial"
    )
    assert wrong.code == 2
    assert "<= or >=" in wrong.err
