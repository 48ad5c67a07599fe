"""Opening a study: what a new one is made of, and what must agree with one that is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from foretune.base import check
from foretune.base.errors import ArgumentError, ArgumentTypeError, SpaceError, StudyError
from foretune.base.key import Key
from foretune.schedule import make as make_scheduler
from foretune.search import make as make_sampler
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.study.budget import Budget
from foretune.study.description import rebuild, record
from foretune.trial.constraint import parse_constraints
from foretune.trial.goal import parse_goals
from foretune.trial.problem import Problem

__all__ = [
    "WHOLE_RUN",
    "algorithm",
    "as_space",
    "creation",
    "ends_by_itself",
    "longer",
    "must_agree",
    "must_grow",
    "must_hold",
]

WHOLE_RUN = "runs"  # the unit of a study without steps: a trial is one run, from 0 to 1


def as_space(space: Any) -> Space | None:
    """Take a Space, a mapping of domains, or nothing."""
    if space is None or isinstance(space, Space):
        return space
    if not isinstance(space, Mapping):
        raise ArgumentTypeError(f"space must be a Space or a mapping of domains; got {space!r}.")
    return Space(space)


def _axis(steps: Union[float, Fidelity, None]) -> Fidelity:
    if steps is None:
        return Fidelity(1, 1, WHOLE_RUN)
    if isinstance(steps, Fidelity):
        return steps
    high = check.number("steps", steps, 0, open_low=True)
    return Fidelity(high, min(1, high))


def creation(
    space: Space, goal: Any, sampler: Any, scheduler: Any, steps: Any, budget: Any, seed: int | None,
    about: Mapping[str, Any] | None, constraints: Any = None, give_up: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make the data of a new study's first event, with the defaults filled in.

    Raises:
        ArgumentError: the parts contradict each other.
    """
    axis = _axis(steps)
    allowed = Budget.parse(budget)
    root = 0 if seed is None else seed
    goals = parse_goals("min loss" if goal is None else goal)
    bounds = parse_constraints(constraints)
    problem = Problem(space, goals, axis, Key.of(root), allowed.trials, bounds)
    planner = make_scheduler("auto" if scheduler is None else scheduler)
    if "multi-fidelity" in planner.tags and axis.unit == WHOLE_RUN:
        raise ArgumentError(
            f"scheduler={scheduler!r} compares trials before their end, so it needs steps: the length of "
            "a full trial, such as steps=1000 (and steps=Fidelity(1000, low=10) for the first rung)."
        )
    proposer = make_sampler("auto" if sampler is None else sampler)
    proposer.init(problem)  # what it refuses is refused before anything is written
    return record(problem, root, proposer, planner, allowed, about, give_up)


def ends_by_itself(sampler: Any, scheduler: Any) -> bool:
    """Whether a study with these (names, objects, or None for the defaults) ends without any budget."""
    proposer = make_sampler("auto" if sampler is None else sampler)
    planner = make_scheduler("auto" if scheduler is None else scheduler)
    return "exhaustible" in proposer.tags or planner.ends


def algorithm(kind: str, given: Any, about: Mapping[str, Any], study: str) -> Any:
    """Return the sampler or scheduler that was given, or the one that the study was begun with."""
    package: str = {"sampler": "foretune.search", "scheduler": "foretune.schedule"}[kind]
    if given is not None:
        return make_sampler(given) if kind == "sampler" else make_scheduler(given)
    found = rebuild(package, kind, about[kind])
    if found is None:
        raise StudyError(
            f"The study {study!r} was begun with a {kind} of its own, {about[kind].get('class')}: "
            f"pass {kind}=... again."
        )
    return found


def must_agree(
    study: str, problem: Problem, stored_seed: int, goal: Any, steps: Any, seed: int | None,
    constraints: Any = None,
) -> None:  # fmt: skip
    """Refuse another seed, other goals, constraints or steps than a stored study has."""
    if constraints is not None:
        asked = sorted((c.metric, c.relation, c.bound) for c in parse_constraints(constraints))
        if asked != sorted((c.metric, c.relation, c.bound) for c in problem.constraints):
            raise ArgumentError(
                f"The study {study!r} has the constraints "
                f"{', '.join(map(str, problem.constraints)) or 'none'}, not "
                f"{', '.join(map(str, parse_constraints(constraints))) or 'none'}: leave constraints out, or "
                "choose another name for a new study."
            )
    if seed is not None and seed != stored_seed:
        raise ArgumentError(
            f"The study {study!r} has seed {stored_seed}, not {seed!r}: leave seed out, or choose another name."
        )
    if goal is not None:
        # A unit is for the reader: 'min loss' is the goal of a study whose loss is in nats/byte.
        wanted, stored = parse_goals(goal), problem.goals
        if [(g.metric, g.direction) for g in wanted] != [(g.metric, g.direction) for g in stored]:
            raise ArgumentError(
                f"The study {study!r} has the goal {', '.join(map(str, stored))}, not "
                f"{', '.join(map(str, wanted))}: choose another name for a new study."
            )
    if steps is None:
        return
    mine, axis = problem.steps, _axis(steps)
    if mine.unit == WHOLE_RUN:
        raise ArgumentError(
            f"The study {study!r} was begun without steps, not with steps={steps!r}: leave steps out, or "
            "choose another name for a new study."
        )
    if axis.high < mine.high or axis.low != mine.low:
        raise ArgumentError(
            f"The study {study!r} has steps {mine.low:g} to {mine.high:g}, not {axis.low:g} to "
            f"{axis.high:g}: steps can become more, as with steps=Fidelity({max(axis.high, mine.high):g}, "
            f"low={mine.low:g}), never fewer; choose another name for a new study."
        )


def longer(problem: Problem, steps: Union[float, Fidelity]) -> Fidelity:
    """Return the axis of a study whose full trials get as long as ``steps``; its low end and unit stay."""
    present = problem.steps
    return Fidelity(max(_axis(steps).high, present.high), present.low, present.unit)


def must_hold(study: str, present: Space, wanted: Space) -> None:
    """Refuse a space that some recorded trial might not fit, with the differences."""
    lost = wanted.differences(present)
    if lost:
        raise SpaceError(
            f"The study {study!r} cannot change to this space, for trials recorded so far would not fit: "
            f"{'; '.join(lost)}. Choose another name for a new study."
        )


def must_grow(study: str, present: Budget, wanted: Budget, opening: bool) -> None:
    """Refuse a budget that allows less than the present one.

    Args:
        opening: whether it came with the study's opening, where a limit of another kind would be a
            surprise; ``extend`` may set one.
    """
    less = wanted.smaller(present)
    smaller = [part for part in less if getattr(present, part) is not None]
    if smaller:
        raise ArgumentError(
            f"budget={str(wanted)!r} is less than that of the study {study!r} ({present}) in "
            f"{', '.join(smaller)}. A budget is the study's total and can only grow: leave it out to go on "
            "within it."
        )
    if less and opening:
        raise ArgumentError(
            f"The study {study!r} has no limit of {', '.join(less)}; budget={str(wanted)!r} would set one. "
            "Leave budget out to go on."
        )
