"""Nevergrad: NGOpt, its recommended optimizer, told the budget.

Conditional parameters are always searched and dropped where they are inactive; choices are unordered; failures
get the worst loss so far.
"""

from __future__ import annotations

from typing import Any

import nevergrad as ng
from _space import Penalty, chosen, searched

VERSION = ng.__version__


def parameter(t: dict[str, Any]) -> Any:
    if t["type"] == "choice":
        return ng.p.Choice(list(range(len(t["values"]))))
    scalar = (
        ng.p.Log(lower=t["low"], upper=t["high"])
        if t["log"]
        else ng.p.Scalar(lower=t["low"], upper=t["high"])
    )
    return scalar.set_integer_casting() if t["type"] == "int" else scalar


class Run:
    def __init__(self, method: str, space: dict[str, Any], seed: int, trials: int) -> None:
        self.space, self.penalty = space, Penalty()
        shape = ng.p.Dict(**{n: parameter(t) for n, t in searched(space)})
        shape.random_state.seed(seed)
        self.optimizer = ng.optimizers.registry[method or "NGOpt"](shape, budget=trials)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        found = self.optimizer.ask()
        return found, chosen(self.space, found.value)

    def tell(self, token: Any, loss: float | None) -> None:
        self.optimizer.tell(token, self.penalty(loss))


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Run:
    return Run({"ngopt": "NGOpt"}.get(method, method), space, seed, trials)
