"""What happens to studies when processes, machines, disks and trainings fail."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import foretune as ft
from foretune.base.clock import SimulatedClock
from foretune.base.errors import StoreError
from foretune.execute import FunctionReference, ProcessExecutor
from foretune.schedule.scheduler import Done, Wait
from foretune.store.memory import MemoryStore
from foretune.store.sqlite import SqliteStore
from foretune.study.study import Study
from foretune.study.tune import tune
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.trial import Trial

SPACE = ft.Space({"x": ft.Float(-1, 1)})
ROOT = Path(__file__).parents[2]
HERE = str(Path(__file__).resolve())
HOLD = "FORETUNE_TEST_HOLD"


# -- what the drivers run ---------------------------------------------------------------------------


class State:
    """A training state that knows which steps made it, and that is never equal by accident."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self.steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = list(state["steps"])


def train(config: Mapping[str, Any], run: Any) -> None:
    """About 10 ms a step; fails if a resumed state lacks a step."""
    state = State()
    run.track(state=state)
    for step in range(run.start, run.until):
        state.steps.append(step)
        if state.steps != list(range(step + 1)):
            raise RuntimeError(f"the state at step {step} was made by {state.steps}")
        time.sleep(0.01)
        while HOLD in os.environ and Path(os.environ[HOLD]).exists():
            time.sleep(0.01)
        run.report(step + 1, loss=config["x"] ** 2 + 1 / (step + 1))


def faulty(config: Mapping[str, Any], run: Any) -> Any:
    """A training of each kind of fault."""
    fault = config["fault"]
    if fault == "raise":
        raise RuntimeError("the loss exploded")
    if fault == "nan":
        return float("nan")
    if fault == "hang":
        time.sleep(1000)
    if fault == "garbage":
        os.write(1, b"\x80\x04\x00 garbage" * 1000)
        return 1.0
    if fault == "exit":
        os._exit(3)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "allocate":
        return float(len(bytearray(1 << 42)))
    if fault == "string":
        return "very low"
    if fault == "nothing":
        return None
    if fault == "other":
        return {"los": 1.0}
    return 0.5


DRIVER = f"""
import functools, json, sys
import foretune as ft
from foretune.execute import FunctionReference
if __name__ == "__main__":
    store, options = sys.argv[1], json.loads(sys.argv[2])
    space = ft.Space({{"x": ft.Float(-1, 1)}})
    train = FunctionReference({HERE!r}, "train")
    result = ft.tune(train, space, store=store, **options)
    print(result.reason)
"""


