"""Studies on a simulated clock, with failures, losses and delays: they always end, within their budgets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from foretune import schedule
from foretune.base.clock import SimulatedClock
from foretune.base.key import Key
from foretune.execute.executor import Job
from foretune.execute.simulated import SimulatedExecutor
from foretune.space import Fidelity, Float, Space
from foretune.study.loop import drive
from foretune.study.study import Study
from foretune.trial.trial import ENDED, PAUSED, RUNNING, WAITING, Plan

SPACE = Space({"x": Float(-1, 1)})
SEEDS = 12
SCHEDULERS = schedule.names()


def curve(job: Job) -> Iterator[tuple[float, float, Mapping[str, float]]]:
    """A minute a step, faster for some; the loss falls as 1/step; it costs 0.01 a step."""
    for step in range(int(job.start) + 1, int(job.until) + 1):
        loss = job.config["x"] ** 2 + 1 / step
        yield 60.0 * (1.5 + job.config["x"]), step, {"loss": loss, "cost": 0.01 * step}


def run(
    scheduler: str, seed: int, failures: float, losses: float, slots: int, **options: Any
) -> tuple[Study, str]:
    """Drive one study to its end; whatever it does is drawn from the seed."""
    clock = SimulatedClock()
    study = Study(
        SPACE, sampler="random", scheduler=scheduler, steps=Fidelity(27), seed=seed, clock=clock, **options
    )
    executor = SimulatedExecutor(
        curve, slots, clock, failure_rate=failures, loss_rate=losses, delay=30.0, key=Key.of(seed)
    )
    return study, drive(study, executor)


def trained(study: Study) -> float:
    """Steps by the log alone: how far each trial came beyond the trial whose state it continues."""
    at: dict[int, float] = {}
    base: dict[int, float] = {}
    for event in study.store.read(study.name):
        if event.kind == "start":
            parent = Plan(*event.data["plan"]).continues
            base[event.number] = 0.0 if parent is None else at[parent]
        elif event.kind == "report":
            at[event.number] = max(at.get(event.number, 0.0), event.data["step"])
    return sum(max(0.0, step - base[number]) for number, step in at.items())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_study_ends_within_its_trials(scheduler: str) -> None:
    """12 seeds, 4 slots, a tenth of the tries failing and a fifth lost: each ends with all trials settled."""
    for seed in range(SEEDS):
        study, reason = run(scheduler, seed, 0.1, 0.2, 4, budget="30 trials")
        history = study.history
        assert reason
        assert len(history) <= 30
        assert history.count(RUNNING, WAITING) == 0
        assert history.count(*ENDED, PAUSED) == len(history)
        assert all(t.failure for t in history if t.state == "failed")
        assert history.best is not None
        for trial in history:
            steps = [r.step for r in trial.reports]
            assert steps == sorted(set(steps))
            assert trial.step <= 27


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_study_ends_within_its_steps(scheduler: str) -> None:
    """12 seeds: steps done never exceed the budget of steps, whatever fails or is lost on the way."""
    for seed in range(SEEDS):
        study, reason = run(scheduler, seed, 0.1, 0.2, 3, budget="200 steps, 100 trials")
        assert study.history.spent["steps"] <= 200
        assert trained(study) <= 200
        assert study.history.count(RUNNING, WAITING) == 0, reason


@pytest.mark.parametrize("budget", ["8h", "5 cost"])
def test_time_and_cost_end_a_study(budget: str) -> None:
    """12 seeds: beyond the limit no trial goes further than its next report (150 s, 0.27) on each of 3 slots."""
    for seed in range(SEEDS):
        study, reason = run("full", seed, 0.05, 0.0, 3, budget=budget)
        limit, spent = study.budget, study.history.spent
        assert "is spent" in reason
        if limit.seconds is not None:
            # a try that begins just before the end has its delay and its first report before it is judged
            assert limit.seconds <= spent["seconds"] <= limit.seconds + 3 * 151
        else:
            assert limit.cost is not None
            assert limit.cost <= spent["cost"] <= limit.cost + 3 * 0.27


@pytest.mark.parametrize("losses", [0.5, 1.0])
def test_trials_that_are_lost_again_and_again_are_given_up(losses: float) -> None:
    """However often workers vanish, a study ends; with certainty of loss every trial fails, with the count."""
    study, _ = run("full", 1, 0.0, losses, 2, budget="12 trials", tries=2)
    assert len(study.history) == 12
    states = {t.state for t in study.history}
    assert states == ({"failed"} if losses == 1.0 else {"complete"} | (states & {"failed"}))
    assert all("times in a row" in str(t.failure) for t in study.history if t.state == "failed")


def test_all_failing_ends() -> None:
    """When every try fails the budget of trials is used up, unless the study may give up; nothing is best."""
    study, reason = run("asha", 0, 1.0, 0.0, 4, budget="20 trials", give_up=0)
    assert (len(study.history), study.history.count("failed")) == (20, 20)
    assert reason
    assert all(math.isinf(study.history.loss(n)) for n in range(20))
    sooner, reason = run("asha", 0, 1.0, 0.0, 4, budget="20 trials")
    assert 10 <= sooner.history.count("failed") == len(sooner.history) < 20
    assert "failed alike" in reason


def test_a_simulated_study_repeats_exactly() -> None:
    """Same seed, same log, clock included: n = 3 schedulers."""
    for scheduler in ("asha", "hyperband", "asha_stopping"):
        logs = [
            [
                (e.kind, e.number, e.at, {k: v for k, v in e.data.items() if k != "worker"})
                for e in run(scheduler, 7, 0.1, 0.2, 4, budget="20 trials")[0].store.read("study")[1:]
            ]
            for _ in range(2)
        ]
        assert logs[0] == logs[1]


def test_two_drivers_of_two_machines_share_a_study() -> None:
    """Turn by turn on one clock, one of them dying on the way: the budget holds and nothing is left over."""
    from foretune.schedule.scheduler import Done
    from foretune.store.memory import MemoryStore
    from foretune.trial.trial import Trial

    clock, store = SimulatedClock(), MemoryStore()
    studies = []
    for host in ("north", "south"):
        studies.append(
            Study(SPACE, sampler="random", scheduler="asha", steps=9, budget=12, store=store, clock=clock)
        )
        studies[-1].worker = f"{host}|1|1|{host}"
    alive, turns = list(studies), 0
    while alive and turns < 2000:
        turns += 1
        study = alive[turns % len(alive)]
        clock.sleep(7.0)
        action = study.next()
        if isinstance(action, Done):
            alive.remove(study)
        elif isinstance(action, Trial):
            if turns == 15 and len(alive) == 2:
                alive.remove(study)  # it dies with a trial in its hands
                continue
            for step in range(int(action.step) + 1, int(action.plan.until) + 1):
                study.report(action.number, step, loss=action.config["x"] ** 2 + 1 / step)
            study.finish(action.number)
    studies[0].sync()
    history = studies[0].history
    assert not alive
    assert len(history) == 12
    assert history.count(RUNNING, WAITING) == 0
    assert any(e.kind == "lose" for e in store.read("study"))
