"""Schedulers: what a free worker does next. One a file; the file's name is the public name."""

from __future__ import annotations

from typing import Any

from foretune.base import registry
from foretune.base.errors import ArgumentTypeError
from foretune.schedule.scheduler import Action, Done, Resume, Rung, Scheduler, Start, Verdict, Wait

__all__ = [
    "Action", "Done", "Resume", "Rung", "Scheduler", "Start", "Verdict", "Wait", "make", "names",
]  # fmt: skip


def names() -> tuple[str, ...]:
    """Return the names of all schedulers.

    >>> "asha" in names()
    True
    """
    return registry.names("foretune.schedule")


def make(scheduler: str | Scheduler, **options: Any) -> Scheduler:
    """Turn a name with its options into a scheduler; a scheduler is handed back as it is.

    Raises:
        UnknownNameError: no scheduler has this name.
        ArgumentTypeError: neither a name nor a scheduler, or options for a ready scheduler.
        ArgumentError: an option that the scheduler does not have.

    >>> make("asha", eta=4)
    Asha(eta=4, low=None, brackets=1)
    """
    if isinstance(scheduler, str):
        made: Scheduler = registry.build("foretune.schedule", "scheduler", scheduler, options)
        return made
    if not isinstance(scheduler, Scheduler):
        raise ArgumentTypeError(
            f"scheduler must be a name ({', '.join(names())}) or a Scheduler; got {scheduler!r}."
        )
    if options:
        raise ArgumentTypeError(
            f"options ({', '.join(sorted(options))}) go with a scheduler's name; "
            f"this one is ready: {scheduler!r}."
        )
    return scheduler
