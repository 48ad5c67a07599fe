"""History: the fold of a study's events."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.base.errors import StoreError, UnknownNameError
from foretune.space import Choice, Float, Space
from foretune.store.text import decode, encode
from foretune.trial.event import KINDS, STUDY, Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import PAUSED, RUNNING, STATES, WAITING

SPACE = Space({"x": Float(0, 1)})
WIDER = Space({"x": Float(0, 2), "kind": Choice(["a", "b"], default="a")})
PROBLEM = Problem(SPACE, (Goal("loss"), Goal("acc", "max")))
RUNGS = (1, 3, 9)


def start(number: int, until: float = 9, worker: str = "w", at: float = 0.0, **more: Any) -> Event:
    """The event that begins a trial."""
    data = {
        "config": {"x": 0.5},
        "plan": [until, 0],
        "reason": "r",
        "worker": worker,
        "until": at + 60,
        **more,
    }
    return Event("start", number, at, data)


def report(number: int, step: float, loss: Any, seconds: float = 0.0, **more: Any) -> Event:
    """The event of one report."""
    return Event("report", number, 0.0, {"step": step, "values": {"loss": loss, **more}, "seconds": seconds})


def event(kind: str, number: int, **data: Any) -> Event:
    """An event with a reason."""
    return Event(kind, number, 0.0, {"reason": "r", **data})


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Logs that workers might write, with losses, late deliveries, repeated reports and a wider space."""
    log: list[Event] = [Event("create", STUDY, 0.0, {})]
    n, widened, at = 0, False, 0.0
    value = st.one_of(st.floats(-10, 10), st.sampled_from(["NaN", "Infinity", "-Infinity"]))
    for _ in range(draw(st.integers(0, 40))):
        at += 1
        kind = draw(st.sampled_from(sorted(KINDS)))
        number = draw(st.integers(0, n - 1)) if n else -1
        worker = draw(st.sampled_from(["v", "w"]))
        if kind == "create":
            continue
        if kind == "start":
            log.append(start(n, draw(st.sampled_from(RUNGS)), worker, at))
            n += 1
        elif kind == "add":
            log.append(Event("add", n, at, {"config": {"x": 0.25}, "plan": [0, 0], "by": "user"}))
            n += 1
        elif kind == "space":
            if not widened:
                log.append(Event("space", STUDY, at, {"space": WIDER.to_dict()}))
            widened = True
        elif kind == "steps":
            high = draw(st.sampled_from([9, 27, 81]))
            log.append(Event("steps", STUDY, at, {"steps": {"high": high, "low": 1, "unit": "steps"}}))
        elif kind in ("note", "budget"):
            log.append(Event(kind, STUDY, at, {}))
        elif n and kind == "report":
            names = draw(st.sampled_from([("loss",), ("acc",), ("loss", "acc"), ("loss", "cost")]))
            data = {"step": draw(st.integers(1, 10)), "values": {k: draw(value) for k in names}}
            data["seconds"] = draw(st.floats(0, 100))
            log.append(Event("report", number, at, data))
        elif n and kind == "lease":
            log.append(Event("lease", number, at, {"worker": worker, "until": at + 60}))
        elif n and kind == "resume":
            data = {"plan": [draw(st.sampled_from(RUNGS)), 0], "worker": worker, "until": at + 60}
            log.append(Event("resume", number, at, {**data, "reason": "r"}))
        elif n:
            data = {"reason": kind, "seconds": draw(st.floats(0, 100))}
            if draw(st.booleans()):
                data["worker"] = worker
            if kind != "lose" and draw(st.booleans()):
                data.update(step=draw(st.integers(1, 10)), values={"loss": draw(value)})
            log.append(Event(kind, number, at, data))
    return log


def view(history: History) -> Any:
    """All that can be seen of a history, as text (so that NaN equals NaN)."""
    return repr((
        list(history), history.version, history.settled, round(history.seconds, 6), round(history.cost, 6),
        round(history.committed_steps, 6), history.units.tolist(), history.losses.tolist(),
        history.steps.tolist(), [sorted(history.rung(s).items()) for s in RUNGS], history.best,
        history.best_trace, history.pending, [history.numbers(s) for s in STATES],
    ))  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(logs(), st.data())
