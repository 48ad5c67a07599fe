"""A study goes on whatever its sampler does: it raises, proposes nonsense, or takes too long."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, ArgumentTypeError, MissingExtraError
from foretune.base.key import Key
from foretune.search import make
from foretune.search.random import Random
from foretune.search.sampler import Proposal, Sampler
from foretune.study.asking import AskCap
from foretune.study.result import summary
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

SPACE = ft.Space({"x": ft.Float(-1, 1), "k": ft.Choice(("a", "b"))})


def loss(config: Any) -> float:
    return float(config["x"] ** 2)


@dataclass(frozen=True)
class Broken(Sampler[int]):
    """Raises in ask, tell or nowhere, from the fifth trial on; proposes what is illegal, if told so."""

    how: str = "ask"
    error: type[Exception] = ValueError
    since: int = 4

    def init(self, problem: Problem) -> int:
        return 0

    def ask(self, problem: Problem, state: int, history: History, n: int, key: Key) -> list[Proposal]:
        if self.how == "ask" and len(history) >= self.since:
            raise self.error("no inverse exists")
        if self.how == "nonsense" and len(history) >= self.since:
            return [Proposal({"x": 7.0, "k": "a"}, "a guess")]
        return Random().ask(problem, None, history, n, key)

    def tell(self, problem: Problem, state: int, trial: Trial) -> int:
        if self.how == "tell" and trial.number == self.since:
            raise self.error("no such slot")
        return state + 1


@pytest.mark.parametrize(
    ("how", "words"), [("ask", "no inverse exists"), ("nonsense", "x must be"), ("tell", "no such slot")]
)
def test_a_sampler_that_raises_costs_no_trial(how: str, words: str) -> None:
    """Every trial is trained; the log has one note with the traceback; the draws say why they were drawn."""
    with pytest.warns(RuntimeWarning, match="Broken raised in") as seen:
        result = ft.tune(loss, SPACE, sampler=Broken(how), budget="12 trials")
    assert len(result.history) == result.history.count("complete") == 12
    assert len(seen) == 1
    notes = [e.data for e in result.study.store.read("study") if e.kind == "note"]
    assert len(notes) == 1
    assert result.study.notes == (notes[0]["reason"],)
    assert words in notes[0]["reason"]
    assert "Traceback" in notes[0]["detail"]
    drawn = [t.number for t in result.history if t.origin.by == "random"]
    assert drawn == ([] if how == "tell" else list(range(4, 12)))
    assert all("Broken raised" in result.history[i].origin.reason for i in drawn)


def test_the_fold_after_a_raise_is_that_of_the_live_study(tmp_path: Any) -> None:
    """A study whose sampler raised is read again without a second note, and goes on the same."""
    store = str(tmp_path / "s.db")
    with pytest.warns(RuntimeWarning):
        ft.tune(loss, SPACE, sampler=Broken("tell"), budget="8 trials", store=store)
    again = ft.Study(SPACE, sampler=Broken("tell"), store=store)
    assert again._asking.state == 7
    result = again.run(loss, budget="12 trials")
    assert sum(e.kind == "note" for e in result.study.store.read("study")) == 1


@pytest.mark.parametrize("error", [ArgumentError, MissingExtraError])
def test_what_the_user_can_mend_is_raised(error: type[Exception]) -> None:
    """A sampler that refuses the problem, or lacks its package, says so instead of being replaced."""
    with pytest.raises(error, match="no inverse"):
        ft.tune(loss, SPACE, sampler=Broken(error=error, since=0), budget="8 trials")


@dataclass(frozen=True)
class Slow(Sampler[None]):
    """Burns processor time in each ask."""

    tags: ClassVar[frozenset[str]] = frozenset({"independent"})

    seconds: float = 0.02

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        begun = time.process_time()
        while time.process_time() - begun < self.seconds:
            pass
        return Random().ask(problem, None, history, n, key)


def test_a_cap_spares_asks_and_says_so() -> None:
    """With a cap of a fifth of an ask's cost, at least four of five asks are spared; the log says which, and why."""
    with pytest.warns(RuntimeWarning, match="ask_cap") as seen:
        result = ft.tune(loss, SPACE, sampler=Slow(), budget="24 trials", ask_cap=0.004)
    assert len(seen) == 1
    starts = [e.data for e in result.study.store.read("study") if e.kind == "start"]
    asked = [i for i, data in enumerate(starts) if data["by"] == "Slow"]
    gaps = [b - a for a, b in itertools.pairwise(asked)]
    assert all(data["by"] == "cheap" for i, data in enumerate(starts) if i not in asked)
    assert all(gap == starts[a]["spare"] + 1 >= 5 for a, gap in zip(asked, gaps, strict=False))
    assert all("spared an ask of Slow" in d["why"] for d in starts if d["by"] == "cheap")


