"""Population based training: who is replaced, by whom, and that the child has the parent's state."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foretune.base.errors import ArgumentError, UnknownNameError
from foretune.base.key import Key
from foretune.execute.executor import Job
from foretune.schedule.population_based_training import PopulationBasedTraining, explore
from foretune.schedule.scheduler import Done, Resume, Start
from foretune.space import Choice, Fidelity, Float, Int, Space
from foretune.store.sqlite import SqliteStore
from foretune.study import checkpoints
from foretune.study.run import Run
from foretune.study.study import Study
from foretune.testing.schedulers import Drive, SchedulerSuite, Weather
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Plan

HERE = Path(__file__).parent
SPACE = Space({"rate": Float(0.01, 10.0, log=True)})
OPTIONS = {"population": 5, "interval": 3, "quantile": 0.2}


@pytest.fixture
def train(monkeypatch):
    """The training function, from a module that worker processes can import."""
    monkeypatch.syspath_prepend(str(HERE))
    import pbt_training

    return pbt_training.train


def ancestors(history, trial):
    """Return the numbers of a trial and of those it continues, the oldest first."""
    line = [trial.number]
    while history[line[0]].plan.continues is not None:
        line.insert(0, history[line[0]].plan.continues)
    return line


def check_families(history, interval=3, high=12):
    """Every member that has come to the end was trained 12 steps by its line of ancestors, one each interval."""
    children = [t for t in history if t.plan.continues is not None]
    assert children
    for trial in history:
        if trial.state == "complete":
            assert trial.values["steps"] == trial.values["count"] == high
            value = 0.0
            line = ancestors(history, trial)
            births = [history[n].plan.bracket * interval for n in line]
            for n, begun, ended in zip(line, births, [*births[1:], high], strict=True):
                value += history[n].config["rate"] * (ended - begun)
            assert trial.values["loss"] == pytest.approx(-value)
    for child in children:
        assert child.reports[0].step == child.plan.bracket * interval + 1
        assert child.config != history[child.plan.continues].config


def test_children_go_on_from_their_parents_state(tmp_path, train) -> None:
    """Weights, counts and step are the parent's; the learning rate is the child's own; no step is trained twice."""
    study = Study(
        SPACE,
        steps=12,
        sampler="random",
        scheduler=PopulationBasedTraining(**OPTIONS),
        store=str(tmp_path / "s.db"),
    )
    result = study.run(train)
    history = result.history
    check_families(history)
    assert len(history) == 5 + 3
    assert history.count("complete") == 5
    assert study.history.spent["steps"] == 5 * 12, "a child counts for the steps that it trains itself"
    rates = [t.config["rate"] for t in history if t.state == "complete"]
    first = [t.config["rate"] for t in history if t.plan.bracket == 0]
    assert np.mean(np.log(rates)) > np.mean(np.log(first)), "larger rates win here"


@pytest.mark.slow
def test_with_processes_the_same_population_grows(tmp_path, train) -> None:
    """Three worker processes give the configs and results of one: members wait for each other."""
    ran = []
    for workers in (1, 3):
        study = Study(
            SPACE, steps=12, sampler="random", scheduler=PopulationBasedTraining(**OPTIONS),
            store=str(tmp_path / f"{workers}.db"),
        )  # fmt: skip
        history = study.run(train, workers=workers).history
        check_families(history)
        ran.append({t.number: (t.config, dict(t.values), t.plan) for t in history if t.plan.bracket == 0})
    assert {n: c for n, (c, _, _) in ran[0].items()} == {n: c for n, (c, _, _) in ran[1].items()}


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from pbt_training import train
from foretune import Float, Space
from foretune.schedule.population_based_training import PopulationBasedTraining
from foretune.study.study import Study
if __name__ == "__main__":
    scheduler = PopulationBasedTraining(population=5, interval=3, quantile=0.2)
    Study(Space({"rate": Float(0.01, 10.0, log=True)}), steps=12, sampler="random", scheduler=scheduler,
          store=sys.argv[2]).run(train, workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("workers", [pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_study_goes_on_as_if_it_had_not_been(tmp_path, workers) -> None:
    """The driver is killed when a child of the second generation trains; the next one ends the study."""
    script, fuse, store = tmp_path / "drive.py", tmp_path / "fuse", tmp_path / "s.db"
    script.write_text(DRIVER)
    fuse.touch()
    command = [sys.executable, str(script), str(HERE), str(store), str(workers)]
    env = {**os.environ, "PBT_FUSE": str(fuse)}
    killed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode != 0
    assert not fuse.exists()
    between = Study(store=SqliteStore(store)).history
    assert between.count("complete") == 0
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    history = Study(store=SqliteStore(store)).history
    check_families(history)
    assert history.count("complete") == 5


def test_a_child_keeps_what_it_was_handed(tmp_path) -> None:
    """The parent may go on or lose its files: the child's copy is that of the moment when it was born."""

    class Box:
        def __init__(self, value):
            self.value = value

        def state_dict(self):
            return {"value": self.value}

        def load_state_dict(self, state):
            self.value = state["value"]

    parent, child = tmp_path / "parent", tmp_path / "child"
    checkpoints.save(parent, 3, {"box": Box(1)})
    checkpoints.hand_over(parent, child, before=6)
    checkpoints.save(parent, 5, {"box": Box(2)})
    checkpoints.hand_over(parent, child, before=6)
    run = Run(Job(7, {}, until=6, checkpoint=str(child), continues=2), lambda r: "go")
    box = Box(0)
    run.track(box=box)
    assert (run.start, box.value) == (3, 1)
    run.save(4)
    assert checkpoints.inherited(child) is None, "its own state has taken the place of the parent's"
    again = Run(Job(7, {}, until=6, checkpoint=str(child), continues=2), lambda r: "go")
    assert again.start == 4


