"""Results of earlier studies, as samplers take them in: frozen, JSON, and carried over to another space."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from foretune.base.errors import ArgumentError, ArgumentTypeError, ConfigError
from foretune.base.key import Key
from foretune.search.wrapping import Table
from foretune.space.space import Space
from foretune.trial.feasibility import feasible_first
from foretune.trial.history import History
from foretune.trial.recast import Known
from foretune.trial.trial import COMPLETE, STOPPED

__all__ = ["MOST", "Earlier", "carried", "sources_of"]

MOST = 300  # results of one earlier study that are kept: what a study's first event can hold


@final
@dataclass(frozen=True)
class Earlier:
    """What an earlier study found.

    Attributes:
        name: what it is called, in reasons.
        rows: (config, loss, fraction) a trial: losses are normalised (less is better, whatever the goal's
            direction), None where it failed; the fraction of a full trial that the result took.
        metric: of the first goal; "" if it shall not be checked.
    """

    name: str
    rows: tuple[tuple[Mapping[str, Any], float | None, float], ...]
    metric: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentTypeError(f"an earlier study's name must be a string; got {self.name!r}.")
        rows = []
        for row in self.rows:
            try:
                config, loss, *more = row
                loss = None if loss is None or not math.isfinite(loss) else float(loss)
                rows.append((Table(config), loss, float(more[0]) if more else 1.0))
            except (TypeError, ValueError, AttributeError):
                raise ArgumentTypeError(
                    f"a result of the earlier study {self.name!r} must be (config, loss) or (config, loss, fraction "
                    f"of a full trial); got {row!r}."
                ) from None
        object.__setattr__(self, "rows", tuple(rows))

    @classmethod
    def of(cls, history: History, name: str, most: int = MOST) -> Earlier:
        """Take over a history: complete, stopped and failed trials, the best half first where they are too many.

        Trials that break one of its constraints count as worse than all that keep them.
        """
        high, history = history.problem.steps.high, feasible_first(history)
        rows: list[tuple[Mapping[str, Any], float | None, float]] = []
        for trial in history:
            loss = history.loss(trial.number)
            if loss == math.inf:
                rows.append((trial.config, None, 1.0))
            elif trial.state in (COMPLETE, STOPPED) and loss == loss:
                rows.append((trial.config, loss, min(1.0, trial.step / high)))
        if len(rows) > most:
            worth = [math.inf if loss is None else loss for _, loss, _ in rows]
            order = sorted(range(len(rows)), key=worth.__getitem__)
            others = order[most // 2 :]
            places = np.linspace(0, len(others) - 1, most - most // 2).astype(int)
            kept = sorted(order[: most // 2] + [others[i] for i in places])
            rows = [rows[i] for i in kept]
        return cls(name, tuple(rows), history.problem.goal.metric)


def sources_of(value: Any) -> tuple[Earlier, ...]:
    """Read ``sources``: one or several, as objects or as the log has them.

    Raises:
        ArgumentTypeError: one of them is no earlier study.
    """
    if isinstance(value, (Earlier, Mapping)):
        value = (value,)
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ArgumentTypeError(
            f"sources must be earlier studies (foretune.earlier('study.db:NAME')); got {value!r}."
        )
    found = []
    for source in value:
        if isinstance(source, Mapping):
            source = Earlier(
                source.get("name", "earlier"), tuple(source.get("rows", ())), source.get("metric", "")
            )
        if not isinstance(source, Earlier):
            raise ArgumentTypeError(
                "each of sources must be an earlier study (foretune.earlier('study.db:NAME')); "
                f"got {source!r}."
            )
        found.append(source)
    return tuple(found)


@functools.lru_cache(maxsize=64)
def carried(source: Earlier, space: Space) -> tuple[Known, ...]:
    """Carry results over to a space by the parameters that both have.

    A parameter that the earlier study lacked was whatever it was there: its default is assumed if it has
    one, else it is drawn uniformly, row by row, so that a model sees no effect of it. What the space
    lacks is left out. A row whose value lies outside its present range, or that has nothing in common with
    the space, is dropped.

    >>> from foretune.space import Float
    >>> source = Earlier("old", (({"lr": 0.1, "gone": 3}, 0.5), ({"lr": 7.0}, 0.4)))
    >>> [dict(k.config) for k in carried(source, Space({"lr": Float(0, 1), "wd": Float(0, 1, default=0.0)}))]
    [{'lr': 0.1, 'wd': 0.0}]

    Raises:
        ArgumentError: the two have no parameter in common.
    """
    names = {n for config, _, _ in source.rows for n in config}
    if source.rows and not names & set(space):
        raise ArgumentError(
            f"The earlier study {source.name!r} has none of the parameters {', '.join(space)}; it has "
            f"{', '.join(sorted(names))}."
        )
    found = []
    for i, (config, loss, fraction) in enumerate(source.rows):
        key = Key.of(0).fold("carried", source.name, i)
        full: dict[str, Any] = {}
        if not any(name in config for name in space):
            continue
        try:
            for _ in space:  # parents may come after their children
                for name, domain in space.items():
                    if name in full or not space.is_active(name, full):
                        continue
                    if name in config:
                        full[name] = domain.check(name, config[name])
                    elif domain.default is not None:
                        full[name] = domain.default
                    else:
                        full[name] = domain.decode(key.fold(name).generator().random(domain.width).tolist())
            found.append(Known(space.check(full), loss, fraction))
        except ConfigError:
            continue
    return tuple(found)