def test_folding_in_pieces_equals_folding_at_once(log: list[Event], data: st.DataObject) -> None:
    """However a log is cut, and whatever is looked at in between, the history is the same."""
    pieces = History(PROBLEM)
    begin = 0
    while begin < len(log):
        end = data.draw(st.integers(begin + 1, len(log)))
        pieces.apply(log[begin:end])
        view(pieces)  # fills all that is cached: rung tables, frozen trials, encoded configs
        begin = end
    assert view(pieces) == view(History(PROBLEM, log))


@settings(max_examples=100, deadline=None)
@given(logs())
def test_a_log_survives_a_store(log: list[Event]) -> None:
    """Events that went through text fold to the same history."""
    again = decode(encode(log), "here")
    assert view(History(PROBLEM, again)) == view(History(PROBLEM, log))


@settings(max_examples=200, deadline=None)
@given(logs())
def test_totals_equal_recomputed_ones(log: list[Event]) -> None:
    """Committed steps, seconds and cost, kept up event by event, equal sums over the trials."""
    history = History(PROBLEM, log)
    awaited = (RUNNING, WAITING)
    steps = [max(t.step, t.plan.until) if t.state in awaited else t.step for t in history]
    costs = [
        next(
            (r.values["cost"] for r in reversed(t.reports) if math.isfinite(r.values.get("cost", math.nan))),
            0.0,
        )
        for t in history
    ]
    assert history.committed_steps == pytest.approx(sum(steps))
    assert history.seconds == pytest.approx(sum(t.seconds for t in history))
    assert history.cost == pytest.approx(sum(costs))


@settings(max_examples=200, deadline=None)
@given(logs())
def test_rungs_equal_recomputed_ones(log: list[Event]) -> None:
    """A rung holds, of each trial, the first known loss at or after its step."""
    history = History(PROBLEM)
    for step in RUNGS:
        history.rung(step)  # from now on it is kept up event by event
    history.apply(log)
    for step in RUNGS:
        wanted = {
            t.number: next(r for r in t.reports if r.step >= step and "loss" in r.values).values["loss"]
            for t in history
            if any(r.step >= step and "loss" in r.values for r in t.reports)
        }
        normal = {n: v if math.isfinite(v) else math.inf for n, v in wanted.items()}
        assert dict(history.rung(step)) == normal


@settings(max_examples=100, deadline=None)
@given(logs())
def test_trials_that_were_handed_out_never_change(log: list[Event]) -> None:
    """A trial in somebody's hands is a value."""
    history = History(PROBLEM)
    seen: list[tuple[Any, str]] = []
    for e in log:
        history.apply([e])
        seen += [(t, repr(t)) for t in history]
    assert all(repr(trial) == text for trial, text in seen)


@settings(max_examples=100, deadline=None)
@given(logs())
def test_repeated_facts_change_nothing(log: list[Event]) -> None:
    """A report that arrives twice counts once."""
    doubled = [e for event in log for e in ([event, event] if event.kind in ("report", "lease") else [event])]
    once, twice = History(PROBLEM, log), History(PROBLEM, doubled)
    once.version = twice.version = 0
    assert view(once) == view(twice)


@pytest.mark.parametrize(
    ("direction", "value", "loss"),
    [
        ("min", 2.0, 2.0), ("max", 2.0, -2.0), ("min", "NaN", math.inf), ("max", "NaN", math.inf),
        ("min", "Infinity", math.inf), ("max", "Infinity", math.inf), ("max", "-Infinity", math.inf),
        ("min", "-Infinity", math.inf),
    ],
)  # fmt: skip
def test_values_are_normalised(direction: str, value: Any, loss: float) -> None:
    """Less is better, and what is not finite is the worst, whatever the direction."""
    problem = Problem(SPACE, (Goal("loss", direction),))
    history = History(problem, [start(0), report(0, 1, value)])
    assert history.loss(0) == loss
    assert history.losses.tolist() == [[loss]]
    raw = history[0].values["loss"]
    assert raw == value or json.dumps(raw) == str(value)


