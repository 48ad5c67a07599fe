"""Any shell command as a training function: choices go in by placeholders, metrics come out as JSON lines."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, final

from foretune.base import check
from foretune.base.errors import ArgumentError, ArgumentTypeError
from foretune.execute.executor import Job, Leave, Reply, Reported
from foretune.execute.failure import Failure, death, numbers
from foretune.execute.guard import Guard
from foretune.execute.running import Running, environment
from foretune.execute.template import fill, placeholders, validate, values_of

__all__ = ["CommandTarget", "metrics_of"]


def metrics_of(line: str, known: Collection[str] = ()) -> tuple[float | None, dict[str, float]] | None:
    """Read one line of output: a step (or None) and metrics, or None if the line holds none.

    A JSON object without any number (besides ``step``) is a line of a program's log, and no metrics; unless
    it has one of the metrics that are known, which must be numbers.

    >>> metrics_of('{"step": 100, "loss": 2.31}'), metrics_of("epoch 1 done"), metrics_of('{"event": "start"}')
    ((100.0, {'loss': 2.31}), None, None)

    Args:
        known: names of metrics: the goal's, and those that came before.

    Raises:
        ArgumentTypeError: a metric is not a number.
    """
    text = line.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    others = {name: value for name, value in found.items() if name != "step"}
    if not any(map(_is_number, others.values())) and not others.keys() & set(known):
        return None
    values = numbers(found)
    step = values.pop("step", None)
    return (step, values) if values else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@final
class CommandTarget:
    """Runs a command for each job: any program in any language can be tuned.

    The command gets its choices through placeholders (``--lr {lr}``, ``{lr:.3g}``; also ``{until}``,
    ``{start}``, ``{checkpoint}``, ``{weights}``, ``{teacher}``, ``{seed}``, ``{number}``; a literal brace is ``{{``) or
    through the environment: FORETUNE_CONFIG (JSON), FORETUNE_CONFIG_FILE (a file with the same), and
    FORETUNE_UNTIL, FORETUNE_START and so on.

    It prints metrics as JSON objects, one a line: ``{"step": 100, "loss": 2.31}``. Other lines, also JSON
    objects without any number (``{"event": "start"}``), are kept only for the record of a failure. Of
    objects with metrics but without a step the last one is the result at ``until``;
    objects of step 0, before any training, count only where nothing else comes.
    Output must arrive while the command runs: programs that buffer it must flush (Python is told to,
    by PYTHONUNBUFFERED=1, unless the variable is set already).

    When told to pause or stop, the command and all its children get SIGTERM, and SIGKILL after ``grace``
    seconds. It cannot be made to wait for the answer to a report, so it may do a few steps more.

    Args:
        template: a string, run by the shell, with every value quoted as one word; or a list of
            arguments, run without a shell.
        metrics_file: a file (placeholders allowed) whose new lines are read instead of stdout.
        names: the choices of the space; with them placeholders are checked here and now.
        grace: seconds between SIGTERM and SIGKILL.

    Raises:
        ArgumentError: a placeholder that nothing fills, or unbalanced braces.
    """

    limits_itself: ClassVar[bool] = True  # looks after ``job.limit``

    def __init__(
        self,
        template: str | Sequence[str],
        metrics_file: str | None = None,
        *,
        names: Sequence[str] | None = None,
        grace: float = 10.0,
    ) -> None:
        if not isinstance(template, str):
            if not isinstance(template, Sequence) or not all(isinstance(part, str) for part in template):
                raise ArgumentTypeError(f"template must be a string or a list of strings; got {template!r}.")
            template = tuple(template)
        if not template or not "".join(template).strip():
            raise ArgumentError(f"template must name a command; got {template!r}.")
        self.template: str | tuple[str, ...] = template
        self.metrics_file = metrics_file
        self.grace = check.number("grace", grace, 0.0)
        texts = [template] if isinstance(template, str) else list(template)
        texts += [] if metrics_file is None else [metrics_file]
        if names is None:
            for text in texts:
                placeholders(text)  # its braces at least
        else:
            validate(texts, names)

    def __repr__(self) -> str:
        return f"CommandTarget({self.template!r})"

    def __call__(self, job: Job, report: Reply) -> Mapping[str, float] | None:
        with tempfile.TemporaryDirectory(prefix="foretune-") as folder:
            guard = Guard()
            try:
                running = self._start(job, folder)
                guard.add(running.process.pid)
                try:
                    return self._follow(running, report)
                finally:
                    running.close(self.grace)
            finally:
                guard.close()

    def _start(self, job: Job, folder: str) -> Running:
        values = values_of(job)
        command: str | list[str]
        if isinstance(self.template, str):
            command = fill(self.template, values, quote=True)
        else:
            command = [fill(part, values, quote=False) for part in self.template]
        file = None if self.metrics_file is None else Path(fill(self.metrics_file, values, quote=False))
        return Running(job, command, file, environment(job, folder))

    def _follow(self, running: Running, report: Reply) -> Mapping[str, float] | None:
        job = running.job
        final: dict[str, float] | None = None
        early: dict[str, float] | None = None
        reported = False
        known = {job.metric}
        for line in running.lines():
            try:
                found = metrics_of(line, known)
            except ArgumentTypeError as error:
                raise Failure(f"{error} The line was: {line.strip()[:200]}", running.said()) from None
            if found is None:
                continue
            step, values = found
            known.update(values)
            if step is None:
                final = values
                continue
            if step == 0:  # many programs print a line before they train
                early = values
                continue
            seconds = job.seconds + time.monotonic() - running.begun
            reported = True
            if report(Reported(job.number, step, values, seconds)) != "go":
                raise Leave
        code = running.process.returncode
        if code != 0:
            last = running.complaint()
            raise Failure(f"the command {death(code)}" + (f": {last}" if last else ""), running.said())
        if final is None and not reported:
            final = early
        if final is None and not reported:
            where = "printed no metrics" if self.metrics_file is None else "wrote no metrics to its file"
            raise Failure(
                f"the command {where}: it must give JSON objects, one a line, such as "
                '{"step": 100, "loss": 2.31}',
                running.said(),
            )
        return final
