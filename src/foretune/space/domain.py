"""Domains: what one choice may be. A domain gives validation, its sentence, and the tuning range.

Every domain maps to one or more columns of the unit cube. For scalar domains ``to_unit`` and
``from_unit`` are inverse to each other: exactly for Int and Choice, up to rounding for Float, whose
two ends are exact.

Longer than most files here: the five domains are one closed set, and are read side by side.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Union, final

from foretune.base.errors import ConfigError, SpaceError, did_you_mean

__all__ = ["Choice", "Constant", "Domain", "Float", "Int", "Simplex", "Value"]

Scalar = Union[None, bool, int, float, str]
Value = Union[Scalar, tuple[float, ...]]

_TINY = math.ulp(0.0)
_SCALARS = (str, bool, int, float, type(None))


class Domain(ABC):
    """What one choice may be.

    Laws (tested for every domain by ``foretune.testing``):
        ``decode(encode(v)) == v`` for each legal value; ``encode`` gives ``width`` numbers in [0, 1];
        ``decode`` accepts any numbers in [0, 1] and gives a legal value;
        ``check(name, v)`` raises for each ``v`` of ``invalid()``.
    """

    type: ClassVar[str]
    width: int = 1  # number of columns in the unit cube
    default: Any = None
    unit: str = "1"

    @abstractmethod
    def encode(self, value: Value) -> tuple[float, ...]:
        """Map a legal value into the unit cube."""

    @abstractmethod
    def decode(self, units: Sequence[float]) -> Value:
        """Map ``width`` numbers in [0, 1] to a legal value."""

    @abstractmethod
    def check(self, name: str, value: object) -> Value:
        """Return the value in its canonical type, or raise the sentence that names ``name``."""

    @abstractmethod
    def accepted(self) -> str:
        """Say what is accepted: ``"a number in [0.0001, 0.1] (log)"``."""

    @abstractmethod
    def invalid(self) -> Iterator[object]:
        """Yield values that ``check`` must refuse."""

    @abstractmethod
    def narrower(self, old: Domain) -> str | None:
        """Say what of ``old`` this domain no longer allows; None if it allows all of it."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Describe the domain as a table of a space file."""

    def to_unit(self, value: Value) -> float:
        """Map a value of a one-column domain to [0, 1]."""
        return self.encode(value)[0]

    def from_unit(self, u: float) -> Value:
        """Map a number in [0, 1] to a value of a one-column domain."""
        return self.decode((u,))

    @property
    def size(self) -> float:
        """Number of distinct values; ``inf`` for continua."""
        return math.inf

    def _refuse(self, name: str, value: object) -> ConfigError:
        return ConfigError(f"{name} must be {self.accepted()}; got {value!r}.")

    def _common(self) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if self.default is not None:
            extra["default"] = self.default
        if self.unit != "1":
            extra["unit"] = self.unit
        return extra


def _clamp(u: float) -> float:
    return min(1.0, max(0.0, float(u)))


def _as_number(value: object) -> float | None:
    """Read a real number (NumPy's too); None for booleans, text and what is not finite."""
    if isinstance(value, (bool, str, bytes)) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    """Take the Python value out of a scalar of NumPy or torch; anything else as it is."""
    try:
        return value.item() if hasattr(value, "item") else value
    except (TypeError, ValueError, RuntimeError):  # an array of several
        return value


def _check_unit(kind: str, unit: object) -> None:
    if not isinstance(unit, str) or not unit.strip() or "\n" in unit:
        raise SpaceError(f"{kind}: unit must be a word such as 'tokens', '1' for none; got {unit!r}.")


def _check_range(kind: str, low: object, high: object, log: object) -> tuple[float, float]:
    a, b = _as_number(low), _as_number(high)
    if a is None or b is None:
        raise SpaceError(
            f"{kind}: low and high must be finite numbers, as in {kind}(1, 10); got {low!r} and {high!r}."
        )
    if not isinstance(log, bool):
        raise SpaceError(f"{kind}: log must be true or false; got {log!r}.")
    if a > b:
        raise SpaceError(f"{kind}: low must not exceed high; got low={low!r}, high={high!r}. Swap them?")
    if log and a <= 0:
        raise SpaceError(
            f"{kind}: a log range needs low > 0; got low={low!r}. Give a small positive low, or drop log."
        )
    return a, b


