"""Samplers around samplers: each does what its name says, whatever it is wrapped around."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, ArgumentTypeError
from foretune.search.batched import Batched
from foretune.search.deduplicated import Deduplicated
from foretune.search.differential_evolution import DifferentialEvolution
from foretune.search.fixed import Fixed, narrowed
from foretune.search.random import Random
from foretune.search.regularized_evolution import RegularizedEvolution
from foretune.search.sampler import Sampler
from foretune.search.starts import Starts
from foretune.search.wrapping import Table
from foretune.study.description import describe, rebuild
from foretune.testing.samplers import CONDITIONAL, SamplerSuite, Walk, _walked, problems
from foretune.trial.history import History
from foretune.trial.problem import Problem

SPACE = ft.Space(
    {
        "lr": ft.Float(1e-4, 1e-1, log=True),
        "wd": ft.Float(0, 1),
        "opt": ft.Choice(("sgd", "adam")),
        "m": ft.Float(0, 1),
    },
    when={"m": {"opt": ["sgd"]}},
)
EVOLUTION = RegularizedEvolution(population=8, sample=4)
DE = DifferentialEvolution(population=8)


def loss(config: Any) -> float:
    return float(config["wd"] + abs(config.get("m", 0.3) - 0.2))


class TestAroundFolds(SamplerSuite):
    """The public suite over wrappers around samplers with a state."""

    @pytest.fixture(
        params=[Batched(3, inner=EVOLUTION), Deduplicated(inner=DE)], ids=lambda s: type(s).__name__
    )
    def sampler(self, request: pytest.FixtureRequest) -> Sampler[Any]:
        return request.param


def test_fixed_values_are_held() -> None:
    """Every trial has the held value; the rest is searched; the reason names what is held."""
    result = ft.tune(loss, SPACE, sampler=Fixed({"wd": 0.5}, inner="random"), budget="12 trials")
    assert {t.config["wd"] for t in result.history} == {0.5}
    assert len({t.config["lr"] for t in result.history}) == 12
    assert all("held: wd 0.5" in t.origin.reason for t in result.history)


def test_fixing_a_parent_removes_what_it_switches_off() -> None:
    """With the optimizer held, its sibling's parameters are gone, and their children with them."""
    space = narrowed(CONDITIONAL, Table({"opt": "adam"}))
    assert list(space) == ["opt", "blocks", "drop"]
    assert list(narrowed(CONDITIONAL, Table({"nesterov": False}))) == list(CONDITIONAL)
    result = ft.tune(
        lambda c: c["blocks"], CONDITIONAL, sampler=Fixed({"opt": "sgd"}, inner=EVOLUTION), budget="30 trials"
    )
    assert all("momentum" in t.config for t in result.history)


def test_fixed_does_not_show_other_trials() -> None:
    """What was tried at another value of a held parameter does not enter: same proposals as without it."""
    problem = Problem(SPACE, budget_trials=40)
    plain, mixed = (
        Walk(Fixed({"wd": 0.5}, inner=EVOLUTION), problem),
        Walk(Fixed({"wd": 0.5}, inner=EVOLUTION), problem),
    )
    for config in ({"lr": 0.01, "wd": 0.1, "opt": "adam"}, {"lr": 0.02, "wd": 0.2, "opt": "adam"}):
        mixed.end(mixed.start(type(mixed.ask()[0])(config, "by hand")))
    assert mixed.state == plain.state == []
    assert [p.config for p in mixed.ask(3)] == [
        p.config for p in plain.sampler.ask(problem, [], History(problem), 3, problem.key.fold("ask", 2))
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"wdd": 1}, "Did you mean 'wd'"),
        ({"wd": 7}, "wd must be"),
        ({"opt": "adam", "m": 0.5}, "cannot be active"),
    ],
)
def test_wrong_fixed_values_are_refused(values: dict[str, Any], words: str) -> None:
    """A name or value that the space lacks stops the study before it begins."""
    with pytest.raises(ArgumentError, match=words):
        ft.tune(loss, SPACE, sampler=Fixed(values, inner="random"), budget="4 trials")


def test_starts_come_first() -> None:
    """Starts are tried in their order, partial ones completed; then the inner sampler goes on."""
    starts = [{"lr": 0.01, "wd": 0.2, "opt": "adam"}, {"opt": "sgd", "m": 0.9}]
    result = ft.tune(loss, SPACE, sampler=Starts(starts, inner="random"), budget="5 trials")
    first, second, third = (result.history[i] for i in range(3))
    assert first.config == starts[0]
    assert (second.config["opt"], second.config["m"]) == ("sgd", 0.9)
    assert "good start 2 of 2" in second.origin.reason
    assert third.origin.reason == "a uniform draw"


def test_starts_are_tried_once_with_many_workers() -> None:
    """Asked for three at once, two starts and one other proposal come back; once tried, none does."""
    problem = Problem(SPACE)
    sampler = Starts(
        [{"lr": 0.01, "wd": 0.2, "opt": "adam"}, {"lr": 0.02, "wd": 0.2, "opt": "adam"}], inner="random"
    )
    walk = Walk(sampler, problem)
    assert [("start" in p.reason) for p in walk.ask(3)] == [True, True, False]
    walk.start(walk.ask()[0])
    walk.start(walk.ask()[0])
    assert "start" not in walk.ask()[0].reason


