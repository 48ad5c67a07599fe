"""The study: for people who own their loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretune.base.clock import SimulatedClock
from foretune.base.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConfigError,
    SpaceError,
    StoreError,
    StudyError,
    UnknownNameError,
)
from foretune.schedule.scheduler import Done, Wait
from foretune.search.random import Random
from foretune.space import Choice, Constant, Fidelity, Float, Int, Space
from foretune.store.memory import MemoryStore
from foretune.store.sqlite import SqliteStore
from foretune.store.store import Store
from foretune.study.study import Study
from foretune.trial.event import STUDY, Event
from foretune.trial.trial import Trial

SPACE = Space({"x": Float(-1, 1)})


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Either kind of store."""
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "study.db")


def study(store: Store | None = None, **options: Any) -> Study:
    """A study with random search, unless told otherwise."""
    options = {"space": SPACE, "sampler": "random", "budget": "6 trials", **options}
    return Study(options.pop("space"), store=store, **options)


def following(s: Study) -> Trial:
    """The next trial, where there must be one."""
    trial = s.next()
    assert isinstance(trial, Trial), trial
    return trial


def drain(s: Study) -> str:
    """Train all trials of a study in one process; the loss is x squared plus 1/step."""
    while not isinstance(trial := s.next(), Done):
        assert isinstance(trial, Trial), trial
        for step in range(int(trial.step) + 1, int(trial.plan.until) + 1):
            if s.report(trial.number, step, loss=trial.config["x"] ** 2 + 1 / step).word != "go":
                break
        s.finish(trial.number)
    return trial.reason


def test_a_loop_of_ones_own(store: Store) -> None:
    """Next, finish, and at the end the reason; every trial has a config, a reason and an origin."""
    s = study(store, goal="min y")
    for number in range(6):
        trial = following(s)
        assert (trial.number, trial.state, trial.worker) == (number, "running", s.worker)
        assert trial.reason
        assert trial.origin == ("Random", "a uniform draw")
        done = s.finish(number, trial.config["x"] ** 2)
        assert (done.state, done.values) == ("complete", {"y": trial.config["x"] ** 2})
    assert s.next() == Done("all 6 trials have been trained")
    assert s.history.best.values["y"] == min(t.values["y"] for t in s.history)


def test_a_study_is_its_log(store: Store) -> None:
    """Opened again by its name alone, it has the same trials, sampler, scheduler and budget."""
    first = study(store, name="a", scheduler="asha", steps=9, seed=5, about={"command": "train"})
    drain(first)
    again = Study(store=store, name="a")
    assert list(again.history) == list(first.history)
    assert (again.sampler, again.scheduler, again.seed) == (first.sampler, first.scheduler, 5)
    assert (again.budget, again.problem, again.about["command"]) == (first.budget, first.problem, "train")
    assert isinstance(again.next(), Done)


def test_same_seed_same_trials() -> None:
    """Seeds decide; the store does not."""
    runs = [study(seed=seed) for seed in (1, 1, 2)]
    for s in runs:
        drain(s)
    configs = [[t.config for t in s.history] for s in runs]
    assert configs[0] == configs[1] != configs[2]