def _range_narrower(new: Float | Int, old: Domain) -> str | None:
    if type(old) is not type(new):
        return f"the type changes from {old.type} to {new.type}"
    assert isinstance(old, (Float, Int))  # for the type checker: equal types
    lost = []
    if new.low > old.low:
        lost.append(f"low rises from {old.low!r} to {new.low!r}")
    if new.high < old.high:
        lost.append(f"high falls from {old.high!r} to {new.high!r}")
    return " and ".join(lost) or None


@final
@dataclass(frozen=True, slots=True)
class Float(Domain):
    """A real number in [low, high], searched evenly or in log scale.

    >>> Float(1e-4, 1e-1, log=True).from_unit(0.0)
    0.0001
    """

    type: ClassVar[str] = "float"
    width: ClassVar[int] = 1  # type: ignore[misc]
    low: float
    high: float
    log: bool = False
    default: float | None = None
    unit: str = "1"

    def __post_init__(self) -> None:
        low, high = _check_range("Float", self.low, self.high, self.log)
        _check_unit("Float", self.unit)
        if math.isinf(high - low):
            raise SpaceError(f"Float: the range from {low!r} to {high!r} is too wide for a float.")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        if self.default is not None:
            object.__setattr__(self, "default", self.check("default", self.default))

    def encode(self, value: Value) -> tuple[float, ...]:
        x = float(value)  # type: ignore[arg-type]
        if self.high == self.low:
            return (0.5,)
        if self.log:
            return (_clamp(math.log(x / self.low) / math.log(self.high / self.low)),)
        return (_clamp((x - self.low) / (self.high - self.low)),)

    def decode(self, units: Sequence[float]) -> float:
        u = _clamp(units[0])
        if u == 0.0 or self.low == self.high:
            return self.low
        if u == 1.0:
            return self.high
        if self.log:
            x = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            x = self.low + u * (self.high - self.low)
        return min(self.high, max(self.low, x))

    def check(self, name: str, value: object) -> float:
        x = _as_number(value)
        if x is None or not self.low <= x <= self.high:
            raise self._refuse(name, value)
        return x

    def accepted(self) -> str:
        return f"a number in [{self.low:g}, {self.high:g}]{' (log)' if self.log else ''}"

    def invalid(self) -> Iterator[object]:
        yield from (math.nan, math.inf, "x", None, True)
        yield math.nextafter(self.high, math.inf)
        yield math.nextafter(self.low, -math.inf)

    def narrower(self, old: Domain) -> str | None:
        return _range_narrower(self, old)

    @property
    def size(self) -> float:
        return 1 if self.low == self.high else math.inf

    def to_dict(self) -> dict[str, Any]:
        return {"type": "float", "low": self.low, "high": self.high, "log": self.log, **self._common()}


@final
@dataclass(frozen=True, slots=True)
class Int(Domain):
    """A whole number in [low, high], both ends included.

    Each value owns an equal share of the unit interval (linear) or the share between its half-way
    neighbours in log scale, so that a uniform draw is uniform over values.

    >>> Int(16, 256, log=True).from_unit(1.0)
    256
    """

    type: ClassVar[str] = "int"
    width: ClassVar[int] = 1  # type: ignore[misc]
    low: int
    high: int
    log: bool = False
    default: int | None = None
    unit: str = "1"

    def __post_init__(self) -> None:
        low, high = _check_range("Int", self.low, self.high, self.log)
        _check_unit("Int", self.unit)
        if low != int(self.low) or high != int(self.high):
            raise SpaceError(f"Int: low and high must be whole; got {self.low!r} and {self.high!r}.")
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))
        if self.default is not None:
            object.__setattr__(self, "default", self.check("default", self.default))

    def _edges(self) -> tuple[float, float]:
        low, high = self.low - 0.5, self.high + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def encode(self, value: Value) -> tuple[float, ...]:
        a, b = self._edges()
        x = float(value)  # type: ignore[arg-type]
        return (_clamp(((math.log(x) if self.log else x) - a) / (b - a)),)

    def decode(self, units: Sequence[float]) -> int:
        a, b = self._edges()
        x = a + _clamp(units[0]) * (b - a)
        value = math.floor((math.exp(x) if self.log else x) + 0.5)
        return min(self.high, max(self.low, value))

    def check(self, name: str, value: object) -> int:
        x = _as_number(value)
        if x is None or x != int(x) or not self.low <= x <= self.high:
            raise self._refuse(name, value)
        return int(value)  # type: ignore[call-overload, no-any-return]

    def accepted(self) -> str:
        return f"a whole number in [{self.low}, {self.high}]{' (log)' if self.log else ''}"

    def invalid(self) -> Iterator[object]:
        yield from (math.nan, "x", None, True, self.low + 0.5, self.low - 1, self.high + 1)

    def narrower(self, old: Domain) -> str | None:
        return _range_narrower(self, old)

    @property
    def size(self) -> float:
        return self.high - self.low + 1

    def to_dict(self) -> dict[str, Any]:
        return {"type": "int", "low": self.low, "high": self.high, "log": self.log, **self._common()}


