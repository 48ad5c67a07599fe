"""What adapters share: parameters one by one, conditions, choices by position, penalties for failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def active(space: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Drop inactive parameters from a config that has values for all."""
    kept: dict[str, Any] = {}
    left = dict(space)
    while left:
        name = next(n for n, t in left.items() if not any(p in left for p in t.get("when", {})))
        when = left.pop(name).get("when", {})
        if all(p in kept and kept[p] in values for p, values in when.items()):
            kept[name] = config[name]
    return {n: kept[n] for n in space if n in kept}


def searched(space: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is searched: all but constants."""
    for name, table in space.items():
        if table["type"] != "constant":
            yield name, table


def constants(space: dict[str, Any]) -> dict[str, Any]:
    return {n: t["values"][0] for n, t in space.items() if t["type"] == "constant"}


def chosen(space: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Turn values of all searched parameters, choices by position, into a config."""
    out = dict(constants(space))
    for name, table in searched(space):
        value = values[name]
        if table["type"] == "choice":
            value = table["values"][int(value)]
        elif table["type"] == "int":
            value = min(table["high"], max(table["low"], round(float(value))))
        else:
            value = min(table["high"], max(table["low"], float(value)))
        out[name] = value
    return active(space, out)


class Penalty:
    """For methods that know no failures: a failed trial gets the worst loss so far."""

    def __init__(self) -> None:
        self.worst: float | None = None

    def __call__(self, loss: float | None) -> float:
        if loss is not None:
            self.worst = loss if self.worst is None else max(self.worst, loss)
            return loss
        return self.worst if self.worst is not None else 1e6
