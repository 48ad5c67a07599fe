"""Fixed parameters: some choices are held, and another sampler searches the rest."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from foretune.base.errors import ArgumentError, ConfigError, did_you_mean
from foretune.base.key import Key
from foretune.search.sampler import Proposal
from foretune.search.wrapping import Table, Wrapper, relabelled, table
from foretune.space.domain import Constant
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.recast import recast
from foretune.trial.trial import Trial

__all__ = ["Fixed", "narrowed"]

__entry__ = "Fixed"


@functools.lru_cache(maxsize=16)
def narrowed(space: Space, values: Table) -> Space:
    """Make the values constants; what can no longer become active goes.

    >>> from foretune.space import Choice, Float
    >>> space = Space({"opt": Choice(("sgd", "adam")), "momentum": Float(0, 1)},
    ...               when={"momentum": {"opt": ["sgd"]}})
    >>> list(narrowed(space, Table({"opt": "adam"})))
    ['opt']

    Raises:
        ArgumentError: a name that the space lacks, or a value that it does not allow.
    """
    held: dict[str, Any] = {}
    for name, value in values.items():
        if name not in space:
            raise ArgumentError(
                f"fixed names {name!r}, which the space lacks.{did_you_mean(name, space)} "
                f"It has {', '.join(space)}."
            )
        try:
            held[name] = space[name].check(name, value)
        except ConfigError as error:
            raise ArgumentError(f"fixed: {error}") from None
    domains = {n: Constant(held[n]) if n in held else d for n, d in space.items()}
    when: dict[str, dict[str, tuple[Any, ...]]] = {}
    gone: set[str] = set()
    for name in _parents_first(space):
        for parent, allowed in space.when.get(name, {}).items():
            if parent in held:
                allowed = tuple(v for v in allowed if _same(v, held[parent]))
            if parent in gone or not allowed:
                gone.add(name)
            when.setdefault(name, {})[parent] = allowed
    for name in gone:
        if name in held:
            raise ArgumentError(f"fixed holds {name!r}, which cannot be active with the other values held.")
    return Space(
        {n: d for n, d in domains.items() if n not in gone}, {n: w for n, w in when.items() if n not in gone}
    )


def _same(a: Any, b: Any) -> bool:
    return bool(a == b and isinstance(a, bool) == isinstance(b, bool))


def _parents_first(space: Space) -> list[str]:
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for parent in space.when.get(name, {}):
                visit(parent)
            order.append(name)

    for name in space:
        visit(name)
    return order


@final
@dataclass(frozen=True)
class Fixed(Wrapper):
    """Holds some parameters at given values; ``inner`` searches the others, and sees a space without them.

    Trials with other values of what is held (from before, or added by hand) are not shown to ``inner``.

    Args:
        values: parameter -> the value that it is held at. A held parameter that is conditional has its
            value wherever it is active.
        inner: searches the rest.

    >>> from foretune.space import Float
    >>> problem = Problem(Space({"lr": Float(0, 1), "wd": Float(0, 1)}))
    >>> Fixed({"wd": 0.25}, inner="random").ask(problem, None, History(problem), 1, problem.key)[0].config["wd"]
    0.25
    """

    values: Mapping[str, Any] = field(default_factory=lambda: Table({}))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "values", table("fixed values", self.values))

    def within(self, problem: Problem) -> Problem:
        assert isinstance(self.values, Table)
        if not self.values:
            return problem
        return replace(problem, space=narrowed(problem.space, self.values))

    def _fits(self, config: Mapping[str, Any]) -> bool:
        return all(n not in config or _same(config[n], v) for n, v in self.values.items())

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        if not self.values:
            return self.wrapped.ask(problem, state, history, n, key)
        narrow = self.within(problem)
        keep = [i for i, t in enumerate(history) if self._fits(t.config)]
        seen = recast(history, narrow, keep=keep)
        found = self.wrapped.ask(narrow, state, seen, n, key)
        held = ", ".join(f"{k} {v}" for k, v in self.values.items())
        names = [f"trial {i}" for i in keep]
        return [
            Proposal(problem.space.fill(p.config), f"{p.reason} (held: {held})")
            for p in relabelled(found, names)
        ]

    def tell(self, problem: Problem, state: Any, trial: Trial) -> Any:
        if not self._fits(trial.config):
            return state
        return self.wrapped.tell(self.within(problem), state, trial)