def _same(a: object, b: object) -> bool:
    """Equality that keeps True, 1 and 1.0 apart only where JSON does: booleans from numbers."""
    if not (isinstance(a, _SCALARS) and isinstance(b, _SCALARS)):  # arrays compare to arrays
        return False
    return a == b and isinstance(a, bool) == isinstance(b, bool)


@final
@dataclass(frozen=True, slots=True)
class Choice(Domain):
    """One of a list of values (strings, numbers, booleans or None), without an order.

    >>> Choice(["sgd", "adam"]).check("optimizer", "adam")
    'adam'
    """

    type: ClassVar[str] = "choice"
    width: ClassVar[int] = 1  # type: ignore[misc]
    values: tuple[Any, ...]
    default: Any = None
    unit: str = "1"

    def __post_init__(self) -> None:
        if isinstance(self.values, (str, bytes)) or not isinstance(self.values, Sequence):
            raise SpaceError(
                f"Choice: values must be a list of values, as in Choice(['sgd', 'adam']); got {self.values!r}."
            )
        _check_unit("Choice", self.unit)
        values = tuple(_plain(v) for v in self.values)
        if not values:
            raise SpaceError("Choice: values must hold at least one value; got an empty list.")
        for i, v in enumerate(values):
            if not isinstance(v, _SCALARS) or (isinstance(v, float) and not math.isfinite(v)):
                raise SpaceError(
                    f"Choice: values must be strings, finite numbers, booleans or None, so that they "
                    f"can be stored; got {v!r}. Give a name and look the object up in your code."
                )
            if any(_same(v, w) for w in values[:i]):
                raise SpaceError(f"Choice: the value {v!r} is listed twice.")
        object.__setattr__(self, "values", values)
        if self.default is not None:
            object.__setattr__(self, "default", self.check("default", self.default))

    def index(self, value: object) -> int:
        """Return the position of a value."""
        plain = _plain(value)
        return next(i for i, v in enumerate(self.values) if _same(v, plain))

    def encode(self, value: Value) -> tuple[float, ...]:
        return ((self.index(value) + 0.5) / len(self.values),)

    def decode(self, units: Sequence[float]) -> Any:
        k = len(self.values)
        return self.values[min(k - 1, int(_clamp(units[0]) * k))]

    def check(self, name: str, value: object) -> Any:
        plain = _plain(value)
        for v in self.values:
            if _same(v, plain):
                return v
        hint = did_you_mean(str(value), [str(v) for v in self.values])
        raise ConfigError(f"{name} must be {self.accepted()}; got {value!r}.{hint}")

    def accepted(self) -> str:
        return "one of " + ", ".join(repr(v) for v in self.values)

    def invalid(self) -> Iterator[object]:
        yield from ("no such choice, surely", -(10**9), object())

    def narrower(self, old: Domain) -> str | None:
        if not isinstance(old, Choice):
            return f"the type changes from {old.type} to choice"
        lost = [v for v in old.values if not any(_same(v, w) for w in self.values)]
        return f"the choices {', '.join(map(repr, lost))} are gone" if lost else None

    @property
    def size(self) -> float:
        return len(self.values)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "choice", "values": list(self.values), **self._common()}


