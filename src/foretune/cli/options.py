"""Options whose texts need reading: durations, devices, algorithms with hyperparameters, start configs."""

from __future__ import annotations

import json
from typing import Any

from foretune.base.errors import ArgumentError

__all__ = ["read_algorithm", "read_devices", "read_fixed", "read_limit", "read_start"]


def read_limit(text: str | None) -> float | None:
    """Read ``"10min"`` into seconds.

    >>> read_limit("1h 30min")
    5400.0
    """
    from foretune.study.budget import Budget

    if text is None:
        return None
    problem = ArgumentError(f"--limit must be a duration such as 90s, 10min or 2h; got {text!r}.")
    try:
        found = Budget.parse(text)
    except ArgumentError:
        raise problem from None
    if not found.seconds or (found.trials, found.steps, found.cost) != (None, None, None):
        raise problem
    return found.seconds


def read_devices(text: str | None) -> Any:
    """Read ``cpu``, ``gpus``, ``0,1`` or ``{"gpu": 0.5}``.

    >>> read_devices("0,1"), read_devices("gpus")
    (['0', '1'], 'gpus')
    """
    if text is None or text.isalpha():
        return text
    if text.lstrip().startswith("{"):
        return _mapping("--devices", text)
    return [part.strip() for part in text.split(",")]


def read_start(text: str) -> dict[str, Any]:
    """Read a config to train first: ``{"lr": 0.1}``."""
    return _mapping("--start", text)


def read_fixed(texts: list[str] | None) -> dict[str, Any]:
    """Read ``["lr=0.1", "opt=adam"]``: values are JSON, or else words.

    >>> read_fixed(["lr=0.1", "opt=adam", "nesterov=true"])
    {'lr': 0.1, 'opt': 'adam', 'nesterov': True}
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name.strip() or not equals or not value.strip():
            raise ArgumentError(f"--fix must read like lr=0.1; got {text!r}.")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value.strip()
    return found


def _mapping(option: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"{option} {text!r} is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ArgumentError(f'{option} must be a JSON object, such as {{"lr": 0.1}}; got {text!r}.')
    return found


def read_algorithm(option: str, text: str | None) -> tuple[str, dict[str, Any]] | None:
    """Read a name with hyperparameters: ``asha`` or ``asha:eta=4,brackets=2``; values are JSON, or else words.

    >>> read_algorithm("--scheduler", "asha:eta=4")
    ('asha', {'eta': 4})
    >>> read_algorithm("--sampler", 'user_prior:prior={"lr": 0.01, "wd": 0.1},inner=tpe')
    ('user_prior', {'prior': {'lr': 0.01, 'wd': 0.1}, 'inner': 'tpe'})

    A dot leads into a table, or to the options of a sampler inside of another:

    >>> read_algorithm("--sampler", "user_prior:prior.lr=0.01,inner=gp,inner.acquisition=thompson")
    ('user_prior', {'inner': {'name': 'gp', 'acquisition': 'thompson'}, 'prior': {'lr': 0.01}})
    """
    if text is None:
        return None
    name, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in _parts(rest) if rest else ():
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or key.strip() in options:
            raise ArgumentError(
                f"{option} must be NAME or NAME:key=value,key=value; got {text!r} (at {part!r})."
            )
        try:
            options[key.strip()] = json.loads(value)
        except ValueError as error:
            if value.lstrip()[:1] in ("{", "[", '"'):
                raise ArgumentError(
                    f"{option}: the value of {key.strip()!r} is not JSON ({error}); got {value!r}. In a shell "
                    f"put it all between single quotes: {option} '{name.strip()}:key={{\"a\": 1}}'."
                ) from None
            options[key.strip()] = value.strip()
    return name.strip(), _nested(option, options)


def _nested(option: str, flat: dict[str, Any]) -> dict[str, Any]:
    """Put what stands behind a dot into the table before it: that of a sampler if it has a name, else a plain one."""
    found: dict[str, Any] = {k: v for k, v in flat.items() if "." not in k}
    within: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        head, dot, rest = key.partition(".")
        if dot:
            within.setdefault(head, {})[rest] = value
    for head, table in within.items():
        given = found.get(head, {})
        if isinstance(given, str):
            found[head] = {"name": given, **_nested(option, table)}
        elif isinstance(given, dict):
            found[head] = {**given, **(_nested(option, table) if "name" in given else table)}
        else:
            raise ArgumentError(
                f"{option}: {head}.{next(iter(table))} leads into {head}, which is {given!r}: neither the name of "
                "a sampler nor a table."
            )
    return found


def _parts(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets and quotes."""
    parts, depth, quoted, before = [""], 0, False, ""
    for sign in text:
        quoted ^= sign == '"' and before != "\\"
        if not quoted:
            depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth <= 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += sign
        before = sign
    return parts
