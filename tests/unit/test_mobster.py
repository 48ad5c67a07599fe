"""MOBSTER: with nothing pending it is sequential EI; what is pending is drawn jointly; steps are modelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.acquisition import log_ei
from foretune.numeric.kernel import Columns
from foretune.numeric.surrogate import surrogate
from foretune.search.gp import GP
from foretune.search.mobster import Mobster, _Fantasies, next_step, place_of, target_place
from foretune.search.observations import observe
from foretune.space import Choice, Fidelity, Float, Space
from foretune.study.study import Study
from foretune.testing.samplers import Walk
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.problem import Problem

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "act": Choice(("a", "b"))})


def problem(high=9):
    return Problem(SPACE, steps=Fidelity(high), key=Key.of(1))


def test_with_nothing_pending_it_is_sequential_ei_exactly() -> None:
    """At full length and with nothing pending, its proposals are the Gaussian process's, number by number."""
    ours = Walk(Mobster(), problem(), failing=0, partial=0).go(11)
    theirs = Walk(GP(), problem(), failing=0, partial=0).go(11)
    assert [p.config for p in ours.proposals] == [p.config for p in theirs.proposals]


def test_fantasies_do_not_matter_with_nothing_pending() -> None:
    """With partial runs and failures too, the number of draws changes nothing as long as nothing is pending."""
    one = Walk(Mobster(fantasies=1), problem()).go(11)
    many = Walk(Mobster(fantasies=20), problem()).go(11)
    assert [p.config for p in one.proposals] == [p.config for p in many.proposals]


def test_pending_trials_change_the_proposal() -> None:
    """A trial that runs where the next proposal would lie moves it, and the reason counts the draws."""
    walk = Walk(Mobster(), problem(), failing=0).go(12)
    free = walk.ask()[0]
    walk.start(free)
    other = walk.ask()[0]
    assert other.config != free.config
    assert "over 8 draws of 1 pending" in other.reason


def test_the_average_over_fantasies_and_its_gradient() -> None:
    """The acquisition is the mean of EI over conditioned models, each fitted apart; its gradient is the slope."""
    rng = np.random.default_rng(0)
    x, columns = rng.random((12, 2)), Columns((0, 0))
    y = ((x - 0.3) ** 2).sum(axis=1) + 0.2 * rng.standard_normal(12)
    fitted = surrogate(columns, x, y)
    pending, rows = rng.random((3, 2)), rng.random((5, 2))
    found = _Fantasies.of(fitted, pending, x, 6, Key.of(3).generator())
    value, gradient = found.term(lambda r: r)
    single = []
    for alpha, best in zip(found.alphas.T, found.best, strict=True):
        k = found.posterior.predict(rows)[1]
        mean, variance = replace(found.posterior, alpha=alpha).predict(rows)
        assert np.allclose(variance, k)
        single.append(np.exp(log_ei(mean, variance, best)))
    assert np.allclose(np.exp(value(rows)), np.mean(single, axis=0))
    v, g = gradient(rows)
    assert np.allclose(v, value(rows))
    for j in range(2):
        step = np.zeros(2)
        step[j] = 1e-6
        slope = (value(rows + step) - value(rows - step)) / 2e-6
        assert np.allclose(g[:, j], slope, rtol=1e-3, atol=1e-4)


def test_where_improvement_is_looked_for() -> None:
    """At the largest step that enough trials have come to; pending trials are expected at their next rung."""
    p = problem(27)
    assert place_of(p, 27) == 1.0
    assert place_of(p, 1) == 0.0
    assert place_of(p, 3) == pytest.approx(1 / 3)
    events = []
    for n in range(10):
        plan = [27, 0] if n < 2 else [3, 0] if n < 6 else [1, 0]
        events.append(
            Event(
                "start", n, 0.0, {"config": {"x": n / 10, "y": 0.5, "act": "a"}, "plan": plan, "reason": "r"}
            )
        )
        for step in (1, 3, 9, 27):
            if step <= plan[0]:
                events.append(Event("report", n, 0.0, {"step": step, "values": {"loss": 1.0 / (n + step)}}))
        events.append(Event("complete" if n < 2 else "pause", n, 0.0, {"reason": "r"}))
    events.append(Event("resume", 6, 0.0, {"plan": [27, 0], "reason": "r"}))
    history = History(p, events)
    data = observe(p, history)
    assert target_place(data, 2) == 1.0
    assert target_place(data, 3) == pytest.approx(1 / 3)
    assert target_place(data, 7) == 0.0
    assert target_place(data, 99) == 0.0
    assert next_step(p, history, 6, 3) == 3


@pytest.mark.parametrize("scheduler", ["asha", "asha_stopping"])
def test_it_works_with_both_kinds_of_asha(scheduler) -> None:
    """A study with either scheduler ends with a better config than its first design found."""

    def train(config, run):
        for step in range(run.start, run.until):
            loss = (
                (config["x"] - 0.7) ** 2
                + (config["y"] - 0.2) ** 2
                + (config["act"] == "b") * 0.1
                + 0.5 / (step + 1)
            )
            run.report(step + 1, loss=loss)

    study = Study(SPACE, steps=9, sampler="mobster", scheduler=scheduler, budget="16 trials")
    study.run(train)
    early = min(study.history.rung(1)[n] for n in range(5))
    assert min(study.history.rung(1).values()) < early
    assert study.history.best.values["loss"] < 0.5 / 9 + 0.02


def test_wrong_settings_are_refused() -> None:
    """Each mistake names what is accepted."""
    for options, words in (
        ({"fantasies": 0}, "fantasies"),
        ({"eta": 1}, "eta"),
        ({"most": 3}, "at least 20"),
    ):
        with pytest.raises(ArgumentError, match=words):
            Mobster(**options)