def driver(store: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a driver in a process of its own."""
    options = {
        "sampler": "random", "scheduler": "asha", "steps": 9, "budget": "9 trials", "seed": 3, "tries": 100,
        **options,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(store), json.dumps(options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for a driver that must end well; returns what it said."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def log_of(store: Path, name: str = "study") -> Sequence[Event]:
    """All events of a study, read by somebody who is not part of it."""
    return SqliteStore(store, create=False).read(name)


def wait_until_held(store: Path, running: int, seconds: float = 0.5) -> None:
    """Wait until that many trials run and nothing but renewed leases is recorded for some time."""
    seen, since, deadline = -1, time.monotonic(), time.monotonic() + 60
    while time.monotonic() - since < seconds:
        count = sum(e.kind != "lease" for e in log_of(store))
        if count != seen or Study(store=SqliteStore(store)).history.count("running") != running:
            seen, since = count, time.monotonic()
        assert time.monotonic() < deadline, f"not {running} trials running"
        time.sleep(0.02)


def essence(log: Sequence[Event]) -> list[tuple[str, int, str]]:
    """What a study decided and learnt, without what depends on clocks, processes and their deaths.

    Left out: times, durations, workers and leases; lost trials and their being taken up again (unlike a
    promotion); reports of steps that were reported before.
    """
    kept: list[tuple[str, int, str]] = []
    steps: dict[int, float] = {}
    lost: set[int] = set()
    for kind, number, _, data in log:
        if kind == "lease":
            continue
        if kind == "lose":
            lost.add(number)
            continue
        if kind == "resume" and number in lost:
            lost.discard(number)
            continue
        if kind == "report":
            if data["step"] <= steps.get(number, 0.0):
                continue
            steps[number] = data["step"]
        clean = {k: v for k, v in data.items() if k not in ("worker", "until", "seconds", "ask")}
        kept.append((kind, number, json.dumps(clean, sort_keys=True)))
    return kept


def check(log: Sequence[Event], trials: int) -> None:
    """No step recorded twice, no trial complete twice, the budget held, nothing failed."""
    kinds = Counter((e.kind, e.number) for e in log)
    assert max((n for (kind, _), n in kinds.items() if kind in ("complete", "start")), default=0) <= 1
    reports = Counter((e.number, e.data["step"]) for e in log if e.kind == "report")
    assert set(reports.values()) <= {1}
    assert sum(n for (kind, _), n in kinds.items() if kind == "start") <= trials
    assert not [e for e in log if e.kind == "fail"]


def kill_repeatedly(store: Path, rounds: int, victims: str, workers: int, rng: random.Random) -> None:
    """Start a driver again and again, and kill it, a child of it, or both, at random moments."""
    recorded: Sequence[Event] = []
    for _ in range(rounds):
        process = driver(store, workers=workers)
        begun = time.monotonic()
        mark = len(recorded)
        while time.monotonic() - begun < 30 and process.poll() is None:
            if store.exists() and SqliteStore(store, create=False).version("study") > mark + 1:
                break  # it is at work
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.25))
        young = children(process.pid)
        targets = {"driver": [process.pid], "worker": young[:1], "both": [process.pid, *young]}[victims]
        for pid in targets:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if victims == "worker":
            finished(process)
        process.communicate()
        now = log_of(store)
        assert list(now[: len(recorded)]) == list(recorded), "something that was recorded is gone"
        recorded = now


# -- kill -9 ----------------------------------------------------------------------------------------

ROUNDS = [pytest.param(4), pytest.param(50, marks=pytest.mark.slow)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_driver_that_is_killed_again_and_again(tmp_path: Path, rounds: int) -> None:
    """In serial mode the log, in essence, is that of the undisturbed run."""
    undisturbed, killed = tmp_path / "a.db", tmp_path / "b.db"
    trials = 9 if rounds < 10 else 90
    options = {"budget": f"{trials} trials"}
    finished(driver(undisturbed, **options))
    rng = random.Random(rounds)
    recorded: Sequence[Event] = []
    for _ in range(rounds):
        process = driver(killed, **options)
        while process.poll() is None:
            if killed.exists() and SqliteStore(killed, create=False).version("study") > len(recorded) + 1:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.communicate()
        now = log_of(killed)
        assert list(now[: len(recorded)]) == list(recorded)
        recorded = now
    finished(driver(killed, **options))
    log = log_of(killed)
    check(log, trials)
    assert essence(log) == essence(log_of(undisturbed))
    assert sum(e.kind == "lose" for e in log) > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds children in /proc")
@pytest.mark.parametrize("rounds", [pytest.param(2), pytest.param(50, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_with_its_workers(tmp_path: Path, rounds: int) -> None:
    """With two worker processes nothing is lost, nothing runs twice to completion, the budget holds."""
    store = tmp_path / "s.db"
    kill_repeatedly(store, rounds, "both", 2, random.Random(1))
    kill_repeatedly(store, rounds, "driver", 2, random.Random(2))
    finished(driver(store, workers=2))
    check(log_of(store), 9)
    assert Study(store=SqliteStore(store)).history.count("complete") >= 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds children in /proc")
@pytest.mark.parametrize("rounds", [pytest.param(2), pytest.param(25, marks=pytest.mark.slow)])
def test_workers_that_are_killed(tmp_path: Path, rounds: int) -> None:
    """A killed worker is its trial's failure, with the signal; all other trials go on."""
    for round_ in range(rounds):
        store = tmp_path / f"{round_}.db"
        process = driver(store, workers=2, scheduler="full")
        while process.poll() is None and not (store.exists() and len(log_of(store)) > 6):
            time.sleep(0.01)
        victims = [c for c in children(process.pid) if b"child" in Path(f"/proc/{c}/cmdline").read_bytes()]
        os.kill(victims[0], signal.SIGKILL)
        finished(process)
        history = Study(store=SqliteStore(store)).history
        failed = [t for t in history if t.state == "failed"]
        assert [t.failure for t in failed] == ["was killed by SIGKILL"] or "SIGKILL" in str(failed[0].failure)
        assert history.count("complete") == 8


def test_a_killed_trial_is_taken_up_at_once(tmp_path: Path) -> None:
    """The next driver sees that the process has died, and waits for no lease: the lost trial comes first."""
    store = tmp_path / "s.db"
    process = driver(store, lease=3600)
    while not (store.exists() and len(log_of(store)) > 4):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = log_of(store)
    running = History(Study(store=SqliteStore(store)).problem, before).numbers("running")
    finished(driver(store, lease=3600))
    after = log_of(store)[len(before) :]
    assert [(e.kind, e.number) for e in after[: 2 * len(running)]] == [
        (kind, n) for n in running for kind in ("lose", "resume")
    ]
    assert all("died" in e.data["reason"] for e in after if e.kind == "lose")


# -- in halves --------------------------------------------------------------------------------------


def samplers() -> list[str]:
    """The samplers whose every decision is fast enough to be compared here."""
    from foretune import search

    wanted = ("random", "sobol", "gp", "regularized_evolution", "differential_evolution")
    return [name for name in wanted if name in search.names()]


def sphere(config: Mapping[str, Any]) -> float:
    return float(config["x"] ** 2 + config["y"])


def comparable(name: str) -> Any:
    """A sampler that does as much with a small budget as with a large one."""
    from foretune import search

    sizes = {"regularized_evolution": {"population": 8, "sample": 3}}
    return search.make(name, **sizes.get(name, {}))


@pytest.mark.parametrize("name", samplers())
def test_fifty_are_twice_twenty_five(name: str, tmp_path: Path) -> None:
    """50 trials at once, 25 and 25 more, and a study that is forgotten in the midst of trials: one log."""
    space = ft.Space({"x": ft.Float(-1, 1), "y": ft.Int(0, 9)})
    sampler, half, whole = comparable(name), 25, 50
    at_once = tune(sphere, space, sampler=sampler, budget=whole)
    store = str(tmp_path / "halves.db")
    tune(sphere, space, sampler=sampler, budget=half, store=store)
    halves = tune(sphere, space, sampler=sampler, budget=whole, store=store)

    forgotten = MemoryStore()
    for stop in range(3, whole, 7):
        study = Study(space, sampler=sampler, budget=whole, store=forgotten)
        while len(study.history) <= stop and isinstance(trial := study.next(), Trial):
            if len(study.history) <= stop:
                study.finish(trial.number, sphere(trial.config))
        del study
    resumed = tune(sphere, space, sampler=sampler, budget=whole, store=forgotten)

    wanted = [e for e in essence(at_once.study.store.read("study")) if e[0] != "create"]
    for other in (halves, resumed):
        log = [e for e in essence(other.study.store.read("study")) if e[0] not in ("create", "budget")]
        assert log == wanted


POISON = """
import random, sys
import numpy as np

def poisoned(*a, **k):
    raise AssertionError("global randomness was used")

for module in (random, np.random):
    for name in ("random", "rand", "randn", "randint", "seed", "shuffle", "choice", "uniform", "normal",
                 "permutation", "getrandbits", "sample", "standard_normal"):
        if hasattr(module, name):
            setattr(module, name, poisoned)
sys.path.insert(0, sys.argv[2])
"""
SAME = """
import json, sys
import foretune as ft
if __name__ == "__main__":
    space = ft.Space({"x": ft.Float(-1, 1), "y": ft.Choice(["a", "b"])})
    result = ft.tune(lambda c: c["x"] ** 2, space, sampler=sys.argv[1], budget=20, seed=11)
    log = result.study.store.read("study")
    print(json.dumps([(e.kind, e.number, e.data.get("config"), e.data.get("values"), e.data["reason"])
                      for e in log[1:]]))
"""


@pytest.mark.parametrize("sampler", samplers())
def test_same_seed_same_log_everywhere(sampler: str) -> None:
    """In another process, and with the global generators of Python and NumPy poisoned."""
    logs = [
        subprocess.run(
            [sys.executable, "-c", code, sampler, str(ROOT)], capture_output=True, text=True, check=True
        ).stdout
        for code in (SAME, POISON + SAME)
    ]
    assert logs[0] == logs[1]
    assert len(json.loads(logs[0])) == 40


# -- races ------------------------------------------------------------------------------------------

# Twelve forks of a process that has imported all there is; each keeps its trial until all have one.
CREATE = """
import os, signal, sys, time, traceback
import foretune as ft
from foretune.study.study import Study
space = ft.Space({"x": ft.Float(-1, 1)})
Study(space, sampler="random", budget=1).next()
signal.alarm(60)
(ready, told), (end, gate) = os.pipe(), os.pipe()
at, children = time.time() + 0.1, []

def race():
    os.close(gate)
    while time.time() < at:
        pass
    word = b"!"
    try:
        Study(space, "min loss", sampler="random", store=sys.argv[1], budget=12).next().number
        word = b"."
    except BaseException:
        traceback.print_exc()
    os.write(told, word)
    os.read(end, 1)
    os._exit(0)

for _ in range(12):
    children.append(os.fork() or race())
words = b"".join(os.read(ready, 1) for _ in children)
os.close(gate)
for child in children:
    os.waitpid(child, 0)
print(words.decode())
"""


@pytest.mark.parametrize("rounds", [pytest.param(5), pytest.param(50, marks=pytest.mark.slow)])
def test_twelve_processes_that_create_the_same_study(tmp_path: Path, rounds: int) -> None:
    """None fails, there is one study, and each has a trial of its own."""
    for round_ in range(rounds):
        store = tmp_path / f"{round_}.db"
        race = subprocess.run(
            [sys.executable, "-c", CREATE, str(store)], capture_output=True, text=True, check=False
        )
        assert (race.stdout, race.stderr) == ("............\n", "")
        taken = [e.number for e in log_of(store) if e.kind == "start"]
        assert taken == list(range(12))
        assert len({e.data["worker"] for e in log_of(store) if e.kind == "start"}) == 12
        assert [e.kind for e in log_of(store)].count("create") == 1


def test_drivers_together_keep_the_budget(tmp_path: Path) -> None:
    """Three drivers on one study train as many trials as it may have, and all end."""
    store = tmp_path / "s.db"
    racers = [driver(store, budget="20 trials") for _ in range(3)]
    reasons = [finished(r) for r in racers]
    assert all("all 20 trials" in r for r in reasons)
    log = log_of(store)
    check(log, 20)
    assert sum(e.kind == "start" for e in log) == 20
    assert len({e.data["worker"].split("|")[1] for e in log if e.kind == "start"}) > 1
    totals = [e.data["config"]["x"] for e in log if e.kind == "start"]
    alone = tune(lambda c: c["x"], SPACE, sampler="random", seed=3, budget=20)
    assert totals == [t.config["x"] for t in alone.history]


# -- leases -----------------------------------------------------------------------------------------


def two_machines(**options: Any) -> tuple[SimulatedClock, Study, Study]:
    """One study, held by workers of two machines that cannot see each other's processes."""
    clock, store = SimulatedClock(), MemoryStore()
    options = {"sampler": "random", "steps": 9, "budget": 4, "lease": 60.0, "clock": clock, **options}
    studies = [Study(SPACE, store=store, **options) for _ in range(2)]
    for study, host in zip(studies, ("north", "south"), strict=True):
        study.worker = f"{host}|1|1|{host}"
    return clock, studies[0], studies[1]


def taken(study: Study) -> Trial:
    """A trial, where there must be one."""
    trial = study.next()
    assert isinstance(trial, Trial), trial
    return trial


def test_a_silent_workers_trial_is_pending_until_its_lease_ends() -> None:
    """Then it is taken up again, by whoever comes, with its plan."""
    clock, a, b = two_machines(budget=1)
    lost = taken(a)
    clock.sleep(59)
    assert isinstance(b.next(), Wait)
    assert b.history.pending == [lost.number]
    clock.sleep(2)
    again = taken(b)
    assert (again.number, again.worker, again.plan, again.tries) == (lost.number, b.worker, lost.plan, 1)
    assert "silent beyond its lease" in again.reason


def test_reports_and_beats_renew_the_lease() -> None:
    """A worker that reports, or whose driver renews, keeps its trial."""
    clock, a, b = two_machines(budget=1)
    trial = taken(a)
    for step in range(1, 4):
        clock.sleep(50)
        assert a.report(trial.number, step, loss=1.0).word == "go"
        assert isinstance(b.next(), Wait)
    for _ in range(3):
        clock.sleep(50)
        a.renew([trial.number])
        assert isinstance(b.next(), Wait)


def test_a_trial_that_loses_its_workers_is_given_up() -> None:
    """After ``tries`` more attempts without progress it has failed, and the study goes on."""
    clock, a, b = two_machines(budget=2, tries=2)
    for _ in range(3):
        assert taken(a).number == 0
        clock.sleep(61)
        a, b = b, a
    following = taken(a)
    assert following.number == 1
    assert a.history[0].state == "failed"
    assert "lost 3 times in a row" in str(a.history[0].failure)


def test_a_late_worker_delivers_its_result() -> None:
    """Its reports and its result count; the worker who had taken over is told to leave, and adds nothing."""
    clock, a, b = two_machines(budget=1)
    number = taken(a).number
    a.report(number, 1, loss=5.0)
    clock.sleep(61)
    assert taken(b).number == number
    assert a.report(number, 2, loss=4.0).word == "stop"
    assert a.finish(number, 0.5).state == "running"
    assert b.report(number, 3, loss=3.0).word == "go"
    assert [r.step for r in b.history[number].reports] == [1, 2, 3]

    clock, a, b = two_machines(budget=1)
    number = taken(a).number
    clock.sleep(61)
    assert taken(b).number == number
    assert a.finish(number, 0.5).state == "complete"
    clock.sleep(1)  # a report is judged on what was read half a second ago at most
    verdict = b.report(number, 1, loss=9.0)
    assert (verdict.word, "ended meanwhile" in verdict.reason) == ("stop", True)
    assert b.finish(number).values == {"loss": 0.5}
    assert (b.history[number].state, b.history.loss(number)) == ("complete", 0.5)
    assert isinstance(b.next(), Done)


def test_a_late_failure_is_nobodys_failure() -> None:
    """What a worker that was given up did not manage, the next one may."""
    clock, a, b = two_machines(budget=1)
    number = taken(a).number
    clock.sleep(61)
    taken(b)
    assert a.finish(number, state="failed", reason="out of memory").state == "running"
    assert b.finish(number, 1.0).state == "complete"


def test_a_worker_that_comes_back_in_time_keeps_its_trial() -> None:
    """Given up, but not taken over yet: its next report takes the trial back."""
    clock, a, b = two_machines(budget=2)
    number = taken(a).number
    other = taken(b).number
    clock.sleep(61)
    b.renew([other])
    b.store.append(
        "study", [Event("lose", number, clock.now(), {"reason": "silent", "worker": a.worker})], None
    )
    assert a.report(number, 1, loss=1.0).word == "go"
    assert (a.history[number].state, a.history[number].worker) == ("running", a.worker)
    b.sync()
    assert isinstance(b.next(), Wait)


def test_a_promoted_trial_ignores_a_late_pause() -> None:
    """Who delivers a lower rung late does not pause a trial that is already on its way to a higher one."""
    clock, a, b = two_machines(budget=3, scheduler="asha")
    number = taken(a).number
    clock.sleep(61)
    assert taken(b).number == number
    b.report(number, 1, loss=0.1)
    b.finish(number)
    for _ in range(2):
        other = taken(b).number
        b.report(other, 1, loss=5.0)
        b.finish(other)
    assert taken(b).plan.until == 3
    a.history.apply([])
    assert a.report(number, 1, loss=0.1).word in ("pause", "stop")
    assert a.finish(number).state == "running"
    b.sync()
    assert (b.history[number].state, b.history[number].plan.until) == ("running", 3)


def test_a_heartbeat_keeps_a_silent_training(tmp_path: Path) -> None:
    """A training that reports nothing for longer than its lease keeps it: a thread renews it."""
    store = SqliteStore(tmp_path / "s.db")
    study = Study(SPACE, sampler="random", store=store, budget=1, lease=0.3)
    trial = taken(study)
    deadline = time.monotonic() + 20
    while not any(e.kind == "lease" for e in store.read("study")) and time.monotonic() < deadline:
        time.sleep(0.02)
    study.sync()
    assert study.history[trial.number].lease > trial.lease
    study.finish(trial.number, 1.0)
    assert isinstance(study.next(), Done)


# -- interruptions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interruption_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, workers: int
) -> None:
    """Running trials are given up at once, blamelessly; going on gives the undisturbed study's trials."""
    store, hold = tmp_path / "s.db", tmp_path / "hold"
    monkeypatch.setenv(HOLD, str(hold))
    process = driver(store, workers=workers)
    while process.poll() is None and not (store.exists() and len(log_of(store)) > 12):
        time.sleep(0.01)
    hold.touch()
    wait_until_held(store, running=workers)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    hold.unlink()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in error
    log = log_of(store)
    history = Study(store=SqliteStore(store)).history
    assert history.count("running") == 0
    lost = [e for e in log if e.kind == "lose"]
    assert len(lost) == workers
    assert all(e.data["reason"] == "interrupted" for e in lost)
    assert all(t.tries == 0 for t in history)
    finished(driver(store, workers=workers))
    check(log_of(store), 9)


