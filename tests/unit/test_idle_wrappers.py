"""A sampler that needs a prior, sources, starts or values, and was given none, says so, once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import foretune as ft
from foretune.search import make
from foretune.search.earlier import Earlier
from foretune.search.sampler import Sampler
from foretune.search.wrapping import idle

SPACE = ft.Space({"x": ft.Float(0, 1)})
BARE = [
    ("user_prior", "prior", r"prior={'lr': 0\.01}"),
    ("quantile_transfer", "sources", "--warm-from"),
    ("ranking_transfer", "sources", "--warm-from"),
    ("warm_start", "sources", "--warm-from"),
    ("starts", "configs", "--start"),
    ("fixed", "values", "--fix"),
]


def train(config: Mapping[str, Any]) -> float:
    return float(config["x"])


@pytest.mark.parametrize(("name", "lacks", "remedy"), BARE)
def test_a_bare_wrapper_says_so_once(name: str, lacks: str, remedy: str, tmp_path: Path) -> None:
    """The warning names what is missing and how it is given; the log keeps it, and it is not repeated."""
    store, bare = str(tmp_path / "study.db"), make(name, inner="random")
    with pytest.warns(
        RuntimeWarning, match=f"was given no {lacks}, so that it is Random alone.*{remedy}"
    ) as seen:
        first = ft.tune(train, SPACE, sampler=bare, budget=3, store=store)
    assert len(seen) == 1
    assert [note for note in first.study.notes if "was given no" in note]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = ft.tune(train, SPACE, sampler=bare, budget=5, store=store)
    assert len(again.history) == 5
    assert len(again.study.notes) == 1


def test_looking_at_a_study_warns_of_nothing(tmp_path: Path) -> None:
    """It is said when the sampler is asked: opening a study says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = ft.Study(
            SPACE, sampler=make("user_prior", inner="random"), budget=3, store=str(tmp_path / "s.db")
        )
    assert not study.notes


@pytest.mark.parametrize(
    "sampler",
    [
        make("user_prior", prior={"x": 0.2}, inner="random"),
        make("warm_start", sources=(Earlier("old", ()),), inner="random"),
        make("starts", configs=[{"x": 0.2}], inner="random"),
        make("fixed", values={"x": 0.2}, inner="random"),
        make("batched", inner="random"),
        make("deduplicated", inner="random"),
        make("random"),
    ],
    ids=lambda s: type(s).__name__,
)
def test_who_has_something_to_do_is_silent(sampler: Sampler[Any]) -> None:
    """Nothing is said of samplers that were given what they need, or need nothing."""
    assert idle(sampler) is None


def test_a_bare_wrapper_is_found_inside_of_others() -> None:
    """However deep it stands."""
    inner = make("batched", inner=make("user_prior", inner="random"))
    assert "UserPrior" in str(idle(make("deduplicated", inner=inner)))
