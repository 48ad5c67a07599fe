"""The run: the handle that a training loop holds."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union

from foretune.base.errors import ArgumentError, ArgumentTypeError, StudyError
from foretune.base.key import Key
from foretune.execute.executor import Job, Leave, Reply, Reported
from foretune.study import checkpoints

__all__ = ["Run", "TrainTarget", "metrics_of"]

Outcome = Union[None, float, Mapping[str, float]]


def metrics_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Turn reported values into floats (NaN and infinities are kept), or raise.

    Raises:
        ArgumentTypeError: a value is not a number.
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        try:
            if isinstance(value, (str, bytes, bool)):
                raise TypeError
            found[name] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ArgumentTypeError(
                f"The metric {name!r} must be a number; got {value!r} of type {type(value).__name__}."
            ) from None
    return found


class Run:
    """What a training function is told, and how it answers.

    Attributes:
        config: the choices.
        number: the trial's number.
        start: the step to go on from: 0, or that of the restored checkpoint (its own, or that of the trial
            which it continues).
        until: the step to reach.
        key: randomness of the trial's own; ``seed`` is a number drawn from it. The same at each try.

    >>> run = Run(Job(0, {"lr": 0.1}, until=3), lambda r: "go")
    >>> for step in range(run.start, run.until): run.report(step + 1, loss=1.0 / (step + 1))
    """

    def __init__(self, job: Job, reply: Reply, save_every: float = 60.0) -> None:
        self.config = dict(job.config)
        self.number = job.number
        self.until = _whole(job.until)
        self.seed = job.seed
        self.key = Key.of(job.seed)
        self.folder = Path(job.checkpoint) if job.checkpoint is not None else None
        self._job, self._reply = job, reply
        self._saved = checkpoints.newest(self.folder)
        self._parents = checkpoints.inherited(self.folder) if self._saved is None else None
        if job.continues is not None and self._saved is None and self._parents is None:
            raise StudyError(
                f"Trial {job.number} continues trial {job.continues}, of which there is no checkpoint before "
                f"step {job.until:g}: hand what is trained to run.track(model=..., opt=...) in the training function."
            )
        begun = self._saved or self._parents
        self.start = _whole(begun[0] if begun else 0.0)
        self._tracked: dict[str, Any] = {}
        self._began = self._last_save = time.perf_counter()
        self._save_every = save_every
        self._step: float | None = None  # of the last report of this run

    @property
    def seconds(self) -> float:
        """Training seconds of the trial so far, earlier plans included."""
        return self._job.seconds + time.perf_counter() - self._began

    @property
    def weights(self) -> Mapping[str, Any] | None:
        """States to start from, by the names under which another trial tracked them; None: start afresh.

        Load them before ``track``, which puts a resumed trial's own states over them.

        Raises:
            StudyError: the plan names a trial whose checkpoint is gone.
        """
        return _states(self._job.weights, "start from")

    @property
    def teacher(self) -> Mapping[str, Any] | None:
        """States of the trial whose network this one learns from; None: there is no teacher.

        Raises:
            StudyError: the plan names a trial whose checkpoint is gone.
        """
        return _states(self._job.teacher, "learn from")

    def track(self, **objects: Any) -> None:
        """Name what makes up the training state: model, optimizer, schedule, generator, counters.

        Call it once, before the loop. Objects with ``state_dict`` and ``load_state_dict`` (or, like
        torch's generators, ``get_state`` and ``set_state``) are restored in place if the trial is
        resumed, and with them the states of the global generators (``random``; NumPy and torch where
        they are imported); they are saved when the trial pauses or reaches ``until``, and about once a
        minute, so that a crash costs little.
        """
        for name, value in objects.items():
            if not any(hasattr(value, a) and hasattr(value, b) for a, b in checkpoints.PROTOCOLS):
                raise ArgumentTypeError(
                    f"track({name}=...) needs an object with state_dict and load_state_dict; got "
                    f"{type(value).__name__}. Wrap plain values in an object that has both."
                )
        self._tracked.update(objects)
        if self._parents is not None:
            self._inherit(objects, *self._parents)
        if self._saved is None:
            return
        body = checkpoints.load(self._saved[1])
        missing = [n for n in objects if n not in body["objects"]]
        if missing:
            raise StudyError(
                f"The checkpoint of trial {self.number} at step {self.start:g} lacks "
                f"{', '.join(missing)}: the training function has changed since it was written. Delete "
                f"{str(self._saved[1])!r} to start the trial again."
            )
        for name, value in objects.items():
            checkpoints.restore(value, body["objects"][name])
        checkpoints.draw_on(body)

    def _inherit(self, objects: Mapping[str, Any], step: float, file: Path) -> None:
        """Take over the state of the trial that this one continues; optimizers keep their own settings."""
        known = checkpoints.load(file)["objects"]
        whose = f"trial {self._job.continues} at step {step:g}"
        for name, value in objects.items():
            if name not in known:
                raise StudyError(f"The checkpoint of {whose} lacks {name}: it tracks {', '.join(known)}.")
            try:
                checkpoints.adopt(value, known[name])
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise StudyError(
                    f"{name} of {whose} does not fit that of trial {self.number}: a parameter that decides the "
                    f"shape of the model cannot differ between them. {error}"
                ) from error

    def save(self, step: float) -> None:
        """Write a checkpoint of what is tracked, now."""
        if self.folder is not None and self._tracked:
            checkpoints.save(self.folder, step, self._tracked)
        self._last_save = time.perf_counter()

    def report(self, step: float, *, sem: Mapping[str, float] | None = None, **values: float) -> None:
        """Report metric values after ``step`` steps; leave the loop if the trial is to pause or stop.

        Raises:
            ArgumentError: ``step`` does not grow, or no value is given.
            ArgumentTypeError: a value is not a number.
        """
        try:
            position = float(step)
        except (TypeError, ValueError):
            raise ArgumentTypeError(f"step must be a number; got {step!r}.") from None
        if not values:
            raise ArgumentError("report needs at least one metric: run.report(step, loss=...).")
        if not math.isfinite(position) or position <= 0:
            raise ArgumentError(
                f"step must be greater than 0; got {step!r}. Report after the first step, as step 1."
            )
        if self._step is not None and position <= self._step:
            raise ArgumentError(f"step must grow from report to report; got {step!r} after {self._step:g}.")
        before, self._step = self._step or 0.0, position
        metrics = metrics_of(values)
        word = self._reply(Reported(self.number, position, metrics, self.seconds, dict(sem or {})))
        arrived = before < self.until <= position  # once: without steps, a run goes on beyond it
        late = time.perf_counter() - self._last_save > self._save_every
        if word == "pause" or (word == "go" and (arrived or late)):
            self.save(position)
        if word != "go":
            raise Leave(word)


def _states(folder: str | None, purpose: str) -> Mapping[str, Any] | None:
    """Read what another trial had tracked at its last checkpoint."""
    if folder is None:
        return None
    saved = checkpoints.newest(folder)
    if saved is None:
        raise StudyError(
            f"There is no checkpoint to {purpose} in {folder!r}. Open the study with keep='all', and let the "
            "training function track its model (run.track(model=model)) and report its last step."
        )
    return dict(checkpoints.load(saved[1])["objects"])


def _whole(value: float) -> Any:
    """Give whole steps as int, so that ``range(run.start, run.until)`` works."""
    return int(value) if float(value).is_integer() else value


class TrainTarget:
    """Wraps a training function ``train(config, run)`` or ``train(config)`` for an executor."""

    def __init__(self, train: Callable[..., Outcome], save_every: float = 60.0) -> None:
        if not callable(train):
            raise ArgumentTypeError(f"train must be a function train(config, run); got {train!r}.")
        self.train, self.save_every = train, save_every

    def __call__(self, job: Job, reply: Reply) -> dict[str, float]:
        """Run the job; returns the metrics that the function returned."""
        run = Run(job, reply, self.save_every)
        result = self.train(run.config, run) if _takes_run(self.train) else self.train(run.config)
        if result is None:
            return {}
        if isinstance(result, Mapping):
            return metrics_of(result)
        return metrics_of({job.metric: result})


def _takes_run(train: Callable[..., Any]) -> bool:
    """Whether a function wants the run: ``train(config, run)``, and not ``train(config, verbose=False)``."""
    try:
        parameters = inspect.signature(train).parameters.values()
    except (TypeError, ValueError):
        return True
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 and (
        positional[1].default is positional[1].empty or positional[1].name == "run"
    )
