"""The conformance suite of samplers: each law of the interface, on spaces of every kind.

A subclass with a fixture ``sampler`` inherits the tests:

    class TestMine(SamplerSuite):
        @pytest.fixture
        def sampler(self):
            return Mine(population=8)

What a sampler's tags promise decides which spaces it is tried on; its name is never read. Each test
can be called as a function, ``SamplerSuite().test_proposals_are_legal(Mine())``: so are its negative
controls made.
The file is long because the suite is one class, which users inherit whole.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import functools
import json
import math
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from foretune.base.key import Key
from foretune.search.distinct import signature, whole
from foretune.search.feasible import shown, told
from foretune.search.sampler import Proposal, Sampler
from foretune.space.domain import Choice, Constant, Float, Int, Simplex
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.trial.constraint import Constraint
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["SamplerSuite", "Walk", "problems"]

FLOATS = Space({"x": Float(0.0, 1.0), "lr": Float(1e-5, 1e-1, log=True)})
MIXED = Space(
    {
        "lr": Float(1e-4, 1e-1, log=True),
        "layers": Int(1, 4),
        "width": Int(16, 4096, log=True),
        "act": Choice(("relu", "gelu", None, True, 1.5)),
        "seed": Constant("a"),
    }
)
CONDITIONAL = Space(
    {
        "opt": Choice(("sgd", "adam")),
        "momentum": Float(0.0, 1.0),
        "nesterov": Choice((True, False)),
        "dampening": Float(0.0, 0.5),
        "blocks": Int(1, 3),
        "drop": Float(0.0, 0.9),
    },
    when={
        "momentum": {"opt": ["sgd"]},
        "nesterov": {"opt": ["sgd"]},
        "dampening": {"nesterov": [False]},
        "drop": {"blocks": [2, 3], "opt": ["sgd", "adam"]},
    },
)
MIXTURE = Space({"mix": Simplex(("web", "code", "books")), "lr": Float(1e-4, 1e-1, log=True)})
SMALL = Space({"a": Int(1, 3), "b": Choice(("x", "y"))})  # six configs
FIXED = Space({"only": Constant(3)})


def problems(sampler: Sampler[Any]) -> Iterator[Problem]:
    """Yield the problems that a sampler's tags say it can take."""
    spaces = [FLOATS]
    if "mixed" in sampler.tags:
        spaces += [MIXED, SMALL]
    if {"mixed", "conditional"} <= sampler.tags:
        spaces.append(CONDITIONAL)
    if "simplex" in sampler.tags:
        spaces.append(MIXTURE)
    for i, space in enumerate(spaces):
        yield Problem(space, (Goal("loss"),), Fidelity(9), Key.of(i), budget_trials=40)


def loss_of(space: Space, config: Mapping[str, Any]) -> float:
    """A smooth loss that every parameter enters."""
    row = np.nan_to_num(space.encode([config])[0], nan=0.4)
    return float(((row - 0.3) ** 2).sum())


def distance(space: Space, config: Mapping[str, Any]) -> Mapping[str, float]:
    """How far a config is from a point of the unit cube where all is 0.75."""
    return {"distance": float(np.linalg.norm(space.encode([config])[0] - 0.75))}


def two_wells(space: Space, config: Mapping[str, Any]) -> float:
    """A loss with a minimum there, and a deeper one far away."""
    row = space.encode([config])[0]
    return min(distance(space, config)["distance"] ** 2, float(((row - 0.2) ** 2).sum()) - 0.3)