def test_a_child_without_its_parents_state_fails_with_the_remedy(tmp_path) -> None:
    """A training function that tracks nothing cannot be continued: the reason says what to do."""

    def untracked(config, run):
        for step in range(run.start, run.until):
            run.report(step + 1, loss=config["rate"])

    scheduler = PopulationBasedTraining(population=3, interval=2)
    store = str(tmp_path / "s.db")
    result = Study(SPACE, steps=4, sampler="random", scheduler=scheduler, store=store).run(untracked)
    failed = [t for t in result.history if t.state == "failed"]
    assert failed
    assert all("run.track" in t.failure for t in failed)


def test_a_state_that_does_not_fit_is_named(tmp_path) -> None:
    """A child whose model has another shape fails with the reason, not with a torn study."""

    class Shaped:
        def __init__(self, width):
            self.width = width

        def state_dict(self):
            return {"width": self.width}

        def load_state_dict(self, state):
            if state["width"] != self.width:
                raise RuntimeError("size mismatch")

    checkpoints.save(tmp_path / "p", 3, {"model": Shaped(8)})
    checkpoints.hand_over(tmp_path / "p", tmp_path / "c", before=6)
    run = Run(Job(7, {}, until=6, checkpoint=str(tmp_path / "c"), continues=2), lambda r: "go")
    with pytest.raises(Exception, match=r"model of trial 2 at step 3 does not fit that of trial 7.*shape"):
        run.track(model=Shaped(9))


@pytest.mark.parametrize("workers", [1, 4])
def test_the_worst_give_way_to_children_of_the_best(workers: int) -> None:
    """At each interval the bottom part is left behind, and parents come from the top part at that moment."""
    scheduler = PopulationBasedTraining(population=10, interval=3)
    history = Drive(scheduler, Weather(3, high=9, trials=14, workers=workers)).run().history
    assert len(history) == 14
    for g, step in ((1, 3), (2, 6)):
        field = [t for t in history if t.plan.bracket < g and t.plan.until >= step]
        ranked = sorted(field, key=lambda t: (history.rung(step)[t.number], t.number))
        assert len(field) == 10
        left = {t.number for t in field if t.plan.until == step}
        assert left == {t.number for t in ranked[-2:]}
        parents = {t.plan.continues for t in history if t.plan.bracket == g}
        assert parents <= {t.number for t in ranked[:2]}


AT_ONCE = PopulationBasedTraining(population=8, interval=3, wait=False)


@pytest.mark.parametrize(
    "law", [n for n in dir(SchedulerSuite) if n.startswith("test_") and "plan_foretells" not in n]
)
def test_the_laws_hold_when_nobody_waits(law: str) -> None:
    """All laws of schedulers but one: how many members give way is not known before."""
    getattr(SchedulerSuite(), law)(AT_ONCE)


def test_nobody_waits_for_the_slowest() -> None:
    """With as many workers as members and plans of random length, no worker is ever idle before the last lap.

    All members are trained to the end; the study takes less simulated time than one that waits (n = 5 of 5 seeds).
    """
    for seed in range(5):
        ends = []
        for wait in (True, False):
            scheduler = replace(AT_ONCE, wait=wait)
            drive = Drive(scheduler, Weather(seed, high=27, trials=60, workers=8, known=False)).run()
            assert drive.history.count("complete") == 8
            ends.append(drive._now)
        assert ends[1] < ends[0]


