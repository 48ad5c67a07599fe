"""The automatic scheduler: which rule applies when, and that a study keeps to what it began."""

from __future__ import annotations

import pytest

import foretune as ft
from foretune.schedule import make
from foretune.schedule.auto import Auto
from foretune.space.fidelity import Fidelity
from foretune.study.study import Study
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem

SPACE = ft.Space({"x": ft.Float(-1, 1)})


def problem(steps: Fidelity, trials: int | None, goals: int = 1) -> Problem:
    """A problem of so many trials and goals."""
    return Problem(SPACE, tuple(Goal(f"loss{i}") for i in range(goals)), steps=steps, budget_trials=trials)


@pytest.mark.parametrize(
    ("steps", "trials", "goals", "expected"),
    [
        (Fidelity(), None, 1, "full"),
        (Fidelity(8), None, 1, "full"),
        (Fidelity(100, 20), None, 1, "full"),
        (Fidelity(100), 40, 1, "full"),
        (Fidelity(9), None, 1, "asha_stopping"),
        (Fidelity(100), None, 1, "asha_stopping"),
        (Fidelity(100), None, 2, "multi_objective_asha"),
    ],
)
def test_the_rules(steps: Fidelity, trials: int | None, goals: int, expected: str) -> None:
    """Each row of the table, and the reason names the choice."""
    chosen, why = Auto().choice(problem(steps, trials, goals))
    assert type(chosen) is type(make(expected))
    assert why.startswith(f"{expected} (auto: ")


def test_the_lowest_rung_is_not_at_the_first_step() -> None:
    """A loss after one step of ten thousand would judge initialisations."""
    rungs = Auto().plan(problem(Fidelity(10_000), None), trials=81)
    assert [r.step for r in rungs] == [370, 1111, 3333, 10_000]
    assert Auto().plan(problem(Fidelity(81, low=27), None), trials=9)[0].step == 27 * 3


def train(config, run) -> None:
    """Twenty-seven steps of a quadratic."""
    for step in range(run.start, run.until):
        run.report(step + 1, loss=config["x"] ** 2 + 1 / (step + 1))


def test_a_budget_of_steps_stops_most_trials_early() -> None:
    """The default of a study with steps whose budget counts no trials; reasons say so."""
    result = ft.tune(train, SPACE, sampler="random", steps=27, budget="270 steps", seed=0)
    states = [t.state for t in result.history]
    assert states.count("stopped") > states.count("complete") >= 1
    assert len(states) > 12


def test_a_number_of_trials_is_trained_in_full() -> None:
    """Who asks for trials gets them, also with steps."""
    result = ft.tune(train, SPACE, sampler="random", steps=27, budget="8 trials", seed=0)
    assert [t.state for t in result.history] == ["complete"] * 8


def test_a_study_goes_on_as_it_began(tmp_path) -> None:
    """Where trials were stopped early, new ones are too, because a number of trials is named later."""
    store = f"{tmp_path}/s.db"
    first = ft.tune(train, SPACE, sampler="random", steps=27, budget="200 steps", seed=0, store=store)
    more = len(first.history) + 12
    study = Study(store=store)
    study.extend(f"{more} trials, 2000 steps")
    study.run(train)
    late = [t.state for t in study.history][len(first.history) :]
    assert len(late) == 12
    assert late.count("stopped") > 6


def test_two_goals_pause_at_rungs() -> None:
    """With several goals, trials wait at rungs, and the best of each go on."""

    def both(config, run) -> None:
        for step in range(run.start, run.until):
            run.report(step + 1, loss=config["x"] ** 2 + 1 / (step + 1), size=1 - config["x"])

    goals = ["min loss", "min size"]
    result = ft.tune(both, SPACE, goal=goals, sampler="random", steps=27, budget="270 steps", seed=0)
    assert sum(t.state == "paused" for t in result.history) > 6


def test_a_trial_that_was_broken_off_does_not_change_the_rule(tmp_path) -> None:
    """A full study whose steps ran out in the middle of a trial goes on in full."""
    store = f"{tmp_path}/s.db"
    ft.tune(train, SPACE, sampler="random", steps=27, budget="8 trials, 100 steps", seed=0, store=store)
    study = Study(store=store)
    study.extend("8 trials, 1000 steps")
    study.run(train)
    assert [t.state for t in study.history] == ["complete"] * 8
