"""HEBO with its default settings (heteroscedastic evolutionary Bayesian optimisation).

Conditional parameters are always searched and dropped where they are inactive; failures get the worst loss so far.
Its generators are global: NumPy's and torch's are seeded.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from _space import Penalty, chosen, searched
from hebo.design_space.design_space import DesignSpace
from hebo.optimizers.hebo import HEBO

VERSION = version("hebo")


def parameter(name: str, t: dict[str, Any]) -> dict[str, Any]:
    if t["type"] == "choice":
        return {"name": name, "type": "cat", "categories": [str(i) for i in range(len(t["values"]))]}
    kind = {("float", False): "num", ("float", True): "pow", ("int", False): "int", ("int", True): "pow_int"}
    found = {"name": name, "type": kind[t["type"], t["log"]], "lb": t["low"], "ub": t["high"]}
    return {**found, "base": 10} if t["log"] else found


class Run:
    def __init__(self, space: dict[str, Any], seed: int) -> None:
        np.random.seed(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.space, self.penalty = space, Penalty()
        self.hebo = HEBO(
            DesignSpace().parse([parameter(n, t) for n, t in searched(space)]), scramble_seed=seed
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        found = self.hebo.suggest(n_suggestions=1)
        return found, chosen(self.space, {n: found[n].iloc[0] for n, _ in searched(self.space)})

    def tell(self, token: Any, loss: float | None) -> None:
        self.hebo.observe(token, np.array([[self.penalty(loss)]]))


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Run:
    return Run(space, seed)
