"""One-epoch top-K, PASHA and multi-objective ASHA: what they promote, and where they differ from their kin."""

from __future__ import annotations

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.numeric.curves.dominance import dominant_curves
from foretune.schedule import Done, Resume, make
from foretune.schedule.asha import Asha
from foretune.schedule.multi_objective_asha import MultiObjectiveAsha, order
from foretune.schedule.one_epoch_top_k import OneEpochTopK
from foretune.schedule.pasha import Pasha, agree, tolerance
from foretune.space import Fidelity, Float, Space
from foretune.study.study import Study
from foretune.testing.schedulers import Drive, Weather
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

SPACE = Space({"x": Float(0.0, 1.0)})


def train(curve):
    """Make a training function of curve(x, step)."""

    def function(config, run):
        for step in range(run.start, run.until):
            run.report(step + 1, loss=curve(config["x"], step + 1))

    return function


# -- one epoch, top K -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 6])
def test_the_k_best_of_the_first_step_go_to_the_end(workers) -> None:
    """Exactly K trials come to the last step: the best of all, judged when all have been seen."""
    drive = Drive(OneEpochTopK(k=4), Weather(1, high=27, trials=30, workers=workers, losses=0.2)).run()
    first = drive.history.rung(1)
    best = sorted(first, key=lambda n: (first[n], n))[:4]
    assert sorted(best) == drive.history.numbers("complete")
    assert len(drive.history) == 30
    assert sum(t.step for t in drive.history) == 26 + 4 * 27
    failing = Drive(OneEpochTopK(k=4), Weather(1, high=27, trials=30, workers=workers, failures=0.3)).run()
    assert failing.history.count("complete") <= 4


def test_dominant_curves_finds_clusters_and_crossings() -> None:
    """Nested curves: a cluster each, no crossing, K = 1. Reversed ones: one cluster, all pairs cross, K = n."""
    t = np.arange(1, 28)
    level = np.arange(10.0)[:, None]
    nested = dominant_curves(level + 1.0 / t)
    assert nested.clusters.tolist() == list(range(10))
    assert (nested.crossing_rate, nested.needed) == (0.0, 1)
    assert nested.regret.tolist() == [0.0] * 10
    crossing = dominant_curves(level + (10.0 - 2.0 * level) / t)
    assert set(crossing.clusters.tolist()) == {0}
    assert (crossing.crossing_rate, crossing.needed) == (1.0, 10)
    assert crossing.regret[0] == pytest.approx(9.0 - 18.0 / 27)
    broken = dominant_curves([[1.0, np.nan], [2.0, 1.0], [3.0, 2.0]])
    assert broken.needed == 2
    assert np.isinf(broken.regret[0])
    with pytest.raises(ArgumentError, match="curves, positions"):
        dominant_curves([1.0, 2.0])


# -- PASHA ------------------------------------------------------------------------------------------


def test_pasha_stops_growing_where_rankings_are_stable() -> None:
    """Curves that never cross: nobody but the winner goes beyond the second rung; less than half of ASHA's steps.

    The best is ASHA's. The winner alone is trained to the end, when all else has ended; with ``final=False`` it is not.
    """
    curve = train(lambda x, step: x + 1.0 / step)
    ran = {}
    for name, scheduler in (("pasha", Pasha()), ("asha", "asha"), ("alone", Pasha(final=False))):
        study = Study(SPACE, steps=81, sampler="random", scheduler=scheduler, budget="40 trials")
        study.run(curve)
        ran[name] = study.history
    assert max(t.plan.until for t in ran["alone"]) == 3
    assert ran["alone"].best.config == ran["asha"].best.config
    assert sorted(t.plan.until for t in ran["pasha"])[-2:] == [3, 81]
    assert [t.number for t in ran["pasha"] if t.state == "complete"] == [ran["alone"].best.number]
    assert ran["pasha"].settled[-1] == ran["alone"].best.number
    assert ran["pasha"].best.config == ran["asha"].best.config
    assert ran["alone"].committed_steps < 0.5 * ran["asha"].committed_steps
    assert ran["pasha"].committed_steps == ran["alone"].committed_steps + 81 - 3
    assert all(a.config == b.config for a, b in zip(ran["pasha"], ran["asha"], strict=False))