# -- trainings --------------------------------------------------------------------------------------


def test_faulty_trainings_are_failed_trials() -> None:
    """Each fault is a reason, and the study goes on to its end."""
    reasons = {
        "raise": "RuntimeError: the loss exploded", "hang": "longer than its limit", "exit": "exit", "kill": "SIGKILL",
        "allocate": "MemoryError", "string": "must be a number", "nothing": "it reported nothing",
        "other": "Did you mean 'los'",
    }  # fmt: skip
    space = ft.Space({"fault": ft.Choice([*reasons, "nan", "garbage", "none"])})
    target = FunctionReference(HERE, "faulty")
    from foretune.study.run import TrainTarget

    executor = ProcessExecutor(TrainTarget(target), workers=1, memory=8 << 30, grace=0.5)
    result = tune(target, space, sampler="grid", limit=1.0, executor=executor)
    failures = {t.config["fault"]: str(t.failure) for t in result.history if t.state == "failed"}
    assert set(failures) == set(reasons)
    assert all(reasons[fault] in text for fault, text in failures.items()), failures
    complete = {
        t.config["fault"]: result.history.loss(t.number) for t in result.history if t.state == "complete"
    }
    assert complete == {"nan": float("inf"), "garbage": 1.0, "none": 0.5}
    assert result.best.config["fault"] == "none"
    assert "Traceback" in str(next(t.notes["detail"] for t in result.history if t.config["fault"] == "raise"))


# -- disks ------------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_study_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clear error; what was recorded is there; with more space the study goes on, in the same process too."""
    from foretune.store import schema

    path = tmp_path / "s.db"
    connect = schema.connect

    def small(*a: Any, **k: Any) -> sqlite3.Connection:
        connection = connect(*a, **k)
        connection.execute("PRAGMA max_page_count = 24")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr("foretune.store.connections.connect", small)
        with pytest.raises(StoreError, match="full"):
            tune(lambda c: c["x"] ** 2, SPACE, sampler="random", budget=2000, store=str(path))
    recorded = log_of(path)
    assert len(recorded) > 10
    n = 1 + max(e.number for e in recorded)
    result = tune(lambda c: c["x"] ** 2, SPACE, sampler="random", budget=2000, store=str(path), watch=None)
    assert list(log_of(path)[: len(recorded)]) == list(recorded)
    assert n < len(result.history) == 2000 == result.history.count("complete")
