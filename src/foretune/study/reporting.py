"""What becomes of trials: reports and the verdicts on them, and the ends of their plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foretune.base import check
from foretune.base.codec import plain
from foretune.base.errors import ArgumentError
from foretune.execute.failure import cut
from foretune.schedule.scheduler import Verdict
from foretune.study.checkpoints import Checkpoints
from foretune.study.ending import conclude
from foretune.study.opening import WHOLE_RUN
from foretune.study.run import metrics_of
from foretune.study.starting import Starting
from foretune.trial.event import Event
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, STOPPED, Trial

__all__ = ["Reporting"]

FRESH = 0.5  # seconds for which a report may be judged on what was read of other workers' doings
_KINDS = {PAUSED: "pause", STOPPED: "stop", COMPLETE: "complete", FAILED: "fail"}


class Reporting(Starting):
    """Records what trials report and how they end, and says what they are to do."""

    checkpoints: Checkpoints

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
