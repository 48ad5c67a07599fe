"""Feasibility first: what samplers are shown and told, and what rungs compare, where a study has constraints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretune.search import make
from foretune.search.feasible import shown, told
from foretune.search.settled import settled
from foretune.space import Fidelity, Float, Space
from foretune.trial.constraint import parse_constraints
from foretune.trial.event import Event
from foretune.trial.feasibility import BROKEN, FeasibleFirst, excess, feasible_first, measured, placed, ranked
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.recast import recast

SPACE = Space({"x": Float(0.0, 1.0)})
BOUNDS = parse_constraints({"memory": "<= 2", "score": ">= 0"})


def told_history(rows: list[dict[int, dict[str, Any]]], goals: tuple[Goal, ...] = (Goal("loss"),)) -> History:
    """A history of trials whose reports are given as step -> values; those that come to step 9 are complete."""
    found = History(Problem(SPACE, goals, Fidelity(9), constraints=BOUNDS))
    for i, reports in enumerate(rows):
        found.apply([Event("start", i, 0.0, {"config": {"x": i / 99}, "plan": [9]})])
        found.apply(Event("report", i, 1.0, {"step": s, "values": v}) for s, v in reports.items())
        found.apply([Event("complete" if 9 in reports else "pause", i, 1.0, {"reason": "suite"})])
    return found


def at_end(loss: Any, memory: float, score: float = 1.0) -> dict[int, dict[str, Any]]:
    return {9: {"loss": loss, "memory": memory, "score": score}}


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=12),
)
def test_losses_obey_the_three_rules(rows: list[tuple[float, float, float]]) -> None:
    """Kept before broken, kept by their loss, broken by what is broken: in the view, and one trial at a time."""
    history = told_history([at_end(*row) for row in rows])
    view = feasible_first(history)
    by = measured(history.violations)
    seen = view.losses[:, 0]
    alone = [told(make("tpe"), history.problem, t).values["loss"] for t in history]
    for i, (a, _, _) in enumerate(rows):
        assert (by[i] > 0) == (not history.feasible[i]) == (alone[i] >= BROKEN)
        assert view.loss(i) == seen[i]
        for j, (b, _, _) in enumerate(rows):
            if by[i] == by[j] == 0:
                assert (seen[i] < seen[j]) == (a < b) == (alone[i] < alone[j])
            elif by[i] == 0:
                assert seen[i] <= seen[j]
                assert alone[i] < alone[j]
            elif by[i] <= by[j]:
                assert seen[i] <= seen[j]


def test_without_constraints_nothing_is_changed() -> None:
    """The history and the trials themselves are handed on, to whichever sampler."""
    history = History(Problem(SPACE))
    history.apply([Event("start", 0, 0.0, {"config": {"x": 0.5}, "plan": [1]})])
    for name in ("tpe", "gp", "random", "differential_evolution"):
        assert shown(make(name), history) is history
        assert told(make(name), history.problem, trial := history[0]) is trial


def test_who_handles_constraints_or_ignores_history_sees_things_as_they_are() -> None:
    """The tags decide who is shown the view."""
    history = told_history([at_end(1.0, 3.0)])
    for name in ("gp", "nsga2", "random", "grid"):
        assert shown(make(name), history) is history
        assert told(make(name), history.problem, history[0]).values["loss"] == 1.0
    for name in ("tpe", "cqr", "dehb"):
        assert isinstance(shown(make(name), history), FeasibleFirst)
        assert told(make(name), history.problem, history[0]).values["loss"] > BROKEN


def test_the_view_follows_its_history() -> None:
    """What is settled later is seen, places change with it, and tables of what settled do not grow stale."""
    history = told_history([at_end(1.0, 1.0), at_end(0.5, 3.0), at_end(4.0, 1.0)])
    view = feasible_first(history)
    before = settled(view).loss
    assert before[1] > 4.0
    assert (before[[0, 2]] == [1.0, 4.0]).all()
    history.apply(
        [
            Event("start", 3, 0.0, {"config": {"x": 0.9}, "plan": [9]}),
            Event("report", 3, 1.0, {"step": 9, "values": at_end(10.0, 1.0)[9]}),
            Event("complete", 3, 1.0, {"reason": "suite"}),
        ]
    )
    assert len(view) == 4
    assert settled(view).loss[1] == view.loss(1) > 10.0
    assert settled(history).loss.tolist() == [1.0, 0.5, 4.0, 10.0]
    assert view.units is history.units or np.array_equal(view.units, history.units)


def test_failures_stay_failures_and_the_unknown_stays_unknown() -> None:
    """Failed and diverged trials have infinite losses; a trial that has not said what is bounded keeps its own."""
    history = told_history([at_end("NaN", 3.0), {1: {"loss": 2.0}}, {1: {"memory": 3.0}}, at_end(1.0, 1.0)])
    history.apply([Event("start", 4, 0.0, {"config": {"x": 1.0}, "plan": [9]}), Event("fail", 4, 1.0, {})])
    seen = feasible_first(history).losses[:, 0]
    assert seen[0] == seen[4] == math.inf
    assert seen[1] == 2.0
    assert math.isnan(seen[2])


def test_with_several_goals_what_breaks_a_constraint_is_dominated() -> None:
    """In every goal a broken trial is no better than the worst that keeps the constraints."""
    goals = (Goal("loss"), Goal("speed", "max"))
    rows = [at_end(1.0, 1.0), at_end(2.0, 1.0), at_end(0.1, 3.0)]
    for row, speed in zip(rows, (3.0, 5.0, 100.0), strict=True):
        row[9]["speed"] = speed
    seen = feasible_first(told_history(rows, goals)).losses
    assert (seen[2] > seen[:2].max(axis=0)).all()


def test_rungs_know_what_was_known_there() -> None:
    """In a rung a trial is behind if the reports until there break a bound; what comes later counts in the view."""
    early = {1: {"loss": 1.0, "memory": 3.0}, 9: {"loss": 0.5, "memory": 1.0, "score": 1.0}}
    late = {1: {"loss": 2.0}, 9: {"loss": 0.4, "memory": 3.0, "score": 1.0}}
    keeps = {1: {"loss": 9.0, "memory": 1.0}}
    history = told_history([early, late, keeps])
    first, last = history.rung(1), history.rung(9)
    assert first[0] > BROKEN
    assert (first[1], first[2], last[0]) == (2.0, 9.0, 0.5)
    assert last[1] > BROKEN
    assert feasible_first(history).rung(1)[1] > BROKEN
    assert told_history([early, late, keeps]).rung(1) == first, (
        "a rung read at once is the one that was followed"
    )


def test_rungs_followed_are_rungs_read() -> None:
    """A rung that was asked for before its trials reported is the one that is read afterwards."""
    followed = History(Problem(SPACE, steps=Fidelity(9), constraints=BOUNDS))
    followed.rung(1), followed.rung(3)
    source = told_history(
        [{1: {"loss": 1.0, "memory": 3.0}, 2: {"loss": 2.0}, 9: {"loss": 1.0, "memory": 1}}]
    )
    events = [Event("start", 0, 0.0, {"config": {"x": 0.0}, "plan": [9]})]
    events += [Event("report", 0, 1.0, {"step": r.step, "values": dict(r.values)}) for r in source[0].reports]
    followed.apply(events)
    followed.apply([Event("complete", 0, 2.0, {"values": {"loss": 0.5, "memory": 5}, "step": 9})])
    source.apply([])
    for step in (1, 3):
        assert followed.rung(step) == History(followed.problem, _log(followed)).rung(step)
    assert followed.rung(1)[0] > BROKEN
    assert followed.rung(3)[0] > BROKEN


def _log(history: History) -> list[Event]:
    trial = history[0]
    events = [Event("start", 0, 0.0, {"config": dict(trial.config), "plan": [9]})]
    events += [Event("report", 0, 1.0, {"step": r.step, "values": dict(r.values)}) for r in trial.reports]
    return [*events, Event("complete", 0, 2.0, {"reason": "suite"})]


def test_a_copy_of_the_view_is_a_view() -> None:
    """Wrappers that hide or hold something pass on what they were shown."""
    view = feasible_first(told_history([at_end(1.0, 1.0), at_end(0.5, 3.0)]))
    copied = recast(view, view.problem)
    assert isinstance(copied, FeasibleFirst)
    assert copied.losses.tolist() == view.losses.tolist()
    assert not isinstance(recast(view.plain, view.problem), FeasibleFirst)  # type: ignore[attr-defined]


def test_violations_are_measured_by_their_medians() -> None:
    """A constraint in bytes does not outweigh one in seconds; infinite violations count as the largest finite."""
    rows = np.array([[1e9, -1.0], [-1e9, 1.0], [2e9, -1.0], [np.inf, -1.0], [-1.0, np.nan]])
    by = measured(rows)
    assert by[0] == pytest.approx(by[1])
    assert by[2] == by[3] > by[0]
    assert by[4] == 0.0
    assert (measured(np.array([[np.inf], [np.nan]])) > 0).tolist() == [True, False]
    assert placed(np.array([5.0]), np.array([1.0])).tolist() == [0.51]


def test_one_trial_is_measured_by_the_bounds() -> None:
    """Unknown counts as kept, a value that is not finite as broken beyond all others."""
    assert excess(BOUNDS, {"memory": 3.0}.get) == 0.5
    assert excess(BOUNDS, {}.get) == 0.0
    assert ranked(1.0, excess(BOUNDS, {"memory": math.nan}.get)) == 2 * BROKEN
    assert ranked(math.inf, 1.0) == math.inf


def test_a_lost_trial_breaks_nothing() -> None:
    """What was given up because its workers vanished is not known to break a constraint."""
    history = told_history([at_end(1.0, 1.0), at_end(2.0, 3.0)])
    history.apply(
        [
            Event("start", 2, 0.0, {"config": {"x": 1.0}, "plan": [9]}),
            Event("report", 2, 1.0, {"step": 1, "values": {"loss": 0.5}}),
            Event("lose", 2, 1.0, {"reason": "its worker vanished"}),
            Event("fail", 2, 1.0, {"reason": "no more tries"}),
        ]
    )
    assert feasible_first(history).loss(2) == 0.5
    assert np.isnan(history.violations[2]).all()
    assert not history.feasible[2]