def test_unknown_studies() -> None:
    """A name that is not there, without a space: which are there, and which was meant."""
    store = MemoryStore()
    study(store, name="resnet")
    with pytest.raises(UnknownNameError, match=r"no study 'resnat' in memory.*Did you mean 'resnet'.*resnet"):
        Study(store=store, name="resnat")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"space": 3}, ArgumentTypeError, "space must be a Space or a mapping"),
        ({"goal": "loss"}, ArgumentError, "goal must read like"),
        ({"goal": []}, ArgumentError, "goal must name at least one"),
        ({"sampler": "rndom"}, UnknownNameError, "Did you mean 'random'"),
        ({"scheduler": "aha"}, UnknownNameError, "Did you mean 'asha'"),
        ({"scheduler": "asha"}, ArgumentError, "needs steps"),
        ({"steps": -3}, ArgumentError, "steps must be"),
        ({"steps": "many"}, ArgumentTypeError, "steps must be"),
        ({"budget": "40"}, ArgumentError, "budget must read like"),
        ({"seed": -1}, ArgumentError, "seed must be"),
        ({"seed": 1.5}, ArgumentTypeError, "seed must be"),
        ({"name": ""}, ArgumentError, "name must be"),
        ({"tries": -1}, ArgumentError, "tries must be"),
        ({"lease": 0}, ArgumentError, "lease must be"),
        ({"keep": "some"}, ArgumentError, "keep must be one of"),
    ],
)
def test_wrong_descriptions_are_refused_at_once(options: Any, error: type[Exception], says: str) -> None:
    """Nothing is recorded of a study that cannot be."""
    store = MemoryStore()
    with pytest.raises(error, match=says):
        study(store, **options)
    assert list(store.studies()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 1}, r"has seed 0, not 1"),
        ({"goal": "max loss"}, r"has the goal min loss, not max loss"),
        ({"goal": ["min loss", "min size"]}, r"has the goal min loss, not min loss, min size"),
        ({"steps": 8}, r"has steps 1 to 9, not 1 to 8: steps can become more"),
        ({"steps": Fidelity(9, 3)}, r"has steps 1 to 9, not 3 to 9"),
        ({"budget": "5 trials"}, r"less than that of the study 'study' \(6 trials\) in trials"),
        ({"budget": "2h"}, r"has no limit of seconds"),
    ],
)
def test_what_contradicts_the_stored_study_is_refused(store: Store, options: Any, says: str) -> None:
    """Another seed, goal or length, and a smaller budget, with the remedy; the log is not touched."""
    study(store, steps=9, goal="min loss")
    before = store.version("study")
    with pytest.raises(ArgumentError, match=says):
        study(store, **{"steps": 9, **options})
    assert store.version("study") == before


def test_steps_for_a_study_without_steps_are_refused() -> None:
    """A trial that is one run has no steps, not one step."""
    store = MemoryStore()
    study(store)
    with pytest.raises(ArgumentError, match="begun without steps, not with steps=1"):
        study(store, steps=1)


def test_a_wider_space_widens(store: Store) -> None:
    """New choices, wider ranges and new parameters with defaults; old trials are carried over."""
    first = study(store)
    trial = following(first)
    first.finish(trial.number, 1.0)
    wide = Space({"x": Float(-2, 2), "act": Choice(["relu", "gelu"], default="relu")})
    second = study(store, space=wide)
    assert second.history[0].config == {**trial.config, "act": "relu"}
    drain(second)
    assert {t.config["act"] for t in second.history} == {"relu", "gelu"}
    first.sync()
    assert first.problem.space == wide
    with pytest.raises(SpaceError, match=r"cannot change to this space.*'act' is gone.*'x': low rises"):
        study(store, space=SPACE)


def test_another_order_of_the_space_changes_nothing(store: Store) -> None:
    """A study is opened again with its parameters in another order: nothing is written, its own order stays."""
    one, other = {"a": Float(0, 1), "b": Int(1, 3)}, {"b": Int(1, 3), "a": Float(0, 1)}
    version = Study(Space(one), sampler="random", budget=3, store=store).history.version
    again = Study(Space(other), store=store)
    assert again.history.version == version
    assert list(again.problem.space) == ["a", "b"]


def test_an_algorithm_of_ones_own_must_be_passed_again() -> None:
    """What the store cannot describe is asked for."""

    class Mine(Random.__mro__[1]):  # type: ignore[misc]
        def ask(self, problem: Any, state: Any, history: Any, n: int, key: Any) -> Any:
            return Random().ask(problem, state, history, n, key)

    store = MemoryStore()
    following(study(store, sampler=Mine()))
    with pytest.raises(StudyError, match="begun with a sampler of its own, Mine: pass sampler"):
        Study(store=store)
    assert Study(store=store, sampler=Mine()).history.count("running") == 1