def test_who_gives_way_is_among_the_worst_and_children_come_from_the_best() -> None:
    """At each birth the one who gives way is in the last quarter by latest losses, and the parent in the first."""
    scheduler = replace(AT_ONCE, quantile=0.25)
    drive = Drive(scheduler, Weather(1, high=27, trials=60, workers=8, known=False)).run()
    assert any(t.plan.continues is not None for t in drive.history)
    history, births = History(drive.problem), 0
    for event in drive.log:
        if event.kind == "start" and len(event.data["plan"]) > 2 and event.data["plan"][2] is not None:
            births += 1
            child = Plan(*event.data["plan"])
            now = {history.plan(n).bracket: n for n in range(len(history))}
            latest = {n: scheduler._latest(history, n, scheduler.times(drive.problem)) for n in now.values()}
            ranked = sorted((n for n in latest if latest[n] == latest[n]), key=lambda n: (latest[n], n))
            few = max(1, len(ranked) // 4)
            assert child.continues in ranked[:few]
            assert now[child.bracket] in ranked[-few:]
            assert child.until > history.plan(child.continues).until
        history.apply([event])
    assert births >= 3


def check_lines(history, high=12) -> None:
    """Whoever came to the end was trained by its line of ancestors, each from where the child was born."""
    for trial in (t for t in history if t.state == "complete"):
        line = ancestors(history, trial)
        births = [history[n].reports[0].step - 1 for n in line]
        value = sum(
            history[n].config["rate"] * (end - begun)
            for n, begun, end in zip(line, births, [*births[1:], high], strict=True)
        )
        assert trial.values["steps"] == trial.values["count"] == high
        assert trial.values["loss"] == pytest.approx(-value)


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_children_of_those_who_train_have_their_state(tmp_path, train, workers) -> None:
    """Nobody waits, parents are in the middle of their training; weights and counts are theirs all the same."""
    study = Study(
        SPACE, steps=12, sampler="random", store=str(tmp_path / "s.db"),
        scheduler=PopulationBasedTraining(**OPTIONS, wait=False),
    )  # fmt: skip
    history = study.run(train, workers=workers).history
    assert any(t.plan.continues is not None for t in history)
    assert history.count("complete") == 5
    check_lines(history)


@pytest.mark.parametrize("founder", ["fails", "is last"])
def test_children_that_fail_at_once_are_not_born_for_ever(founder: str) -> None:
    """After three in a row the one that gave way goes on, if it has not failed itself; else its place is empty."""
    problem = Problem(SPACE, steps=Fidelity(12))
    scheduler, history = PopulationBasedTraining(population=2, interval=3, wait=False), History(problem)
    for n in range(2):
        history.apply([Event("start", n, 0.0, {"config": {"rate": 1.0}, "plan": [3, n]})])
        history.apply([Event("report", n, 0.0, {"step": 3, "values": {"loss": 2.0 - n}})])
        last = founder == "fails" and n == 0
        history.apply([Event("fail" if last else "pause", n, 0.0, {"reason": "r"})])
    for _ in range(30):
        action = scheduler.next(problem, history, problem.key)
        if isinstance(action, Start):
            number = len(history)
            history.apply([Event("start", number, 0.0, {"config": {"rate": 2.0}, "plan": list(action.plan)})])
            history.apply([Event("fail", number, 0.0, {"reason": "it raised"})])
        elif isinstance(action, Resume):
            until = action.plan.until
            history.apply([Event("resume", action.number, 0.0, {"plan": list(action.plan)})])
            values = {"loss": 2.0 - action.number}
            history.apply([Event("report", action.number, 0.0, {"step": until, "values": values})])
            kind = "complete" if until == 12 else "pause"
            history.apply([Event(kind, action.number, 0.0, {"reason": "r"})])
    assert isinstance(action, Done)
    assert len(history) == 5
    assert history.numbers("complete") == ([1] if founder == "fails" else [0, 1])


def test_explore_changes_by_the_factor_within_the_range() -> None:
    """Numbers move by 1.2 or 1/1.2 and stay legal, ints by one at least; fixed parameters stay."""
    space = Space({"lr": Float(1e-4, 1e-1, log=True), "n": Int(1, 64), "act": Choice(("a", "b"))})
    parent = {"lr": 0.01, "n": 2, "act": "a"}
    rng = Key.of(0).generator()
    for _ in range(50):
        config, words = explore(space, parent, 1.2, 0.0, ("act",), rng)
        assert space.check(config) == config
        assert config["lr"] / 0.01 == pytest.approx(1.2) or config["lr"] / 0.01 == pytest.approx(1 / 1.2)
        assert config["n"] in (1, 3)
        assert config["act"] == "a"
        assert "lr" in words
    drawn = [explore(space, parent, 1.2, 1.0, (), rng)[0]["act"] for _ in range(50)]
    assert set(drawn) == {"a", "b"}


def test_the_population_fits_the_budget() -> None:
    """With n trials, members and replacements together are at most n; without, the population is 20."""
    problem = Problem(SPACE, steps=Fidelity(100))
    for trials in (1, 5, 20, 56, 200):
        rungs = PopulationBasedTraining().plan(problem, trials)
        born = {}
        for rung in rungs:
            born.setdefault(rung.bracket, rung.trials)
        assert trials / 2 <= sum(born.values()) <= trials
    assert PopulationBasedTraining().plan(problem)[0].trials == 20


def test_wrong_settings_are_refused() -> None:
    """Each mistake names what is accepted."""
    for options, words in (
        ({"quantile": 0.6}, "quantile"), ({"factor": 1.0}, "factor"), ({"population": 0}, "population"),
        ({"fixed": "lr"}, "fixed"), ({"resample": 2}, "resample"), ({"interval": 0}, "interval"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=words):
            PopulationBasedTraining(**options)
    drive = Drive(PopulationBasedTraining(fixed=("widht",)), Weather(0, trials=3))
    with pytest.raises(UnknownNameError, match="widht"):
        drive.run()
