"""Spaces: all choices with their conditions. A space is frozen; a config is a plain dict."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foretune.base import check
from foretune.base.codec import canonical
from foretune.base.errors import ConfigError, SpaceError, did_you_mean
from foretune.base.key import Key
from foretune.space.domain import Choice, Constant, Domain, Int, Simplex, Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Config", "Space"]

Config = Mapping[str, Value]
Condition = Mapping[str, tuple[Any, ...]]


class Space(Mapping[str, Domain]):
    """All choices with their conditions; frozen, ordered, hashable by content.

    Args:
        domains: name -> domain.
        when: child -> {parent: values}: the child exists only where each of its parents is active
            and has one of the values given. Parents are Choice, Int or Constant; conditions nest.

    Raises:
        SpaceError: an unknown parent, an impossible value, or a circle of conditions.

    >>> from foretune.space.domain import Float, Choice
    >>> s = Space({"opt": Choice(["sgd", "adam"]), "momentum": Float(0, 1)},
    ...           when={"momentum": {"opt": ["sgd"]}})
    >>> s.check({"opt": "adam"})
    {'opt': 'adam'}
    """

    __slots__ = ("_columns", "_digest", "_domains", "_order", "_when")

    def __init__(
        self,
        domains: Mapping[str, Domain],
        when: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    ) -> None:
        if not isinstance(domains, Mapping):
            raise SpaceError(f"domains must be a mapping of names to domains; got {domains!r}.")
        for key, domain in domains.items():
            check.name("a parameter's name", key)
            if not isinstance(domain, Domain):
                raise SpaceError(
                    f"{key!r} must be a domain (Float, Int, Choice, Constant, Simplex); got {domain!r}. "
                    f"{_instead(key, domain)}"
                )
        if when is not None and not isinstance(when, Mapping):
            raise SpaceError(
                "when must map parameters to their conditions, such as {'momentum': {'optimizer': ['sgd']}}; "
                f"got {when!r}."
            )
        self._domains: dict[str, Domain] = dict(domains)
        self._when = {c: self._condition(c, parents) for c, parents in (when or {}).items()}
        self._when = {c: parents for c, parents in self._when.items() if parents}
        self._order = self._parents_first()
        self._columns: dict[str, slice] = {}
        at = 0
        for name, domain in self._domains.items():
            self._columns[name] = slice(at, at + domain.width)
            at += domain.width
        self._digest: str | None = None

    def _condition(self, child: str, parents: Mapping[str, Sequence[Any]]) -> Condition:
        if child not in self._domains:
            raise SpaceError(f"when names {child!r}, which the space lacks.{did_you_mean(str(child), self)}")
        if parents is None:
            return {}
        if not isinstance(parents, Mapping):
            raise SpaceError(
                f"when[{child!r}] must map parents to lists of values, such as "
                f"{{'optimizer': ['sgd']}}; got {parents!r}."
            )
        result = {}
        for parent, values in parents.items():
            if parent not in self._domains:
                raise SpaceError(
                    f"{child!r} depends on {parent!r}, which the space lacks.{did_you_mean(parent, self)}"
                )
            domain = self._domains[parent]
            if not isinstance(domain, (Choice, Int, Constant)):
                raise SpaceError(
                    f"{child!r} depends on {parent!r}, a {domain.type}; a parent must be a choice, an "
                    "int or a constant."
                )
            if (
                isinstance(values, (str, bytes))
                or not isinstance(values, (Sequence, set, frozenset))
                or not values
            ):
                raise SpaceError(f"when[{child!r}][{parent!r}] must be a list of values; got {values!r}.")
            try:
                result[parent] = tuple(domain.check(parent, v) for v in values)
            except ConfigError as error:
                raise SpaceError(f"when[{child!r}]: {error}") from None
        return result

    def _parents_first(self) -> tuple[str, ...]:
        order: list[str] = []
        state: dict[str, int] = {}

        def visit(name: str, path: tuple[str, ...]) -> None:
            if state.get(name) == 2:
                return
            if state.get(name) == 1:
                raise SpaceError("Conditions run in a circle: " + " -> ".join((*path, name)) + ".")
            state[name] = 1
            for parent in self._when.get(name, {}):
                visit(parent, (*path, name))
            state[name] = 2
            order.append(name)

        for name in self._domains:
            visit(name, ())
        return tuple(order)

    # -- a mapping of names to domains ------------------------------------------------------------

    def __getitem__(self, name: str) -> Domain:
        return self._domains[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._domains)

    def __len__(self) -> int:
        return len(self._domains)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Space) and len(self) == len(other) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        inner = ", ".join(f"{n!r}: {d!r}" for n, d in self._domains.items())
        return f"Space({{{inner}}}" + (f", when={dict(self._when)!r})" if self._when else ")")

    @property
    def when(self) -> Mapping[str, Condition]:
        """Child -> parent -> values."""
        return self._when

    @property
    def columns(self) -> Mapping[str, slice]:
        """Which columns of the unit cube belong to which name."""
        return self._columns

    @property
    def width(self) -> int:
        """Number of columns of the unit cube."""
        return sum(d.width for d in self._domains.values())

    @property
    def size(self) -> float:
        """Upper bound of the number of distinct configs (inactive parameters counted)."""
        return math.prod(d.size for d in self._domains.values())

    @property
    def digest(self) -> str:
        """A hash of the space's content, in its order: equal for equal spaces, on any machine.

        The order counts, for it is that of the columns of the unit cube.
        """
        if self._digest is None:
            text = canonical(list(self.to_dict().items()))
            self._digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self._digest

    # -- building ---------------------------------------------------------------------------------

    def __or__(self, other: object) -> Space:
        """Join two spaces with no name in common."""
        if not isinstance(other, Space):
            return NotImplemented
        clash = [n for n in other if n in self]
        if clash:
            raise SpaceError(
                f"Both spaces own {', '.join(map(repr, clash))}: here {self[clash[0]]!r}, there "
                f"{other[clash[0]]!r}. Put one under a prefix: space.under('loss')."
            )
        return Space({**self._domains, **other._domains}, {**self._when, **other._when})

    def under(self, prefix: str) -> Space:
        """Put each name under a prefix: ``margin`` becomes ``loss.margin``."""
        p = check.name("prefix", prefix)
        when = {f"{p}.{c}": {f"{p}.{q}": v for q, v in ps.items()} for c, ps in self._when.items()}
        return Space({f"{p}.{n}": d for n, d in self._domains.items()}, when)

    # -- configs ----------------------------------------------------------------------------------

    def is_active(self, name: str, config: Config) -> bool:
        """Whether ``name`` exists in ``config``, given the values of its parents."""
        for parent, values in self._when.get(name, {}).items():
            if parent not in config or not self.is_active(parent, config):
                return False
            value = config[parent]
            if not any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in values):
                return False
        return True

    def check(self, config: Mapping[str, Any]) -> dict[str, Value]:
        """Return the config in canonical types and order, or one error that names all that is wrong.

        Raises:
            ConfigError: unknown, missing, inactive or out-of-range parameters.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(f"config must be a mapping of names to values; got {config!r}.")
        wrong = [f"unknown parameter {n!r}.{did_you_mean(str(n), self)}" for n in config if n not in self]
        found: dict[str, Value] = {}
        for name in self._order:
            active = self.is_active(name, found)
            if active and name not in config:
                if isinstance(self[name], Constant):
                    found[name] = self[name].default
                elif all(p in found for p in self._when.get(name, {})):
                    wrong.append(f"{name!r} is missing; it must be {self[name].accepted()}.")
            elif active:
                try:
                    found[name] = self[name].check(name, config[name])
                except ConfigError as error:
                    wrong.append(str(error))
            elif name in config and not any(str(p) in " ".join(wrong) for p in self._when[name]):
                needs = " and ".join(f"{p} in {list(v)}" for p, v in self._when[name].items())
                wrong.append(f"{name!r} is inactive here: it exists only when {needs}. Leave it out.")
        if wrong:
            raise ConfigError("The config does not fit its space: " + " | ".join(wrong))
        return {n: found[n] for n in self._domains if n in found}

    def fill(self, config: Mapping[str, Any]) -> dict[str, Value]:
        """Complete a config with the defaults of active parameters that it lacks, then check it."""
        if not isinstance(config, Mapping):
            raise ConfigError(f"config must be a mapping of names to values; got {config!r}.")
        full = dict(config)
        for name in self._order:
            if name not in full and self.is_active(name, full) and self[name].default is not None:
                full[name] = self[name].default
        return self.check({n: v for n, v in full.items() if n not in self or self.is_active(n, full)})

    def default(self) -> dict[str, Value]:
        """The config of all defaults; the middle of the unit cube where a domain has none."""
        middle: dict[str, Value] = {}
        for name in self._order:
            if self.is_active(name, middle):
                domain = self[name]
                has = domain.default is not None
                middle[name] = domain.default if has else domain.decode([0.5] * domain.width)
        return self.check(middle)

    def encode(self, configs: Iterable[Config]) -> NDArray[np.float64]:
        """Map configs to rows of the unit cube; NaN where a parameter is inactive.

        Returns:
            (n, width) float64.
        """
        import numpy as np

        rows = list(configs)
        out = np.full((len(rows), self.width), np.nan)
        for i, config in enumerate(rows):
            for name, value in config.items():
                out[i, self._columns[name]] = self._domains[name].encode(value)
        return out

    def decode(self, units: NDArray[np.float64]) -> list[dict[str, Value]]:
        """Map rows of the unit cube to configs; columns of inactive parameters are ignored.

        Args:
            units: (n, width), values in [0, 1]; NaN is read as 0.5 where a parameter is active.
        """
        import numpy as np

        rows = np.asarray(units, dtype=float)
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ConfigError(f"units must have the shape (n, {self.width}); got {rows.shape}.")
        result = []
        for row in np.where(np.isnan(rows), 0.5, rows).tolist():
            config: dict[str, Value] = {}
            for name in self._order:
                if self.is_active(name, config):
                    config[name] = self._domains[name].decode(row[self._columns[name]])
            result.append({n: config[n] for n in self._domains if n in config})
        return result

    def sample(self, n: int, key: Key) -> list[dict[str, Value]]:
        """Draw ``n`` configs uniformly from the unit cube."""
        return self.decode(key.generator().random((check.integer("n", n, 0), self.width)))

    # -- description and change -------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Describe the space as the tables of a space file (TOML or JSON)."""
        tables = {}
        for name, domain in self._domains.items():
            table = domain.to_dict()
            if name in self._when:
                table["when"] = {p: list(v) for p, v in self._when[name].items()}
            tables[name] = table
        return tables

    def differences(self, old: Space) -> list[str]:
        """Say what ``old`` allows and this space does not; empty if old trials can be carried over.

        Wider is fine: a new choice, a wider range, a new parameter with a default, a parameter that
        exists under more conditions and has a default.
        """
        lost = [f"{n!r} is gone" for n in old if n not in self]
        for name, domain in self._domains.items():
            if name not in old:
                if domain.default is None:
                    lost.append(f"{name!r} is new and has no default: give one, for the old trials")
                continue
            narrower = domain.narrower(old[name])
            if narrower:
                lost.append(f"{name!r}: {narrower}")
            before, after = old.when.get(name), self._when.get(name)
            if before != after:
                if after is not None and not _looser(before, after):
                    lost.append(f"{name!r}: its condition changes from {before} to {after}")
                elif domain.default is None:
                    lost.append(f"{name!r} exists in more cases and has no default: give one")
        return lost

    @property
    def has_simplex(self) -> bool:
        """Whether any domain has more than one column."""
        return any(isinstance(d, Simplex) for d in self._domains.values())


def _instead(name: str, given: Any) -> str:
    """Say what to write in place of something that is no domain."""
    if isinstance(given, Mapping):
        return f"Choices within choices are a space of their own: Space(...).under({name!r}), joined by |."
    if isinstance(given, type) and issubclass(given, Domain):
        return f"Say what it may be: {given.__name__}(...)."
    if isinstance(given, (list, tuple, range)):
        return f"One of several values is Choice({list(given)!r})."
    return "A fixed value is Constant(value)."


def _looser(before: Condition | None, after: Condition) -> bool:
    """Whether each config in which ``before`` held also satisfies ``after``."""
    if before is None:
        return False
    return all(p in before and set(before[p]) <= set(v) for p, v in after.items())
