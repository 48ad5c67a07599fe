"""DEHB: which rung a trial begins at, who its parents are, who holds a slot; and whole studies with Hyperband."""

from __future__ import annotations

import re

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.schedule.hyperband import sizes
from foretune.search import make
from foretune.search.dehb import DEHB, groups, slots
from foretune.space.fidelity import Fidelity
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

SPACE = ft.Space({"x": ft.Float(0.0, 1.0), "y": ft.Float(0.0, 1.0), "c": ft.Choice(("a", "b", "c"))})


def train(config, run):
    """A loss that falls with the steps; its ranks hardly change on the way."""
    base = (config["x"] - 0.3) ** 2 + (config["y"] - 0.6) ** 2 + (config["c"] != "b") * 0.1
    for step in range(int(run.start) + 1, int(run.until) + 1):
        run.report(step, loss=base + 0.02 * config["x"] / step)


def studied(workers=1, scheduler="hyperband", budget="75 trials", seed=1, steps=9):
    """The history of a study with DEHB in this process, trials taken in turn by so many workers."""
    study = ft.Study(SPACE, sampler="dehb", scheduler=scheduler, steps=steps, budget=budget, seed=seed)
    open_trials: list = []
    while True:
        while len(open_trials) < workers:
            trial = study.next()
            if not isinstance(trial, Trial):
                break
            open_trials.append(trial)
        if not open_trials:
            return study
        trial = open_trials.pop(0)
        base = (
            (trial.config["x"] - 0.3) ** 2 + (trial.config["y"] - 0.6) ** 2 + (trial.config["c"] != "b") * 0.1
        )
        study.report(trial.number, trial.plan.until, loss=base + 0.02 * trial.config["x"] / trial.plan.until)
        study.finish(trial.number)


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("rungs", [1, 2, 3, 5])
def test_groups_are_hyperbands(eta, rungs):
    """For a whole eta the brackets begin as many trials as the scheduler's do."""
    assert groups(eta, rungs) == sizes(eta, rungs)


def test_slots_hold_what_arrives():
    """A rung has as many slots as the largest bracket brings there, at least those asked for."""
    assert slots(3, 3, 1) == (9, 5, 3)
    assert slots(3, 5, 4) == (81, 34, 15, 8, 5)
    assert slots(3, 1, 6) == (6,)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_next_rung_is_the_schedulers(workers):
    """In a study with Hyperband each trial begins at the rung that the sampler has foreseen."""
    history = studied(workers).history
    ladder = history.problem.steps.rungs(3)
    first = {}
    for trial in history:
        where = re.search(r"slot \d+ of rung (\d)", trial.origin.reason)
        if where:
            first.setdefault(trial.plan.bracket, set()).add(int(where.group(1)))
    assert {b for b in first if len(first[b]) == 1} == set(first)
    assert all(next(iter(r)) == b % len(ladder) for b, r in first.items())
    assert len(first) >= 7


def test_parents_come_from_the_rung_below():
    """Parents of a trial that begins at rung 1 are among the best five of rung 0 at that moment."""
    study = studied()
    history, checked = study.history, 0
    for trial in history:
        found = re.match(
            r"(\d+) \+ 0.5 \((\d+) - (\d+)\) .* from the best (\d) of rung (\d)", trial.origin.reason
        )
        if found is None:
            continue
        *parents, best, rung = (int(g) for g in found.groups())
        step = history.problem.steps.rungs(3)[rung]
        known = history.rung(step)
        assert len(set(parents)) == 3
        assert all(p in known and p < trial.number for p in parents)
        assert best <= slots(3, 3, 4)[rung + 1]
        # the holders of slots are better than those who lost to them
        below = sorted(known[n] for n in known if n < trial.number)
        assert max(known[p] for p in parents) <= below[-1]
        checked += 1
    assert checked >= 10


def test_the_first_bracket_is_uniform():
    """Nothing is bred before the first bracket has begun all its trials."""
    reasons = [t.origin.reason for t in studied(budget="12 trials").history]
    assert all("uniform" in r for r in reasons[:9])
    assert all("rung 1" in r for r in reasons[9:])


