"""Iterative deepening Hyperband: a round like Hyperband's, then the same study at a larger last step."""

from __future__ import annotations

import math

import pytest

from foretune.base.errors import ArgumentError
from foretune.schedule import make
from foretune.schedule.hyperband import Hyperband, sizes
from foretune.schedule.iterative_deepening_hyperband import POLICIES, IterativeDeepeningHyperband
from foretune.space import Fidelity, Float, Space
from foretune.store.memory import MemoryStore
from foretune.study.study import Study
from foretune.testing.schedulers import Drive, Weather

SPACE = Space({"x": Float(0.0, 1.0)})


def loss(config, step):
    """Curves that cross: the order at the end is not that of the beginning."""
    return config["x"] + 2.0 * ((config["x"] * 7919) % 1.0) / math.sqrt(step)


class Counted:
    """Trains by counting steps, and remembers what was trained."""

    def __init__(self, track=True):
        self.track, self.spent, self.from_zero = track, 0, 0

    def __call__(self, config, run):
        class Model:
            def __init__(self):
                self.at = 0

            def state_dict(self):
                return {"at": self.at}

            def load_state_dict(self, state):
                self.at = state["at"]

        model = Model()
        if self.track:
            run.track(model=model)
        self.from_zero += run.start == 0
        assert not self.track or model.at == run.start, "it goes on from the checkpoint of where it starts"
        for step in range(run.start, run.until):
            self.spent += 1
            model.at = step + 1
            run.report(step + 1, loss=loss(config, step + 1))


def test_a_round_is_hyperbands() -> None:
    """Without an extension, each policy takes Hyperband's very decisions, whatever the workers."""
    for policy in POLICIES:
        for workers in (1, 5):
            weather = Weather(workers, high=27, trials=49, workers=workers, losses=0.1)
            ours = Drive(IterativeDeepeningHyperband(policy=policy), weather).run()
            theirs = Drive(Hyperband(rounds=1), weather).run()
            assert [(e.kind, e.number, e.data.get("plan")) for e in ours.log] == [
                (e.kind, e.number, e.data.get("plan")) for e in theirs.log
            ]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_finished_study_reopened_with_more_steps_loses_nothing(tmp_path, policy) -> None:
    """R = 9, then 27: no step is trained twice, brackets have Hyperband's sizes, each brings a trial to 27."""
    store, train = str(tmp_path / "s.db"), Counted()
    first = Study(SPACE, steps=9, sampler="random", scheduler=make("iterative_deepening_hyperband", policy=policy),
                  store=store)  # fmt: skip
    first.run(train)
    begun = {t.number: (t.config, t.reports) for t in first.history}
    assert len(begun) == 17
    assert train.spent == sum(t.step for t in first.history)
    second = Study(store=store, steps=27)
    assert second.history.count("complete") == 0
    result = second.run(train)
    history = result.history
    assert [sum(t.plan.bracket == b for t in history) for b in range(4)] == list(sizes(3, 4))
    assert train.spent == sum(t.step for t in history), "a step was trained twice"
    assert train.from_zero == len(history), "each trial began once, and was resumed ever after"
    for number, (config, reports) in begun.items():
        assert history[number].config == config
        assert history[number].reports[: len(reports)] == reports
    complete = [t for t in history if t.state == "complete"]
    assert {t.plan.bracket for t in complete} == set(range(4))
    assert all(t.step == 27 for t in complete)
    assert history.best.state == "complete"
    fresh = sum(r.steps for r in Hyperband(rounds=1).plan(second.problem))
    assert train.spent <= fresh + first.history.committed_steps


