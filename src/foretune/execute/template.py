"""Command templates: text with ``{name}`` placeholders, filled so that no value can break the shell."""

from __future__ import annotations

import json
import shlex
import string
from collections.abc import Iterable, Mapping
from typing import Any

from foretune.base.codec import plain
from foretune.base.errors import ArgumentError, ArgumentTypeError, did_you_mean
from foretune.execute.executor import Job

__all__ = ["RESERVED", "fill", "placeholders", "validate", "values_of"]

RESERVED = ("until", "start", "checkpoint", "seed", "number", "weights", "teacher")


def _parse(text: str) -> list[tuple[str, str | None, str]]:
    """Take a template apart: (text before, name or None, format) of each placeholder."""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ArgumentError(
            f"The command {text!r} has unbalanced braces ({error}): write {{{{ for a brace."
        ) from None
    for _, name, _, conversion in parsed:
        if conversion is not None:
            raise ArgumentError(
                f"The command {text!r} asks for {{{name}!{conversion}}}: conversions such as !r are not "
                f"supported. Write {{{name}}}, or a format such as {{{name}:.3g}}."
            )
        if name == "":
            raise ArgumentError(
                f"The command {text!r} has an empty placeholder {{}}: name the choice, as in {{lr}}, or "
                "write {{}} for literal braces."
            )
    return [(before, name, spec or "") for before, name, spec, _ in parsed]


def placeholders(text: str) -> list[str]:
    """Return the names that a template asks for, in order.

    >>> placeholders("train --lr {lr} --out {{x}} {number}")
    ['lr', 'number']
    """
    return [name for _, name, _ in _parse(text) if name is not None]


def validate(texts: Iterable[str], names: Iterable[str]) -> None:
    """Check that every placeholder is a choice of the space or a reserved name.

    Raises:
        ArgumentError: one is neither (with the nearest name), or is both.
    """
    known = list(names)
    for text in texts:
        for name in placeholders(text):
            if name in RESERVED and name in known:
                raise ArgumentError(
                    f"The placeholder {{{name}}} is ambiguous: {name!r} is a choice of the space, and a "
                    "reserved name. Rename the choice, or read it from FORETUNE_CONFIG."
                )
            if name not in RESERVED and name not in known:
                raise ArgumentError(_unknown(name, text, known))


def _unknown(name: str, text: str, known: Iterable[str]) -> str:
    accepted = [*known, *RESERVED]
    return (
        f"The command {text!r} asks for {{{name}}}, which is no choice of the space."
        f"{did_you_mean(name, accepted)} Accepted: {', '.join(accepted)}. For a literal brace write {{{{."
    )


def _text(value: Any) -> str:
    """Write a value as a command line would: JSON, but strings bare and whole floats of steps short."""
    if isinstance(value, str):
        return value
    return json.dumps(plain(value), separators=(",", ":"))


def _step(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


def values_of(job: Job) -> dict[str, Any]:
    """Return what placeholders may stand for: the config, and the job's own values."""
    own = {
        "until": _step(job.until),
        "start": _step(job.start),
        "checkpoint": job.checkpoint or "",
        "seed": job.seed,
        "number": job.number,
        "weights": job.weights or "",
        "teacher": job.teacher or "",
    }
    return {**own, **job.config}


def fill(text: str, values: Mapping[str, Any], *, quote: bool) -> str:
    """Fill a template; with ``quote`` each value becomes exactly one word of a POSIX shell.

    >>> fill("echo {a} {{}}", {"a": "x; rm -rf /"}, quote=True)
    "echo 'x; rm -rf /' {}"
    >>> fill("--lr={lr:.1e}", {"lr": 0.00123}, quote=False)
    '--lr=1.2e-03'
    """
    parts: list[str] = []
    for literal, name, spec in _parse(text):
        parts.append(literal)
        if name is None:
            continue
        if name not in values:
            raise ArgumentError(_unknown(name, text, [k for k in values if k not in RESERVED]))
        value = values[name]
        try:
            filled = format(value, spec) if spec else _text(value)
        except (ValueError, TypeError) as error:
            raise ArgumentTypeError(f"{{{name}:{spec}}} does not fit the value {value!r}: {error}.") from None
        parts.append(shlex.quote(filled) if quote else filled)
    return "".join(parts)
