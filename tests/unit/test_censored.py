"""Trials that a limit of time or memory cut short are censored in what models see."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import foretune as ft
from foretune.execute.failure import cut, death
from foretune.search.observations import observe

SPACE = ft.Space({"x": ft.Float(0, 1)})


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (death(-9), "memory"),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB (train.py:3, in f)", "memory"),
        ("MemoryError: Unable to allocate 3 TiB", "memory"),
        ("ran longer than its limit of 90 s", "time"),
        ("ValueError: lr is negative", None),
        (death(-11), None),
    ],
)
def test_reasons_tell_what_was_cut(reason: str, kind: str | None) -> None:
    """The sentences of failed jobs tell a limit from a mistake."""
    assert cut(reason) == kind


def study(reason: str, early: float | None = None) -> Any:
    """Five results 0, 1, ..., 4, and a trial that failed for the reason, after a report if it made one."""
    made = ft.Study(SPACE, sampler="random", budget="6 trials", steps=8)
    for value in range(5):
        trial = made.next()
        made.report(trial.number, 8, loss=float(value))
        made.finish(trial.number)
    trial = made.next()
    if early is not None:
        made.report(trial.number, 2, loss=early)
    made.finish(trial.number, state="failed", reason=reason)
    return made


@pytest.mark.parametrize(
    ("reason", "early", "seen", "censored"),
    [
        ("CUDA out of memory", None, 2.0, True),
        ("ran longer than its limit of 9 s", 0.5, 2.0, True),
        ("ran longer than its limit of 9 s", 3.5, 3.5, True),
        ("ValueError: lr is negative", 0.5, 4.0, False),
    ],
)
def test_cut_trials_count_as_the_median_at_best(
    reason: str, early: float | None, seen: float, censored: bool
) -> None:
    """What was cut counts as the worse of the median and its last loss; what failed, as the worst."""
    made = study(reason, early)
    data = observe(made.problem, made.history)
    row = data.number == 5
    assert data.loss[row].tolist() == [seen]
    assert data.censored[row].tolist() == [censored]
    assert not data.censored[~row].any()
    assert made.history.loss(5) == np.inf
    assert made.history[5].state == "failed"


def test_a_limit_censors_through_tune() -> None:
    """A trial that the executor ends at its time limit is marked in the log."""

    def train(config: Any, run: Any) -> None:
        for step in range(3):
            time.sleep(0.05 if config["x"] > 0.5 else 0.0)
            run.report(step + 1, loss=config["x"])

    result = ft.tune(train, SPACE, sampler="random", budget="8 trials", steps=3, limit=0.04)
    cut_ones = {t.number for t in result.history if t.notes.get("cut") == "time"}
    assert {t.number for t in result.history if t.config["x"] > 0.5} <= cut_ones
    assert cut_ones
    assert (
        set(
            observe(result.study.problem, result.history).number[
                observe(result.study.problem, result.history).censored
            ]
        )
        == cut_ones
    )
