"""Families of tasks, one a file; the file's name is the family's. ``find`` gives tasks by pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from foretune.base.errors import ArgumentError, unknown_name
from foretune.base.registry import lookup
from foretune.base.registry import names as _names
from foretune.bench.data import data_root
from foretune.bench.task import Family, Task, halves

__all__ = ["families", "find", "make"]


def families() -> tuple[str, ...]:
    """Return the names of all families.

    >>> "functions" in families()
    True
    """
    return _names(__name__)


def make(family: str, data: str | Path | None = None) -> Family:
    """Make a family by name.

    Args:
        family: a name of :func:`families`.
        data: the folder of the published tables; ../shared/data beside the repository by default.

    Raises:
        UnknownNameError: no family has that name.
    """
    found: Family = lookup(__name__, "family of tasks", family)(data_root(data))
    return found


def _tasks(family: str, data: str | Path | None) -> list[Task]:
    made = make(family, data)
    names = made.names()
    half = halves(family, sorted({made.kin(n) for n in names}))
    if made.split:
        other = make(made.split, data)
        half.update(halves(made.split, sorted({other.kin(n) for n in other.names()})))
    return [Task(made, f"{family}/{n}", made.group, half[made.kin(n)]) for n in names]


def find(patterns: Sequence[str] = ("*",), data: str | Path | None = None) -> list[Task]:
    """Return the tasks whose names fit any of the patterns, in order of family and name.

    Args:
        patterns: a family ("hpobench"), a task ("hpobench/car"), or shell patterns ("xgboost*/*").
        data: the folder of the published tables.

    Raises:
        UnknownNameError: a pattern that fits no family.
        ArgumentError: a family named in full whose data is absent, or a pattern that fits no task.
    """
    found: dict[str, Task] = {}
    for pattern in patterns:
        head, _, tail = pattern.partition("/")
        fitting = fnmatch.filter(families(), head)
        if not fitting:
            raise unknown_name("family of tasks", head, families())
        exact = head in families()
        before = len(found)
        known: list[str] = []
        for family in fitting:
            try:
                tasks = _tasks(family, data)
            except ArgumentError:
                if exact:
                    raise
                continue  # "*" means all that is here
            known += [t.name for t in tasks]
            found.update({t.name: t for t in tasks if fnmatch.fnmatch(t.name, f"{family}/{tail or '*'}")})
        if len(found) == before and not any(fnmatch.fnmatch(n, f"{head}/{tail or '*'}") for n in found):
            raise unknown_name("task", pattern, known)
    return [found[name] for name in sorted(found)]
