"""The study: problem + sampler + scheduler + store.

The engine of the house. It knows the protocols of samplers, schedulers, stores and executors, and no
algorithm by name. A study is its log: what is in memory is a fold, so that any number of processes may
hold the same study, and a process that dies takes nothing along.

Longer than most files here because ``next``, ``report`` and ``finish`` share one rule, which is easier to
check in one place: decisions are appended with compare-and-swap, facts about one's own trial without.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Union

from foretune.base import check
from foretune.base.clock import Clock, WallClock
from foretune.base.codec import plain
from foretune.base.errors import ArgumentError, ConflictError, StoreError, UnknownNameError, did_you_mean
from foretune.execute.failure import cut
from foretune.schedule.scheduler import Done, Resume, Rung, Scheduler, Start, Verdict, Wait
from foretune.search.sampler import Sampler
from foretune.search.wrapping import idle
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.store import open_store
from foretune.store.store import Store
from foretune.study.asking import AskCap, Asking
from foretune.study.budget import Budget
from foretune.study.checkpoints import Checkpoints
from foretune.study.deciding import decide
from foretune.study.description import problem_of
from foretune.study.ending import conclude
from foretune.study.giving_up import alike, hopeless, patience_of
from foretune.study.heartbeat import Heartbeat
from foretune.study.opening import (
    WHOLE_RUN,
    algorithm,
    as_space,
    creation,
    ends_by_itself,
    longer,
    must_agree,
    must_grow,
    must_hold,
)
from foretune.study.run import metrics_of
from foretune.study.worker import Worker, is_gone
from foretune.trial.event import DECISIONS, STUDY, Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, RUNNING, STOPPED, WAITING, Trial

if TYPE_CHECKING:
    from foretune.execute.executor import Executor
    from foretune.study.result import Result

__all__ = ["WHOLE_RUN", "Study"]

FRESH = 0.5  # seconds for which a report may be judged on what was read of other workers' doings
_KINDS = {PAUSED: "pause", STOPPED: "stop", COMPLETE: "complete", FAILED: "fail"}


class Study:
    """A study, new or taken up again from its store.

    Args:
        space: what may be chosen. May be left out for a study that the store already holds; a wider
            space than the stored one widens the study, a narrower one is refused.
        goal: ``"min loss"``, ``"max accuracy"``, a Goal, or several.
        sampler, scheduler: names or objects.
        steps: the length of a full trial (a number or a Fidelity); None if trials are not comparable
            before their end. More steps than the stored study has lengthen it, see :meth:`lengthen`.
        store: None (memory), a path of a SQLite file, or a Store.
        name: the study's name within the store.
        budget: ``"40 trials"``, ``"2h"``, ...: totals of the study over all workers and restarts.
        seed: root of all randomness; 0 unless given.
        clock: where the time comes from.
        tries: how many times a trial whose worker vanished is taken up again before it counts as failed.
        lease: seconds after which a silent worker on another machine is given up. On the same machine
            a dead worker is noticed at once.
        checkpoints: folder of the trials' checkpoints; beside the store unless given.
        keep: which checkpoints outlive their trial: "resumable", "best" or "all".
        constraints: bounds on further metrics, such as ``{"memory_gb": "<= 16"}``: only a trial whose last
            report keeps them all can be the best; samplers learn from the others too.
        ask_cap: processor time that an ask of the sampler may take on average: seconds, ``"2s"``, ``"5%"``
            of a trial's mean time, or ``"off"``. Unless given, 1 % for trials of ten seconds and more. What is
            dearer is spared now and then, by cheap proposals that say so.
        give_up: how many trials may fail alike, before any has a result, until the study stops and says so;
            3 of those that end without a metric of goal or constraint. 10 unless given; 0: never.
        about: anything JSON that shall stand in the study's first event (the command, the data, ...).

    Raises:
        SpaceError, ArgumentError: the description contradicts itself or the stored study.
        StoreError: the store cannot be opened.

    >>> from foretune.space import Float
    >>> study = Study(Space({"x": Float(-1, 1)}), goal="min y", sampler="random", budget="2 trials")
    >>> trial = study.next()
    >>> study.finish(trial.number, {"y": trial.config["x"] ** 2}).state
    'complete'
    """

    def __init__(
        self,
        space: Space | None = None,
        goal: Union[str, Goal, Sequence[Union[str, Goal]], None] = None,
        *,
        sampler: Union[str, Sampler[Any], None] = None,
        scheduler: Union[str, Scheduler, None] = None,
        steps: Union[float, Fidelity, None] = None,
        store: Union[str, Store, None] = None,
        name: str = "study",
        budget: Any = None,
        seed: int | None = None,
        clock: Clock | None = None,
        tries: int = 3,
        lease: float = 60.0,
        checkpoints: str | None = None,
        keep: str = "best",
        constraints: Any = None,
        about: Mapping[str, Any] | None = None,
        ask_cap: Union[float, str, AskCap, None] = None,
        give_up: int | None = None,
    ) -> None:
        self.name = check.name("name", name)
        self.store = open_store(store)
        self.clock = clock if clock is not None else WallClock()
        self.tries = check.integer("tries", tries, 0)
        self.lease = check.number("lease", lease, 0, open_low=True)
        cap = AskCap.parse(ask_cap)
        patience = None if give_up is None else check.integer("give_up", give_up, 0)
        check.one_of("keep", keep, ("resumable", "best", "all"))
        root = checkpoints or (f"{self.store.path}.checkpoints" if self.store.path else None)
        self.checkpoints = Checkpoints(root, name, keep)
        self._worker = Worker()
        self._heart = Heartbeat(self.store, self.name, self._worker, self.lease, self.clock)
        self._beats = self.store.path is not None and isinstance(self.clock, WallClock)
        wanted = as_space(space)

        log = self.store.read(self.name)
        if not log:
            log = self._create(
                wanted, goal, sampler, scheduler, steps, budget, seed, about, constraints, patience
            )
        first = log[0]
        if first.kind != "create":
            raise StoreError(
                f"The log of the study {self.name!r} is damaged: it does not begin with its creation. "
                "Run `foretune doctor` on the store."
            )
        self.about: Mapping[str, Any] = first.data
        self._history = History(problem_of(first.data))
        self._behind = False  # whether the store holds facts that have not been read
        self._read_at = self.clock.now()
        self._noted: dict[int, float] = {}  # last step of one's own trials that may not have been read
        self.seed: int = first.data["seed"]
        self.budget = Budget(**first.data["budget"])
        self.sampler: Sampler[Any] = algorithm("sampler", sampler, self.about, self.name)
        self.scheduler: Scheduler = algorithm("scheduler", scheduler, self.about, self.name)
        self._asking = Asking(self.sampler, self.problem, cap, isinstance(self.clock, WallClock))
        self._aside: list[Event] = []  # notes that go into the log with the next decision
        self._verdicts: dict[int, Verdict] = {}  # what one's own trials were told, other than "go"
        self._unpaid: set[int] = set()  # those that were told so because a budget ran out
        self._taken: dict[int, tuple[float, float]] = {}  # trial -> (its seconds, the time) when it was taken
        self._apply(log)
        self.give_up = patience_of(self.about) if patience is None else patience
        self._since = len(self._history.settled)  # failures before that have been seen, and perhaps mended
        must_agree(self.name, self.problem, self.seed, goal, steps, seed, constraints)
        if wanted is not None:
            self.widen(wanted)
        if steps is not None:
            self.lengthen(steps)
        if budget is not None:
            self._grow(Budget.parse(budget), opening=True)

    # -- opening ----------------------------------------------------------------------------------

    def _create(self, space: Space | None, *description: Any) -> Sequence[Event]:
        if space is None:
            known = list(self.store.studies())
            raise UnknownNameError(
                f"There is no study {self.name!r} in {self.store.path or 'memory'}, and no space to begin "
                f"one.{did_you_mean(self.name, known)} Studies there: {', '.join(known) or 'none'}."
            )
        data = creation(space, *description)
        with contextlib.suppress(ConflictError):  # another process was first: what it wrote counts
            self.store.append(self.name, [Event("create", STUDY, self.clock.now(), data)], 0)
        return self.store.read(self.name)

    def widen(self, space: Space) -> None:
        """Change to a wider space; all trials are carried over. Another order of the same changes nothing.

        Raises:
            SpaceError: the space is narrower or contradicts the present one; the differences are listed.
        """
        while space != self.problem.space and space.to_dict() != self.problem.space.to_dict():
            must_hold(self.name, self.problem.space, space)
            try:
                self._append([Event("space", STUDY, self.clock.now(), {"space": space.to_dict()})])
            except ConflictError:
                self.sync()

    def lengthen(self, steps: Union[float, Fidelity]) -> None:
        """Make full trials longer, whether the study has ended or not; nothing that was trained is lost.

        Trials that were complete are paused where they stand: the scheduler decides which go on. They
        do so from their checkpoints where these were kept (the best one's is; all with ``keep="all"`` or
        with a scheduler whose tags say ``extends``), else from step 0, and what they reported stands.

        Raises:
            ArgumentError: fewer steps than now, another low end, or a study without steps.

        >>> from foretune.space import Float
        >>> study = Study(Space({"x": Float(0, 1)}), steps=9, sampler="random", budget="1 trial")
        >>> study.finish(study.next().number, 0.5).state
        'complete'
        >>> study.lengthen(27)
        >>> study.history[0].state, study.next().plan.until
        ('paused', 27.0)
        """
        must_agree(self.name, self.problem, self.seed, None, steps, None)
        while (axis := longer(self.problem, steps)) != self.problem.steps:
            try:
                self._append([Event("steps", STUDY, self.clock.now(), {"steps": plain(axis)})])
            except ConflictError:
                self.sync()

    def extend(self, budget: Any) -> None:
        """Set a larger budget (a total, not an addition) and let the study go on.

        Parts that are not named stay as they are: "40 trials, 2h" extended to "80 trials" keeps its 2 h.
        Trials that were broken off when a budget ran out go on first, from their checkpoints.

        Raises:
            ArgumentError: the budget is smaller than the present one in some part.
        """
        self._since = len(self._history.settled)
        self._grow(Budget.parse(budget), opening=False)

    def _grow(self, named: Budget, opening: bool) -> None:
        while (wanted := named.over(self.budget)) != self.budget:
            must_grow(self.name, self.budget, named, opening)
            try:
                self._append([Event("budget", STUDY, self.clock.now(), {"budget": plain(wanted)})])
            except ConflictError:
                self.sync()

    # -- the log ----------------------------------------------------------------------------------

    @property
    def worker(self) -> str:
        """This holder's name: what trials that it runs carry."""
        return self._worker.name

    @worker.setter
    def worker(self, name: str) -> None:
        self._worker = self._heart.worker = Worker(name)

    @property
    def problem(self) -> Problem:
        """The problem as it stands now."""
        return self._history.problem

    @property
    def history(self) -> History:
        """All trials, one's own reports included; ``sync`` reads what others have appended since."""
        if self._behind:
            self.sync()
        return self._history

    @property
    def notes(self) -> Sequence[str]:
        """What a reader should know: the sampler raised, its asks were too dear, the study gave up."""
        return tuple(self._asking.words)

    @property
    def asks(self) -> tuple[int, float]:
        """How many asks of the sampler the log has, and the seconds of processor time that they took."""
        return self._asking.asks, self._asking.seconds

    def sync(self) -> None:
        """Read what others have appended."""
        self._read()

    def _read(self) -> Sequence[Event]:
        fresh = self.store.read(self.name, self._history.version)
        self._behind = False
        self._read_at = self.clock.now()
        self._noted.clear()
        if fresh:
            self._apply(fresh)
        return fresh

    def _apply(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.number == STUDY and event.kind == "budget":
                self.budget = Budget(**event.data["budget"])
            elif event.kind in ("start", "note"):
                self._asking.read(event)
        self._history.apply(events, self._settle if self._asking.stateful else None)
        if self.problem.budget_trials != self.budget.trials:
            self._history.problem = replace(self.problem, budget_trials=self.budget.trials)

    def _settle(self, trial: Trial) -> None:
        self._asking.tell(self.problem, trial)

    def _append(self, events: Sequence[Event]) -> None:
        """Append decisions: only if nobody else has appended since we read."""
        self.store.append(self.name, events, self._history.version)
        self._apply(events)

    def _note(self, events: Sequence[Event]) -> None:
        """Append facts about one's own trials: they hold whatever others have appended meanwhile.

        What others have appended is read later: among many workers, reading after each report would cost
        more than the report.
        """
        version = self.store.append(self.name, events, None)
        if version == self._history.version + len(events):
            self._apply(events)
        else:
            self._behind = True

    # -- next -------------------------------------------------------------------------------------

    def plan(self) -> Sequence[Rung]:
        """Foretell rungs, trials and steps within the budget, before anything runs."""
        return self.scheduler.plan(self.problem, self.budget.trials)

    def add(
        self, config: Mapping[str, Any], reason: str = "a known good start", *, once: bool = False,
        seed: int | None = None,
    ) -> int:  # fmt: skip
        """Queue a config: it is trained before anything that the sampler proposes.

        Args:
            config: the choices; those with a default may be left out.
            reason: why, for the log.
            once: whether to leave it at that if somebody has queued the same config before.
            seed: number of the test seed that it shall run on: trials of one number have the same
                ``run.seed``, which no trial of the search has. Unless given, a seed of its own.

        Returns:
            The trial's number.

        Raises:
            ConfigError: the config does not lie in the space.
            ArgumentError: the budget of trials is used up.
        """
        while True:
            self.sync()
            legal = self.problem.space.fill(config)
            number = len(self.history)
            if once:
                same = (t.number for t in self.history if t.origin.by == "user" and t.config == legal)
                found = next(same, None)
                if found is not None:
                    return found
            if self.budget.trials is not None and number >= self.budget.trials:
                raise ArgumentError(f"The budget of {self.budget.trials} trials is used up: extend it first.")
            data = {"config": plain(legal), "plan": [0, 0], "reason": reason, "by": "user", "why": reason}
            if seed is not None:
                data["seed"] = check.integer("seed", seed, 0)
            try:
                self._append([Event("add", number, self.clock.now(), data)])
                return number
            except ConflictError:
                continue

    def next(self) -> Union[Trial, Wait, Done]:
        """Decide what this worker does now, and write the decision down.

        Returns:
            A running trial that now belongs to this worker; ``Wait`` if others must report first; ``Done``.
        """
        self.sync()
        while True:
            try:
                self._reclaim()
            except ConflictError:
                self.sync()
                continue
            gone = hopeless(self.history, self.give_up, self._since)
            if gone is not None:
                return self._leave(gone)
            action = decide(self.history, self.scheduler, self.budget, self.clock.now())
            event = action if isinstance(action, (Wait, Done)) else self._event(action)
            if isinstance(event, (Wait, Done)):
                return event
            with contextlib.suppress(ConflictError):  # lost the race: what the others decided has been read
                return self._take(event)

    def _leave(self, reason: str) -> Union[Wait, Done]:
        """Give the study up as soon as nothing runs any more; its log gets a note, once."""
        running = self.history.count(RUNNING)
        if running:
            return Wait(f"{reason}; {running} trials are still running")
        topic = f"gave up: {alike(reason)}"
        if topic not in self._asking.topics:
            self._note([Event("note", STUDY, self.clock.now(), {"topic": topic, "reason": reason})])
        return Done(reason)

    def _take(self, event: Event) -> Trial:
        """Append a start or a resumption; reports of others in between do not void the decision."""
        while True:
            try:
                self._append([*self._aside, event])
            except ConflictError:
                if any(e.kind in DECISIONS for e in self._read()):
                    raise
                continue
            self._aside.clear()
            trial: Trial = self.history[event.number]
            self._verdicts.pop(event.number, None)
            self._unpaid.discard(event.number)
            self._taken[event.number] = trial.seconds, event.at
            if self._beats:
                self._heart.hold(event.number)
            return trial

    def _reclaim(self) -> None:
        """Take running trials away from workers that are dead or silent."""
        now = self.clock.now()
        events: list[Event] = []
        for number in self.history.numbers(RUNNING):
            trial: Trial = self.history[number]
            if trial.worker == self.worker:
                continue
            spent = self._spent_until(trial, min(now, trial.lease - self.lease / 2))
            if is_gone(trial.worker):
                events += self._loss(trial, now, "its worker's process has died", spent)
            elif trial.lease < now:
                events += self._loss(trial, now, "its worker has been silent beyond its lease", spent)
        if events:
            self._append(events)

    def _spent_until(self, trial: Trial, last: float) -> float:
        """Training seconds of a trial of somebody else, if it was at work until ``last``.

        When a worker vanished is not known. A living one renews its lease before half of it is over, so
        the half of the last lease is the latest moment: what was lost is counted in full, and at most half
        a lease too much, which only ends a study earlier.
        """
        since, before = self._history.since(trial.number)
        spent = before + max(0.0, last - since) if math.isfinite(since) else 0.0
        return round(max(trial.seconds, spent), 4)

    def _loss(
        self, trial: Trial, now: float, reason: str, seconds: float, blameless: bool = False
    ) -> list[Event]:
        """Say that a trial's worker is gone; that it failed, if that has happened too often in a row."""
        data: dict[str, Any] = {"reason": reason, "worker": trial.worker, "seconds": seconds}
        if blameless:
            return [Event("lose", trial.number, now, {**data, "blameless": True})]
        events = [Event("lose", trial.number, now, data)]
        if trial.tries >= self.tries:
            words = (
                f"lost {trial.tries + 1} times in a row without a new report, the last time because {reason}"
            )
            events.append(Event("fail", trial.number, now, {"reason": words, "worker": trial.worker}))
        return events

    def _event(self, action: Union[Start, Resume]) -> Union[Event, Wait, Done]:
        now = self.clock.now()
        held = {"worker": self.worker, "until": now + self.lease}
        if isinstance(action, Resume):
            data = {"plan": list(action.plan), "reason": action.reason, **held}
            return Event("resume", action.number, now, data)
        number = len(self.history)
        by, why, config, extra = "scheduler", action.reason, action.config, {}
        if config is None:
            key = self.problem.key.fold("trial", number)
            offer = self._asking.ask(self.problem, self.history, key)
            alone = idle(self.sampler)
            note = None if alone is None else ("nothing to work with", alone, "")
            self._aside += self._asking.announce(note, now)
            self._aside += self._asking.announce(offer.note, now)
            if offer.proposal is None:
                reason = "the space is exhausted: the sampler has nothing new to propose"
                running = self.history.count(RUNNING)
                return Wait(reason) if running else Done(reason)
            by, why, config, extra = offer.by, offer.proposal.reason, offer.proposal.config, dict(offer.data)
        legal = self.problem.space.check(config)
        data = {
            "config": plain(legal), "plan": list(action.plan), "reason": action.reason, "by": by, "why": why,
            **extra, **held,
        }  # fmt: skip
        return Event("start", number, now, data)

    # -- report and finish ------------------------------------------------------------------------

    def _own(self, number: int) -> Trial:
        try:
            found = -1 if isinstance(number, bool) else operator.index(number)  # NumPy's integers, too
        except TypeError:
            found = -1
        if found >= len(self._history):
            self.sync()
        if not 0 <= found < len(self._history):
            raise UnknownNameError(
                f"There is no trial {number!r} in study {self.name!r}; it has {len(self._history)} (from 0)."
            )
        trial: Trial = self._history[found]
        return trial

    def _seconds(self, trial: Trial, given: float | None) -> float:
        """Training seconds of a trial in all; the time that it lay paused or lost is not counted."""
        if given is not None:
            return round(float(given), 4)
        if trial.number not in self._taken:  # somebody else runs it: all that is known is when it began
            running = trial.state == RUNNING
            return self._spent_until(trial, self.clock.now()) if running else trial.seconds
        before, at = self._taken[trial.number]
        return round(max(trial.seconds, before + self.clock.now() - at), 4)

    def report(
        self,
        number: int,
        step: float,
        *,
        seconds: float | None = None,
        sem: Mapping[str, float] | None = None,
        **values: float,
    ) -> Verdict:
        """Record metric values of a trial after ``step`` steps; durable when it returns.

        A step that the trial has already recorded is ignored: a trial taken up again from a checkpoint
        repeats some. Reports of a trial that was given up meanwhile are recorded all the same.

        Args:
            seconds: training seconds of the trial in all; measured from its start unless given.

        Returns:
            What to do: "go", "pause" (save, and leave the trial for later) or "stop".
        """
        return self.record(number, step, values, seconds, sem)

    def record(
        self,
        number: int,
        step: float,
        values: Mapping[str, float],
        seconds: float | None = None,
        sem: Mapping[str, float] | None = None,
    ) -> Verdict:
        """Do what :meth:`report` does, for metrics of any name ("seconds", "number", ...)."""
        trial = self._own(number)
        number = trial.number
        metrics = metrics_of(values)
        if not metrics:
            raise ArgumentError("report needs at least one metric: study.report(number, step, loss=...).")
        at = check.number("step", step, 0, open_low=True)
        if trial.ended:
            return Verdict("stop", f"trial {number} has ended meanwhile: {trial.reason}")
        now, spent = self.clock.now(), self._seconds(trial, seconds)
        if at > max(trial.step, self._noted.get(number, 0.0)):
            data: dict[str, Any] = {
                "step": int(at) if at.is_integer() else at, "values": plain(metrics),
                "seconds": spent,
            }  # fmt: skip
            if sem:
                data["sem"] = plain(metrics_of(sem))
            if trial.worker == self.worker and trial.lease - now < self.lease / 2:
                data.update(worker=self.worker, until=now + self.lease)
            self._noted[number] = at
            self._note([Event("report", number, now, data)])
        if self._behind and not 0 <= now - self._read_at < FRESH:
            self.sync()
        self._come_back(number)
        verdict = self._judge(self._history[number], at, spent)
        if verdict.word != "go":
            self._verdicts[number] = verdict
        return verdict

    def _come_back(self, number: int) -> None:
        """Take a trial up again that was given up while this worker was silent, if nobody else has."""
        while True:
            trial: Trial = self._history[number]
            if trial.state != WAITING or trial.worker != self.worker or number not in self._taken:
                return
            now = self.clock.now()
            data = {
                "plan": list(trial.plan), "reason": "its worker has come back", "worker": self.worker,
                "until": now + self.lease,
            }  # fmt: skip
            try:
                self._append([Event("resume", number, now, data)])
            except ConflictError:
                self.sync()

    def _holds(self, trial: Trial) -> bool:
        return trial.worker == self.worker and trial.state == RUNNING

    def _judge(self, trial: Trial, step: float, seconds: float) -> Verdict:
        if trial.ended:
            return Verdict("stop", f"trial {trial.number} has ended meanwhile: {trial.reason}")
        axis = self.problem.steps
        held = self._holds(trial)
        if axis.unit != WHOLE_RUN:
            if step >= trial.plan.until and (trial.plan.until < axis.high or not held):
                return Verdict("pause", f"reached step {trial.plan.until:g}, where trials are compared")
            if step > axis.high:
                return Verdict("pause", f"went beyond step {axis.high:g}, the full length")
        if not held:
            return Verdict("stop", f"trial {trial.number} was given up and is no longer this worker's")
        spent = self._broke(trial, seconds)
        if spent is not None:
            self._unpaid.add(trial.number)
            return Verdict("stop" if axis.unit == WHOLE_RUN else "pause", spent)
        if "judges" in self.scheduler.tags:
            self.sync()
            return self.scheduler.judge(self.problem, self.history, self.history[trial.number])
        return Verdict("go", "the plan is not at its end")

    def _broke(self, trial: Trial, seconds: float) -> str | None:
        """Say which budget has run out while a trial runs; None if none has.

        Where plans have a length, no plan is begun that would exceed the steps. Without steps nobody knows
        how many a run will make, so that it is ended when they are used up.
        """
        whole = self.problem.steps.unit == WHOLE_RUN
        steps = self.budget.steps if whole else None
        if (self.budget.seconds, self.budget.cost, steps) == (None, None, None):
            return None
        self.sync()
        if steps is not None and self.history.committed_steps >= steps:
            return f"the budget of {steps:g} steps is used up"
        unrecorded = max(0.0, seconds - trial.seconds)  # where steps are repeated
        return self.budget.spent_by({"seconds": self.history.seconds + unrecorded, "cost": self.history.cost})

    def finish(
        self,
        number: int,
        values: Mapping[str, float] | float | None = None,
        *,
        state: str | None = None,
        reason: str | None = None,
        seconds: float | None = None,
        detail: str = "",
    ) -> Trial:
        """End a trial's plan: it is complete, paused, stopped or failed.

        A trial that was told to pause because a budget ran out is waiting: it is given up, and taken up
        again from its checkpoint, with the plan it had, if the study is extended.

        A trial that has a result already, or that another worker has taken over after this one was given
        up, stays as it is, unless what comes now is a result.

        Args:
            values: the result (metrics, or the first goal's value); what was reported last, if left out.
            state: "complete", "paused", "stopped" or "failed"; worked out unless given.
            reason: a sentence; needed with ``state="failed"``.
            detail: a traceback or a log's end, for a person.

        Returns:
            The trial as it now stands.
        """
        if self._behind:
            self.sync()
        trial = self._own(number)
        number = trial.number
        if state is not None:
            check.one_of("state", state, tuple(_KINDS))
        named = isinstance(values, Mapping) or values is None
        final = metrics_of((values or {}) if named else {self.problem.goal.metric: values})  # type: ignore[arg-type]
        verdict = self._verdicts.get(number)
        mine = number in self._taken
        ending = None
        if trial.state not in (COMPLETE, STOPPED):  # delivered twice: the first result stands
            ending = conclude(self.problem, trial, final, verdict, state, reason)
        unpaid = number in self._unpaid and state is None
        self._release(number)
        if ending is None or (mine and not self._holds(trial) and ending.state == STOPPED):
            return trial
        if unpaid and ending.state == PAUSED and ending.step < trial.plan.until:
            self.lose([number], ending.reason, blameless=True, seconds=seconds)
            return self._own(number)
        data: dict[str, Any] = {"reason": ending.reason, "seconds": self._seconds(trial, seconds)}
        if ending.values is not None:
            data.update(values=plain(dict(ending.values)), step=ending.step)
        limit = cut(ending.reason) if ending.state == FAILED else None
        if limit is not None:
            data["cut"] = limit  # what the config is worth is not known: it was not let run to its end
        if detail:
            data["detail"] = detail[-4000:]
        if mine:
            data["worker"] = self.worker
        self._note([Event(_KINDS[ending.state], number, self.clock.now(), data)])
        self._taken.pop(number, None)
        ended: Trial = self.history[number]
        kept = ended.state == COMPLETE and "extends" in self.scheduler.tags
        if ended.ended and not kept and self.checkpoints.exist(number):
            best = self.history.best
            self.checkpoints.ended(number, best.number if best is not None else None)
        return ended

    def _release(self, number: int) -> None:
        self._verdicts.pop(number, None)
        self._unpaid.discard(number)
        self._heart.drop(number)

    def lose(
        self,
        numbers: Sequence[int],
        reason: str,
        *,
        blameless: bool = False,
        seconds: float | None = None,
    ) -> None:
        """Give trials of this worker up, to be taken up again from their checkpoints.

        Args:
            reason: what happened to the worker.
            blameless: whether it was certainly not the trial's fault (an interruption by the user): then
                it does not count among its ``tries``.
            seconds: training seconds of each trial in all; measured from its start unless given. They
                are spent, though what was trained since the last checkpoint is lost.
        """
        now = self.clock.now()
        events: list[Event] = []
        for number in numbers:
            trial: Trial = self.history[number]
            spent = max(trial.seconds, self._seconds(trial, seconds))
            self._release(trial.number)
            self._taken.pop(trial.number, None)
            if self._holds(trial):
                events += self._loss(trial, now, reason, spent, blameless)
        if events:
            self._note(events)

    def abandon(self, numbers: Sequence[int], reason: str) -> None:
        """Leave the study after a failure: give trials up, in the store if it can be written.

        If it cannot, whoever opens the study next finds that this worker is gone.
        """
        self._heart.stop()
        try:
            self.lose(numbers, reason, blameless=True)
        finally:
            self._worker.retire()
            self._taken.clear()

    def run(
        self,
        train: Callable[..., Any] | None,
        executor: Executor | None = None,
        *,
        workers: int = 1,
        devices: Any = None,
        budget: Any = None,
        limit: float | str | None = None,
        watch: Callable[[Study], None] | None = None,
    ) -> Result:
        """Train until the study is done.

        Args:
            train: ``train(config, run)`` or ``train(config)``, as for :func:`foretune.tune`.
            executor: runs the trials, and stays open; what it was made with is then trained, and
                ``train``, ``workers`` and ``devices`` do not count.
            workers, devices, limit, watch: as for :func:`foretune.tune`.
            budget: a larger budget, as for :meth:`extend`.

        Raises:
            ArgumentError: nothing limits the study; or an argument is out of range.

        >>> from foretune.space import Float
        >>> study = Study(Space({"x": Float(-1, 1)}), sampler="random")
        >>> result = study.run(lambda config: config["x"] ** 2, budget="5 trials")
        >>> len(result.history), result.reason
        (5, 'all 5 trials have been trained')
        """
        from foretune.study.budget import limit_of
        from foretune.study.executors import executor_for
        from foretune.study.loop import drive
        from foretune.study.result import Result

        most = limit_of("limit", limit)
        self._since = len(self.history.settled)
        if budget is not None:
            self.extend(budget)
        if self.budget == Budget() and not ends_by_itself(self.sampler, self.scheduler):
            raise ArgumentError(
                "budget must limit the study, for nothing else ends it: budget='40 trials' or '2h'."
            )
        if executor is not None:
            return Result(self, drive(self, executor, limit=most, watch=watch))
        with executor_for(train, workers, devices, most) as running:  # type: ignore[arg-type]
            return Result(self, drive(self, running, limit=most, watch=watch))

    def renew(self, numbers: Sequence[int]) -> None:
        """Tell the store that this worker is alive, for those of its trials whose lease is half over."""
        now = self.clock.now()
        events = []
        for number in numbers:
            trial: Trial = self._history[number]
            if self._holds(trial) and trial.lease - now < self.lease / 2:
                events.append(Event("lease", number, now, {"worker": self.worker, "until": now + self.lease}))
        if events:
            self._note(events)
