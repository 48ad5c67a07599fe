"""What a race is run on: families of tasks, tasks, and their instances (one a seed)."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, final

from foretune.base.errors import ArgumentError
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space

__all__ = ["DEVELOPMENT", "HELD_OUT", "Family", "Instance", "Outcome", "Task", "halves"]

DEVELOPMENT, HELD_OUT = "development", "held out"

Config = Mapping[str, Any]


class Outcome(NamedTuple):
    """What an evaluation gave.

    Attributes:
        loss: less is better; +inf: the run failed; NaN: it never reports (its worker is gone).
        seconds: what training until the step asked for takes, from the beginning, on the task's own clock.
    """

    loss: float
    seconds: float = 1.0


@final
@dataclass(frozen=True)
class Instance:
    """A task under one seed: what contestants search, and how their choice is judged.

    Attributes:
        space: what may be chosen.
        measure: (config, step, draw) -> outcome; ``draw`` counts evaluations, for noise.
        judge: config -> the loss that counts: without noise, at full length, on the test split.
        best: the least loss that ``judge`` can give, or the least known.
        typical: the median of ``judge`` over random configs. Regret is 0 at ``best`` and 1 here.
        steps: the fidelity axis; ``levels`` are the steps at which ``measure`` is known.
        levels: the steps of the table, rising; one for a task without fidelities.
        deterministic: whether measuring a config twice gives the same.
    """

    space: Space
    measure: Callable[[Config, float, int], Outcome]
    judge: Callable[[Config], float]
    best: float
    typical: float
    steps: Fidelity = field(default_factory=Fidelity)
    levels: tuple[float, ...] = (1.0,)
    deterministic: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.best) and math.isfinite(self.typical) and self.typical > self.best):
            raise ArgumentError(
                f"best must be a finite loss below typical; got best {self.best!r}, typical {self.typical!r}."
            )

    def regret(self, config: Config) -> float:
        """Normalised regret of a config: 0 the best there is, 1 the median of random search's draws."""
        return (self.judge(config) - self.best) / (self.typical - self.best)


class Family(ABC):
    """Tasks of one source. A module of ``foretune.bench.tasks`` declares one as its ``__entry__``.

    Laws (tested for every family that needs no data, and for those whose data is there):
        ``instance(name, seed)`` gives the same instance each time, in any process.
        ``judge`` is never below ``best``; a measured config is legal in ``space``.
    """

    source: ClassVar[str] = ""  # folder of the data, below the data root; "" needs none
    group: ClassVar[str] = "single"  # which race it belongs to: single, fidelity, conditional, noise, ...
    edition: ClassVar[int] = 1  # raised when the tasks change: runs on older ones no longer count
    split: ClassVar[str] = ""  # the family whose halves it takes, where it is made of that one's data

    def __init__(self, data: Path | None = None) -> None:
        self.data = None if data is None or not self.source else data / self.source

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Return the names of its tasks, sorted, without the family's."""

    @abstractmethod
    def instance(self, name: str, seed: int) -> Instance:
        """Make the instance of a task under a seed."""

    def kin(self, name: str) -> str:
        """Return what a task shares with others that say nearly the same: all of one kin are in one half."""
        return name

    def folder(self) -> Path:
        """Return the folder of its data.

        Raises:
            ArgumentError: the data is not there.
        """
        if self.data is None or not self.data.is_dir():
            raise ArgumentError(
                f"The tables of {type(self).__name__} are not here: a folder {self.source!r} is looked for in the data "
                "folder (--data, else ../shared/data beside the repository)."
            )
        return self.data


@final
@dataclass(frozen=True)
class Task:
    """One task of a family.

    Attributes:
        family: its source.
        name: "<family>/<task>", such as "hpobench/car".
        group: which race it belongs to.
        half: "development" (defaults may be chosen on it) or "held out".
    """

    family: Family
    name: str
    group: str
    half: str

    def instance(self, seed: int) -> Instance:
        """Make the instance of a seed."""
        return self.family.instance(self.name.partition("/")[2], seed)


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"foretune race {name}".encode()).digest()[:8], "big")


def halves(family: str, names: Sequence[str]) -> dict[str, str]:
    """Split the tasks of a family into two halves, once and for all.

    Tasks are sorted by the SHA-256 digest of "foretune race <family>/<name>" and dealt out in turn; the digest of
    "foretune race <family>" says which half gets the first. So the halves are equal up to one task, and no one
    chose them.

    >>> halves("x", ["a", "b", "c", "d"])
    {'a': 'development', 'b': 'held out', 'c': 'held out', 'd': 'development'}
    """
    order = sorted(names, key=lambda n: _digest(f"{family}/{n}"))
    first = _digest(family) % 2
    of = {n: (DEVELOPMENT, HELD_OUT)[(i + first) % 2] for i, n in enumerate(order)}
    return {n: of[n] for n in names}
