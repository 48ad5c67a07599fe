"""``tune``: from a training function and a space to a result."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, ArgumentTypeError, ConfigError, SpaceError, StudyError
from foretune.execute import FunctionReference
from foretune.execute.executor import Ended, Executor, Job
from foretune.schedule.hyperband import Hyperband
from foretune.schedule.successive_halving import SuccessiveHalving
from foretune.study.tune import tune

SPACE = ft.Space({"x": ft.Float(-1, 1)})


class State:
    """A training state that knows which steps made it."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self.steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = list(state["steps"])


def train(config: dict[str, Any], run: Any, diary: str = "") -> None:
    """Trains to ``run.until``, writing each step into a diary; fails if a step is missing or repeated."""
    state = State()
    run.track(state=state)
    for step in range(run.start, run.until):
        state.steps.append(step)
        if state.steps != list(range(step + 1)):
            raise RuntimeError(f"the state at step {step} was made by {state.steps}")
        with open(diary, "a") as file:
            file.write(f"{run.number} {step}\n")
        run.report(step + 1, loss=config["x"] ** 2 + 1 / (step + 1))


def square(config: dict[str, Any]) -> float:
    return float(config["x"] ** 2)


def torch_train(config: dict[str, Any], run: Any) -> None:
    """A linear model with Adam; the loss depends on every step and on torch's randomness."""
    import torch

    torch.manual_seed(run.seed)
    model = torch.nn.Linear(3, 1)
    adam = torch.optim.Adam(model.parameters(), lr=10 ** config["x"])
    run.track(model=model, adam=adam)
    for step in range(run.start, run.until):
        x = torch.randn(8, 3)
        loss = ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        run.report(step + 1, loss=loss.item())


@pytest.mark.parametrize(
    "function",
    [square, lambda c: {"loss": c["x"] ** 2, "size": 3}, lambda c, run: run.report(1, loss=c["x"] ** 2)],
    ids=["number", "mapping", "nothing"],
)
def test_what_a_function_may_give(function: Any) -> None:
    """A number, a mapping of metrics, or nothing after having reported: the result is the same."""
    result = tune(function, SPACE, sampler="random", budget="10 trials")
    best = min(result.history, key=lambda t: t.config["x"] ** 2)
    assert (result.best.number, result.best.config) == (best.number, best.config)
    assert result.best.value == best.config["x"] ** 2
    assert result.history.count("complete") == 10
    assert "all 10 trials" in result.reason
    assert "best" in repr(result)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stored", [False, True], ids=["memory", "sqlite"])
def test_promoted_trials_go_on_from_their_checkpoints(workers: int, stored: bool, tmp_path: Path) -> None:
    """ASHA pauses, promotes and resumes; each step of each trial is trained once."""
    diary = tmp_path / "diary"
    result = tune(
        functools.partial(FunctionReference(__file__, "train"), diary=str(diary)),
        SPACE,
        sampler="random",
        scheduler="asha",
        steps=9,
        budget="9 trials",
        workers=workers,
        store=str(tmp_path / "s.db") if stored else None,
    )
    steps = Counter(diary.read_text().splitlines())
    assert set(steps.values()) == {1}
    assert sum(steps.values()) == result.history.spent["steps"]
    assert result.history.count("failed") == 0
    assert result.history.count("complete") == 1
    assert result.best.step == 9
    kinds = Counter(e.kind for e in result.study.store.read("study"))
    assert kinds["resume"] == kinds["pause"] - result.history.count("paused") > 0


def test_torch_training_resumes_exactly() -> None:
    """Model, optimizer and torch's randomness: a promoted trial has the curve of one that never paused."""
    halved = tune(torch_train, SPACE, scheduler="asha", sampler="random", steps=9, budget="9 trials")
    full = tune(torch_train, SPACE, sampler="random", steps=9, budget="9 trials")
    curves = {t.number: [r.values for r in t.reports] for t in full.history}
    promoted = [t for t in halved.history if t.step > 1]
    assert len(promoted) >= 3
    assert all([r.values for r in t.reports] == curves[t.number][: len(t.reports)] for t in promoted)