def test_unknown_and_failed_losses() -> None:
    """NaN says that nothing is known, +inf that the trial failed; goals stand in columns."""
    history = History(PROBLEM, [start(0), start(1), start(2), report(1, 1, 3.0, acc=0.5), event("fail", 2)])
    assert np.array_equal(
        history.losses, [[math.nan, math.nan], [3.0, -0.5], [math.inf, math.inf]], equal_nan=True
    )


def test_best_of_complete_trials_and_its_trace() -> None:
    """A complete trial beats any other; before there is one, who came furthest; failed ones never."""
    history = History(PROBLEM, [start(0), report(0, 1, 5.0), start(1), report(1, 3, 7.0)])
    assert history.best.number == 1
    history.apply([start(2), report(2, 9, 9.0), event("complete", 2)])
    assert history.best.number == 2
    history.apply(
        [start(3), report(3, 9, "NaN"), event("complete", 3), start(4), report(4, 9, -1), event("fail", 4)]
    )
    assert history.best.number == 2
    history.apply([start(5), report(5, 9, 4.0), event("complete", 5)])
    assert history.best_trace == ((2, 9.0), (5, 4.0))
    assert History(PROBLEM).best is None


def test_a_wider_space_carries_old_trials() -> None:
    """Old configs get the new parameter's default, and are encoded anew."""
    history = History(PROBLEM, [start(0)])
    assert history.units.tolist() == [[0.5]]
    history.apply([Event("space", STUDY, 0.0, {"space": WIDER.to_dict()})])
    assert history[0].config == {"x": 0.5, "kind": "a"}
    assert history.space == WIDER
    assert np.array_equal(history.units, WIDER.encode([{"x": 0.5, "kind": "a"}]))


def test_encoded_configs_cannot_be_written() -> None:
    """What algorithms get is theirs to read only."""
    history = History(PROBLEM, [start(0)])
    with pytest.raises(ValueError, match="read-only"):
        history.units[0, 0] = 1.0


LOST = [start(0, 3), report(0, 1, 1.0), event("lose", 0, worker="w")]
TAKEN = [*LOST, event("resume", 0, plan=[3, 0], worker="v", until=60)]


def test_a_lost_trial_waits_and_is_counted() -> None:
    """A loss makes a trial wait; a loss that is told twice, or after another worker took it, is none."""
    history = History(PROBLEM, LOST)
    assert (history.state(0), history[0].tries) == (WAITING, 1)
    history.apply([event("lose", 0, worker="w")])
    assert history[0].tries == 1
    history.apply([event("resume", 0, plan=[3, 0], worker="v", until=60), event("lose", 0, worker="w")])
    assert (history.state(0), history[0].worker) == (RUNNING, "v")


def test_seconds_of_a_lost_run_are_spent() -> None:
    """A loss tells how long was trained; told by one who no longer has the trial, it says nothing."""
    history = History(PROBLEM, [start(0, 3), event("lose", 0, worker="w", seconds=7.0)])
    assert (history.seconds, history[0].seconds) == (7, 7)
    history.apply([Event("resume", 0, 50.0, {"plan": [3, 0], "worker": "v", "until": 60, "reason": "r"})])
    assert history.since(0) == (50.0, 7.0)
    history.apply([event("lose", 0, worker="w", seconds=20.0)])
    assert history.seconds == 7


def test_progress_forgives_losses() -> None:
    """``tries`` counts losses in a row; a new report begins a new row, an interruption counts for none."""
    history = History(PROBLEM, TAKEN)
    assert history[0].tries == 1
    history.apply([report(0, 1, 1.0)])
    assert history[0].tries == 1
    history.apply([report(0, 2, 1.0)])
    assert history[0].tries == 0
    history.apply([event("lose", 0, worker="v", blameless=True)])
    assert (history.state(0), history[0].tries) == (WAITING, 0)


@pytest.mark.parametrize("kind", ["stop", "fail"])
def test_a_worker_that_was_given_up_cannot_end_a_trial_of_another(kind: str) -> None:
    """Its failure is its own; the trial goes on."""
    history = History(PROBLEM, [*TAKEN, event(kind, 0, worker="w")])
    assert (history.state(0), history.settled) == (RUNNING, [])


