"""The interface of executors: they move jobs and signals, and know nothing of search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Ended", "Executor", "Job", "Leave", "Reply", "Reported", "Target"]


@dataclass(frozen=True, slots=True)
class Job:
    """What an executor needs to run a trial.

    Attributes:
        number: the trial's number.
        config: the choices.
        start: step to start from (that of the newest checkpoint), 0 for a fresh trial.
        until: step to reach.
        seed: a seed of the trial's own, the same at each try.
        checkpoint: folder of the trial's checkpoints (it may not exist yet), or None.
        seconds: training seconds the trial spent before ``start``.
        limit: seconds after which the job is ended as failed, or None.
        metric: the goal's metric: what a bare number returned by a training function means.
        weights: folder of checkpoints to take the initial weights from, or None.
        teacher: folder of checkpoints of the network to learn from, or None.
        continues: number of the trial whose state it starts from, or None.
    """

    number: int
    config: Mapping[str, Any]
    start: float = 0.0
    until: float = 1.0
    seed: int = 0
    checkpoint: str | None = None
    seconds: float = 0.0
    limit: float | None = None
    metric: str = "loss"
    weights: str | None = None
    teacher: str | None = None
    continues: int | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """Metric values that a running job has produced.

    Attributes:
        seconds: training seconds of the trial in all, earlier plans included.
    """

    number: int
    step: float
    values: Mapping[str, float]
    seconds: float
    sem: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a job: each submitted job gives exactly one.

    Attributes:
        how: "finished" (it returned, or left because it was told to), "failed" (it raised, crashed,
            hung or was killed: the training's fault), "lost" (the executor vanished under it: not
            the training's fault, worth another try).
        reason: a sentence; for failures the exception and where, or the signal.
        seconds: training seconds of the trial in all.
        values: metrics that the function returned, if any; reported at ``step``.
        step: the step reached.
        detail: traceback or last output, for a person.
    """

    number: int
    how: str
    reason: str
    seconds: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    step: float = 0.0
    detail: str = ""


Reply = Callable[[Reported], str]  # returns "go", "pause" or "stop"

# What an executor runs. It gets the job and the function to report with, and returns the metrics of
# the end (at ``job.until``), or None when it has reported all there is.
Target = Callable[[Job, Reply], Mapping[str, float] | None]


class Leave(BaseException):
    """Raised in a target to leave when told to pause or stop: the job counts as finished.

    It is no ``Exception``, so that an ``except Exception`` around a training step lets it pass.
    """


class Executor(ABC):
    """Runs jobs on slots.

    Laws (tested by ``foretune.testing.ExecutorSuite`` for every executor):
        Every submitted job ends in exactly one ``Ended`` (unless the executor is closed before).
        ``report`` is called in the driver's process, once for each report of a job, in order, and
        its answer reaches the job before its next step ("pause"/"stop" end it as finished).
        A job that was told to leave and reports again is made to leave: nothing more reaches ``report``.
        What ``report`` raises passes through ``poll``; its job is over, the others go on.
        A job whose metrics are not numbers has failed; NaN and infinities are numbers.
        A job that crashes takes no other job and no slot with it.
    """

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many jobs run at once."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Take a job.

        Raises:
            StudyError: no slot is free, or the executor is closed.
        """

    @abstractmethod
    def poll(self, timeout: float, report: Reply) -> Sequence[Ended]:
        """Serve reports and return the jobs that ended, after at most about ``timeout`` seconds.

        Returns at once when a job has ended, and when no job is running. An executor that runs the
        job in this very call returns when the job has ended.
        """

    @abstractmethod
    def stop(self, number: int) -> None:
        """End a job soon; it still gives its ``Ended``. Unknown numbers are ignored."""

    def close(self) -> None:  # noqa: B027 - nothing to release is a fair answer
        """End all jobs and release the slots. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