def test_more_budget_goes_on() -> None:
    """25 trials and then 50 in all are the 50 trials of one go."""
    store = MemoryStore()
    drain(study(store, budget="25 trials"))
    drain(study(store, budget="50 trials"))
    at_once = study(budget=50)
    drain(at_once)
    again = Study(store=store)
    assert [t.config for t in again.history] == [t.config for t in at_once.history]
    again.extend("51 trials")
    drain(again)
    assert len(again.history) == 51
    with pytest.raises(ArgumentError, match="can only grow"):
        again.extend("50 trials")


def test_steps_seconds_and_cost_are_budgets() -> None:
    """No plan is begun that would exceed the steps; seconds and cost break off what runs at its next report."""
    s = study(budget="25 steps", steps=9, scheduler="asha")
    assert "25 steps would be exceeded" in drain(s)
    assert s.history.spent["steps"] <= 25

    clock = SimulatedClock()
    s = study(budget="100s", steps=9, clock=clock, scheduler="full")
    trial = following(s)
    clock.sleep(99)
    assert s.report(trial.number, 1, loss=1.0).word == "go"
    clock.sleep(2)
    assert s.report(trial.number, 2, loss=1.0).word == "pause"
    assert s.finish(trial.number).state == "waiting"
    assert s.next() == Done("the budget of 1.67 min (seconds) is spent")

    s = study(budget="5 cost", steps=9, scheduler="full")
    a, b = following(s), following(s)
    assert s.report(a.number, 1, loss=1.0, cost=4.0).word == "go"
    assert s.report(b.number, 1, loss=1.0, cost=1.0).word == "pause"
    s.finish(b.number)
    assert isinstance(s.next(), Wait)
    s.finish(a.number, state="stopped", reason="enough")
    assert s.next() == Done("the budget of 5 (cost) is spent")


@pytest.mark.parametrize("scheduler", ["full", "asha", "successive_halving"])
@pytest.mark.parametrize("part", ["seconds", "cost"])
def test_what_a_budget_breaks_off_goes_on_after_an_extension(store: Store, scheduler: str, part: str) -> None:
    """With its old plan, before anything else, by whoever comes; no attempt is held against it."""
    clock = SimulatedClock()
    s = study(store, budget={"trials": 9, part: 10}, steps=27, clock=clock, scheduler=scheduler)
    while (trial := following(s)).plan.until == 1:
        s.report(trial.number, 1, loss=float(trial.number))
        s.finish(trial.number)
    settled = list(s.history.settled)
    clock.sleep(11)
    verdict = s.report(trial.number, 2, loss=1.0, cost=11.0)
    assert (verdict.word, "budget of 10" in verdict.reason) == ("pause", True)
    given_up = s.finish(trial.number)
    assert (given_up.state, given_up.reason, given_up.tries) == ("waiting", verdict.reason, 0)
    assert isinstance(s.next(), Done)
    assert s.history.settled == settled

    later = Study(store=store, clock=clock)
    later.extend({part: 100})
    assert later.budget.trials == 9
    again = following(later)
    assert (again.number, again.plan, again.step, again.seconds) == (trial.number, trial.plan, 2, 11)
    assert "budget of 10" in again.reason
    later.report(again.number, again.plan.until, loss=0.5)
    assert later.finish(again.number).state in ("paused", "complete")


def test_a_run_without_steps_is_stopped_when_a_budget_is_spent() -> None:
    """It cannot go on from anywhere; the steps that it reports are counted, though nobody had planned them."""
    clock = SimulatedClock()
    s = study(budget="10s", clock=clock)
    trial = following(s)
    clock.sleep(10)
    assert s.report(trial.number, 1, loss=1.0).word == "stop"
    assert s.finish(trial.number).state == "stopped"

    s = study(budget="250 steps")
    while isinstance(s.next(), Trial):
        number = len(s.history) - 1
        for step in range(1, 101):
            if s.report(number, step, loss=1.0).word != "go":
                break
        s.finish(number)
    assert s.history.spent["steps"] == 250
    assert [t.state for t in s.history] == ["complete", "complete", "stopped"]
    assert s.history[2].reason == "the budget of 250 steps is used up"


