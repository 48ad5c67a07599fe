"""Every registered sampler meets what goes wrong: each study ends with a clear outcome, and no trial is lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, ForetuneError, SpaceError, StudyError
from foretune.search import make, names

FLOATS = ft.Space({"x": ft.Float(0, 1), "lr": ft.Float(1e-5, 1e-1, log=True)})
FOUR = ft.Space({"a": ft.Int(1, 2), "b": ft.Choice(("x", "y"))})
WORDS = ft.Space(
    {"a": ft.Choice(tuple("abcdefgh")), "b": ft.Choice((True, False)), "c": ft.Choice((1, "1", None))}
)
MILLION = ft.Space({n: ft.Int(1, 100) for n in "abc"})
WIDE = ft.Space({f"x{i}": ft.Float(0, 1) for i in range(1000)})

# wrappers are tried bare, too
pytestmark = pytest.mark.filterwarnings("ignore:Foretune. the sampler \\w+ was given no:RuntimeWarning")


def tuned(name: str, train: Callable[[Any], float], space: ft.Space, trials: int) -> Any:
    """Tune; a sampler that raises warns, and warnings are errors: then the test fails."""
    return ft.tune(train, space, sampler=name, budget=trials)


def ended(result: Any, trials: int) -> None:
    """All of the budget was trained; or the sampler says that nothing is left."""
    history = result.history
    assert len(history) == len(history.settled) >= 1
    assert len(history) == trials or "exhausted" in result.reason
    assert all(result.study.problem.space.check(t.config) == t.config for t in history)


def broken(config: Any) -> float:
    raise RuntimeError("the data are gone")


@pytest.mark.parametrize("name", names())
def test_a_study_without_a_result_ends(name: str) -> None:
    """When every trial fails the budget is used up, nothing is best, and the error names the first failure."""
    result = tuned(name, broken, FLOATS, 7)
    ended(result, 7)
    assert result.history.count("failed") == 7
    with pytest.raises(StudyError, match="the data are gone"):
        result.best


@pytest.mark.parametrize("name", names())
def test_a_finite_space_that_is_used_up(name: str) -> None:
    """Asked for more trials than a space of four has, a sampler repeats itself or ends; all four are tried first."""
    result = tuned(name, lambda c: float(c["a"]), FOUR, 6)
    ended(result, 6)
    first = {(t.config["a"], t.config["b"]) for t in result.history[:4]}
    assert len({(t.config["a"], t.config["b"]) for t in result.history}) == 4 or len(first) >= 3


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    "space",
    [ft.Space({"x": ft.Constant(3)}), ft.Space({"a": ft.Choice(("x",)), "k": ft.Int(3, 3)})],
    ids=["constants", "one of each"],
)
def test_a_space_of_one_point(name: str, space: ft.Space) -> None:
    """The only config is tried, and tried again or not."""
    ended(tuned(name, lambda c: 1.0, space, 3), 3)


@pytest.mark.parametrize("name", names())
def test_a_budget_of_nothing(name: str) -> None:
    """A budget of no trials ends at once, without a result and without an error."""
    result = tuned(name, lambda c: 1.0, FLOATS, 0)
    assert len(result.history) == 0
    with pytest.raises(StudyError, match="No trial"):
        result.best


TROUBLES: dict[str, tuple[ft.Space, Callable[[Any], float], int]] = {
    "constant": (FLOATS, lambda c: 1.0, 14),
    "nan": (FLOATS, lambda c: math.nan, 12),
    "nan and infinity here and there": (
        FLOATS, lambda c: math.nan if c["x"] < 0.4 else math.inf if c["x"] < 0.5 else float(c["x"]), 14,
    ),
    "words only": (WORDS, lambda c: ord(c["a"]) + float(c["b"]), 14),
    "a million grid points": (MILLION, lambda c: float(c["a"] + c["b"] + c["c"]), 14),
    "huge losses": (FLOATS, lambda c: 1e100 * (c["x"] - 0.3), 12),
    "tiny losses": (FLOATS, lambda c: 1e-100 * (c["x"] - 0.3), 12),
    "of the wrong sign": (FLOATS, lambda c: -float(c["x"]), 12),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("trouble", TROUBLES)
def test_troublesome_objectives(name: str, trouble: str) -> None:
    """Constant, NaN, infinite, huge, tiny and categorical objectives: every trial of the budget is trained."""
    space, train, trials = TROUBLES[trouble]
    ended(tuned(name, train, space, trials), trials)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_thousand_dimensions(name: str) -> None:
    """In a thousand dimensions every trial is trained, or an error says beforehand why it cannot be."""
    refuses = "exhaustible" in make(name).tags
    try:
        result = tuned(name, lambda c: float(sum(c.values())), WIDE, 5)
    except ArgumentError:
        assert refuses
        return
    ended(result, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_constraints_that_nothing_keeps(name: str) -> None:
    """Bounds that contradict each other: all is trained, nothing is best, and the error says how many broke which."""

    def train(config: Any) -> dict[str, float]:
        return {"loss": config["x"], "size": config["lr"]}

    result = ft.tune(train, FLOATS, sampler=name, budget=8, constraints=["size <= 0", "size >= 1"])
    ended(result, 8)
    with pytest.raises(StudyError, match="8 of 8 trials broke a constraint"):
        result.best


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: ft.Space({"a": ft.Int(1, 3), "b": ft.Int(1, 3)}, when={"a": {"b": [1]}, "b": {"a": [1]}}),
            SpaceError,
            "circle",
        ),
        (
            lambda: ft.Space({"a": ft.Int(1, 3), "b": ft.Int(1, 3)}, when={"a": {"b": [7]}}),
            SpaceError,
            "b must be",
        ),
        (lambda: ft.Space({"a": ft.Int(3, 1)}), SpaceError, "low"),
        (lambda: ft.Space({"a": ft.Choice(())}), SpaceError, "Choice"),
        (lambda: ft.tune(lambda c: 1.0, FLOATS, budget=-1), ForetuneError, "at least 0"),
        (lambda: ft.tune(lambda c: 1.0, FLOATS, budget="0"), ForetuneError, "budget must read"),
    ],
    ids=["circle", "impossible", "empty range", "empty choice", "negative", "unitless"],
)
def test_contradictions_are_refused(call: Callable[[], object], error: type[Exception], words: str) -> None:
    """Spaces and budgets that contradict themselves are refused with the reason, before anything runs."""
    with pytest.raises(error, match=words):
        call()
