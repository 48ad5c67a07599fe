"""Every registered scheduler keeps the laws, and broken ones are caught."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest

from foretune.base.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from foretune.schedule import make, names
from foretune.schedule.asha import Asha
from foretune.schedule.scheduler import Action, Done, Resume, Scheduler, Start, Wait
from foretune.testing.schedulers import Drive, SchedulerSuite, weathers
from foretune.trial.history import History
from foretune.trial.trial import Plan

# options that are tried wherever a scheduler has them
OPTIONS = (("eta", 2), ("eta", 2.5), ("brackets", 3), ("rounds", 1), ("trials", 9), ("low", 0.3))


def every() -> Iterator[Scheduler]:
    """Each scheduler with its defaults, and with each option it has."""
    for name in names():
        plain = make(name)
        yield plain
        fields = {f.name for f in dataclasses.fields(plain)}
        for option, value in OPTIONS:
            if option in fields:
                yield make(name, **{option: value})


class TestEveryScheduler(SchedulerSuite):
    """The public suite over all registered schedulers."""

    @pytest.fixture(params=list(every()), ids=repr)
    def scheduler(self, request: pytest.FixtureRequest) -> Scheduler:
        return request.param


def drive_all(scheduler: Scheduler) -> list[str]:
    """Drive a scheduler through all weathers; return the reasons of the ends."""
    return [Drive(scheduler, weather).run().done for weather in weathers(30)]


@dataclass(frozen=True)
class Broken(Scheduler):
    """ASHA with a defect, for the negative controls."""

    eta: float = 3
    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity"})

    def next(self, problem, history, key) -> Action:
        return Asha(self.eta).next(problem, history, key)

    def plan(self, problem, trials=None):
        return Asha(self.eta).plan(problem, trials)


class PromotesTheWorst(Broken):
    def next(self, problem, history, key):
        if history.count("paused") >= 3:
            worst = max(history.numbers("paused"), key=lambda n: (history.loss(n), n))
            up = [s for s in problem.steps.rungs(self.eta) if s > history.plan(worst).until]
            return Resume(worst, Plan(up[0]), "the last shall be first")
        return super().next(problem, history, key)


class Hangs(Broken):
    def next(self, problem, history, key):
        action = super().next(problem, history, key)
        return Wait("for ever") if isinstance(action, Done) else action


class NeverEnds(Broken):
    def next(self, problem, history, key):
        action = super().next(problem, history, key)
        ended = isinstance(action, Done) and history.count("complete")
        return Resume(history.numbers("complete")[0], Plan(problem.steps.high), "again") if ended else action


class ResumesRunning(Broken):
    def next(self, problem, history, key):
        if history.count("running"):
            number = history.numbers("running")[0]
            return Resume(number, Plan(problem.steps.high), "two workers are better than one")
        return super().next(problem, history, key)


class StandsStill(Broken):
    def next(self, problem, history, key):
        if history.count("paused"):
            number = history.numbers("paused")[0]
            return Resume(number, history.plan(number), "to where it is")
        return super().next(problem, history, key)


class ReadsGlobalRandomness(Broken):
    def next(self, problem, history, key):
        import random

        random.random()
        return super().next(problem, history, key)


class RemembersCalls(Broken):
    calls: ClassVar[list[int]] = []

    def next(self, problem, history, key):
        self.calls.append(1)
        action = super().next(problem, history, key)
        if isinstance(action, Start):
            return dataclasses.replace(action, reason=f"call {len(self.calls)}")
        return action


class LooksAtIdentity(Broken):
    def next(self, problem, history, key):
        action = super().next(problem, history, key)
        return dataclasses.replace(action, reason=f"seen in {id(history)}")


class IgnoresConstraints(Broken):
    def next(self, problem, history, key):
        blind = copy.copy(history)
        blind.problem, blind._rungs = dataclasses.replace(problem, constraints=()), {}
        return super().next(problem, blind, key)


def test_suite_catches_schedulers_that_ignore_constraints() -> None:
    """Negative control: it keeps the laws without constraints, and fails where there are any."""
    assert all(drive_all(IgnoresConstraints()))
    SchedulerSuite().test_feasibility_comes_first(Broken())
    with pytest.raises(AssertionError, match=r"among the best|feasibility first"):
        SchedulerSuite().test_feasibility_comes_first(IgnoresConstraints())


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (PromotesTheWorst, "among the best"),
        (Hangs, "Wait only while"),
        (NeverEnds, "paused or waiting"),
        (ResumesRunning, "paused or waiting"),
        (StandsStill, "grows strictly"),
        (ReadsGlobalRandomness, "no global randomness"),
        (RemembersCalls, "same arguments, same action"),
        (LooksAtIdentity, "read anew"),
    ],
)
def test_suite_catches_broken_schedulers(broken: type[Broken], law: str) -> None:
    """Negative control: each broken law is found, by its name."""
    with pytest.raises(AssertionError, match=law):
        drive_all(broken())


def test_suite_passes_the_unbroken_base() -> None:
    """The base of the negative controls keeps all laws, so it is the defect that is caught."""
    assert all(drive_all(Broken()))


def test_make_names_and_errors() -> None:
    """Names give schedulers, schedulers pass, and mistakes are told with what is accepted."""
    assert {"full", "successive_halving", "hyperband", "asha"} <= set(names())
    ready = Asha(4)
    assert make(ready) is ready
    with pytest.raises(UnknownNameError, match="Did you mean 'hyperband'"):
        make("hyperbnd")
    with pytest.raises(ArgumentError, match="has no option 'etta'"):
        make("asha", etta=3)
    with pytest.raises(ArgumentTypeError, match="ready"):
        make(ready, eta=3)
    with pytest.raises(ArgumentTypeError, match="Scheduler"):
        make(3)  # type: ignore[arg-type]
    for name in names():
        if "eta" in {f.name for f in dataclasses.fields(make(name))}:
            for bad in (1, 0.5, float("nan"), float("inf")):
                with pytest.raises(ArgumentError, match="eta"):
                    make(name, eta=bad)
            with pytest.raises(ArgumentTypeError, match="eta"):
                make(name, eta="three")


def test_history_with_no_trials_asks_for_one() -> None:
    """Every scheduler starts with a new trial."""
    for scheduler in every():
        problem = next(weathers(1)).problem()
        assert isinstance(scheduler.next(problem, History(problem), problem.key), Start)