def test_pasha_grows_where_rankings_change() -> None:
    """Curves whose order turns around at each rung unlock all rungs, and then it is ASHA."""
    curve = train(lambda x, step: (x if round(np.log(step) / np.log(3)) % 2 else -x) + 1.0 / step)
    study = Study(SPACE, steps=27, sampler="random", scheduler=Pasha(epsilon=0.0), budget="30 trials")
    study.run(curve)
    assert max(t.plan.until for t in study.history) == 27
    wide = Study(
        SPACE, steps=27, sampler="random", scheduler=Pasha(epsilon=2.0, final=False), budget="30 trials"
    )
    wide.run(curve)
    assert max(t.plan.until for t in wide.history) == 3, "within epsilon nothing is a change"


def test_pashas_winner_is_replaced_where_it_fails() -> None:
    """A winner that fails on its last way gives its place to the next; nothing else is unlocked by either."""
    curve = train(lambda x, step: x + 1.0 / step)
    failed = []

    def failing(config, run):
        if run.until == 27 and len(failed) < 2:
            failed.append(run.number)
            raise RuntimeError("broken")
        return curve(config, run)

    study = Study(SPACE, steps=27, sampler="random", scheduler=Pasha(), budget="20 trials")
    study.run(failing)
    assert study.history.numbers("failed") == sorted(failed)
    assert study.history.count("complete") == 1
    assert sum(t.plan.until == 27 for t in study.history) == 3
    assert sum(t.plan.until == 9 for t in study.history) == 0


def test_soft_rankings() -> None:
    """Rankings agree when each place is taken by a trial within epsilon; noise is read off double crossings."""
    lower = {1: 0.10, 2: 0.12, 3: 0.30}
    assert agree({1: 0.1, 2: 0.2, 3: 0.3}, lower, 0.0)
    assert not agree({2: 0.1, 1: 0.2, 3: 0.3}, lower, 0.01)
    assert agree({2: 0.1, 1: 0.2, 3: 0.3}, lower, 0.02)
    assert not agree({3: 0.1, 1: 0.2, 2: 0.3}, lower, 0.02)
    steps = [1, 2, 3, 4]
    flat, zigzag, far = [1.0] * 4, [1.1, 0.9, 1.05, 1.04], [2.0] * 4
    assert tolerance([(steps, flat), (steps, zigzag), (steps, far)]) == pytest.approx(0.04)
    assert tolerance([(steps, flat), (steps, far)]) == 0.0


# -- several goals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [2, 3])
def test_with_one_goal_it_is_asha(eta) -> None:
    """The same decisions in the same order, failures and divergence included."""
    for seed in range(2):
        weather = Weather(seed, trials=40, workers=5, failures=0.1, diverging=0.2, mute=0.1, levels=3)
        logs = [
            [(e.kind, e.number, e.data.get("plan")) for e in Drive(scheduler, weather).run().log]
            for scheduler in (MultiObjectiveAsha(eta), Asha(eta))
        ]
        assert logs[0] == logs[1]


def test_non_dominated_trials_are_promoted_first() -> None:
    """Of nine trials at a rung the three of the front go on; a trial that diverged in one goal never does."""
    problem = Problem(SPACE, (Goal("loss"), Goal("accuracy", "max")), Fidelity(9, 1), budget_trials=9)
    points = [(1, 1), (2, 2), (3, 3), (2, 1), (3, 2), (4, 3), (5, 1), ("NaN", 9), (6, 2.5)]
    events = []
    for n, (loss, accuracy) in enumerate(points):
        events.append(Event("start", n, 0.0, {"config": {"x": 0.5}, "plan": [1, 0], "reason": "r"}))
        values = {"loss": loss, "accuracy": accuracy}
        events.append(Event("report", n, 0.0, {"step": 1, "values": values, "seconds": 1.0}))
        events.append(Event("pause", n, 0.0, {"reason": "rung"}))
    history = History(problem, events)
    promoted = []
    while isinstance(action := make("multi_objective_asha").next(problem, history, problem.key), Resume):
        promoted.append(action.number)
        data = {"plan": list(action.plan), "reason": action.reason}
        history.apply(
            [Event("resume", action.number, 0.0, data), Event("fail", action.number, 0.0, {"reason": "r"})]
        )
    assert sorted(promoted) == [0, 1, 2]
    assert isinstance(action, Done)


def test_within_a_front_the_lonely_come_first() -> None:
    """Ends first, then the point with the widest gap; dominated points behind all of the front."""
    rows = [[0.0, 10.0], [1.0, 8.9], [1.1, 8.8], [5.0, 4.0], [10.0, 0.0], [9.0, 9.0]]
    assert order(rows)[:3] == [0, 4, 3]
    assert order(rows)[-1] == 5
    assert order([[2.0], [1.0], [1.0]]) == [1, 2, 0]
    assert order([[np.nan, 0.0], [5.0, 5.0]]) == [1, 0]
