"""The order of a greedy search: which parameters matter most in a table, and what each order costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.search.distinct import signature
from foretune.search.greedy_coordinate import GreedyCoordinate
from foretune.space.space import Space
from foretune.trial.event import Event
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["factor_importance", "order_study"]

Array = NDArray[np.float64]

GROUPS = 8  # a number with more different values is cut into so many groups of equal size


def factor_importance(configs: Sequence[Mapping[str, Any]], losses: ArrayLike) -> dict[str, float]:
    """Return each parameter's main effect as a share of the variance of the losses, largest first.

    The share is that of the variance between the means of the groups of equal values (eta squared); where a
    parameter is inactive, the configs form a group of their own. Configs without a finite loss are left out.

    Raises:
        ArgumentError: fewer than two finite losses, or another number of losses than of configs.

    Source: An Analysis of Hyper-Parameter Optimization Methods for Retrieval Augmented Generation

    >>> table = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1)]
    >>> factor_importance(table, [0.0, 0.0, 1.0, 1.0])
    {'a': 1.0, 'b': 0.0}
    """
    y = np.asarray(losses, dtype=float)
    if y.shape != (len(configs),):
        raise ArgumentError(f"losses must have one number for each of {len(configs)} configs; got {y.shape}.")
    kept = np.flatnonzero(np.isfinite(y)).tolist()
    if len(kept) < 2:
        raise ArgumentError(f"losses must hold at least two finite numbers; got {len(kept)}.")
    y = y[kept] - y[kept].mean()
    total = float(y @ y)
    shares = {}
    for name in dict.fromkeys(n for c in configs for n in c):
        groups = _groups([configs[i].get(name) for i in kept])
        size = np.bincount(groups)
        sums = np.bincount(groups, weights=y)
        between = float((sums[size > 0] ** 2 / size[size > 0]).sum())
        shares[name] = between / total if total > 0 else 0.0
    return dict(sorted(shares.items(), key=lambda kv: -kv[1]))


def _groups(values: list[Any]) -> NDArray[np.intp]:
    """Number the groups of equal values; many different numbers are cut at their quantiles."""
    different = list(dict.fromkeys(repr(v) for v in values))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if numbers and len(different) > GROUPS:
        x = np.asarray(values, dtype=float)
        edges = np.quantile(x, np.arange(1, GROUPS) / GROUPS)
        return np.asarray(np.searchsorted(edges, x, side="right"), dtype=int)
    place = {v: i for i, v in enumerate(different)}
    return np.array([place[repr(v)] for v in values], dtype=int)


def order_study(
    space: Space,
    configs: Sequence[Mapping[str, Any]],
    losses: ArrayLike,
    orders: Mapping[str, Sequence[str]],
    keys: Sequence[Key],
    trials: int,
    passes: int = 1,
) -> dict[str, Array]:
    """Replay greedy searches on a complete table, one for each order and key.

    Args:
        space: of the table; ``configs`` holds each of its configs.
        orders: name of an order -> parameters, first to last.
        keys: each gives another random start, the same for all orders.
        trials: length of a search.

    Returns:
        Name of the order -> (keys, trials) best losses so far.

    Raises:
        ArgumentError: the table lacks a config that a search asks for.

    Source: An Analysis of Hyper-Parameter Optimization Methods for Retrieval Augmented Generation
    """
    table = {signature(c): float(x) for c, x in zip(configs, np.asarray(losses, dtype=float), strict=True)}
    most = max((int(d.size) for d in space.values() if np.isfinite(d.size)), default=2)
    found = {}
    for label, order in orders.items():
        sampler = GreedyCoordinate(tuple(order), max(2, most), passes, "random")
        curves = []
        for key in keys:
            history = History(Problem(space, key=key))
            while len(history) < trials:
                asked = sampler.ask(history.problem, None, history, 1, key.fold("trial", len(history)))
                if not asked:
                    break
                config, number = asked[0].config, len(history)
                if signature(config) not in table:
                    raise ArgumentError(
                        f"configs must hold each config of the space; it lacks {dict(config)!r}."
                    )
                loss = table[signature(config)]
                history.apply(
                    [
                        Event("start", number, 0.0, {"config": dict(config), "plan": [1]}),
                        Event(
                            "report", number, 0.0, {"step": 1, "values": {history.problem.goal.metric: loss}}
                        ),
                        Event("complete", number, 0.0, {"reason": "looked up"}),
                    ]
                )
            y = history.losses[:, 0]
            y = np.minimum.accumulate(np.concatenate([y, np.full(trials - len(y), np.inf)]))
            curves.append(y)
        found[label] = np.array(curves)
    return found
