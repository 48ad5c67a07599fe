"""What the first event of a study says: enough to take the study up again from its store alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from foretune.base.codec import plain
from foretune.base.errors import ArgumentError, ArgumentTypeError, StoreError, StudyError, UnknownNameError
from foretune.base.key import Key
from foretune.base.registry import entries, lookup
from foretune.search.sampler import Sampler
from foretune.space.fidelity import Fidelity
from foretune.space.files import space_from_dict
from foretune.study.budget import Budget
from foretune.trial.constraint import Constraint
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem

__all__ = ["SCHEMA", "describe", "problem_of", "rebuild", "record"]

SCHEMA = 2  # 2: constraints, which a version that cannot read them must not ignore
WRAPPED = "$wrapped"  # the key under which an option that is itself an algorithm is described


def describe(package: str, algorithm: Any) -> dict[str, Any]:
    """Describe a sampler or scheduler by its registered name and its hyperparameters."""
    module = type(algorithm).__module__
    name = module.rpartition(".")[2] if module.startswith(f"{package}.") else None
    options: Any = {}
    if dataclasses.is_dataclass(algorithm):
        pairs = {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm) if f.init}
        inner = {k: describe(package, v) for k, v in pairs.items() if isinstance(v, Sampler)}
        if any(d["name"] is None for d in inner.values()):
            name = None  # what it wraps must be given again
        try:
            options = plain({k: v for k, v in pairs.items() if k not in inner})
            options |= {k: {WRAPPED: d} for k, d in inner.items()}
        except TypeError:  # wraps objects that are no data: the name alone is kept, for the reader
            name, options = None, {}
    known = name is not None and name in entries(package)
    return {"name": name if known else None, "class": type(algorithm).__name__, "options": options}


def rebuild(package: str, kind: str, description: Mapping[str, Any]) -> Any:
    """Make the algorithm that ``describe`` described; None if it is not a registered one.

    Raises:
        StudyError: this version has no such algorithm, or not with these hyperparameters.
    """
    if description.get("name") is None:
        return None
    options = {k: _option(package, kind, v) for k, v in description["options"].items()}
    try:
        return lookup(package, kind, description["name"])(**options)
    except (TypeError, ValueError, UnknownNameError) as error:
        said = ", ".join(f"{k}={v!r}" for k, v in options.items())
        raise StudyError(
            f"The study was begun with {kind}={description['name']!r} ({said}), which this version of "
            f"foretune cannot make: {error} Pass {kind}=... again, or use the version that began the study."
        ) from error


def _option(package: str, kind: str, value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {WRAPPED}:
        return rebuild(package, kind, value[WRAPPED])
    return math.inf if value == "Infinity" else (tuple(value) if isinstance(value, list) else value)


def record(
    problem: Problem, seed: int, sampler: Any, scheduler: Any, budget: Budget, extra: Mapping[str, Any] | None,
    give_up: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make the data of a study's ``create`` event.

    Args:
        extra: the user's own entries (``about``); they stand beside the study's, never in their place.
        give_up: how many trials may fail alike, if that was said.

    Raises:
        ArgumentError: an extra entry has the name of one of the study's own.
        ArgumentTypeError: the extra entries are no mapping of names.
    """
    from foretune import __version__

    own = {
        "schema": SCHEMA if problem.constraints else 1,
        "foretune": __version__,
        "space": problem.space.to_dict(),
        "goals": plain(list(problem.goals)),
        "steps": plain(problem.steps),
        "seed": seed,
        "sampler": describe("foretune.search", sampler),
        "scheduler": describe("foretune.schedule", scheduler),
        "budget": plain(budget),
        **({"constraints": plain(list(problem.constraints))} if problem.constraints else {}),
        **({"give_up": give_up} if give_up is not None else {}),
    }
    if extra is not None and (not isinstance(extra, Mapping) or not all(isinstance(k, str) for k in extra)):
        raise ArgumentTypeError(f"about must be a mapping of names to JSON values; got {extra!r}.")
    reserved = (*own, "constraints", "give_up")
    taken = [name for name in extra or () if name in reserved]
    if taken:
        raise ArgumentError(
            f"about has the entry {taken[0]!r}, which the study writes itself: choose another name. "
            f"Reserved are {', '.join(dict.fromkeys(reserved))}."
        )
    return {**own, **(extra or {})}


def problem_of(data: Mapping[str, Any]) -> Problem:
    """Read the problem from a ``create`` event.

    Raises:
        StoreError: the event was written by a newer version.
    """
    if data.get("schema", 0) > SCHEMA:
        raise StoreError(
            f"The study was created by foretune {data.get('foretune')} with schema {data['schema']}; this "
            f"version reads up to {SCHEMA}: upgrade foretune."
        )
    return Problem(
        space_from_dict(data["space"]),
        tuple(Goal(**g) for g in data["goals"]),
        Fidelity(**data["steps"]),
        Key.of(data["seed"]),
        data["budget"].get("trials"),
        # before schema 2 an entry of this name was the user's own
        tuple(Constraint(**c) for c in data["constraints"]) if data.get("schema", 0) >= 2 else (),
    )
