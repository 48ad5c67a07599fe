"""The conformance suite of schedulers: each law of the interface, under delays, failures and losses.

A subclass with a fixture ``scheduler`` inherits the tests:

    class TestMine(SchedulerSuite):
        @pytest.fixture
        def scheduler(self):
            return Mine(eta=4)

A scheduler with the tag ``multi-fidelity`` that halves declares a field ``eta``: the law of promotion is read
from it. One without (it promotes by another rule) is held to the other laws.
The file is long because it stands alone: the driver replaces the engine, so that schedulers are tested
without it.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from foretune.base.codec import from_json, to_json
from foretune.base.key import Key
from foretune.schedule.scheduler import Action, Done, Resume, Scheduler, Start, Wait
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.trial.constraint import Constraint
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, RUNNING, WAITING, Plan, Trial

__all__ = ["Drive", "SchedulerSuite", "Weather", "weathers"]

WORSE = 1e6  # losses of trials that break a constraint begin here: those of the suite are below 3
_SPACE = Space({"x": Float(0.0, 1.0)})


@dataclass(frozen=True)
class Weather:
    """The circumstances of one simulated study.

    Attributes:
        seed: all draws come from it.
        high, low: the ends of the fidelity axis.
        trials: how many trials may be started.
        workers: how many trials run at once.
        known: whether the problem says how many trials there may be, or only the driver knows.
        failures: probability that a plan fails. losses: that its worker vanishes.
        diverging: probability that a trial reports NaN from some step on.
        mute: probability that a trial never reports the goal's metric.
        levels: losses are rounded to this many values, which makes ties; 0 for none.
        queued: how many configs the user adds before the study begins.
        direction: of the goal.
        breaking: probability that a trial breaks a constraint from some step on; with 0 there is none.
    """

    seed: int
    high: float = 27
    low: float = 1
    trials: int = 40
    workers: int = 4
    known: bool = True
    failures: float = 0.0
    losses: float = 0.0
    diverging: float = 0.0
    mute: float = 0.0
    levels: int = 0
    queued: int = 0
    direction: str = "min"
    breaking: float = 0.0

    @property
    def calm(self) -> bool:
        """Whether every plan ends with a finite loss."""
        return self.failures == self.diverging == self.mute == 0.0

    def problem(self) -> Problem:
        """Return the problem that schedulers are shown."""
        return Problem(
            _SPACE,
            (Goal("loss", self.direction),),
            Fidelity(self.high, self.low),
            Key.of(self.seed),
            self.trials if self.known else None,
            (Constraint("memory", "<=", 1.0),) if self.breaking else (),
        )


def weathers(n: int, seed: int = 0) -> Iterator[Weather]:
    """Yield ``n`` random circumstances, from calm to stormy, always the same for a seed."""
    draw = np.random.default_rng(seed)
    for i in range(n):
        stormy = i % 2 == 1
        high = float(draw.choice([1, 2, 9, 10, 27, 81, 0.5, 12.5]))
        yield Weather(
            seed=int(draw.integers(2**31)),
            high=high,
            low=high if draw.random() < 0.1 else float(draw.choice([high / 27, high / 9, high / 2])),
            trials=int(draw.choice([1, 2, 5, 20, 60])),
            workers=int(draw.integers(1, 17)),
            known=bool(draw.random() < 0.7),
            failures=float(draw.choice([0.0, 0.1, 0.4, 1.0], p=[0.3, 0.4, 0.25, 0.05])) if stormy else 0.0,
            losses=float(draw.choice([0.0, 0.3])),
            diverging=float(draw.choice([0.0, 0.2])) if stormy else 0.0,
            mute=float(draw.choice([0.0, 0.1])) if stormy else 0.0,
            levels=int(draw.choice([0, 3])),
            queued=int(draw.choice([0, 0, 3])),
            direction=str(draw.choice(["min", "max"])),
        )


@dataclass
class Drive:
    """One study in memory, driven to its end; each action of the scheduler is checked as it comes.

    Attributes:
        history, log: what happened.
        done: the reason of the end.
    """

    scheduler: Scheduler
    weather: Weather
    history: History = field(init=False)
    log: list[Event] = field(init=False, default_factory=list)
    done: str = ""

    def __post_init__(self) -> None:
        self.problem = self.weather.problem()
        self.history = History(self.problem)
        self._draw = self.problem.key.fold("weather").generator()
        self._queue: list[tuple[float, int, float]] = []  # (time, number, step of the next report)
        self._now = 0.0
        self._entries = 0

    # -- the engine's part -----------------------------------------------------------------------

    def run(self) -> Drive:
        """Run to the end.

        Raises:
            AssertionError: a law is broken; the message says which.
        """
        w = self.weather
        for _ in range(min(w.queued, w.trials)):
            self._emit("add", len(self.history), config={"x": 0.5}, plan=[0, 0], reason="queued")
        ladder = self.problem.steps.rungs(getattr(self.scheduler, "eta", 3))
        limit = 40 * w.trials * (len(ladder) + 1) + 100
        for _ in range(limit):
            if not self._hand_out():
                return self
            self._serve()
        raise AssertionError(f"every path ends in Done: nothing was done after {limit} events of {w}")

    def _hand_out(self) -> bool:
        """Give work to free workers; return whether anything runs."""
        while self.history.count(RUNNING) < self.weather.workers:
            lost = [n for n in self.history.numbers(WAITING) if self.history.plan(n).until > 0]
            if lost:
                self._begin(Resume(lost[0], self.history.plan(lost[0]), "taken up again"))
                continue
            action = self._ask()
            running = self.history.count(RUNNING)
            queued = self.history.numbers(WAITING)
            if isinstance(action, Start) and queued:
                action = Resume(queued[0], action.plan, "queued")
            beyond = isinstance(action, Start) and len(self.history) >= self.weather.trials
            if isinstance(action, (Done, Wait)) or beyond:
                if not running:
                    self.done = action.reason
                return running > 0
            self._begin(action)
        return True

    def _ask(self) -> Action:
        key = self.problem.key.fold("next", len(self.history))
        action = self.scheduler.next(self.problem, self.history, key)
        self._check(action)
        if self._draw.random() < 0.1:
            self._check_pure(action, key)
        return action

    def _begin(self, action: Start | Resume) -> None:
        number = action.number if isinstance(action, Resume) else len(self.history)
        if isinstance(action, Resume):
            self._emit("resume", number, plan=list(action.plan), reason=action.reason)
        else:
            self._emit("start", number, config={"x": 0.5}, plan=list(action.plan), reason=action.reason)
        self._schedule(number)

    def _schedule(self, number: int) -> None:
        trial = self.history[number]
        rungs = self.problem.steps.rungs(getattr(self.scheduler, "eta", 3))
        ahead = [s for s in (*rungs, trial.plan.until) if trial.step < s <= trial.plan.until]
        at = self._now + float(self._draw.exponential())
        heapq.heappush(self._queue, (at, number, min(ahead, default=trial.plan.until)))

    def _serve(self) -> None:
        """Let the next running trial report, fail, or be lost."""
        self._now, number, step = heapq.heappop(self._queue)
        w, u = self.weather, float(self._draw.random())
        if u < w.failures:
            self._emit("fail", number, reason="simulated failure")
            return
        if u < w.failures + w.losses * (1 - w.failures) and self.history[number].tries < 3:
            self._emit("lose", number, reason="simulated loss")
            return
        value = self._value(number, step)
        values: dict[str, Any] = {"time": 1.0} if value is None else {"loss": value}
        if w.breaking:
            values["memory"] = self._memory(number, step)
        self._emit("report", number, step=step, values=values, seconds=self._now)
        trial = self.history[number]
        if step >= trial.plan.until:
            if step >= self.problem.steps.high:
                self._emit("complete", number, reason="full length")
            else:
                self._emit("pause", number, reason="rung")
            return
        word = "go"
        if "judges" in self.scheduler.tags:
            verdict = self.scheduler.judge(self.problem, self.history, trial)
            self._check_verdict(trial, verdict.word)
            word = verdict.word
        if word == "go":
            self._schedule(number)
        else:
            self._emit(word, number, reason="verdict")

    def _value(self, number: int, step: float) -> float | str | None:
        """Return the trial's metric: curves that fall with the step and sometimes cross."""
        w = self.weather
        draw = self.problem.key.fold("trial", number).generator()
        floor, slope, mute, diverging, since = draw.random(5)
        if mute < w.mute:
            return None
        if diverging < w.diverging and step > since * self.problem.steps.high:
            return "NaN"
        loss = float(floor + slope / (1.0 + step))
        if w.levels:
            loss = math.floor(loss * w.levels) / w.levels
        return loss if w.direction == "min" else -loss

    def _memory(self, number: int, step: float) -> float:
        """Return the trial's metric that is bounded by 1."""
        breaks, since, much = self.problem.key.fold("memory", number).generator().random(3)
        return (
            1.5 + float(much)
            if breaks < self.weather.breaking and step > since * self.problem.steps.high
            else 0.5
        )

    def _emit(self, kind: str, number: int, **data: Any) -> None:
        event = Event(kind, number, self._now, data)
        self.log.append(event)
        self.history.apply([event])

    # -- the laws ---------------------------------------------------------------------------------

    def _check(self, action: Action) -> None:
        history = self.history
        if isinstance(action, Wait):
            assert history.count(RUNNING), f"Wait only while a trial is running: {action.reason!r}"
        elif isinstance(action, Start):
            self._check_plan(action.plan)
        elif isinstance(action, Resume):
            assert 0 <= action.number < len(history), f"Resume names a trial that exists: {action}"
            trial = history[action.number]
            assert trial.state in (PAUSED, WAITING), (
                f"Resume names a paused or waiting trial; {action.number} is {trial.state}"
            )
            self._check_plan(action.plan)
            if trial.state == PAUSED:
                assert action.plan.until > trial.plan.until, (
                    f"until grows strictly: {trial.plan} {action.plan}"
                )
                assert action.plan.bracket == trial.plan.bracket, "a promotion keeps the bracket"
                if "multi-fidelity" in self.scheduler.tags and hasattr(self.scheduler, "eta"):
                    self._check_promotion(trial, action.plan)
                self._check_feasibility(trial)

    def _check_plan(self, plan: Plan) -> None:
        high = self.problem.steps.high
        assert 0 < plan.until <= high, f"a plan's until is in (0, {high:g}]: {plan}"

    def _check_promotion(self, trial: Trial, plan: Plan) -> None:
        """At each promotion the trial is among the best floor(n / eta) of its rung at that moment."""
        eta: float = self.scheduler.eta  # type: ignore[attr-defined]
        step, bracket = trial.plan.until, trial.plan.bracket
        losses: list[float] = []
        empty = 0  # places of this rung that stay empty, as a trial failed or diverged before
        mine = math.inf
        for other in self.history:
            if other.plan.bracket != bracket or (other.state == WAITING and other.plan.until <= 0):
                continue
            settled = other.state not in (RUNNING, WAITING)
            loss = _loss_at(other, step, self.problem)
            if settled and other.state == FAILED and other.plan.until == step:
                loss = math.inf
            if math.isnan(loss) and settled and other.plan.until >= step:
                loss = math.inf
            if not math.isnan(loss):
                losses.append(loss)
            elif settled:
                there = _loss_at(other, other.plan.until, self.problem)
                empty += other.state == FAILED or not math.isfinite(there)
            if other.number == trial.number:
                mine = loss
        best = math.floor((len(losses) + empty) / eta)
        alone = not self.history.count(RUNNING) and plan.until == self.problem.steps.high
        if "finishes" in self.scheduler.tags and alone:  # the winner, when all else has ended
            waiting = [t for t in self.history if t.state == PAUSED and t.plan.until == step]
            assert all(not _loss_at(t, step, self.problem) < mine for t in waiting), (
                f"the winner is the best that waits: trial {trial.number} is not, at step {step:g}"
            )
            return
        place = sum(loss < mine for loss in losses) + 1
        assert place <= best, (
            f"a promoted trial is among the best floor(n / eta) of its rung: trial {trial.number} is "
            f"{place} of {len(losses)} at step {step:g}, with eta {eta:g}"
        )

    def _check_feasibility(self, trial: Trial) -> None:
        """What breaks a constraint goes on only where no trial that keeps them waits with it."""
        step, bracket = trial.plan.until, trial.plan.bracket
        if not WORSE <= _loss_at(trial, step, self.problem) < math.inf:
            return
        for other in self.history:
            waits = other.state == PAUSED and other.plan.until == step and other.plan.bracket == bracket
            assert not (waits and _loss_at(other, step, self.problem) < WORSE), (
                f"feasibility first: trial {trial.number} breaks a constraint at step {step:g} and goes on, while "
                f"trial {other.number}, which keeps them, waits there"
            )

    def _check_verdict(self, trial: Trial, word: str) -> None:
        if word == "stop" and trial.reports and self.weather.calm:
            mine = _loss_at(trial, trial.step, self.problem)
            others = [_loss_at(t, trial.step, self.problem) for t in self.history if t is not trial]
            assert any(x <= mine for x in others if not math.isnan(x)), "the best of a rung is not stopped"

    def _check_pure(self, action: Action, key: Key) -> None:
        """Same problem, history and key, same action; no global randomness is read or set."""
        state = random.getstate(), repr(np.random.get_state())
        random.seed(int(self._draw.integers(2**31)))
        mixed = random.getstate()
        again = self.scheduler.next(self.problem, self.history, key)
        anew = self.scheduler.next(self.problem, History(self.problem, self.log), key)
        untouched = random.getstate() == mixed and repr(np.random.get_state()) == state[1]
        random.setstate(state[0])
        assert untouched, "no global randomness is read or set"
        assert again == action, f"same arguments, same action: {action} and {again}"
        assert anew == action, f"a history read anew leads to the same action: {action} and {anew}"

    def arrivals(self) -> Counter[tuple[int, float]]:
        """Count the trials that reported at or beyond each rung of the scheduler's plan."""
        count: Counter[tuple[int, float]] = Counter()
        for rung in self.scheduler.plan(self.problem, self.weather.trials):
            for trial in self.history:
                if trial.plan.bracket == rung.bracket and trial.step >= rung.step:
                    count[rung.bracket, rung.step] += 1
        return count


