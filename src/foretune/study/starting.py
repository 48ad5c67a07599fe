"""What is trained next: configs that were queued, trials that wait, what sampler and scheduler say."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Union

from foretune.base import check
from foretune.base.clock import Clock
from foretune.base.codec import plain
from foretune.base.errors import ArgumentError, ConflictError
from foretune.schedule.scheduler import Done, Resume, Rung, Start, Wait
from foretune.search.wrapping import idle
from foretune.store.store import Store
from foretune.study.deciding import decide
from foretune.study.giving_up import GIVE_UP, alike, hopeless
from foretune.study.holding import Holding
from foretune.trial.event import DECISIONS, STUDY, Event
from foretune.trial.trial import RUNNING, Trial

__all__ = ["Starting"]


class Starting(Holding):
    """Decides what a free worker does, and writes the decision down before it is acted upon."""

    def __init__(self, name: str, store: Store, clock: Clock, tries: int, lease: float) -> None:
        super().__init__(name, store, clock, tries, lease)
        self.give_up = GIVE_UP
        self._aside: list[Event] = []  # notes that go into the log with the next decision

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
