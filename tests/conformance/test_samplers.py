"""Every registered sampler keeps the laws, and broken ones are caught."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from foretune.base.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from foretune.base.key import Key
from foretune.search import make, names
from foretune.search.random import Random
from foretune.search.sampler import Proposal, Sampler
from foretune.search.tpe import TPE
from foretune.testing.samplers import SamplerSuite
from foretune.trial.history import History
from foretune.trial.problem import Problem

# small populations, so that the suite's short walks leave the first one
# (and wrappers around what is fast)
OPTIONS = (
    ("population", 8), ("initial", 4), ("points", 3), ("shuffle", True), ("inner", "random"), ("draws", 2),
    ("warmup", 6), ("training_steps", 20), ("trees", 8), ("candidates", 50),
)  # fmt: skip


def every() -> list[Sampler[Any]]:
    """Each sampler, with such of the options as it has."""
    found = []
    for name in names():
        fields = {f.name for f in dataclasses.fields(type(make(name)))}
        options = {k: v for k, v in OPTIONS if k in fields}
        if {"population", "sample"} <= fields:
            options["sample"] = 4
        found.append(make(name, **options))
    return found


class TestEverySampler(SamplerSuite):
    """The public suite over all registered samplers."""

    @pytest.fixture(params=every(), ids=lambda s: type(s).__name__)
    def sampler(self, request: pytest.FixtureRequest) -> Sampler[Any]:
        return request.param


@dataclass(frozen=True)
class Global(Sampler[None]):
    """Broken: reads the global generator."""

    tags: ClassVar[frozenset[str]] = frozenset({"independent"})

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        rows = np.random.random((n, problem.space.width))
        return [Proposal(c, "a draw") for c in problem.space.decode(rows)]


_calls = itertools.count()


@dataclass(frozen=True)
class Counting(Sampler[None]):
    """Broken: remembers how often it was asked."""

    tags: ClassVar[frozenset[str]] = frozenset({"independent"})

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        return Random().ask(problem, None, history, n, key.fold(next(_calls)))


@dataclass(frozen=True)
class Illegal(Sampler[None]):
    """Broken: now and then leaves the range."""

    tags: ClassVar[frozenset[str]] = frozenset({"independent"})

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        found = Random().ask(problem, None, history, n, key)
        return [Proposal({**p.config, "x": 2.0} if len(history) == 9 else p.config, p.reason) for p in found]


@dataclass(frozen=True)
class Active(Sampler[None]):
    """Broken: proposes inactive parameters too."""

    tags: ClassVar[frozenset[str]] = frozenset({"mixed", "conditional", "independent"})

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        rows = key.generator().random((n, problem.space.width))
        return [
            Proposal({k: d.decode(r[problem.space.columns[k]]) for k, d in problem.space.items()}, "a draw")
            for r in rows
        ]


@dataclass(frozen=True)
class Stubborn(Sampler[None]):
    """Broken: ignores what is pending."""

    tags: ClassVar[frozenset[str]] = frozenset({"independent", "mixed"})

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        return [Proposal(c, "always the same") for c in problem.space.sample(n, problem.key)]


@dataclass(frozen=True)
class Short(Sampler[None]):
    """Broken: gives one proposal however many are asked for, and no reason."""

    tags: ClassVar[frozenset[str]] = frozenset({"independent"})

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        return [Proposal(p.config, "") for p in Random().ask(problem, None, history, 1, key)]


@dataclass(frozen=True)
class Forgetful(Sampler[dict[int, int]]):
    """Broken: its state has number keys, which JSON turns into text."""

    def init(self, problem: Problem) -> dict[int, int]:
        return {}

    def ask(
        self, problem: Problem, state: dict[int, int], history: History, n: int, key: Key
    ) -> list[Proposal]:
        return Random().ask(problem, None, history, n, key.fold(state.get(0, -1)))

    def tell(self, problem: Problem, state: dict[int, int], trial: Any) -> dict[int, int]:
        return {**state, trial.number: trial.number}


@dataclass(frozen=True)
class Raw(Sampler[None]):
    """Broken: reads raw values, so that its proposals depend on the goal's direction."""

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        total = sum(sum(t.values.values()) > 0 for t in history if t.state == "complete")
        return Random().ask(problem, None, history, n, key.fold(total))


@dataclass(frozen=True)
class Blind(TPE):  # type: ignore[misc]
    """Broken: says that it handles constraints itself, and looks at losses alone."""

    tags: ClassVar[frozenset[str]] = TPE.tags | {"constrained"}


@dataclass
class Thawed(Random.__mro__[1]):  # type: ignore[misc,name-defined]
    """Broken: not frozen."""

    rate: float = 1.0

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        return Random().ask(problem, None, history, n, key)


SUITE = SamplerSuite()
CONTROLS: list[tuple[Sampler[Any], Callable[..., None]]] = [
    (Global(), SUITE.test_same_arguments_same_proposals),
    (Counting(), SUITE.test_same_arguments_same_proposals),
    (Illegal(), SUITE.test_proposals_are_legal),
    (Active(), SUITE.test_proposals_are_legal),
    (Stubborn(), SUITE.test_pending_trials_repel),
    (Stubborn(), SUITE.test_a_small_space_is_used_up),
    (Short(), lambda s: SUITE.test_n_distinct_proposals_come_back(s, 5)),
    (Short(), SUITE.test_proposals_carry_a_reason),
    (Forgetful(), SUITE.test_state_is_a_fold_that_survives_json),
    (Raw(), SUITE.test_direction_is_normalised),
    (Blind(), SUITE.test_constraints_are_learned),
    (Random(), SUITE.test_independent_ignores_losses),
]


@pytest.mark.parametrize(("sampler", "law"), CONTROLS[:-1], ids=lambda v: type(v).__name__)
def test_broken_samplers_are_caught(sampler: Sampler[Any], law: Callable[..., None]) -> None:
    """Each law of the suite fails for a sampler that breaks it."""
    with pytest.raises((AssertionError, KeyError, ValueError)):
        law(sampler)


def test_false_tags_are_caught() -> None:
    """A sampler that learns nothing may not leave out the tag that says so."""

    @dataclass(frozen=True)
    class Untagged(Sampler[None]):
        def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
            return Random().ask(problem, None, history, n, key)

    with pytest.raises(AssertionError):
        SUITE.test_independent_ignores_losses(Untagged())


def test_a_thawed_sampler_is_caught() -> None:
    """A sampler that can be changed is refused."""
    with pytest.raises((AssertionError, TypeError, pytest.fail.Exception)):
        SUITE.test_description_is_frozen(Thawed())


def test_make_takes_names_and_objects() -> None:
    """A name with hyperparameters makes a sampler; an object is passed through."""
    ready = make("grid", points=2)
    assert make(ready) is ready
    assert ready == make("grid", points=2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: make("rndom"), UnknownNameError, "Did you mean 'random'"),
        (lambda: make(3), ArgumentTypeError, "Sampler object"),  # type: ignore[arg-type]
        (lambda: make("grid", point=3), ArgumentError, "points"),
        (lambda: make(Random(), points=3), ArgumentError, "hyperparameters already"),
        (lambda: make("gp", most=3), ArgumentError, "at least 20"),
        (lambda: make("regularized_evolution", sample=200), ArgumentError, "must not exceed"),
    ],
)
def test_wrong_samplers_are_refused(call: Callable[[], object], error: type[Exception], words: str) -> None:
    """A wrong name, type or hyperparameter gives an error that says what is accepted."""
    with pytest.raises(error, match=words):
        call()