def test_a_late_result_counts() -> None:
    """A worker that was given up delivers the full length, or the step that the trial was sent to."""
    late = {"worker": "w", "values": {"loss": 0.25}}
    history = History(PROBLEM, [*TAKEN, event("complete", 0, step=9, **late), event("fail", 0, worker="v")])
    assert (history.state(0), history.best.values["loss"]) == ("complete", 0.25)
    history = History(PROBLEM, [*TAKEN, event("pause", 0, step=3, **late), event("pause", 0, worker="v")])
    assert (history.state(0), history.settled) == (PAUSED, [0])
    history = History(PROBLEM, [*TAKEN, event("pause", 0, step=2, **late)])
    assert (history.state(0), history[0].step) == (RUNNING, 2)


def test_a_result_beats_a_failure_and_never_a_result() -> None:
    """Who comes late with a result makes a failed trial complete; a second result is not taken in."""
    failed = [start(0), event("fail", 0, worker="w")]
    result = event("complete", 0, worker="w", step=9, values={"loss": 1.0})
    other = event("complete", 0, worker="w", step=9, values={"loss": 0.0})
    history = History(PROBLEM, [*failed, result, other, event("fail", 0), event("stop", 0)])
    assert (history.state(0), history.loss(0), history[0].failure) == ("complete", 1.0, None)


def test_reports_after_the_end_are_facts() -> None:
    """A report of a worker that was given up is recorded, and its steps are counted."""
    history = History(PROBLEM, [start(0, 3), event("fail", 0), report(0, 5, 2.0)])
    assert (history[0].step, history.committed_steps, history.loss(0)) == (5, 5, math.inf)


def test_a_returned_result_overrides_a_report_at_the_same_step() -> None:
    """What training returns at its end is merged into the last report, in every rung too."""
    acc = Event("report", 0, 0.0, {"step": 1, "values": {"acc": 0.5}})
    end = event("complete", 0, step=3, values={"loss": 5.0})
    history = History(PROBLEM)
    assert dict(history.rung(1)) == {}
    history.apply([start(0), acc, report(0, 3, 1.0, size=2.0)])
    assert dict(history.rung(1)) == {0: 1.0}
    history.apply([end])
    assert dict(history.rung(1)) == {0: 5.0} == dict(history.rung(3))
    assert history[0].values == {"loss": 5.0, "size": 2.0}
    assert len(history[0].reports) == 2


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ([report(0, 1, 1.0)], "trial 0, which never began"),
        ([start(0), report(-1, 1, 1.0)], "trial -1, which never began"),
        ([start(1)], "begins trial 1 after 0 trials"),
        ([start(0), start(0)], "begins trial 0 after 1 trials"),
        ([start(0), Event("report", 0, 0.0, {})], "event 2 .* makes no sense"),
        ([start(0), report(0, 1, "many")], "makes no sense"),
        ([Event("start", 0, 0.0, {"config": 3, "plan": [1]})], "makes no sense"),
        ([Event("start", 0, 0.0, {"config": {}, "plan": None})], "makes no sense"),
        ([Event("space", STUDY, 0.0, {"space": {"x": {"type": "flaot"}}})], "makes no sense"),
    ],
)
def test_damaged_logs_are_refused(log: Sequence[Event], says: str) -> None:
    """A log that contradicts itself names the event and the doctor."""
    with pytest.raises(StoreError, match=f"damaged.*{says}.*foretune doctor"):
        History(PROBLEM, log)


def test_a_newer_log_is_refused() -> None:
    """An event of an unknown kind asks for an upgrade; a note is for the reader."""
    with pytest.raises(StoreError, match=r"'merge'.*upgrade foretune"):
        History(PROBLEM, [start(0), event("merge", 0)])
    assert History(PROBLEM, [start(0), event("note", 0), event("note", STUDY)]).version == 3


def test_unknown_trials() -> None:
    """A number that no trial has says how many there are."""
    with pytest.raises(UnknownNameError, match="There is no trial 3; the study has 1"):
        History(PROBLEM, [start(0)])[3]
