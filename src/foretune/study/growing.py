"""What of a study may grow: its space, the length of its trials, its budget. Never back: trials are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Union

from foretune.base.codec import plain
from foretune.base.errors import ConflictError, UnknownNameError, did_you_mean
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.study.budget import Budget
from foretune.study.logged import Logged
from foretune.study.opening import creation, longer, must_agree, must_grow, must_hold
from foretune.trial.event import STUDY, Event

__all__ = ["Growing"]


class Growing(Logged):
    """Begins a study's log, and changes what it says of the problem and the budget."""

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
        >>> from foretune.study.study import Study
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