def test_seconds_of_lost_runs_are_spent() -> None:
    """Whether the driver tells them, the clock, or only the end of the lease of a worker that vanished."""
    clock, store = SimulatedClock(), MemoryStore()
    s = study(store, steps=9, clock=clock, budget="100s", lease=60.0)
    number = following(s).number
    clock.sleep(10)
    s.lose([number], "killed", seconds=7.0)
    assert s.history.seconds == s.history[number].seconds == 7
    assert following(s).number == number
    clock.sleep(10)
    s.lose([number], "interrupted", blameless=True)
    assert s.history.seconds == 17

    far = Study(store=store, clock=clock)
    far.worker = "elsewhere|1|1|x"
    assert following(far).number == number
    clock.sleep(86400)
    assert following(s).number == number
    assert s.history.seconds == 17 + 30  # half a lease: by then it would have renewed it
    clock.sleep(53)
    s.lose([number], "killed")
    assert s.next() == Done("the budget of 1.67 min (seconds) is spent")


def test_time_without_a_worker_is_not_spent() -> None:
    """A trial that has not reported is counted from when it was taken up last, not from its first start."""
    clock = SimulatedClock()
    s = study(steps=9, clock=clock, budget="100s, 2 trials", lease=60.0)
    number = following(s).number
    s.lose([number], "interrupted", blameless=True)
    clock.sleep(86400)
    assert following(s).number == number
    clock.sleep(40)
    assert following(s).number == 1
    clock.sleep(40)
    assert isinstance(s.next(), Wait)
    assert s.finish(number, 1.0, state="stopped", reason="enough").seconds == 80


def test_a_budget_keeps_what_is_not_named(store: Store) -> None:
    """40 trials in 2 h, extended to 80 trials, still end after 2 h; opened with a larger total, too."""
    s = study(store, budget="40 trials, 2h")
    s.extend("80 trials")
    assert (s.budget.trials, s.budget.seconds) == (80, 7200)
    again = study(store, budget="3h")
    assert (again.budget.trials, again.budget.seconds) == (80, 10800)
    before = store.version("study")
    again.extend("80 trials")
    assert store.version("study") == before
    with pytest.raises(ArgumentError, match=r"less than that of the study .* in seconds"):
        again.extend("1h")


@pytest.mark.parametrize("name", ["budget", "space", "seed", "schema", "goals"])
def test_what_the_study_writes_itself_cannot_be_overwritten(name: str) -> None:
    """Entries of ``about`` stand beside the description, never in its place."""
    store = MemoryStore()
    with pytest.raises(ArgumentError, match=f"about has the entry '{name}'.*choose another name"):
        study(store, about={"mine": 1, name: 3})
    with pytest.raises(ArgumentTypeError, match="about must be a mapping"):
        study(store, about=["train.py"])
    assert list(store.studies()) == []


def test_a_stored_algorithm_that_no_longer_is(store: Store) -> None:
    """A hyperparameter or a name that this version does not know is named, with what to do."""
    from foretune.schedule.asha import Asha

    data = dict(study(steps=9, scheduler="asha").about)
    for wrong in ({"options": {"factor": 3}}, {"name": "ashes"}):
        name = "-".join(wrong)
        described = {**data, "scheduler": {**data["scheduler"], **wrong}}
        store.append(name, [Event("create", STUDY, 0.0, described)], 0)
        with pytest.raises(StudyError, match=r"was begun with scheduler='ash.*Pass scheduler=\.\.\. again"):
            Study(store=store, name=name)
        assert Study(store=store, name=name, scheduler="asha").scheduler == Asha()


def test_numbers_of_numpy_are_numbers() -> None:
    """Any whole number names a trial."""
    s = study(steps=9)
    number = np.int64(following(s).number)
    assert s.report(number, 1, loss=1.0).word == "go"  # type: ignore[arg-type]
    assert s.finish(number, 0.5).values == {"loss": 0.5}  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="no trial"):
        s.finish(np.True_, 1.0)  # type: ignore[arg-type]


