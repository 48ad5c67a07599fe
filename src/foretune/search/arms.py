"""Parts of a space and of a history: what one value of a choice has to do with, seen as a study of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from foretune.base.errors import UnknownNameError, did_you_mean
from foretune.search.feasible import shown, told
from foretune.search.sampler import Sampler
from foretune.space.domain import Choice, Constant
from foretune.space.space import Space
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, STOPPED, WAITING

__all__ = ["arm_of", "follow", "part", "restrict", "within"]

_ENDS = {PAUSED: "pause", STOPPED: "stop", COMPLETE: "complete", FAILED: "fail"}


def arm_of(space: Space, name: str | None = None) -> str | None:
    """Return the choice whose values are the arms.

    Args:
        name: an unconditional Choice of the space; None: the one that most parameters depend on, the
            first of several; None if nothing depends on any.

    Raises:
        UnknownNameError: ``name`` is no unconditional choice of the space.

    >>> from foretune.space import Float
    >>> arm_of(Space({"act": Choice(["relu", "gelu"]), "algo": Choice(["svm", "knn"]), "c": Float(0, 1)},
    ...              when={"c": {"algo": ["svm"]}}))
    'algo'
    """
    found = [n for n, d in space.items() if isinstance(d, Choice) and n not in space.when]
    if name is not None:
        if name not in found:
            raise UnknownNameError(
                f"arm must name a choice that is always active; got {name!r}.{did_you_mean(name, found)} "
                f"Such choices here: {', '.join(found) or 'none'}."
            )
        return name
    children = {n: sum(n in parents for parents in space.when.values()) for n in found}
    return max((n for n in found if children[n]), key=lambda n: children[n], default=None)


def restrict(space: Space, name: str, value: Any) -> Space:
    """Fix a choice to one of its values: parameters that exist only for others are left out.

    Each config of the result is a config of ``space``.

    >>> from foretune.space import Float
    >>> whole = Space({"opt": Choice(["sgd", "adam"]), "momentum": Float(0, 1)}, when={"momentum": {"opt": ["sgd"]}})
    >>> list(restrict(whole, "opt", "adam")), list(restrict(whole, "opt", "sgd"))
    (['opt'], ['opt', 'momentum'])
    """
    domain = space[name]
    assert isinstance(domain, Choice)  # for the type checker: callers pass what arm_of found
    mine = domain.index(value)
    gone: set[str] = set()
    while True:
        more = {
            child
            for child, parents in space.when.items()
            if child not in gone
            and (
                any(p in gone for p in parents)
                or (name in parents and mine not in [domain.index(v) for v in parents[name]])
            )
        }
        if not more:
            break
        gone |= more
    when = {
        child: {p: v for p, v in parents.items() if p != name}
        for child, parents in space.when.items()
        if child not in gone
    }
    kept = {n: Constant(value) if n == name else d for n, d in space.items() if n not in gone}
    return Space(kept, when)


def part(problem: Problem, history: History, numbers: Iterable[int]) -> tuple[History, list[Event]]:
    """Retell some trials, renumbered from 0, as the log of a study of their own.

    Trials that settled come in the order in which they settled for the last time, then those that run.
    What an added waiting trial is remains: it is pending.

    Args:
        problem: of the smaller study; the trials' configs lie in its space.

    Returns:
        The history, and the events that end trials, which are not yet applied: :func:`follow` does it.
    """
    wanted = list(numbers)
    new = {old: i for i, old in enumerate(wanted)}
    begin: list[Event] = []
    for old, i in new.items():
        trial = history[old]
        data = {"config": dict(trial.config), "plan": list(trial.plan), "by": trial.origin.by}
        begin.append(Event("add" if trial.state == WAITING else "start", i, 0.0, data))
        for report in trial.reports:
            told = {"step": report.step, "values": dict(report.values), "seconds": report.seconds}
            begin.append(Event("report", i, 0.0, told))
    order = {old: at for at, old in enumerate(history.settled)}  # a later place overrides an earlier one
    ends = []
    for old in sorted((o for o in wanted if history.state(o) in _ENDS), key=lambda o: order.get(o, -1)):
        trial = history[old]
        told = {**trial.notes, "reason": trial.failure or "as in the whole study"}
        ends.append(Event(_ENDS[trial.state], new[old], 0.0, told))
    return History(problem, begin), ends


def follow(
    sampler: Sampler[Any], problem: Problem, history: History, numbers: Iterable[int]
) -> tuple[History, Any]:
    """Return the history of some trials as a sampler sees it, and the state that it has after them."""
    state = sampler.init(problem)

    def settle(trial: Any) -> None:
        nonlocal state
        state = sampler.tell(problem, state, told(sampler, problem, trial))

    smaller, ends = part(problem, history, numbers)
    smaller.apply(ends, settle)
    return shown(sampler, smaller), state


def within(problem: Problem, name: str, value: Any, place: int) -> Problem:
    """Return the problem of one arm: its space, and randomness of its own."""
    return replace(problem, space=restrict(problem.space, name, value), key=problem.key.fold("arm", place))
