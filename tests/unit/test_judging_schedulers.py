"""Median stopping, patience and Wilcoxon: what is stopped, what goes on, and what the reasons say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretune.base.errors import ArgumentError, UnknownNameError
from foretune.schedule import make
from foretune.schedule.wilcoxon import worse
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

HIGH = 10


class Bench:
    """A study driven by hand: trials one after the other, judged at each report."""

    def __init__(self, scheduler, direction="min", high=HIGH):
        self.problem = Problem(Space({"x": Float(0, 1)}), (Goal("m", direction),), Fidelity(high))
        self.history = History(self.problem)
        self.scheduler = scheduler
        self.sign = self.problem.goal.sign

    def emit(self, kind, number, **data):
        self.history.apply([Event(kind, number, 0.0, data)])

    def run(self, values, name="m", result=None):
        """Run one trial with these losses at steps 1, 2, ...; return the last verdict."""
        number, high = len(self.history), self.problem.steps.high
        self.emit("start", number, config={"x": 0.5}, plan=[high, 0], reason="next")
        verdict = None
        for step, value in enumerate(values, 1):
            told = {name: self.sign * value if math.isfinite(value) else "NaN"}
            self.emit("report", number, step=step, values=told, seconds=step)
            if step < high:
                verdict = self.scheduler.judge(self.problem, self.history, self.history[number])
                if verdict.word != "go":
                    self.emit(verdict.word, number, reason=verdict.reason)
                    return verdict
        extra = {} if result is None else {"values": {"m": self.sign * result}, "step": high}
        self.emit("complete", number, reason="full length", **extra)
        return verdict


def flat(level):
    return [level] * HIGH


@pytest.mark.parametrize("direction", ["min", "max"])
def test_median_stopping_is_vizier_s_rule(direction) -> None:
    """Stopped when its best so far is worse than the median of the others' running averages, not before."""
    bench = Bench(make("median_stopping", least=3, grace=2), direction)
    for level in (1.0, 2.0, 3.0):
        bench.run(flat(level))
    assert bench.history.count("complete") == 3
    good = bench.run(flat(1.5))
    assert good.word == "go"
    # falling averages: others at 1, 2, 3 and 1.5; the median of the running averages is 1.75
    bad = bench.run([9.0, 1.8, 0.1, *flat(5.0)][:HIGH])
    assert bad.word == "stop"
    assert bench.history[4].step == 2
    assert "1.75" in bad.reason
    assert "median of 4 at step 2" in bad.reason
    late = bench.run([9.0, 1.7, *flat(5.0)][:HIGH])
    assert late.word == "go", "its best so far counts, not its present loss"
    assert bench.run([math.nan] * HIGH).word == "stop"


def test_median_stopping_waits_for_company_and_grace() -> None:
    """With fewer others than asked for, or before the grace step, nobody is stopped."""
    bench = Bench(make("median_stopping", least=2, grace=HIGH))
    for level in (1.0, 1.0, 9.0):
        assert bench.run(flat(level)).word == "go"
    lonely = Bench(make("median_stopping", least=5))
    for level in (1.0, 2.0, 3.0, 4.0, 5.0):
        assert lonely.run(flat(level)).word == "go"
    assert lonely.run(flat(9.0)).word == "stop"


def test_patience_counts_reports_without_improvement() -> None:
    """Stopped after that many reports without a gain of at least the asked size; the best of a step goes on."""
    bench = Bench(make("patience", reports=3, least=0.1))
    assert bench.run(flat(1.0)).word == "go", "a lone trial is the best of its step"
    stopped = bench.run([2.0, 1.95, 1.94, 1.93, 1.92, 1.9, 1.9, 1.9, 1.9, 1.9])
    assert stopped.word == "stop"
    assert bench.history[1].step == 4, "1.93 has not come 0.1 below 2.0 for three reports"
    assert "3 reports, since step 1" in stopped.reason
    falling = [3.0 - 0.15 * i for i in range(HIGH)]
    assert bench.run(falling).word == "go"
    assert bench.run([math.nan] * HIGH).word == "stop"


def test_patience_around_another_scheduler() -> None:
    """With an inner scheduler a stagnant trial is stopped only if that one says so, and no moving one is."""
    plain, patient = make("median_stopping", least=1), make("patience", reports=3, inner="median_stopping")
    bump = [0.9, 5.0, 5.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1]
    for scheduler, words in ((plain, "stop"), (patient, "go")):
        bench = Bench(scheduler)
        for _ in range(6):
            bench.run([1.0, *flat(0.6)][:HIGH])
        assert bench.run([1.1, *bump[1:]]).word == words
    bench = Bench(patient)
    for _ in range(6):
        bench.run(flat(1.0))
    assert bench.run(flat(2.0)).word == "stop"
    assert bench.run(flat(0.5)).word == "go"
    with pytest.raises(ArgumentError, match="judges reports"):
        make("patience", inner="asha")
    with pytest.raises(UnknownNameError, match="median_stopping"):
        make("patience", inner="median_stoping")


def test_wilcoxon_stops_what_is_surely_worse() -> None:
    """On the same instances a trial that loses on nearly all is stopped early, one that wins is not."""
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 10, 40)
    bench = Bench(make("wilcoxon", threshold=0.05), high=40)
    assert bench.run(hardness).word == "go"
    bad = bench.run(hardness + rng.normal(1.0, 0.3, 40))
    assert bad.word == "stop"
    assert bench.history[1].step <= 8, "instances differ by ten, the trials by one: pairing tells"
    assert "mean" in bad.reason
    assert "p = 0.0" in bad.reason
    assert bench.run(hardness - 1.0).word == "go"
    assert "trial 2" in bench.run(hardness + 2.0).reason, "the rival is the complete trial of the best mean"


def test_wilcoxon_seldom_stops_an_equal() -> None:
    """Of 20 trials as good as the best, a test at 5 % repeated over 20 instances stops fewer than half.

    False alarm: with 20 trials and a stopping rate of at most 0.25 the chance of 10 or more is below 1.5 %.
    """
    stopped = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bench = Bench(make("wilcoxon", threshold=0.05, least=6), high=20)
        bench.run(rng.normal(size=20))
        stopped += bench.run(rng.normal(size=20)).word == "stop"
    assert stopped < 10


def test_wilcoxon_reads_a_metric_of_its_own() -> None:
    """Instances may be reported apart from the goal, which is then the mean that the function returns."""
    bench = Bench(make("wilcoxon", metric="fold"), high=10)
    bench.run([1.0] * 10, name="fold", result=1.0)
    assert bench.history[0].state == "complete"
    bench.emit("start", 1, config={"x": 0.5}, plan=[10, 0], reason="next")
    words = []
    for step in range(1, 10):
        bench.emit("report", 1, step=step, values={"fold": 2.0 + 0.01 * step, "m": 2.0}, seconds=step)
        words.append(bench.scheduler.judge(bench.problem, bench.history, bench.history[1]).word)
    assert words[:4] == ["go"] * 4
    assert "stop" in words


def test_wilcoxon_p_values_are_scipys() -> None:
    """Known values, ties and infinities."""
    assert worse([1, 2, 3], [1, 2, 3]) == 1.0
    assert worse([2, 3, 4, 5, 6], [1, 1, 1, 1, 1]) == pytest.approx(1 / 32)
    assert worse([math.inf] * 6, [1.0] * 6) < 0.05
    assert worse([1.0] * 6, [math.inf] * 6) > 0.9
