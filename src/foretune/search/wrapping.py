"""What wrapping samplers share: an inner sampler by name or object, frozen mappings, borrowed words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Union, final

from foretune.base.codec import canonical
from foretune.base.errors import ArgumentTypeError
from foretune.base.key import Key
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["Table", "Wrapper", "idle", "relabelled", "table"]

# how an argument without which a wrapper does nothing is given in Python, and in a shell
_GIVE: Mapping[str, str] = {
    "prior": "make('user_prior', prior={'lr': 0.01}), or --sampler 'user_prior:prior={\"lr\": 0.01}'",
    "sources": "warm_from='old.db:NAME', or --warm-from old.db:NAME",
    "values": "fixed={'lr': 0.1}, or --fix lr=0.1",
    "configs": "starts=[{'lr': 0.1}], or --start '{\"lr\": 0.1}'",
}


@final
class Table(Mapping[str, Any]):
    """A mapping that is frozen, hashed by content, and printed like a dict.

    >>> Table({"a": [1, 2]}) == {"a": (1, 2)}
    True
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = {k: _frozen(v) for k, v in items.items()}
        self._hash: int | None = None

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._items == dict(other)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(canonical(self._items))
        return self._hash

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self._items,)  # not the hash: it differs from process to process


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value if isinstance(value, Table) else Table(value)
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v) for v in value)
    return value


def table(argument: str, value: Any) -> Table:
    """Return a frozen copy of a mapping of names to values.

    Raises:
        ArgumentTypeError: it is no such mapping; the argument is named.
    """
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ArgumentTypeError(f"{argument} must map names of parameters to values; got {value!r}.")
    return Table(value)


def relabelled(proposals: Sequence[Proposal], names: Sequence[str]) -> list[Proposal]:
    """Give trials the names that a reader knows them by, in reasons that speak of "trial <k>".

    Args:
        names: what the k-th trial that the inner sampler saw is called.
    """

    def name(match: re.Match[str]) -> str:
        k = int(match[1])
        return names[k] if k < len(names) else match[0]

    return [Proposal(p.config, re.sub(r"\btrial (\d+)\b", name, p.reason)) for p in proposals]


@dataclass(frozen=True)
class Wrapper(Sampler[Any]):
    """A sampler around another: passes everything on, unless a subclass says otherwise.

    Its tags are those of the inner sampler, as far as ``_tags`` leaves them. If the first argument of a subclass
    is a collection (a prior, sources, ...), it does nothing of its own while that is empty: see :func:`idle`.

    Args:
        inner: a sampler's name or object; given by its keyword.
    """

    inner: Union[str, Sampler[Any]] = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        from foretune.search import make

        object.__setattr__(self, "inner", make(self.inner))
        object.__setattr__(self, "tags", self._tags(self.wrapped.tags))

    @property
    def wrapped(self) -> Sampler[Any]:
        """The inner sampler, as an object."""
        assert isinstance(self.inner, Sampler)  # made so when this was made
        return self.inner

    def _tags(self, inner: frozenset[str]) -> frozenset[str]:
        return inner

    def within(self, problem: Problem) -> Problem:
        """Return the problem that the inner sampler sees."""
        return problem

    def init(self, problem: Problem) -> Any:
        return self.wrapped.init(self.within(problem))

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        return self.wrapped.ask(self.within(problem), state, history, n, key)

    def tell(self, problem: Problem, state: Any, trial: Trial) -> Any:
        return self.wrapped.tell(self.within(problem), state, trial)


def idle(sampler: Sampler[Any]) -> str | None:
    """Say which wrapper was given nothing to work with, so that it is its inner sampler; None if all do something.

    >>> from foretune.search import make
    >>> str(idle(make("warm_start", inner="random"))).partition(":")[0]
    'the sampler WarmStart was given no sources, so that it is Random alone'
    """
    while isinstance(sampler, Wrapper):
        own = [f.name for f in fields(sampler) if f.name != "inner"][:1]
        for name in own:
            given = getattr(sampler, name)
            if isinstance(given, (tuple, Mapping)) and not given:
                return (
                    f"the sampler {type(sampler).__name__} was given no {name}, so that it is "
                    f"{type(sampler.wrapped).__name__} alone: {_GIVE.get(name, f'give {name}')}"
                )
        sampler = sampler.wrapped
    return None
