"""Races: tasks with known answers, protocols, and statistics that say who is ahead and how surely."""

from __future__ import annotations

from typing import Any

from foretune.base.lazy import exported

_HOME = {
    "Family": "foretune.bench.task",
    "Instance": "foretune.bench.task",
    "Outcome": "foretune.bench.task",
    "Task": "foretune.bench.task",
    "find": "foretune.bench.tasks",
    "race": "foretune.bench.race",
    "standings": "foretune.bench.standings",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    return exported(__name__, _HOME, name)
