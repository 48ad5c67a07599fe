"""NePS: Bayesian optimisation (bo), and over time PriorBand without priors (priorband), Hyperband, ASHA, ifBO.

Conditional parameters are always searched and dropped where they are inactive; failures are reported as such. ifBO
needs the weights of its network, which the package loads from the network when it is first used: without a connection
it cannot run. Its generators are global: Python's, NumPy's and torch's are seeded.
"""

from __future__ import annotations

import random
from importlib.metadata import version
from typing import Any

import neps
import numpy as np
import torch
from _space import Penalty, chosen, searched

VERSION = version("neural-pipeline-search")
PARTIAL = {
    "priorband": neps.algorithms.priorband,
    "hyperband": neps.algorithms.hyperband,
    "asha": neps.algorithms.asha,
    "ifbo": neps.algorithms.ifbo,
}


def parameter(t: dict[str, Any]) -> Any:
    if t["type"] == "choice":
        return neps.HPOCategorical([str(i) for i in range(len(t["values"]))])
    make = neps.HPOInteger if t["type"] == "int" else neps.HPOFloat
    return make(t["low"], t["high"], log=t["log"])


class Run:
    def __init__(self, method: str, space: dict[str, Any], seed: int, steps: list[float]) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.space, self.penalty = space, Penalty()
        elements = {n: parameter(t) for n, t in searched(space)}
        self.partial = method in PARTIAL
        if self.partial:
            elements["fidelity_step"] = neps.HPOInteger(int(steps[0]), int(steps[-1]), is_fidelity=True)
        make = PARTIAL[method] if self.partial else neps.algorithms.bayesian_optimization
        self.neps = neps.AskAndTell(make(neps.SearchSpace(elements)))

    def ask(self) -> tuple[Any, ...]:
        trial = self.neps.ask()
        config = chosen(self.space, trial.config)
        return (trial, config, trial.config["fidelity_step"]) if self.partial else (trial, config)

    def tell(self, token: Any, loss: float | None) -> None:
        self.neps.tell(token, {"objective_to_minimize": self.penalty(loss)})


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Run:
    if method in PARTIAL and len(steps) < 2:
        raise Unsupported("needs fidelities")  # noqa: F821 - put there by _serve.py
    return Run(method, space, seed, steps)