def test_wrong_starts_are_refused() -> None:
    """A start that does not fit stops the study before it begins; no list is an error of type."""
    with pytest.raises(ArgumentError, match="does not fit the space"):
        ft.tune(loss, SPACE, sampler=Starts([{"lr": 5.0}], inner="random"), budget="4 trials")
    with pytest.raises(ArgumentTypeError, match="configs must be a list"):
        Starts({"lr": 5.0})  # type: ignore[arg-type]


class Repeating(Random.__mro__[1]):  # type: ignore[misc,name-defined]
    """Proposes the same few configs again and again."""

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Any) -> list[Any]:
        return Random().ask(problem, None, History(problem), n, problem.key.fold(len(history) % 3))


def test_no_config_is_tried_twice() -> None:
    """Around a sampler that repeats itself, thirty different configs are tried."""
    result = ft.tune(loss, SPACE, sampler=Deduplicated(inner=Repeating()), budget="30 trials")
    assert len({str(t.config) for t in result.history}) == 30


def test_a_finite_space_ends() -> None:
    """When all of it was tried, a deduplicated study is done within its budget."""
    space = ft.Space({"a": ft.Int(1, 3), "b": ft.Choice(("x", "y"))})
    result = ft.tune(lambda c: c["a"], space, sampler=Deduplicated(inner="random"), budget="30 trials")
    assert len(result.history) == 6
    assert "exhausted" in result.reason


def test_tolerance_keeps_configs_apart() -> None:
    """With a tolerance of 0.2 no two of the configs are nearer than that in every coordinate."""
    space = ft.Space({"x": ft.Float(0, 1)})
    result = ft.tune(lambda c: c["x"], space, sampler=Deduplicated(0.2, inner="random"), budget="30 trials")
    found = sorted(t.config["x"] for t in result.history)
    assert 3 <= len(found) <= 5
    assert all(b - a > 0.2 for a, b in itertools.pairwise(found))


def test_a_batch_does_not_see_its_own_results() -> None:
    """The proposals of a batch are the same whether its trials have ended or not; the next batch differs."""
    problem = Problem(SPACE, budget_trials=40)
    sampler = Batched(4, inner=RegularizedEvolution(population=8, sample=4))
    quick, slow = Walk(sampler, problem, partial=0), Walk(sampler, problem, partial=0)
    for batch in range(5):
        numbers = []
        for _ in range(4):
            quick.end(quick.start(quick.ask()[0]))
            numbers.append(slow.start(slow.ask()[0]))
        for number in numbers:
            slow.end(number)
        assert [t.config for t in quick.history] == [t.config for t in slow.history], batch


@pytest.mark.parametrize(
    "sampler",
    [
        Fixed({"wd": 0.5}, inner=Starts([{"lr": 0.01}], inner=DE)),
        Batched(3, inner=Deduplicated(0.1, inner="sobol")),
    ],
    ids=["fixed", "batched"],
)
def test_wrappers_are_rebuilt_from_the_log(sampler: Any) -> None:
    """The first event of a study describes nested samplers; what is rebuilt from it is equal."""
    import json

    said = json.loads(json.dumps(describe("foretune.search", sampler)))
    assert rebuild("foretune.search", "sampler", said) == sampler


def test_wrapping_an_own_sampler_is_recorded_as_own() -> None:
    """A wrapper around a sampler that is not registered must be given again, like that sampler."""
    assert describe("foretune.search", Batched(inner=Repeating()))["name"] is None


def test_the_walks_reached_the_inner_state() -> None:
    """The suite over folds is no walk through first populations only: evolution proposes mutations in it."""
    walk = _walked(Batched(3, inner=EVOLUTION), len(list(problems(EVOLUTION))) - 1, 16)
    assert any("mutation of trial" in p.reason for p in walk.proposals)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("gp", {"aquisition": "lcb"}, "sampler 'gp' has no option 'aquisition'. Did you mean 'acquisition'"),
        ("sobol", {"foo": 1}, "sampler 'sobol' has no option 'foo'"),
        ("gp_pareto", {"reference": 3}, "reference must be a list of numbers, one a goal; got 3"),
        ("greedy_coordinate", {"order": "lr"}, "order must be a list of names of parameters; got 'lr'"),
        ("map_elites", {"descriptors": 2}, "descriptors must be a list of 1 to 4 names"),
        ("starts", {"configs": {"lr": 1}}, "configs must be a list of configs"),
        ("grid", {"shuffle": "no"}, "shuffle must be true or false"),
        ("hier_mab", {"repeat": 0}, "repeat must be true or false"),
        ("user_prior", {"prior": 3}, "prior must map names of parameters to values; got 3.$"),
        ("gp:acquisition=lcb", {}, r"a name alone here; got 'gp:acquisition=lcb'.*make\('gp', ...\)"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], says: str) -> None:
    """The sentence names the option and what is accepted, not a Python class."""
    with pytest.raises((ArgumentError, ArgumentTypeError), match=says):
        ft.search.make(name, **options)
