"""Who works on which trial: names, leases, what is taken over from the dead, what is given up."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from foretune.base.clock import Clock, WallClock
from foretune.base.errors import ConflictError, UnknownNameError
from foretune.schedule.scheduler import Verdict
from foretune.store.store import Store
from foretune.study.growing import Growing
from foretune.study.heartbeat import Heartbeat
from foretune.study.worker import Worker, is_gone
from foretune.trial.event import Event
from foretune.trial.trial import RUNNING, WAITING, Trial

__all__ = ["Holding"]


class Holding(Growing):
    """A worker of a study, and the trials that it holds.

    A trial belongs to whoever started or resumed it last, until the trial ends, is given up, or its lease runs
    out. What a worker that is gone leaves behind waits, with its plan, for anybody to take up.
    """

    def __init__(self, name: str, store: Store, clock: Clock, tries: int, lease: float) -> None:
        super().__init__(name, store, clock)
        self.tries, self.lease = tries, lease
        self._worker = Worker()
        self._heart = Heartbeat(store, name, self._worker, lease, clock)
        self._beats = store.path is not None and isinstance(clock, WallClock)
        self._verdicts: dict[int, Verdict] = {}  # what one's own trials were told, other than "go"
        self._unpaid: set[int] = set()  # those that were told so because a budget ran out
        self._taken: dict[int, tuple[float, float]] = {}  # trial -> (its seconds, the time) when it was taken

    @property
    def worker(self) -> str:
        """This holder's name: what trials that it runs carry."""
        return self._worker.name

    @worker.setter
    def worker(self, name: str) -> None:
        self._worker = self._heart.worker = Worker(name)

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

    def _holds(self, trial: Trial) -> bool:
        return trial.worker == self.worker and trial.state == RUNNING

    def _release(self, number: int) -> None:
        self._verdicts.pop(number, None)
        self._unpaid.discard(number)
        self._heart.drop(number)

    def _seconds(self, trial: Trial, given: float | None) -> float:
        """Training seconds of a trial in all; the time that it lay paused or lost is not counted."""
        if given is not None:
            return round(float(given), 4)
        if trial.number not in self._taken:  # somebody else runs it: all that is known is when it began
            running = trial.state == RUNNING
            return self._spent_until(trial, self.clock.now()) if running else trial.seconds
        before, at = self._taken[trial.number]
        return round(max(trial.seconds, before + self.clock.now() - at), 4)

    def _spent_until(self, trial: Trial, last: float) -> float:
        """Training seconds of a trial of somebody else, if it was at work until ``last``.

        When a worker vanished is not known. A living one renews its lease before half of it is over, so
        the half of the last lease is the latest moment: what was lost is counted in full, and at most half
        a lease too much, which only ends a study earlier.
        """
        since, before = self._history.since(trial.number)
        spent = before + max(0.0, last - since) if math.isfinite(since) else 0.0
        return round(max(trial.seconds, spent), 4)

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