@dataclasses.dataclass
class Walk:
    """A small engine: starts, reports and ends trials as events, and folds the sampler's state.

    Attributes:
        failing: every how many trials one fails (0: none); partial: every how many one pauses.
        objective: the loss of a config; further: other metrics that trials report.
    """

    sampler: Sampler[Any]
    problem: Problem
    failing: int = 5
    partial: int = 4
    objective: Callable[[Space, Mapping[str, Any]], float] = loss_of
    further: Callable[[Space, Mapping[str, Any]], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        self.events: list[Event] = []
        self.history = History(self.problem)
        self.state = self.sampler.init(self.problem)
        self.proposals: list[Proposal] = []

    def ask(self, n: int = 1, state: Any = None) -> list[Proposal]:
        key = self.problem.key.fold("ask", len(self.history))
        state = self.state if state is None else state
        return self.sampler.ask(self.problem, state, shown(self.sampler, self.history), n, key)

    def log(self, *events: Event) -> None:
        def settle(trial: Any) -> None:
            seen = told(self.sampler, self.problem, trial)
            self.state = self.sampler.tell(self.problem, self.state, seen)

        self.events += events
        self.history.apply(events, settle)

    def start(self, proposal: Proposal, until: float = 9) -> int:
        number = len(self.history)
        data = {"config": dict(proposal.config), "plan": [until], "by": "suite", "why": proposal.reason}
        self.proposals.append(proposal)
        self.log(Event("start", number, 0.0, {**data, "reason": "a free worker"}))
        return number

    def end(self, number: int) -> None:
        """Report and settle a trial: complete, failed, diverged, or paused part of the way."""
        config = self.history[number].config
        loss = self.objective(self.problem.space, config)
        more = dict(self.further(self.problem.space, config)) if self.further else {}
        sign, metric = self.problem.goal.sign, self.problem.goal.metric
        value, early = sign * loss, sign * (loss + 0.5)
        if self.failing and number % self.failing == 1:
            self.log(Event("fail", number, 1.0, {"reason": "it raised"}))
        elif self.failing and number % self.failing == 3:
            self.log(Event("report", number, 1.0, {"step": 9, "values": {metric: "NaN", **more}}))
            self.log(Event("complete", number, 1.0, {"reason": "at its full length"}))
        elif self.partial and number % self.partial == 2:
            self.log(Event("report", number, 1.0, {"step": 1, "values": {metric: early, **more}}))
            self.log(Event("pause", number, 1.0, {"reason": "waits for a promotion"}))
        else:
            self.log(Event("report", number, 1.0, {"step": 1, "values": {metric: early, **more}}))
            self.log(Event("report", number, 1.0, {"step": 9, "values": {metric: value, **more}}))
            self.log(Event("complete", number, 1.0, {"reason": "at its full length"}))

    def replay(self) -> Walk:
        """Return a walk of its own that stands where this one stands, folded anew from the log."""
        other = dataclasses.replace(self)
        other.log(*self.events)
        other.proposals = list(self.proposals)
        return other

    def promote(self) -> None:
        """Resume the first paused trial and take it to its end, so that it settles twice."""
        for number in self.history.numbers("paused")[:1]:
            loss = self.objective(self.problem.space, self.history[number].config)
            value = loss * self.problem.goal.sign
            self.log(Event("resume", number, 2.0, {"plan": [9], "reason": "promoted"}))
            self.log(Event("report", number, 2.0, {"step": 9, "values": {self.problem.goal.metric: value}}))
            self.log(Event("complete", number, 2.0, {"reason": "at its full length"}))

    def go(self, trials: int, workers: int = 1) -> Walk:
        """Run ``trials`` trials with ``workers`` of them in flight; stop early when nothing is proposed."""
        running: list[int] = []
        for t in range(trials):
            found = self.ask()
            if not found and running:
                self.end(running.pop(0))
                found = self.ask()
            if not found:
                break
            running.append(self.start(found[0]))
            if len(running) >= workers:
                self.end(running.pop(0))
            if t % 7 == 6:
                self.promote()
        for number in running:
            self.end(number)
        return self


def configs(proposals: list[Proposal]) -> list[dict[str, Any]]:
    return [dict(p.config) for p in proposals]


@functools.lru_cache(maxsize=64)
def _walked(sampler: Sampler[Any], which: int, trials: int) -> Walk:
    return Walk(sampler, list(problems(sampler))[which]).go(trials, workers=3)


def walked(sampler: Sampler[Any], trials: int) -> Iterator[Walk]:
    """Yield a copy of a walk on each problem; walks are shared between tests, for they are costly."""
    for which in range(len(list(problems(sampler)))):
        yield _walked(sampler, which, trials).replay()


_CHILD = """
import base64, json, pickle, sys
sampler, problem, events, n, state = pickle.loads(base64.b64decode(sys.stdin.read()))
from foretune.trial.history import History
found = sampler.ask(problem, state, History(problem, events), n, problem.key.fold("elsewhere"))
print(json.dumps([[dict(p.config), p.reason] for p in found]))
"""


class SamplerSuite:
    """The laws that stand in the docstring of ``Sampler``; give a fixture ``sampler``."""

    TRIALS = 16  # long enough for a model or a population of the default size to be consulted

    @pytest.fixture
    def sampler(self) -> Sampler[Any]:
        """The sampler under test."""
        raise NotImplementedError("Give the suite a fixture `sampler` that returns the sampler under test.")

    def test_description_is_frozen(self, sampler: Sampler[Any]) -> None:
        """A sampler is a frozen dataclass: equal hyperparameters, equal samplers."""
        assert dataclasses.is_dataclass(sampler)
        assert sampler == dataclasses.replace(sampler)
        assert hash(sampler) == hash(dataclasses.replace(sampler))
        for field in dataclasses.fields(sampler):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(sampler, field.name, None)

    def test_same_arguments_same_proposals(self, sampler: Sampler[Any]) -> None:
        """Asking twice gives the same, whatever the global generators hold, and changes nothing."""
        for walk in walked(sampler, self.TRIALS):
            version, state = walk.history.version, copy.deepcopy(walk.state)
            saved = random.getstate(), np.random.get_state()
            try:
                answers = []
                for seed in (1, 2):
                    random.seed(seed)
                    np.random.seed(seed)
                    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
                    answers.append(walk.ask(2))
                    after = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
                    assert before == after, "ask has drawn from a global generator"
            finally:
                random.setstate(saved[0])
                np.random.set_state(saved[1])
            assert answers[0] == answers[1], "the same arguments gave different proposals"
            assert walk.history.version == version, "ask has changed the history"
            assert walk.state == state, "ask has changed the state"

    def test_same_proposals_in_another_process(self, sampler: Sampler[Any]) -> None:
        """A fresh process with another hash seed proposes the same."""
        if type(sampler).__module__ not in sys.modules or not _importable(type(sampler).__module__):
            pytest.skip("the sampler's module cannot be imported by a fresh process")
        walk = list(walked(sampler, self.TRIALS))[-1]
        here = walk.sampler.ask(walk.problem, walk.state, walk.history, 2, walk.problem.key.fold("elsewhere"))
        sent = base64.b64encode(pickle.dumps((sampler, walk.problem, walk.events, 2, walk.state))).decode()
        ran = subprocess.run(
            [sys.executable, "-c", _CHILD], input=sent, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": "77"},
        )  # fmt: skip
        there = json.loads(ran.stdout)
        assert there == json.loads(json.dumps([[dict(p.config), p.reason] for p in here]))

    def test_proposals_are_legal(self, sampler: Sampler[Any]) -> None:
        """Each proposal passes the space's check unchanged, through failures, divergence and pauses."""
        for walk in walked(sampler, self.TRIALS):
            for proposal in walk.proposals:
                config = dict(proposal.config)
                assert walk.problem.space.check(config) == config

    def test_proposals_carry_a_reason(self, sampler: Sampler[Any]) -> None:
        """Each proposal says in words why it was made."""
        for walk in walked(sampler, self.TRIALS):
            assert all(isinstance(p.reason, str) and p.reason.strip() for p in walk.proposals)

    @pytest.mark.parametrize("n", [1, 5])
    def test_n_distinct_proposals_come_back(self, sampler: Sampler[Any], n: int) -> None:
        """``n`` different proposals come back, early and late; fewer only from too small a space."""
        for walk in walked(sampler, self.TRIALS):
            early = Walk(sampler, walk.problem).ask(n)
            for found, known in ((early, 0), (walk.ask(n), len(walk.history))):
                assert len({signature(p.config) for p in found}) == len(found)
                everything = whole(walk.problem.space)
                if "exhaustible" not in sampler.tags:
                    possible = math.inf if everything is None else len(everything)
                    if "once" in sampler.tags and everything is not None and known:
                        possible -= len({signature(t.config) for t in walk.history})
                    assert len(found) == min(n, possible)
                elif known == 0:
                    assert found

    def test_state_is_a_fold_that_survives_json(self, sampler: Sampler[Any]) -> None:
        """Folding ``tell`` over the log again gives the live state, and its JSON copy proposes the same."""
        for which, walk in enumerate(walked(sampler, self.TRIALS)):
            live = _walked(sampler, which, self.TRIALS)
            assert walk.state == live.state, "folding the log gives another state than the live one"
            copied = json.loads(json.dumps(walk.state))
            assert walk.ask(2, state=copied) == walk.ask(2)

    def test_pending_trials_repel(self, sampler: Sampler[Any]) -> None:
        """With several trials running, the next proposals differ from each of them."""
        for walk in walked(sampler, self.TRIALS):
            everything = whole(walk.problem.space)
            room = 5 if everything is None else min(5, len(everything) - 1)
            for fresh in (Walk(sampler, walk.problem), walk):
                for _ in range(room):
                    running = [fresh.history[i].config for i in fresh.history.pending]
                    found = fresh.ask()
                    marks = {signature(c) for c in running}
                    assert all(signature(p.config) not in marks for p in found)
                    if found:
                        fresh.start(found[0])

    def test_a_small_space_is_used_up(self, sampler: Sampler[Any]) -> None:
        """Of six configs all six are tried before any is tried twice; with all pending, none is proposed."""
        if "mixed" not in sampler.tags:
            pytest.skip("the sampler does not take discrete spaces")
        walk = Walk(sampler, Problem(SMALL, steps=Fidelity(9), key=Key.of(5)), failing=4)
        for _ in range(6):
            walk.end(walk.start(walk.ask()[0]))
        assert len({signature(t.config) for t in walk.history}) == 6
        full = Walk(sampler, walk.problem)
        while len(full.history) < 6:
            full.start(full.ask()[0])
        assert full.ask() == []

    def test_all_failures_are_survived(self, sampler: Sampler[Any]) -> None:
        """When every trial has failed, legal configs that were not tried are still proposed."""
        for problem in problems(sampler):
            walk = Walk(sampler, problem, failing=1)
            walk.end = lambda number, w=walk: w.log(Event("fail", number, 1.0, {"reason": "it raised"}))  # type: ignore[method-assign,misc]
            room = 12 if whole(problem.space) is None else 5
            walk.go(room)
            assert len({signature(t.config) for t in walk.history}) == len(walk.history)
            for proposal in walk.ask(1):
                assert problem.space.check(dict(proposal.config)) == dict(proposal.config)

    def test_a_constant_loss_is_survived(self, sampler: Sampler[Any]) -> None:
        """A function that says nothing leads to legal, distinct configs, not to an error."""
        problem = Problem(FLOATS, steps=Fidelity(9), key=Key.of(8))
        walk = Walk(sampler, problem, objective=lambda s, c: 1.0).go(14)
        assert len({signature(t.config) for t in walk.history}) == len(walk.history) > 0

    def test_direction_is_normalised(self, sampler: Sampler[Any]) -> None:
        """Maximising the negative proposes what minimising does."""
        low = Walk(sampler, Problem(FLOATS, (Goal("loss"),), Fidelity(9), Key.of(3))).go(14)
        high = Walk(sampler, Problem(FLOATS, (Goal("score", "max"),), Fidelity(9), Key.of(3))).go(14)
        assert configs(low.proposals) == configs(high.proposals)

    def test_constraints_are_learned(self, sampler: Sampler[Any]) -> None:
        """What learns goes where constraints are kept, though the loss is less elsewhere.

        After 30 uniform trials k = 6 of the next n = 12 keep a bound that 20 % of the space keeps. A sampler no
        better than random does so with probability 0.019.
        """
        if "learns" not in sampler.tags:
            pytest.skip("the sampler does not claim to learn")
        bound = (Constraint("distance", "<=", 0.25),)
        problem = Problem(FLOATS, steps=Fidelity(9), key=Key.of(7), budget_trials=42, constraints=bound)
        walk = Walk(sampler, problem, failing=0, partial=0, objective=two_wells, further=distance)
        for config in FLOATS.sample(30, Key.of(11)):
            walk.end(walk.start(Proposal(config, "a uniform draw")))
        walk.go(12)
        assert walk.history.feasible[30:].sum() >= 6, "it does not go where the constraint is kept"
        assert walk.ask(2) == walk.replay().ask(2), "a history read anew leads to other proposals"

    def test_nothing_to_choose(self, sampler: Sampler[Any]) -> None:
        """A space of constants has one config: it is proposed."""
        found = Walk(sampler, Problem(FIXED)).ask()
        assert configs(found) == [{"only": 3}]

    def test_independent_ignores_losses(self, sampler: Sampler[Any]) -> None:
        """What is tagged independent proposes the same whatever the losses; what is not, does not."""
        problem = Problem(FLOATS, steps=Fidelity(9), key=Key.of(4), budget_trials=40)
        one = Walk(sampler, problem).go(20)
        two = Walk(sampler, problem, objective=lambda s, c: -loss_of(s, c)).go(20)
        same = configs(one.proposals) == configs(two.proposals)
        assert same == ("independent" in sampler.tags)

    def test_exhaustible_ends(self, sampler: Sampler[Any]) -> None:
        """What is tagged exhaustible proposes nothing twice and comes to an end; nothing else ends."""
        small = Problem(FLOATS, steps=Fidelity(9), key=Key.of(6), budget_trials=40)
        if "exhaustible" not in sampler.tags:
            assert len(Walk(sampler, small).go(20).history) == 20
            return
        found = Walk(sampler, small).ask(100_000)
        assert len(found) < 100_000
        walk = Walk(sampler, small).go(len(found) + 1)
        assert len({signature(t.config) for t in walk.history}) == len(walk.history) == len(found)


def _importable(module: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