def hanging(config: dict[str, Any]) -> float:
    """Hangs, unless x is 0."""
    if config["x"]:
        time.sleep(1000)
    return 1.0


def test_a_limit_ends_what_hangs() -> None:
    """Also with one worker, and where the function never reports; a limit may be said in words."""
    space = ft.Space({"x": ft.Choice([0, 1])})
    result = tune(hanging, space, sampler="grid", limit="1s")
    states = {t.config["x"]: t.state for t in result.history}
    assert states == {0: "complete", 1: "failed"}
    assert "ran longer than its limit of 1 s" in str(result.history[1 - result.best.number].failure)


def test_a_limit_for_what_cannot_leave_this_process() -> None:
    """A lambda stays here: its limit is looked at when it reports."""

    def slow(config: dict[str, Any], run: Any) -> float:
        time.sleep(0.05)
        run.report(1, loss=0.0)
        return 1.0

    result = tune(slow, SPACE, sampler="random", budget=1, limit=0.01)
    assert "ran longer than its limit" in str(result.history[0].failure)


@pytest.mark.parametrize("limit", [0, -1, "soon", "3 trials"])
def test_wrong_limits(limit: Any) -> None:
    """Refused before anything is trained."""
    with pytest.raises(ArgumentError, match="limit must be"):
        tune(square, SPACE, budget=1, limit=limit)


@pytest.mark.parametrize("scheduler", [SuccessiveHalving(), Hyperband(rounds=1)])
def test_schedulers_that_end_by_themselves_need_no_budget(scheduler: Any) -> None:
    """One group, or so many rounds, and the study is done."""
    result = tune(lambda c: c["x"], SPACE, sampler="random", scheduler=scheduler, steps=3)
    assert result.history.count("complete") >= 1
    assert "halved to the end" in result.reason
    assert not Hyperband().ends


