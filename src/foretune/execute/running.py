"""A command on its way: its process group, what it prints, the lines that may hold metrics."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from foretune.base.codec import plain
from foretune.execute.executor import Job
from foretune.execute.failure import DETAIL, Failure
from foretune.execute.guard import end_group
from foretune.execute.template import values_of

__all__ = ["Running", "environment"]

TICK = 0.1  # seconds between looks at a metrics file, and at a command that has closed its output
LINE = 1_000_000  # characters after which a line without end is no metric and is cut


def _shut(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()


def environment(job: Job, folder: str) -> dict[str, str]:
    """Hand a job over through the environment; the config also as a file, for it may be long."""
    config = json.dumps(plain(job.config))
    path = Path(folder) / "config.json"
    path.write_text(config, encoding="utf-8")
    values = values_of(replace(job, config={}))
    return {
        "FORETUNE_CONFIG": config,
        "FORETUNE_CONFIG_FILE": str(path),
        **{f"FORETUNE_{name.upper()}": str(value) for name, value in values.items()},
    }


class _Lines:
    """Cuts bytes into lines, and keeps the end of what was said."""

    def __init__(self) -> None:
        self.tail = ""
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE:
            self._rest = b""
        said = [line.decode(errors="backslashreplace") for line in lines]
        self._keep(said)
        return said

    def last(self) -> list[str]:
        """The line that the end of the output left without its newline."""
        said = [self._rest.decode(errors="backslashreplace")] if self._rest else []
        self._rest = b""
        self._keep(said)
        return said

    def _keep(self, said: list[str]) -> None:
        if said:
            # A progress bar rewrites its line: what counts is what stood there last.
            shown = (line.rstrip("\r").rpartition("\r")[2] for line in said)
            self.tail = (self.tail + "".join(f"{line}\n" for line in shown))[-DETAIL:]


class Running:
    """A command on its way.

    Args:
        job: what it works for.
        command: a string for the shell, or arguments.
        file: where its metrics appear; stdout if None.
        env: added to this process's environment.

    Raises:
        Failure: there is no such program, or it may not be run.
    """

    def __init__(
        self, job: Job, command: str | Sequence[str], file: Path | None, env: Mapping[str, str]
    ) -> None:
        self.job = job
        self._stdout, self._stderr, self._metrics = _Lines(), _Lines(), _Lines()
        self._file = file
        self._at = 0
        if file is not None:
            with contextlib.suppress(OSError):
                self._at = file.stat().st_size  # older lines are of the plan before
        self.begun = time.monotonic()
        try:
            self.process = subprocess.Popen(
                command,
                shell=isinstance(command, str),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Without the first, Python holds prints to a pipe back until the run is over.
                env={"PYTHONUNBUFFERED": "1", **os.environ, **env},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            name = error.filename if isinstance(error.filename, str) else str(command)
            raise Failure(f"the command cannot be started: {name}: {error.strerror}") from None

    def lines(self) -> Iterator[str]:
        """Yield each new line of stdout (or of the metrics file) until the command has ended."""
        with selectors.DefaultSelector() as selector:
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None  # both were asked for
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            while True:
                over = self.process.poll() is not None  # before reading: what it wrote is then all there
                if not selector.get_map():
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(TICK)
                else:
                    for key, _ in selector.select(0.0 if over else TICK):
                        yield from self._read(selector, key.fileobj)
                yield from self._from_file()
                if over:
                    break
                self._check_limit()
        if self._file is None:
            yield from self._stdout.last()
        self._stderr.last()
        yield from self._metrics.last()

    def _read(self, selector: selectors.BaseSelector, pipe: Any) -> Iterator[str]:
        is_stdout = pipe is self.process.stdout
        while True:
            try:
                data = os.read(pipe.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not data:
                selector.unregister(pipe)
                return
            said = (self._stdout if is_stdout else self._stderr).feed(data)
            if is_stdout and self._file is None:
                yield from said
                self._check_limit()  # a flood of output must not hide it

    def _from_file(self) -> Iterator[str]:
        if self._file is None:
            return
        with contextlib.suppress(FileNotFoundError), open(self._file, "rb") as file:
            if os.fstat(file.fileno()).st_size < self._at:
                self._at = 0  # written anew
            file.seek(self._at)
            data = file.read()
            self._at += len(data)
            yield from self._metrics.feed(data)

    def _check_limit(self) -> None:
        limit = self.job.limit
        if limit is not None and time.monotonic() - self.begun > limit:
            raise Failure(f"ran longer than its limit of {limit:g} s and was killed", self.said())

    def said(self) -> str:
        """The end of stderr, and of stdout."""
        parts = {"stderr": self._stderr.tail, "stdout": self._stdout.tail}
        return "\n".join(f"Last {name}:\n{text.rstrip()}" for name, text in parts.items() if text.strip())

    def complaint(self) -> str:
        """The last line of stderr that says something."""
        lines = [line.strip() for line in self._stderr.tail.splitlines() if line.strip()]
        return lines[-1][-300:] if lines else ""

    def close(self, grace: float) -> None:
        """End whatever is left of the command's group, and reap it."""
        end_group(self.process, grace)
        for pipe in (self.process.stdout, self.process.stderr):
            _shut(pipe)
