"""When a study gives up: its first trials all failed alike, so that the others would, too.

    failed alike          the reasons are the same sentence, but for numbers and addresses
    how many              ``give_up`` (10) trials; 3 where they trained and ended without a metric that the study
                          needs, which costs whole trainings and does not depend on the config
    from where            from the study's start, or from where this process took it up again: whoever has mended
                          what was wrong makes the same call again, and it goes on
    never                 once any trial has a result; while one runs that has come further than all that failed;
                          while one waits to be taken up again; with ``give_up=0``

Nothing is written that another process would have to obey: the rule is a pure function of the log and of the
place in it where the process began, so that all that work on a study come to it by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from foretune.study.ending import WITHOUT
from foretune.trial.history import History
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, RUNNING, STOPPED, WAITING, Trial

__all__ = ["GIVE_UP", "UNMEASURED", "alike", "hopeless", "patience_of"]

GIVE_UP = 10  # trials: where failures depend on the config, and two of three fail, 2 % of studies begin so
UNMEASURED = (
    3  # trials that ended without a metric: rarely the config's fault, and each cost a whole training
)
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)
_NO_METRICS = ("the command printed no metrics", "the command wrote no metrics")


def alike(reason: str) -> str:
    """Return a reason without what differs from trial to trial: numbers and addresses.

    >>> alike("RuntimeError: <Net at 0x7f3a> lacks 12 of 40 GiB (train.py:12, in step)")
    'RuntimeError: <Net at #> lacks # of # GiB (train.py:#, in step)'
    """
    return _NUMBER.sub("#", reason)


def patience_of(about: Mapping[str, Any]) -> int:
    """Read from a study's first event how many trials may fail alike."""
    stored = about.get("give_up", GIVE_UP)  # in an old study it may be an entry of the user's own
    return stored if type(stored) is int and stored >= 0 else GIVE_UP


def _enough(reason: str, most: int) -> int:
    """Say how many failures with this reason are enough."""
    unmeasured = reason.startswith((WITHOUT, *_NO_METRICS))
    return min(most, UNMEASURED) if unmeasured else most


def _open(history: History, furthest: float) -> bool:
    """Whether a trial that is not at its end may still come out better than those that failed."""
    if any(history.plan(n).until > 0 for n in history.numbers(WAITING)):
        return True
    running: list[Trial] = [history[n] for n in history.numbers(RUNNING)]
    return any(t.step > furthest for t in running)


def hopeless(history: History, most: int, since: int = 0) -> str | None:
    """Say why it makes no sense to go on; None if it may.

    Args:
        most: how many trials may fail alike before any has a result; 0: any number.
        since: how many had settled when this process took the study up.
    """
    if not most or history.count(COMPLETE, PAUSED, STOPPED) or history.count(FAILED) < min(most, UNMEASURED):
        return None
    fresh = list(dict.fromkeys(history.settled[since : since + most]))
    failed: list[Trial] = [history[n] for n in fresh if history.state(n) == FAILED]
    if not failed or len(failed) < len(fresh):
        return None
    reason = failed[0].failure or ""
    enough = _enough(reason, most)
    if len(failed) < enough or len({alike(t.failure or "") for t in failed[:enough]}) > 1:
        return None
    if _open(history, max(t.step for t in failed)):
        return None
    new = "the first" if not since else "another"
    many = f"{new} {enough} trials failed alike" if enough > 1 else f"{new} trial failed"
    return (
        f"gave up, for {many} and none has a result: {reason.rstrip('.?')}{'?' if reason.endswith('?') else '.'} "
        f"{_remedy(reason)} (give_up=0 never gives up)"
    )


def _remedy(reason: str) -> str:
    again = "the same call goes on then, with further trials"
    if "which is constrained" in reason and reason.startswith(WITHOUT):
        return f"Let the training report it, and {again}; or begin another study without that constraint"
    if reason.startswith(WITHOUT):
        return f"Let the training report it, and {again}; or begin another study, with a goal that it reports"
    return f"Mend that, and {again}"