def told(sampler, problem, rows):
    """Fold trials (bracket, [(step, loss)], how it ended) and return the state."""
    history, state = History(problem), sampler.init(problem)
    for i, (bracket, reports, end) in enumerate(rows):
        config = {"x": i / 50, "y": 0.5, "c": "a"}
        history.apply(
            [
                Event(
                    "start",
                    i,
                    0.0,
                    {"config": config, "plan": [9, bracket], "by": "t", "why": "", "reason": "r"},
                )
            ]
        )
        for step, loss in reports:
            history.apply([Event("report", i, 0.0, {"step": step, "values": {"loss": loss}})])
        history.apply([Event(end, i, 0.0, {"reason": "r"})])
        state = sampler.tell(problem, state, history[i])
    return state


def test_slots_are_challenged():
    """A trial takes its own slot at its first rung if it is no worse; promoted ones an empty slot, or the worst's."""
    problem = Problem(SPACE, steps=Fidelity(9), key=Key.of(0))
    rows = [(0, [(1, 0.5), (3, 0.4)], "pause"), *((0, [(1, 0.6 + i)], "pause") for i in range(8))]
    state = told(DEHB(population=4), problem, rows)
    assert {s: m[1] for s, m in state["0"].items()} == {str(i): i for i in range(9)}
    assert state["1"] == {"0": [0.4, 0]}
    rows += [(0, [(1, 0.4)], "pause"), (0, [(1, 9.0)], "pause"), (0, [(1, "NaN")], "pause"), (0, [], "fail")]
    state = told(DEHB(population=4), problem, rows)
    assert state["0"]["0"] == [0.4, 9]  # better than trial 0
    assert state["0"]["1"] == [0.6, 1]  # trial 10 was worse
    assert [state["0"][s][1] for s in "23"] == [2, 3]  # neither failed nor diverged trials take a slot
    rows += [(1, [(3, 0.1 * i)], "pause") for i in range(5)]
    rows += [(0, [(1, 3.0), (3, 0.05)], "pause")]
    state = told(DEHB(population=4), problem, rows)
    assert state["1"]["4"] == [0.1, 14]
    assert sorted(m[0] for m in state["1"].values()) == pytest.approx([0.0, 0.05, 0.1, 0.2, 0.3])


def test_ties_are_won():
    """On a plateau the newcomer takes the slot, so that the population drifts."""
    problem = Problem(SPACE, steps=Fidelity(1))
    state = told(DEHB(population=4), problem, [(0, [(1, 1.0)], "complete")] * 5)
    assert state["0"]["0"] == [1.0, 4]


@pytest.mark.parametrize("scheduler", ["asha", "full", "successive_halving"])
def test_other_schedulers_do(scheduler):
    """With other schedulers, trials are bred at the lowest rung and the study ends well."""
    study = studied(scheduler=scheduler, budget="40 trials", workers=2)
    assert len(study.history) == 40
    assert any("of rung 0" in t.origin.reason for t in study.history)
    assert not any("of rung 2" in t.origin.reason for t in study.history[20:])


@pytest.mark.slow
def test_it_learns_within_hyperband():
    """With Hyperband and 200 trials its best loss is below random's in k = 5 of n = 5 seeds (false alarms: 0.03)."""
    wins = 0
    for seed in range(5):
        best = [
            ft.tune(
                train, SPACE, sampler=s, scheduler="hyperband", steps=9, budget="200 trials", seed=seed
            ).best.value
            for s in ("dehb", "random")
        ]
        wins += best[0] < best[1]
    assert wins == 5


def test_wrong_arguments_are_named():
    """A wrong hyperparameter gives an error that says what is accepted."""
    with pytest.raises(ArgumentError, match="eta must be"):
        make("dehb", eta=1)
    with pytest.raises(ArgumentError, match="population must be"):
        make("dehb", population=2)