class Crashing(Executor):
    """Loses every job after ten seconds of training."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    @property
    def slots(self) -> int:
        return 1

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def poll(self, timeout: float, report: Any) -> list[Ended]:
        job = self.jobs[-1]
        return [Ended(job.number, "lost", "the machine went away", job.seconds + 10.0)]

    def stop(self, number: int) -> None:
        raise AssertionError(number)


def test_a_crash_loop_uses_up_the_budget_of_time() -> None:
    """What was trained before a crash is spent, though it is lost."""
    executor = Crashing()
    result = tune(square, SPACE, sampler="random", budget="35s", tries=1000, executor=executor)
    assert [job.seconds for job in executor.jobs] == [0, 10, 20, 30]
    assert result.history.seconds == 40
    assert "budget of 35 s" in result.reason


def epochs(config: dict[str, Any], run: Any, diary: str = "", slow: float = 0.0) -> None:
    """What ``train`` does, in slow steps."""

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(run, name)

        def report(self, step: float, **values: float) -> None:
            time.sleep(slow)
            run.report(step, **values)

    train(config, Slow(), diary)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_whose_time_ran_out_goes_on_where_it_was(workers: int, tmp_path: Path) -> None:
    """The trial that was running is saved, and after an extension no step of it is trained twice."""
    diary, store = tmp_path / "diary", str(tmp_path / "s.db")
    call = functools.partial(
        tune,
        functools.partial(FunctionReference(__file__, "epochs"), diary=str(diary), slow=0.05),
        SPACE,
        sampler="random",
        steps=20,
        store=store,
        workers=workers,
    )
    first = call(budget="0.3s, 2 trials")
    assert first.history.count("waiting") >= 1
    assert first.history.count("stopped") == 0
    whole = call(budget="1h")
    assert whole.history.count("complete") == 2 == len(whole.history)
    steps = Counter(diary.read_text().splitlines())
    assert set(steps.values()) == {1}
    assert len(steps) == 40


def test_all_diverged() -> None:
    """Where every loss is NaN, the error says so and how many there are."""
    result = tune(lambda c: math.nan, SPACE, sampler="random", budget=3)
    assert {t.reason for t in result.history} == {"loss is NaN: diverged (ran to its end)"}
    with pytest.raises(StudyError, match=r"has a result yet\. 3 of 3 trials diverged: their loss was NaN"):
        result.best


def test_starts_are_trained_first_and_once(tmp_path: Path) -> None:
    """Known good configs come first; the same call again does not queue them again."""
    call = functools.partial(
        tune, square, SPACE, sampler="random", starts=[{"x": 0.25}, {"x": 0.0}], store=str(tmp_path / "s.db")
    )
    call(budget="3 trials")
    result = call(budget="5 trials")
    assert [t.config["x"] for t in result.history][:2] == [0.25, 0.0]
    assert [t.origin.by for t in result.history] == ["user", "user", "Random", "Random", "Random"]
    assert result.best.config == {"x": 0.0}


def test_goals_to_be_maximised() -> None:
    """Best is the largest; its value has its own sign."""
    result = tune(lambda c: 1 - c["x"] ** 2, SPACE, goal="max accuracy", sampler="random", budget=10)
    assert result.best.value == max(t.values["accuracy"] for t in result.history) <= 1


def test_several_goals() -> None:
    """All are recorded, and the first one decides what is best."""
    result = tune(
        lambda c: {"loss": c["x"] ** 2, "speed": -c["x"]}, SPACE, goal=["min loss", "max speed"],
        sampler="random", budget=8,
    )  # fmt: skip
    assert result.history.losses.shape == (8, 2)
    assert result.best.value == result.history.losses[:, 0].min()
    assert result.history.losses[:, 1].tolist() == [t.config["x"] for t in result.history]


def test_the_same_call_finishes_the_job(tmp_path: Path) -> None:
    """25 trials, then 50 in all, equal 50 at once; a smaller budget is refused; a third call does nothing."""
    call = functools.partial(tune, square, SPACE, sampler="random", seed=3)
    store = str(tmp_path / "s.db")
    call(budget="25 trials", store=store)
    halves = call(budget="50 trials", store=store)
    whole = call(budget="50 trials")
    assert [t.config for t in halves.history] == [t.config for t in whole.history]
    version = halves.history.version
    assert call(budget="50 trials", store=store).history.version == version
    assert call(store=store).history.version == version
    with pytest.raises(ArgumentError, match="less than that of the study"):
        call(budget="40 trials", store=store)


def test_a_study_goes_on_with_a_wider_space(tmp_path: Path) -> None:
    """Wider is fine, narrower is refused with the difference."""
    store = str(tmp_path / "s.db")
    tune(square, SPACE, sampler="random", budget="3 trials", store=store)
    wide = ft.Space({"x": ft.Float(-3, 3)})
    result = tune(square, wide, budget="30 trials", store=store)
    assert max(abs(t.config["x"]) for t in result.history) > 1
    assert len(result.history) == 30
    with pytest.raises(SpaceError, match=r"'x': low rises from -3.0 to -1.0"):
        tune(square, SPACE, store=store)


def test_the_summary_and_the_best_of_nothing() -> None:
    """A study whose trials all failed says why when asked for its best."""
    result = tune(lambda c: 1 / 0, SPACE, sampler="random", budget="2 trials")
    with pytest.raises(
        StudyError, match=r"No trial of 'study' has a result yet.*2 failures.*division by zero"
    ):
        result.best
    assert "no result" in repr(result)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, ArgumentError, "budget must limit the study"),
        ({"budget": 3, "workers": 0}, ArgumentError, "workers must be"),
        ({"budget": 3, "colour": "red"}, TypeError, "colour"),
        ({"budget": 3, "scheduler": "asha"}, ArgumentError, "needs steps"),
    ],
)
def test_wrong_calls(options: Any, error: type[Exception], says: str) -> None:
    """What cannot work is refused before anything is trained."""
    with pytest.raises(error, match=says):
        tune(square, SPACE, **options)


def test_what_is_no_function_is_refused(tmp_path: Path) -> None:
    """Before a store is touched."""
    store = tmp_path / "s.db"
    with pytest.raises(ArgumentTypeError, match="train must be a function"):
        tune(3, SPACE, budget=3, store=str(store))  # type: ignore[arg-type]
    assert not store.exists()


def test_a_lambda_cannot_be_sent_to_processes(tmp_path: Path) -> None:
    """It is said at once, with the remedy, before a store is touched."""
    store = tmp_path / "s.db"
    with pytest.raises(ArgumentError, match=r"cannot be sent to worker processes.*Remedy"):
        tune(lambda c: 1.0, SPACE, budget=3, workers=2, store=str(store))
    assert not store.exists()


def test_a_watcher_sees_every_change() -> None:
    """It is called with the study whenever a worker has got something to do, and at the end."""
    seen: list[int] = []
    tune(square, SPACE, sampler="random", budget=3, watch=lambda study: seen.append(study.history.version))
    assert seen == sorted(seen)
    assert {2, 4, 6, 7} <= set(seen)  # each start, and the last result


def test_the_python_that_users_import_stays_light() -> None:
    """``import foretune`` and a study in memory load none of the heavy packages."""
    code = (
        "import sys, foretune as ft\n"
        "ft.tune(lambda c: c['x'], ft.Space({'x': ft.Float(0, 1)}), sampler='random', budget=2)\n"
        "heavy = {'torch', 'scipy', 'ray', 'sqlalchemy', 'pandas', 'plotly', 'rich', 'typer'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


HALF = ft.Space(
    {"opt": ft.Choice(["sgd", "adam"]), "lr": ft.Float(0.0, 1.0), "momentum": ft.Float(0.0, 1.0)},
    when={"momentum": {"opt": ["sgd"]}},
)


@pytest.mark.parametrize(
    ("start", "fixed", "expected"),
    [
        ({"lr": 0.5}, {"opt": "adam"}, {"lr": 0.5, "opt": "adam"}),
        ({"momentum": 0.9}, None, {"momentum": 0.9, "opt": "sgd"}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_what_a_start_leaves_out_is_completed(
    start: dict[str, Any], fixed: Any, expected: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    """Held values come first, a parent makes active what is named, and the same call queues nothing twice."""

    def call(trials: int) -> Any:
        return tune(
            lambda c: c["lr"], HALF, sampler="random", seed=seed, starts=[start], fixed=fixed,
            budget=f"{trials} trials", store=str(tmp_path / "s.db"),
        )  # fmt: skip

    call(1)
    history = call(3).history
    assert expected.items() <= history[0].config.items()
    assert [t.origin.by for t in history].count("user") == 1


@pytest.mark.parametrize(
    ("starts", "error", "says"),
    [
        ({"lr": 0.5}, ArgumentTypeError, "starts must be a list of configs"),
        ([{"lr": 0.5}, {"lrr": 0.5}], ConfigError, r"starts\[1\].*'lrr'.*'lr'"),
    ],
)
def test_wrong_starts(starts: Any, error: type[Exception], says: str) -> None:
    """The argument is named, and which of the configs it is."""
    with pytest.raises(error, match=says):
        tune(lambda c: c["lr"], HALF, starts=starts, budget="1 trials")


def test_what_is_held_is_held_by_a_scheduler_that_makes_configs() -> None:
    """No child of a population changes what ``fixed`` holds; the others do change."""

    def train(config: dict[str, Any], run: Any) -> None:
        weight = torch.nn.Linear(config["width"], 1)
        run.track(model=weight)
        for step in range(run.start, run.until):
            run.report(step + 1, loss=config["lr"] + 1 / (step + 1))

    torch = pytest.importorskip("torch")
    history = tune(
        train, ft.Space({"lr": ft.Float(1e-3, 1.0, log=True), "width": ft.Int(1, 64)}), seed=0, steps=4,
        scheduler="population_based_training", fixed={"width": 16}, budget="12 trials",
    ).history  # fmt: skip
    assert {t.config["width"] for t in history} == {16}
    assert any("lr" in t.origin.reason and t.plan.continues is not None for t in history)
    assert history.count("failed") == 0