def test_queued_configs_without_a_place_are_named() -> None:
    """A group that is full takes no more: the end of the study says whom it leaves out."""
    from foretune.schedule.successive_halving import SuccessiveHalving

    s = study(steps=9, scheduler=SuccessiveHalving(trials=3), budget=None)
    for _ in range(3):
        trial = following(s)
        s.report(trial.number, trial.plan.until, loss=float(trial.number))
        s.finish(trial.number)
    s.add({"x": 0.0})
    assert "trial 3 is still queued" in drain(s)
    s.add({"x": 0.5})
    assert "trials 3, 4 are still queued" in drain(s)


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_a_diverged_trial_says_so(value: float, word: str) -> None:
    """In its reason, whether it ran to its end or to a comparison; a failure has its own reason."""
    s = study(steps=9, scheduler="asha", budget=2)
    trial = following(s)
    s.report(trial.number, 1, loss=value)
    assert s.finish(trial.number).reason.startswith(f"loss is {word}: diverged (reached step 1")
    s = study(steps=9)
    trial = following(s)
    assert s.finish(trial.number, value).reason.startswith(f"loss is {word}: diverged (reached step 9")
    s = study(budget=2)
    assert s.finish(following(s).number, value).reason == f"loss is {word}: diverged (ran to its end)"
    assert s.finish(following(s).number, 1.0).reason == "ran to its end"


def test_a_study_runs_by_itself() -> None:
    """``run`` takes a function or an executor, extends the budget, and asks for one where nothing else ends it."""
    from foretune.execute.serial import SerialExecutor
    from foretune.study.run import TrainTarget

    s = study(budget=None)
    with pytest.raises(ArgumentError, match="budget must limit the study"):
        s.run(lambda config: config["x"] ** 2)
    result = s.run(lambda config: config["x"] ** 2, budget="3 trials")
    assert (len(result.history), result.best.value) == (3, min(t.config["x"] ** 2 for t in s.history))
    seen: list[int] = []
    with SerialExecutor(TrainTarget(lambda config: 7.0)) as executor:
        again = s.run(None, executor, budget="5 trials", watch=lambda study: seen.append(len(study.history)))
    assert [t.values["loss"] for t in again.history][3:] == [7.0, 7.0]
    assert seen[-1] == 5


def test_time_between_plans_is_not_training() -> None:
    """A trial that lay paused for a day has not trained for a day."""
    clock = SimulatedClock()
    s = study(steps=9, scheduler="asha", clock=clock, budget="3 trials")
    for _ in range(3):
        trial = following(s)
        clock.sleep(10)
        s.report(trial.number, 1, loss=1.0 + trial.number)
        s.finish(trial.number)
    clock.sleep(86400)
    trial = following(s)
    assert trial.number == 0
    clock.sleep(5)
    s.report(0, 3, loss=0.5)
    assert s.history[0].seconds == 15


def test_reports_are_durable_and_repeatable(store: Store) -> None:
    """A report is in the store when it returns; a step that is known is not recorded again."""
    s = study(store, steps=9)
    trial = following(s)
    s.report(trial.number, np.int64(3), loss=np.float32(1.5), sem={"loss": 0.1})
    before = store.version("study")
    assert s.report(trial.number, 3, loss=7.0).word == "go"
    assert s.report(trial.number, 2, loss=7.0).word == "go"
    assert store.version("study") == before
    again = Study(store=store)
    assert (again.history[0].step, again.history[0].values, again.history[0].reports[0].sem) == (
        3, {"loss": 1.5}, {"loss": 0.1},
    )  # fmt: skip


def test_metrics_of_any_name() -> None:
    """A mapping may hold names that are arguments elsewhere."""
    s = study(steps=9)
    trial = following(s)
    s.record(trial.number, 1, {"loss": 1.0, "seconds": 5.0, "number": 2.0, "step": 3.0, "self": 4.0})
    assert s.history[0].values["seconds"] == 5.0