def test_what_is_spared_is_read_from_the_log(tmp_path: Any) -> None:
    """A study that is read again spares what the first one had left to spare, whatever an ask costs now."""
    store = str(tmp_path / "s.db")
    with pytest.warns(RuntimeWarning):
        ft.tune(loss, SPACE, sampler=Slow(0.05), budget="3 trials", store=store, ask_cap=0.001)
    first = ft.Study(store=store, sampler=Slow(0.0), ask_cap="off")
    left = first._asking.spare
    assert left >= 40
    result = first.run(loss, budget="6 trials")
    assert [t.origin.by for t in result.history] == ["Slow", *["cheap"] * 5]
    assert first._asking.spare == left - 3


def test_cheap_trials_are_not_bounded_unless_the_user_says_so() -> None:
    """The share of 1 % counts from ten seconds a trial on; a share that the user names counts always."""
    history = History(Problem(SPACE))
    assert AskCap().bound(history) == math.inf
    history.settled, history.seconds = [0, 1], 4.0
    assert AskCap().bound(history) == math.inf
    assert AskCap.parse("5%").bound(history) == pytest.approx(0.1)
    history.seconds = 200.0
    assert AskCap().bound(history) == pytest.approx(1.0)
    assert AskCap.parse("off").bound(history) == math.inf
    assert AskCap.parse("2 min").bound(history) == 120.0


def test_asks_are_measured(tmp_path: Any) -> None:
    """The log has the seconds of each ask, and a study sums them."""
    result = ft.tune(loss, SPACE, sampler=Slow(0.01), budget="5 trials")
    starts = [e.data["ask"] for e in result.study.store.read("study") if e.kind == "start"]
    assert len(starts) == 5
    assert min(starts) >= 0.01
    assert result.study.asks == (5, pytest.approx(sum(starts)))
    assert summary(result.study)["asks"]["count"] == 5
    assert summary(result.study)["notes"] == list(result.study.notes) == []


@pytest.mark.parametrize(
    ("cap", "error"),
    [(0, ArgumentError), ("-1%", ArgumentError), ("soon", ArgumentError), ([], ArgumentTypeError)],
)
def test_wrong_caps_are_refused(cap: Any, error: type[Exception]) -> None:
    """A cap that is no time and no share gives an error that names the argument."""
    with pytest.raises(error, match="ask_cap"):
        ft.Study(SPACE, ask_cap=cap)


def test_a_sampler_of_one_goal_says_so_where_there_are_several(tmp_path: Any) -> None:
    """One warning, once for the study and not again when it goes on; a sampler of all goals says nothing."""

    def call(sampler: str, trials: int) -> None:
        ft.tune(
            lambda c: {"loss": c["x"], "cost": -c["x"]}, ft.Space({"x": ft.Float(0, 1)}), sampler=sampler,
            goal=["min loss", "min cost"], budget=f"{trials} trials", store=str(tmp_path / "s.db"), name=sampler,
        )  # fmt: skip

    with pytest.warns(RuntimeWarning, match=r"first of 2 goals alone \(min loss\); auto") as seen:
        call("cma_es", 3)
    assert len(seen) == 1
    call("cma_es", 5)
    call("nsga2", 3)


@pytest.mark.parametrize("sampler", ["tpe", "differential_evolution", "deduplicated:tpe", "batched:tpe"])
def test_a_sampler_that_knows_nothing_of_constraints_is_led_by_them(sampler: str) -> None:
    """Losses fall towards where the bound is broken; yet of the last n = 20 of 60 trials k = 8 keep it.

    A fifth of the space keeps it: random draws would do so with probability 0.032, blind ones hardly ever.
    """
    name, _, inner = sampler.partition(":")
    result = ft.tune(
        lambda c: {"loss": c["x"] + c["y"], "mem": 1.63 - c["x"]},
        ft.Space({"x": ft.Float(0, 1), "y": ft.Float(0, 1)}),
        sampler=make(name, inner=inner) if inner else name, constraints={"mem": "<= 0.83"}, budget="60 trials",
        seed=0,
    )  # fmt: skip
    assert result.history.feasible[40:].sum() >= 8