@pytest.mark.parametrize("seed", [2, 3])
def test_policies_differ_as_the_paper_says(seed) -> None:
    """Efficient trains the fewest steps; discard leaves old trials behind, which preserve may bring back."""
    spent, beyond = {}, {}
    for policy in POLICIES:
        store, train = MemoryStore(), Counted()
        options = {
            "sampler": "random",
            "scheduler": make("iterative_deepening_hyperband", policy=policy),
            "seed": seed,
        }
        study = Study(SPACE, steps=3, store=store, **options)
        study.run(train)
        promoted = {t.number for t in study.history if t.plan.bracket == 0 and t.plan.until >= 3}
        study.lengthen(9)
        study.run(train)
        spent[policy] = train.spent
        at3 = study.history.rung(3)
        members = sorted(study.history.rung(1).items(), key=lambda p: (p[1], p[0]))
        top = {n for n, _ in members if study.history.plan(n).bracket == 0}
        order = [n for n, _ in members if n in top][:3]
        gone = {n for n in top if n in at3}
        beyond[policy] = (promoted, set(order), gone)
    assert spent["efficient"] <= min(spent.values())
    promoted, order, gone = beyond["discard"]
    assert order <= gone == order | promoted, "the three best now, and those that were promoted before"
    promoted, order, gone = beyond["efficient"]
    assert promoted <= gone
    assert len(gone) == 3


def test_lengthening_twice_and_by_no_power_of_eta() -> None:
    """Steps may grow again and again, by any factor, while trials run, too."""
    train, scheduler = Counted(), IterativeDeepeningHyperband()
    study = Study(SPACE, steps=3, sampler="random", scheduler=scheduler)
    study.run(train)
    for steps in (9, 27):
        study.lengthen(steps)
        study.run(train)
    assert train.spent == sum(t.step for t in study.history)
    assert study.history.count("complete") >= 4
    odd = Study(SPACE, steps=10, sampler="random", scheduler=scheduler)
    odd.run(Counted())
    odd.lengthen(25)
    odd.run(Counted())
    assert odd.history.count("complete") >= 1
    assert all(t.step == 25 for t in odd.history if t.state == "complete")


def test_a_budget_of_trials_holds_across_the_extension() -> None:
    """No more trials begin than the budget allows; a larger one lets the brackets fill up."""
    study = Study(
        SPACE, steps=9, sampler="random", scheduler="iterative_deepening_hyperband", budget="17 trials"
    )
    study.run(Counted())
    study.lengthen(27)
    study.run(Counted())
    assert len(study.history) == 17
    assert study.history.count("complete") >= 1
    study.extend("49 trials")
    study.run(Counted())
    assert [sum(t.plan.bracket == b for t in study.history) for b in range(4)] == list(sizes(3, 4))


def test_steps_shrink_for_nobody(tmp_path) -> None:
    """Fewer steps, or another low end, are refused with the remedy; the log stays."""
    store = str(tmp_path / "s.db")
    Study(SPACE, steps=Fidelity(27, low=3), scheduler="asha", sampler="random", store=store)
    for steps in (9, 81, Fidelity(81, low=1)):
        with pytest.raises(ArgumentError, match=r"steps can become more.*low=3"):
            Study(store=store, steps=steps)
    opened = Study(store=store, steps=Fidelity(81, low=3))
    assert (opened.problem.steps.high, opened.problem.steps.low) == (81, 3)


def test_other_schedulers_go_on_too() -> None:
    """ASHA and full are lengthened likewise: complete trials are paused and judged anew, none starts again."""
    for scheduler, trials, least, most in (("asha", 27, 1, 8), ("full", 4, 4, 4)):
        study = Study(
            SPACE, steps=9, sampler="random", scheduler=scheduler, budget=f"{trials} trials", keep="all"
        )
        study.run(train := Counted())
        study.lengthen(27)
        study.run(train)
        assert train.spent == sum(t.step for t in study.history)
        assert least <= study.history.count("complete") <= most


def test_wrong_policies_are_refused() -> None:
    """A mistyped policy gets the nearest name."""
    with pytest.raises(ArgumentError, match="Did you mean 'preserve'"):
        IterativeDeepeningHyperband(policy="preserv")