@final
@dataclass(frozen=True, slots=True)
class Constant(Domain):
    """A value that is not searched, yet stands in each config."""

    type: ClassVar[str] = "constant"
    width: ClassVar[int] = 0  # type: ignore[misc]
    value: Any
    unit: str = "1"

    def __post_init__(self) -> None:
        _check_unit("Constant", self.unit)
        try:
            Choice((self.value,))  # the same values are legal
        except SpaceError:
            raise SpaceError(
                "Constant: value must be a string, a finite number, a boolean or None, so that it can be "
                f"stored; got {self.value!r}. Give a name and look the object up in your code."
            ) from None

    @property
    def default(self) -> Any:
        return self.value

    def encode(self, value: Value) -> tuple[float, ...]:
        return ()

    def decode(self, units: Sequence[float]) -> Any:
        return self.value

    def check(self, name: str, value: object) -> Any:
        if not _same(_plain(value), self.value):
            raise self._refuse(name, value)
        return self.value

    def accepted(self) -> str:
        return f"the constant {self.value!r}"

    def invalid(self) -> Iterator[object]:
        yield from ("surely not the constant", object())

    def narrower(self, old: Domain) -> str | None:
        if not isinstance(old, Constant):
            return f"the type changes from {old.type} to constant"
        same = _same(self.value, old.value)
        return None if same else f"the constant changes from {old.value!r} to {self.value!r}"

    @property
    def size(self) -> float:
        return 1

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": "constant",
            "values": [self.value],
            **({"unit": self.unit} if self.unit != "1" else {}),
        }


@final
@dataclass(frozen=True, slots=True)
class Simplex(Domain):
    """Shares of ``parts`` that are not negative and add up to one: a data mixture.

    The unit cube maps to the simplex by stick breaking with Beta(1, k - i) pieces, so that a uniform
    draw of the cube is uniform on the simplex (Dirichlet(1, ..., 1)).

    >>> Simplex(("web", "code")).decode([0.25])
    (0.25, 0.75)
    """

    type: ClassVar[str] = "simplex"
    values: tuple[str, ...]
    default: tuple[float, ...] | None = None
    unit: str = "1"

    def __post_init__(self) -> None:
        listed = isinstance(self.values, Sequence) and not isinstance(self.values, (str, bytes))
        names = tuple(self.values) if listed else ()
        named = all(isinstance(n, str) and n.strip() and "\n" not in n for n in names)
        if not named or len(names) < 2 or len(set(names)) != len(names):
            raise SpaceError(
                "Simplex: values must name at least two different parts, as in Simplex(['web', 'code']); got "
                f"{self.values!r}."
            )
        _check_unit("Simplex", self.unit)
        object.__setattr__(self, "values", names)
        if self.default is not None:
            object.__setattr__(self, "default", self.check("default", self.default))

    @property
    def width(self) -> int:  # type: ignore[override]
        return len(self.values) - 1

    def encode(self, value: Value) -> tuple[float, ...]:
        shares: tuple[float, ...] = value  # type: ignore[assignment]
        left, units, k = 1.0, [], len(self.values)
        for i in range(k - 1):
            piece = _clamp(shares[i] / left) if left > _TINY else 0.0
            units.append(_clamp(1.0 - (1.0 - piece) ** (k - 1 - i)))
            left = max(0.0, left - shares[i])
        return tuple(units)

    def decode(self, units: Sequence[float]) -> tuple[float, ...]:
        left, shares, k = 1.0, [], len(self.values)
        for i in range(k - 1):
            piece = 1.0 - (1.0 - _clamp(units[i])) ** (1.0 / (k - 1 - i))
            shares.append(left * piece)
            left -= shares[-1]
        return (*shares, max(0.0, left))

    def check(self, name: str, value: object) -> tuple[float, ...]:
        if isinstance(value, Mapping):
            unknown = [p for p in value if p not in self.values]
            if unknown:
                hint = did_you_mean(str(unknown[0]), self.values)
                raise ConfigError(
                    f"{name} has no part {unknown[0]!r}.{hint} Parts: {', '.join(self.values)}."
                )
            value = [value.get(p, 0.0) for p in self.values]
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
            raise self._refuse(name, value)
        numbers = [_as_number(v) for v in value]  # type: ignore[attr-defined]
        good = [n for n in numbers if n is not None and n >= 0.0]
        if len(good) != len(self.values) or len(numbers) != len(good) or abs(sum(good) - 1.0) > 1e-6:
            raise self._refuse(name, value)
        return tuple(good)

    def accepted(self) -> str:
        return f"{len(self.values)} shares ({', '.join(self.values)}), each >= 0, that add up to 1"

    def invalid(self) -> Iterator[object]:
        k = len(self.values)
        yield from ((1.0,) * k, (2.0, -1.0) + (0.0,) * (k - 2), "x", 1.0, (1.0,) * (k + 1), None)

    def narrower(self, old: Domain) -> str | None:
        if not isinstance(old, Simplex):
            return f"the type changes from {old.type} to simplex"
        return None if old.values == self.values else f"the parts change from {old.values} to {self.values}"

    def to_dict(self) -> dict[str, Any]:
        return {"type": "simplex", "values": list(self.values), **self._common()}
