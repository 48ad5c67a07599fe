"""SMAC3: the facades that it recommends, through ask and tell.

rf: HyperparameterOptimizationFacade (random forest; conditional and mixed spaces). gp: BlackBoxFacade (Gaussian
process; numbers). Both are told the number of trials, and whether the objective is deterministic.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import Any

from _configspace import build, config_of
from _space import Penalty
from smac import BlackBoxFacade, HyperparameterOptimizationFacade, Scenario
from smac.runhistory.dataclasses import TrialValue
from smac.runhistory.enumerations import StatusType

VERSION = version("smac")


class Run:
    def __init__(
        self, method: str, space: dict[str, Any], seed: int, trials: int, deterministic: bool
    ) -> None:
        self.space, self.penalty = space, Penalty()
        self.folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            build(space, seed), n_trials=trials, seed=seed, deterministic=deterministic,
            output_directory=self.folder.name,
        )  # fmt: skip
        facade = BlackBoxFacade if method == "gp" else HyperparameterOptimizationFacade
        self.smac = facade(scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        info = self.smac.ask()
        return info, config_of(self.space, dict(info.config))

    def tell(self, token: Any, loss: float | None) -> None:
        status = StatusType.CRASHED if loss is None else StatusType.SUCCESS
        self.smac.tell(token, TrialValue(cost=self.penalty(loss), status=status), save=False)


def begin(
    method: str, space: dict[str, Any], seed: int, trials: int, deterministic: bool, steps: list[float]
) -> Run:
    return Run(method, space, seed, trials, deterministic)