@pytest.mark.parametrize(
    ("number", "step", "values", "error", "says"),
    [
        (0, 1, {"loss": "low"}, ArgumentTypeError, "metric 'loss' must be a number"),
        (0, 1, {}, ArgumentError, "at least one metric"),
        (0, 0, {"loss": 1.0}, ArgumentError, "step must be"),
        (0, math.nan, {"loss": 1.0}, ArgumentError, "step must be"),
        (5, 1, {"loss": 1.0}, UnknownNameError, "no trial 5 in study 'study'; it has 1"),
        (True, 1, {"loss": 1.0}, UnknownNameError, "no trial True"),
        (-1, 1, {"loss": 1.0}, UnknownNameError, "no trial -1"),
    ],
)
def test_wrong_reports_are_refused(
    number: Any, step: Any, values: Any, error: type[Exception], says: str
) -> None:
    """A mistake in a report is told at once and nothing is recorded."""
    s = study(steps=9)
    following(s)
    before = s.store.version("study")
    with pytest.raises(error, match=says):
        s.report(number, step, **values)
    assert s.store.version("study") == before


def test_a_trial_pauses_where_trials_are_compared() -> None:
    """At a rung the verdict is "pause", in between "go", beyond the full length the trial is complete."""
    s = study(steps=9, scheduler="asha", budget="3 trials")
    trial = following(s)
    assert s.report(trial.number, 0.5, loss=2.0).word == "go"
    verdict = s.report(trial.number, 1, loss=2.0)
    assert (verdict.word, verdict.reason) == ("pause", "reached step 1, where trials are compared")
    paused = s.finish(trial.number)
    assert (paused.state, paused.reason) == ("paused", verdict.reason)

    s = study(steps=9)
    trial = following(s)
    assert s.report(trial.number, 9, loss=1.0).word == "go"
    assert s.report(trial.number, 10, loss=1.0).word == "pause"
    assert s.finish(trial.number).state == "complete"


def test_who_ends_early_by_itself_is_complete() -> None:
    """The last values count as the result of the full length."""
    s = study(steps=9)
    trial = following(s)
    s.report(trial.number, 4, loss=1.5)
    done = s.finish(trial.number)
    assert (done.state, done.step, done.values) == ("complete", 9, {"loss": 1.5})


def test_a_missing_metric_fails_with_a_suggestion() -> None:
    """The goal's name and the nearest reported one."""
    s = study(goal=["min loss", "max accuracy"])
    trial = s.finish(following(s).number, {"loss": 1.0, "acuracy": 0.5})
    assert trial.state == "failed"
    assert "without the goal's metric 'accuracy'" in str(trial.failure)
    assert "Did you mean 'acuracy'" in str(trial.failure)
    trial = s.finish(following(s).number)
    assert str(trial.failure).endswith("it reported nothing.")
    with pytest.raises(ArgumentError, match="lacks a result"):
        s.finish(following(s).number, state="complete")


def test_wrong_ends_are_refused() -> None:
    """A state that is none, a failure without a reason, a result that is no number."""
    s = study()
    number = following(s).number
    with pytest.raises(ArgumentError, match="state must be one of"):
        s.finish(number, state="done")
    with pytest.raises(ArgumentError, match="needs a reason"):
        s.finish(number, state="failed")
    with pytest.raises(ArgumentTypeError, match="metric 'loss' must be a number; got 'low'"):
        s.finish(number, "low")  # type: ignore[arg-type]
    assert s.history[number].state == "running"
    assert s.finish(number, 1.0).state == "complete"


def test_the_first_result_stands(store: Store) -> None:
    """A result that is delivered twice counts once."""
    s = study(store)
    number = following(s).number
    s.finish(number, 1.0)
    before = store.version("study")
    assert s.finish(number, 0.5).values == {"loss": 1.0}
    assert s.finish(number, state="failed", reason="late").state == "complete"
    assert store.version("study") == before


def test_nan_is_the_worst_result() -> None:
    """A diverged trial is complete, known, and never the best."""
    s = study(goal="max acc")
    s.finish(following(s).number, math.nan)
    s.finish(following(s).number, 0.5)
    assert s.history.losses.tolist() == [[math.inf], [-0.5]]
    assert s.history.best.number == 1


