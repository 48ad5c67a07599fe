"""Why a job failed, as sentences: exceptions with the user's line, signals, exit codes, wrong metrics."""

from __future__ import annotations

import math
import signal
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretune.base.errors import ArgumentError, ArgumentTypeError
from foretune.execute.executor import Job, Reported

__all__ = ["Failure", "checked", "cut", "death", "describe", "numbers", "result", "tail"]

DETAIL = 8_000  # characters of a traceback or of output that are kept with a failure
_HERE = Path(__file__).parent
_FOREIGN = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(_HERE), str(_HERE.parent / "study"), "<"}
)
_CAUSES = {
    "SIGKILL": "most likely out of memory (or somebody killed it): try a smaller batch or fewer workers",
    "SIGSEGV": "compiled code crashed",
    "SIGBUS": "compiled code crashed, or shared memory (/dev/shm) is full",
    "SIGABRT": "compiled code gave up; its last words are in the detail",
    "SIGFPE": "compiled code crashed on a division by zero",
    "SIGILL": "compiled code is built for another processor",
    "SIGTERM": "somebody asked it to end",
    "SIGXCPU": "it ran into the system's limit of processor time",
}


class Failure(Exception):  # noqa: N818 - a sentence for the trial's record, not an error of this package
    """A failure that explains itself: its text is the whole reason, ``detail`` is for a person."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


def tail(text: str, limit: int = DETAIL) -> str:
    """Return the last ``limit`` characters, marked when something was cut.

    >>> tail("abcdef", 3)
    '... def'
    """
    return text if len(text) <= limit else "... " + text[-limit:]


def _is_foreign(file: str) -> bool:
    return file.startswith(_FOREIGN) or "site-packages" in file


def _place(error: BaseException) -> str:
    """Return the deepest line of the user's own code, as ``" (train.py:12, in step)"``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not _is_foreign(f.filename)]
    if not own:
        return ""
    return f" ({own[-1].filename}:{own[-1].lineno}, in {own[-1].name})"


def describe(error: BaseException) -> tuple[str, str]:
    """Return the reason (one sentence) and the detail (the traceback) of an exception.

    >>> describe(ValueError("lr is negative"))[0]
    'ValueError: lr is negative'
    """
    if isinstance(error, Failure):
        return str(error), error.detail
    if isinstance(error, SystemExit):
        reason = f"the training function called sys.exit({error.code!r}) instead of returning"
    else:
        message = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return tail(reason, 1_000) + _place(error), tail("".join(traceback.format_exception(error)))


def death(code: int) -> str:
    """Return the sentence for the end of a process: an exit code, or minus a signal's number.

    >>> death(3)
    'exited with code 3'
    """
    number = -code if code < 0 else code - 128
    # A shell says "a signal ended my child" as 128 + signal; codes beyond the signals are plain codes.
    if (code < 0 or 128 < code < 160) and number in {int(s) for s in signal.Signals}:
        name = signal.Signals(number).name
        cause = _CAUSES.get(name)
        said = "" if code < 0 else f"exited with code {code}: "
        return f"{said}killed by signal {number} ({name})" + (f": {cause}" if cause else "")
    return f"exited with code {code}"


def cut(reason: str) -> str | None:
    """Say which limit cut a job short, "time" or "memory", by the sentence that it failed with; None if none did.

    >>> cut("ran longer than its limit of 90 s and was killed"), cut("ValueError: lr is negative")
    ('time', None)
    """
    text = reason.lower()
    if text.startswith("ran longer than its limit") or "limit of processor time" in text:
        return "time"
    if any(
        word in text for word in ("out of memory", "outofmemory", "memoryerror", "cannot allocate memory")
    ):
        return "memory"
    return None


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, (str, bytes)) or value is None:
            raise TypeError
        # Tensors of one element are read by item(): float() of one that requires a gradient warns.
        return float(value if isinstance(value, (int, float)) else getattr(value, "item", lambda: value)())
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentTypeError(
            f"The metric {name!r} must be a number (NaN and infinities count); "
            f"got {value!r} of type {type(value).__name__}."
        ) from None


def numbers(values: Any) -> dict[str, float]:
    """Turn metrics into a plain mapping of names to floats, or say which one is not a number.

    >>> numbers({"loss": 1})
    {'loss': 1.0}
    """
    if not isinstance(values, Mapping):
        raise ArgumentTypeError(
            f"Metrics must be a mapping of names to numbers, such as {{'loss': 2.3}}; got {values!r}."
        )
    return {str(name): _number(str(name), value) for name, value in values.items()}


def checked(reported: Any) -> Reported:
    """Return a report whose parts are plain numbers, or say what is wrong with it."""
    if not isinstance(reported, Reported):
        raise ArgumentTypeError(f"report() takes a Reported; got {reported!r}.")
    step = _number("step", reported.step)
    if not math.isfinite(step) or step <= 0:
        raise ArgumentError(
            f"step must be a finite number greater than 0; got {reported.step!r}. Report after the first "
            "step, as step 1."
        )
    values, sem = numbers(reported.values), numbers(reported.sem)
    return Reported(reported.number, step, values, _number("seconds", reported.seconds), sem)


def result(job: Job, value: Any) -> dict[str, float]:
    """Read what a target returned: nothing, metrics, or one number (of ``job.metric``)."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return numbers(value)
    try:
        return {job.metric: _number(job.metric, value)}
    except ArgumentTypeError:
        raise ArgumentTypeError(
            "The training function must return a number, a mapping of metrics such as {'loss': 2.3}, or "
            f"nothing when it has reported them; got {value!r} of type {type(value).__name__}."
        ) from None