def _loss_at(trial: Trial, step: float, problem: Problem) -> float:
    """Return the loss of the first report at or after a step; NaN if there is none.

    That of a trial which breaks a constraint, as far as is known there, is raised above all that do not.
    """
    known: dict[str, float] = {}
    for report in trial.reports:
        known.update(report.values)
        if report.step >= step and problem.goal.metric in report.values:
            loss = History.loss_of(report.values[problem.goal.metric], problem.goal.sign)
            broken = sum(max(0.0, c.violation(known.get(c.metric))) for c in problem.constraints)
            return loss if not broken > 0.0 or math.isinf(loss) else WORSE * (1.0 + broken)
    return math.nan


class SchedulerSuite:
    """Inherit, and give the scheduler as a fixture of that name.

    Attributes:
        studies: how many simulated studies each test drives.
    """

    studies = 30

    def test_laws_hold_in_any_weather(self, scheduler: Scheduler) -> None:
        """Every path ends in Done, and every action on it is lawful: see ``Drive``."""
        for weather in weathers(self.studies):
            drive = Drive(scheduler, weather).run()
            assert drive.done
            assert drive.history.count(RUNNING) == 0
            assert len(drive.history) <= weather.trials

    def test_feasibility_comes_first(self, scheduler: Scheduler) -> None:
        """All laws hold where trials break a constraint on the way: those that keep it go on before them."""
        for weather in weathers(self.studies // 2, seed=1):
            drive = Drive(scheduler, replace(weather, breaking=0.5)).run()
            assert drive.done

    def test_a_lone_trial_and_a_single_rung_work(self, scheduler: Scheduler) -> None:
        """One trial, one worker, or steps.low equal to steps.high are studies like any other."""
        for trials, high, low in ((1, 1, 1), (1, 27, 1), (7, 5, 5), (3, 0.25, 0.01)):
            drive = Drive(scheduler, Weather(3, high=high, low=low, trials=trials, workers=1)).run()
            complete = drive.history.count(COMPLETE)
            assert complete >= (low == high)
            assert complete <= len(drive.history) == trials or drive.done

    def test_a_study_where_everything_fails_ends(self, scheduler: Scheduler) -> None:
        """If all trials fail, diverge or stay mute, the study ends all the same, without a result."""
        for storm in ({"failures": 1.0}, {"diverging": 1.0}, {"mute": 1.0}):
            for workers in (1, 5):
                drive = Drive(scheduler, Weather(1, trials=30, workers=workers, **storm)).run()  # type: ignore[arg-type]
                assert drive.done
                complete = drive.history.numbers(COMPLETE)
                assert not any(math.isfinite(drive.history.loss(n)) for n in complete)

    def test_plan_foretells_what_happens(self, scheduler: Scheduler) -> None:
        """Without failures, as many trials begin as planned, and the rungs get about the planned ones.

        A plan may be an expectation: rungs above the first are held to half of it, less one. Schedulers that
        judge reports may stop more, or fewer: of them only the first rung is checked.
        """
        for seed, trials, workers in ((0, 30, 1), (1, 61, 7), (2, 4, 3)):
            weather = Weather(seed, trials=trials, workers=workers)
            drive = Drive(scheduler, weather).run()
            rungs = scheduler.plan(weather.problem(), trials)
            assert rungs == scheduler.plan(weather.problem())
            arrived = drive.arrivals()
            lowest: dict[int, int] = {}
            for rung in rungs:
                assert rung.trials >= 0
                assert rung.steps >= 0
                assert 0 < rung.step <= weather.high
                first = rung.bracket not in lowest
                lowest.setdefault(rung.bracket, rung.trials)
                if first or "judges" not in scheduler.tags:
                    least = rung.trials if first else rung.trials // 2 - 1
                    assert arrived[rung.bracket, rung.step] >= least, rung
            assert sum(lowest.values()) == len(drive.history) <= trials

    def test_steps_planned_are_steps_spent(self, scheduler: Scheduler) -> None:
        """The planned steps of a rung are its trials times the way from the rung before."""
        way: dict[int, float] = {}
        for rung in scheduler.plan(Weather(0).problem(), 50):
            expected = rung.trials * (rung.step - way.get(rung.bracket, 0.0))
            assert math.isclose(rung.steps, expected)
            way[rung.bracket] = rung.step

    def test_is_a_frozen_value_that_survives_json(self, scheduler: Scheduler) -> None:
        """A scheduler is a frozen dataclass: equal to its copy, to its JSON, and unchanged by use."""
        assert dataclasses.is_dataclass(scheduler)
        before = to_json(scheduler)
        Drive(scheduler, Weather(5, trials=9)).run()
        assert to_json(scheduler) == before
        assert from_json(type(scheduler), json.loads(json.dumps(before))) == scheduler
        assert replace(scheduler) == scheduler