def test_queued_configs_come_first(store: Store) -> None:
    """In their order, within the budget, once each if asked so, with defaults filled in."""
    s = study(store, space=Space({"x": Float(-1, 1), "k": Constant(3)}), budget="4 trials")
    for x in (0.5, -0.5):
        s.add({"x": x, "k": 3}, "known to be good")
    other = Study(store=store)
    assert other.add({"x": 0.5, "k": 3}, once=True) == 0
    assert len(other.history) == 2
    trials = [following(s) for _ in range(4)]
    assert [t.config["x"] for t in trials[:2]] == [0.5, -0.5]
    assert [t.origin.by for t in trials] == ["user", "user", "Random", "Random"]
    assert "known to be good" in trials[0].reason
    with pytest.raises(ArgumentError, match="budget of 4 trials is used up"):
        s.add({"x": 0.1, "k": 3})
    with pytest.raises(ConfigError, match="x"):
        s.add({"x": 7, "k": 3})


def test_queued_configs_take_part_in_halving() -> None:
    """They are given the plan of a start, not the full length."""
    s = study(steps=9, scheduler="asha", budget="9 trials")
    s.add({"x": 0.0})
    trial = following(s)
    assert (trial.number, trial.plan.until) == (0, 1)
    s.report(0, 1, loss=0.0)
    s.finish(0)
    drain(s)
    assert s.history.count("complete") == 1


def test_an_exhausted_space_ends_a_study() -> None:
    """A grid that is used up is a reason to be done."""
    s = Study(Space({"a": Choice([1, 2, 3])}), sampler="grid", budget=None)
    for _ in range(3):
        s.finish(following(s).number, 1.0)
    assert isinstance(s.next(), Done)


def test_a_plan_is_foretold() -> None:
    """Rungs and their trials are known before anything runs."""
    plan = study(steps=9, scheduler="asha", budget=18).plan()
    assert [r.step for r in plan] == [1, 3, 9]
    assert plan[0].trials == 18 > plan[1].trials > plan[2].trials > 0


def test_a_log_without_a_beginning_is_damaged() -> None:
    """The doctor is named."""
    store = MemoryStore()
    store.append("study", [Event("note", STUDY, 0.0, {})], 0)
    with pytest.raises(StoreError, match=r"does not begin with its creation.*foretune doctor"):
        Study(SPACE, store=store)


def test_a_log_of_the_future_is_refused() -> None:
    """A newer schema asks for an upgrade."""
    store = MemoryStore()
    store.append("study", [Event("create", STUDY, 0.0, {"schema": 99, "foretune": "9.0"})], 0)
    with pytest.raises(StoreError, match=r"created by foretune 9\.0 with schema 99.*upgrade"):
        Study(store=store)


def test_two_workers_never_get_the_same_trial(store: Store) -> None:
    """Whoever loses a race decides again on what is new."""
    a, b = study(store), study(store)
    taken = [following(s).number for s in (a, b, a, b, b, a)]
    assert taken == [0, 1, 2, 3, 4, 5]
    assert isinstance(a.next(), Wait)
    for s, number in zip((a, b, a, b, b, a), taken, strict=True):
        s.finish(number, 1.0)
    assert isinstance(a.next(), Done)
    assert isinstance(b.next(), Done)


def test_checkpoints_outlive_their_trial_as_told(tmp_path: Path) -> None:
    """Of ended trials, by default, the best one's stays; of paused ones all do."""
    from foretune.study import checkpoints

    class State:
        def state_dict(self) -> dict[str, int]:
            return {}

        def load_state_dict(self, state: Any) -> None:
            raise AssertionError

    left = {}
    for keep in ("resumable", "best", "all"):
        s = study(SqliteStore(tmp_path / f"{keep}.db"), keep=keep, budget="4 trials", steps=9)
        for loss in (3.0, 1.0, 2.0):
            trial = following(s)
            checkpoints.save(s.checkpoints.folder(trial.number), 9, {"state": State()})
            s.finish(trial.number, loss)
        trial = following(s)
        checkpoints.save(s.checkpoints.folder(trial.number), 4, {"state": State()})
        s.report(trial.number, 4, loss=1.0)
        s.finish(trial.number, state="paused", reason="for now")
        left[keep] = sorted(int(p.name) for p in s.checkpoints.root.iterdir())
    assert left == {"resumable": [3], "best": [1, 3], "all": [0, 1, 2, 3]}
