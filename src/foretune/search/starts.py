"""Known good starts: configs that are tried before another sampler takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from foretune.base import check
from foretune.base.errors import ArgumentError, ConfigError
from foretune.base.key import Key
from foretune.search.distinct import signature
from foretune.search.sampler import Proposal
from foretune.search.wrapping import Wrapper, table
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["Starts"]

__entry__ = "Starts"


def completed(
    space: Space, start: Mapping[str, Any], key: Key, held: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Complete a start: what it lacks takes the held value, its default, or is drawn uniformly.

    Raises:
        ConfigError: it names what the space lacks or does not allow.
    """
    drawn = space.sample(1, key)[0]
    full = dict(start)
    # values of parents that make active what the start names
    needed = {p: v for child in start for p, v in space.when.get(child, {}).items()}
    for _ in space:  # what becomes active by a parent's value may have children of its own
        for name, domain in space.items():
            if name in full or not space.is_active(name, full):
                continue
            if held is not None and name in held:
                full[name] = held[name]
                continue
            value = domain.default if domain.default is not None else drawn.get(name)
            if value is None:  # inactive in the draw
                value = domain.decode(key.fold(name).generator().random(domain.width).tolist())
            fits = name not in needed or value in needed[name]
            full[name] = value if fits else needed[name][0]
    return space.check(full)


@final
@dataclass(frozen=True)
class Starts(Wrapper):
    """Proposes known good configs first, in their order, then what ``inner`` proposes.

    A start counts as tried once a trial has all the values that it names.

    Args:
        configs: the starts; what one leaves out takes its default, or is drawn.
        inner: what comes after.

    >>> from foretune.space import Float
    >>> problem = Problem(Space({"lr": Float(0, 1)}))
    >>> Starts([{"lr": 0.1}], inner="random").ask(problem, None, History(problem), 1, problem.key)
    [Proposal(config={'lr': 0.1}, reason='known good start 1 of 1')]
    """

    configs: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        configs = check.several("configs", self.configs, "configs")
        object.__setattr__(self, "configs", tuple(table("a start", c) for c in configs))

    def init(self, problem: Problem) -> Any:
        for start in self.configs:
            try:
                completed(problem.space, start, problem.key)
            except ConfigError as error:
                raise ArgumentError(f"The start {start!r} does not fit the space: {error}") from None
        return super().init(problem)

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        found: list[Proposal] = []
        if self.configs:
            tried = [t.config for t in history]
            for i, start in enumerate(self.configs):
                if len(found) == n or any(_has(c, start) for c in tried):
                    continue
                config = completed(problem.space, start, problem.key.fold("start", i))
                if signature(config) in {signature(p.config) for p in found}:
                    continue
                found.append(Proposal(config, f"known good start {i + 1} of {len(self.configs)}"))
        if len(found) == n:
            return found
        marks = {signature(p.config) for p in found}
        rest = super().ask(problem, state, history, n if found else n - len(found), key)
        return (found + [p for p in rest if signature(p.config) not in marks])[:n]


def _has(config: Mapping[str, Any], start: Mapping[str, Any]) -> bool:
    missing = object()
    return all(signature({k: config.get(k, missing)}) == signature({k: v}) for k, v in start.items())
