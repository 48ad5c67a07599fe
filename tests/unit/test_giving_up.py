"""A study whose first trials all fail alike gives up, says so, and goes on when it is taken up again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, StudyError
from foretune.schedule.scheduler import Done, Wait
from foretune.trial.trial import Trial

SPACE = ft.Space({"x": ft.Float(0, 1)})


def broken(config: Mapping[str, Any]) -> float:
    raise RuntimeError(f"no data at {hex(id(config))} for {config['x']:.3g}")


def tuned(train: Callable[..., Any], **options: Any) -> ft.Result:
    return ft.tune(train, SPACE, sampler="random", **{"budget": 40, **options})


def running(study: ft.Study) -> Trial:
    """The trial that the study starts now."""
    action = study.next()
    assert isinstance(action, Trial)
    return action


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"goal": "min los"}, r"goal's metric 'los': it reported loss\. Did you mean 'loss'\?.*goal that it reports"),
        ({"constraints": "memory <= 3"}, r"'memory', which is constrained.*it reported loss.*without that constraint"),
    ],
    ids=["goal", "constraint"],
)  # fmt: skip
def test_a_metric_that_is_never_reported(options: Any, says: str) -> None:
    """Three trials suffice; the reason, the error and the log name the metric, what there was, and the remedy."""
    result = tuned(lambda config: {"loss": 1.0}, **options)
    assert len(result.history) == result.history.count("failed") == 3
    assert re.search(says, result.reason)
    assert list(result.study.notes) == [result.reason]
    with pytest.raises(StudyError, match=says):
        result.best


def test_failures_that_are_alike() -> None:
    """Ten failures that differ in numbers and addresses alone end a study."""
    result = tuned(broken)
    assert len(result.history) == 10
    assert result.reason.startswith(
        "gave up, for the first 10 trials failed alike and none has a result: Runtime"
    )


@pytest.mark.parametrize(("give_up", "trials"), [(0, 30), (1, 1), (4, 4), (50, 30)])
def test_how_many_is_an_option(give_up: int, trials: int) -> None:
    """``give_up`` says how many; 0 trains the whole budget."""
    assert len(tuned(broken, give_up=give_up, budget=30).history) == trials


def test_an_option_out_of_range_is_refused() -> None:
    """A negative number names the argument."""
    with pytest.raises(ArgumentError, match="give_up"):
        tuned(broken, give_up=-1)


def test_the_same_call_goes_on_after_a_mend(tmp_path: Path) -> None:
    """What was recorded stays; the mended function uses up what is left of the budget."""
    store = str(tmp_path / "study.db")
    assert len(tuned(broken, store=store).history) == 10
    again = tuned(broken, store=store)
    assert len(again.history) == 20
    assert "another 10 trials failed alike" in again.reason
    mended = tuned(lambda config: config["x"], store=store)
    assert (mended.history.count("failed"), mended.history.count("complete")) == (20, 20)


def test_an_open_study_goes_on_after_a_mend() -> None:
    """The study object of a notebook can be run again, with or without a larger budget."""
    study = ft.Study(SPACE, sampler="random", budget=12)
    assert study.run(broken).reason.startswith("gave up")
    assert study.run(lambda config: config["x"]).history.count("complete") == 2
    study = ft.Study(SPACE, sampler="random", budget=12)
    study.run(broken)
    study.extend("20 trials")
    assert isinstance(study.next(), Trial)


def test_what_the_study_was_begun_with_holds_for_all_its_workers(tmp_path: Path) -> None:
    """The option is stored: who joins need not say it again."""
    store = str(tmp_path / "study.db")
    ft.Study(SPACE, sampler="random", budget=30, store=store, give_up=2)
    assert len(ft.Study(store=store).run(broken).history) == 2
    assert len(ft.Study(store=store, give_up=0).run(broken).history) == 30


@pytest.mark.parametrize("good", [0, 9])
def test_one_result_is_enough_to_go_on(good: int) -> None:
    """A study with any result among its first trials uses its whole budget."""

    def train(config: Mapping[str, Any], run: Any) -> float:
        return 1.0 if run.number == good else broken(config)

    result = tuned(train)
    assert len(result.history) == 40
    assert result.history.count("complete") == 1


def test_failures_that_differ_do_not_count() -> None:
    """Two sentences in turn are not one failure."""

    def train(config: Mapping[str, Any], run: Any) -> float:
        raise RuntimeError("no data" if run.number % 2 else "no disk")

    assert len(tuned(train).history) == 40


def test_others_that_run_are_waited_for() -> None:
    """Nothing is started while the last trials run; one that succeeds brings the study back."""
    study = ft.Study(SPACE, sampler="random", budget=20, give_up=2)
    numbers = [running(study).number for _ in range(3)]
    for number in numbers[:2]:
        study.finish(number, state="failed", reason="no data")
    waits = study.next()
    assert isinstance(waits, Wait)
    assert "1 trials are still running" in waits.reason
    study.finish(numbers[2], 0.5)
    assert isinstance(study.next(), Trial)


def test_who_has_come_further_keeps_a_study_going() -> None:
    """A running trial beyond the step at which the others failed may succeed: meanwhile others are started."""
    study = ft.Study(SPACE, sampler="random", budget=20, steps=9, give_up=2)
    first, second, third = (running(study).number for _ in range(3))
    study.report(first, 1, loss=1.0)
    study.report(third, 2, loss=1.0)
    for number in (first, second):
        study.finish(number, state="failed", reason="no data")
    running(study)


def test_a_trial_that_was_given_up_is_finished_first() -> None:
    """What waits to be taken up again is, before the study gives up."""
    study = ft.Study(SPACE, sampler="random", budget=20, give_up=2)
    numbers = [running(study).number for _ in range(3)]
    for number in numbers[:2]:
        study.finish(number, state="failed", reason="no data")
    study.lose([numbers[2]], "interrupted", blameless=True)
    assert running(study).number == numbers[2]
    study.finish(numbers[2], state="failed", reason="no data")
    assert isinstance(study.next(), Done)


def test_all_workers_give_up(tmp_path: Path) -> None:
    """Two holders of one study come to it by themselves; the log gets one note."""
    store = str(tmp_path / "study.db")
    one = ft.Study(SPACE, sampler="random", budget=20, store=store, give_up=2)
    two = ft.Study(store=store)
    for study in (one, two):
        study.finish(running(study).number, state="failed", reason="no data")
    ends = [study.next() for study in (one, two, one)]
    assert all(isinstance(end, Done) and end.reason.startswith("gave up") for end in ends)
    assert len(two.notes) == 1
    assert sum(e.kind == "note" for e in two.store.read("study")) == 1


def test_the_command_line_says_it(cli: Any) -> None:
    """``foretune tune`` ends with the reason and code 4; ``show`` repeats it; ``--give-up 0`` goes on."""
    words = (
        "tune",
        "function.py:broken",
        "--space",
        "space.toml",
        "--sampler",
        "random",
        "--budget",
        "12 trials",
    )
    ran = cli(*words)
    assert ran.code == 4
    assert "gave up, for the first 10 trials failed alike" in " ".join(ran.out.split())
    assert "gave up" in cli("show", "study.db:study").out
    assert cli(*words, "--give-up", "0", "--json", "--quiet").json["trials"]["failed"] == 12
