"""DEHB with its default settings (eta 3, rand1_bin), through ask and tell.

Over time its fidelities are the steps of the task; over trials it has one, and is differential evolution. Conditional
parameters are always searched and dropped where they are inactive; failures get the worst loss so far.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import Any

import ConfigSpace
from _configspace import build, config_of
from _space import Penalty, active
from dehb import DEHB
from loguru import logger

VERSION = version("dehb")
logger.remove()
if not hasattr(ConfigSpace.ConfigurationSpace, "get_hyperparameters"):  # removed in ConfigSpace 1.3
    ConfigSpace.ConfigurationSpace.get_hyperparameters = lambda self: list(self.values())


class Run:
    def __init__(
        self, method: str, space: dict[str, Any], seed: int, steps: list[float], workers: int
    ) -> None:
        self.space, self.penalty, self.high = space, Penalty(), float(steps[-1])
        self.partial = method != "de"
        self.folder = tempfile.TemporaryDirectory()
        low = float(steps[0]) if self.partial and len(steps) > 1 else self.high / 3.0
        cs = build(space, seed, conditions=False)
        self.dehb = DEHB(
            cs=cs, dimensions=len(cs), min_fidelity=low, max_fidelity=self.high, seed=seed, n_workers=1,
            output_path=self.folder.name, save_freq="end",
        )  # fmt: skip

    def ask(self) -> tuple[Any, ...]:
        job = self.dehb.ask()
        config = active(self.space, config_of(self.space, dict(job["config"])))
        return job, config, round(float(job["fidelity"]))

    def tell(self, token: Any, loss: float | None) -> None:
        self.dehb.tell(token, {"fitness": self.penalty(loss), "cost": 1.0})


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Run:
    if len(steps) < 2:
        raise Unsupported("DEHB needs fidelities")  # noqa: F821 - put there by _serve.py
    return Run(method, space, seed, steps, workers)
