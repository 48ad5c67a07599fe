"""Outcome constraints: what a trial must report besides its goals to count as a result."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foretune.base import check
from foretune.base.errors import ArgumentError, ArgumentTypeError

__all__ = ["Constraint", "parse_constraints"]

RELATIONS = ("<=", ">=")
_TEXT = re.compile(
    r"\s*(?P<metric>.*?)\s*(?P<relation><=|>=|≤|≥)\s*(?P<bound>[^\s\[]+)\s*(?:\[(?P<unit>[^\]]+)\])?\s*"
)
_ASCII = {"≤": "<=", "≥": ">="}
_EXAMPLE = '{"memory_gb": "<= 16"} or ["memory_gb <= 16"]'


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound that a reported metric must keep.

    >>> Constraint.parse("memory_gb <= 16")
    Constraint(metric='memory_gb', relation='<=', bound=16.0, unit='1')
    """

    metric: str
    relation: str
    bound: float
    unit: str = "1"

    def __post_init__(self) -> None:
        check.name("constraint.metric", self.metric)
        check.one_of("constraint.relation", self.relation, RELATIONS)
        object.__setattr__(self, "bound", check.number("constraint.bound", self.bound))

    @classmethod
    def parse(cls, text: str, metric: str = "") -> Constraint:
        """Read ``"memory_gb <= 16"``, ``"latency >= 0.1 [s]"``; or ``"<= 16"``, given the metric.

        Raises:
            ArgumentError: the text has another form; strict relations are not distinguished from these.
        """
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        name = found["metric"] if found else ""
        if found is None or bool(name) == bool(metric):
            raise ArgumentError(
                f"constraints must read like {_EXAMPLE}, with <= or >= and a number; got "
                f"{f'{metric!r}: ' if metric else ''}{text!r}."
            )
        try:
            bound = float(found["bound"].replace("_", ""))
        except ValueError:
            raise ArgumentError(
                f"the constraint {text!r} needs a number after {found['relation']}; got {found['bound']!r}."
            ) from None
        relation = _ASCII.get(found["relation"], found["relation"])
        return cls(name or metric, relation, bound, found["unit"] or "1")

    def violation(self, value: float | None) -> float:
        """Return by how much a value breaks the bound: at most 0 where it keeps it.

        NaN where there is no value, +inf where it is not finite.

        >>> Constraint("memory_gb", "<=", 16).violation(17.5)
        1.5
        """
        if value is None:
            return math.nan
        if not math.isfinite(value):
            return math.inf
        return value - self.bound if self.relation == "<=" else self.bound - value

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" [{self.unit}]"
        return f"{self.metric} {self.relation} {self.bound:g}{unit}"


def parse_constraints(given: Any) -> tuple[Constraint, ...]:
    """Read constraints: a mapping of metrics to bounds, texts, Constraints, or nothing.

    Raises:
        ArgumentError: one is not understood, or two say the same.
        ArgumentTypeError: something else was given.

    >>> [str(c) for c in parse_constraints({"memory_gb": "<= 16", "ratio": [">= 0", "<= 1"]})]
    ['memory_gb <= 16', 'ratio >= 0', 'ratio <= 1']
    """
    items = list(_items(given))
    seen: set[tuple[str, str]] = set()
    for item in items:
        if (item.metric, item.relation) in seen:
            raise ArgumentError(f"constraints bound {item.metric!r} twice by {item.relation}: leave one out.")
        seen.add((item.metric, item.relation))
    return tuple(items)


def _items(given: Any) -> Iterable[Constraint]:
    if given is None:
        return
    if isinstance(given, (str, Constraint)):
        given = [given]
    if isinstance(given, Mapping):
        for metric, texts in given.items():
            check.name("constraints", metric)
            for text in [texts] if isinstance(texts, str) else _sequence(texts):
                yield Constraint.parse(text, metric)
        return
    for item in _sequence(given):
        yield item if isinstance(item, Constraint) else Constraint.parse(item)


def _sequence(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ArgumentTypeError(f"constraints must be {_EXAMPLE}; got {value!r}.")
    return value
