"""Checks of arguments: one sentence for what is accepted, made in one place."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from foretune.base.errors import ArgumentError, ArgumentTypeError, did_you_mean

__all__ = ["flag", "integer", "name", "number", "one_of", "several"]


def _bounds(low: float, high: float, open_low: bool) -> str:
    if math.isinf(low) and math.isinf(high):
        return "finite"
    if math.isinf(high):
        return f"greater than {low:g}" if open_low else f"at least {low:g}"
    if math.isinf(low):
        return f"at most {high:g}"
    shut = ")" if float(f"{high:g}") > high else "]"  # a bound a hair below a round number stays out
    return f"in {'(' if open_low else '['}{low:g}, {high:g}{shut}"


def number(
    argument: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
) -> float:
    """Return ``value`` as a float, or raise a sentence that names the argument.

    >>> number("lr", 0.1, 0.0, 1.0)
    0.1
    """
    accepted = f"a number {_bounds(low, high, open_low)}"
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentTypeError(f"{argument} must be {accepted}; got {value!r}.") from None
    too_low = result <= low if open_low else result < low
    if math.isinf(high) and not math.isfinite(result) and not accepted.endswith("finite"):
        accepted += ", and finite"
    if not math.isfinite(result) or too_low or result > high:
        raise ArgumentError(f"{argument} must be {accepted}; got {value!r}.")
    return result


def integer(argument: str, value: Any, low: float = -math.inf, high: float = math.inf) -> int:
    """Return ``value`` as an int (3.0 counts as 3), or raise.

    >>> integer("workers", 2, 1)
    2
    """
    accepted = f"a whole number {_bounds(low, high, False)}"
    try:
        if isinstance(value, (bool, str, bytes)) or int(value) != value:
            raise TypeError
        result = int(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentTypeError(f"{argument} must be {accepted}; got {value!r}.") from None
    if not low <= result <= high:
        raise ArgumentError(f"{argument} must be {accepted}; got {value!r}.")
    return result


def name(argument: str, value: Any) -> str:
    """Return a non-empty, one-line string, or raise."""
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{argument} must be a string; got {value!r}.")
    if not value.strip() or "\n" in value or "\0" in value:
        raise ArgumentError(f"{argument} must be a non-empty string on one line; got {value!r}.")
    return value


def flag(argument: str, value: Any) -> bool:
    """Return a bool, or raise: "no" and 0 are too easily taken for the other one.

    >>> flag("shuffle", True)
    True
    """
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{argument} must be true or false (True or False in Python); got {value!r}.")
    return value


def several(argument: str, value: Any, of: str) -> tuple[Any, ...]:
    """Return a list's items, or raise; a text or a mapping is no list.

    >>> several("order", ["lr", "wd"], "names of parameters")
    ('lr', 'wd')
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ArgumentTypeError(f"{argument} must be a list of {of}; got {value!r}.")
    return tuple(value)


def one_of(argument: str, value: Any, accepted: Collection[str]) -> str:
    """Return ``value`` if it is among ``accepted``, or raise with a suggestion.

    >>> one_of("direction", "min", ("min", "max"))
    'min'
    """
    if value not in accepted:
        listed = ", ".join(repr(a) for a in accepted)
        raise ArgumentError(
            f"{argument} must be one of {listed}; got {value!r}.{did_you_mean(str(value), accepted)}"
        )
    return str(value)
