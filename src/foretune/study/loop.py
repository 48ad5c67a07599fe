"""The loop that joins a study and an executor: fill the slots, serve reports, record what ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Union

from foretune.execute.executor import Ended, Executor, Job, Reported
from foretune.schedule.scheduler import Done, Wait
from foretune.study import checkpoints
from foretune.study.interrupt import Interruptions
from foretune.study.study import WHOLE_RUN, Study
from foretune.trial.trial import FAILED, Trial

__all__ = ["Watch", "drive"]

Watch = Callable[[Study], None]

PAUSE = 0.1  # seconds between two looks at a study whose trials all run elsewhere


def _job(study: Study, trial: Trial, limit: float | None) -> Job:
    folder = study.checkpoints.folder(trial.number)
    continues = trial.plan.continues
    if continues is not None:
        checkpoints.hand_over(study.checkpoints.folder(continues), folder, trial.plan.until)
    saved = checkpoints.newest(folder) or checkpoints.inherited(folder)
    weights, teacher = trial.plan.weights_from, trial.plan.teacher
    return Job(
        number=trial.number,
        config=trial.config,
        start=saved[0] if saved else 0.0,
        until=trial.plan.until,
        seed=_seed(study, trial),
        checkpoint=str(folder),
        seconds=trial.seconds,
        limit=limit,
        metric=study.problem.goal.metric,
        weights=str(study.checkpoints.folder(weights)) if weights is not None else None,
        teacher=str(study.checkpoints.folder(teacher)) if teacher is not None else None,
        continues=continues,
    )


def _seed(study: Study, trial: Trial) -> int:
    """Return the seed of a trial's run: its own, or the test seed that it was queued with."""
    key = study.problem.key
    number = trial.notes.get("seed")
    return (key.fold("run", trial.number) if number is None else key.fold("test", number)).integer()


def drive(study: Study, executor: Executor, *, limit: float | None = None, watch: Watch | None = None) -> str:
    """Run trials until the study says it is done.

    Ctrl-C and SIGTERM end it cleanly: running trials are given up, to be taken up again from their
    checkpoints by whoever opens the study next.

    Args:
        limit: seconds that one plan of a trial may take before it counts as failed.
        watch: called after each change, and at least about twice a second while something runs.

    Returns:
        The reason why the study is done.
    """
    mine: set[int] = set()

    def look() -> None:
        if watch is not None:
            watch(study)

    with Interruptions() as interruptions:

        def reply(report: Reported) -> str:
            with interruptions.shield():
                verdict = study.record(report.number, report.step, report.values, report.seconds, report.sem)
            look()
            return verdict.word

        def following() -> Union[Trial, Wait, Done]:
            with interruptions.shield():
                action = study.next()
                while isinstance(action, Trial) and _done_before(study, action):
                    study.finish(action.number, seconds=action.seconds)
                    action = study.next()
                if isinstance(action, Trial):
                    mine.add(action.number)
                return action

        try:
            while True:
                action: Union[Trial, Wait, Done] = Wait("no slot is free")
                while len(mine) < executor.slots:
                    action = following()
                    if not isinstance(action, Trial):
                        break
                    executor.submit(_job(study, action, limit))
                look()
                if not mine:
                    if isinstance(action, Done):
                        return action.reason
                    study.clock.sleep(PAUSE)
                    continue
                for ended in executor.poll(0.5, reply):
                    with interruptions.shield():
                        _record(study, ended)
                        mine.discard(ended.number)
                with interruptions.shield():
                    study.renew(sorted(mine))
        except BaseException as error:
            word = "interrupted" if isinstance(error, KeyboardInterrupt) else f"its driver failed: {error!r}"
            try:
                executor.close()
            finally:
                with contextlib.suppress(Exception):
                    study.abandon(sorted(mine), word)
            raise
        finally:
            with contextlib.suppress(Exception):
                look()


def _done_before(study: Study, trial: Trial) -> bool:
    """Whether a trial that was lost had reached the end of its plan: only the last word was missing.

    Then nothing is trained twice. What the function would have returned, beyond its reports, is not known.
    """
    known = {name for report in trial.reports for name in report.values}
    return (
        study.problem.steps.unit != WHOLE_RUN
        and trial.step >= trial.plan.until
        and all(goal.metric in known for goal in study.problem.goals)
    )


def _record(study: Study, ended: Ended) -> None:
    trial: Trial = study.history[ended.number]
    if ended.how == "lost":
        study.lose([ended.number], ended.reason, seconds=ended.seconds or None)
    elif ended.how == "failed":
        study.finish(
            ended.number,
            state=FAILED,
            reason=ended.reason,
            seconds=ended.seconds or None,
            detail=ended.detail,
        )
    else:
        whole = study.problem.steps.unit == WHOLE_RUN
        values = dict(ended.values)
        if not values and whole and trial.reports:
            values = dict(trial.values)
        study.finish(ended.number, values or None, seconds=ended.seconds or None)
