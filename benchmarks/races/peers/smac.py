"""SMAC3: the facades that it recommends, through ask and tell.

rf: HyperparameterOptimizationFacade (random forest; conditional and mixed spaces). gp: BlackBoxFacade (Gaussian
process; numbers). mf: MultiFidelityFacade (random forest and Hyperband, eta 3). Told the number of trials, and
whether the objective is deterministic.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import Any

from _configspace import build, config_of
from _space import Penalty
from smac import BlackBoxFacade, HyperparameterOptimizationFacade, MultiFidelityFacade, Scenario
from smac.runhistory.dataclasses import TrialValue
from smac.runhistory.enumerations import StatusType

VERSION = version("smac")
FACADES = {
    "": HyperparameterOptimizationFacade,
    "rf": HyperparameterOptimizationFacade,
    "gp": BlackBoxFacade,
    "mf": MultiFidelityFacade,
}


def plain(config: Any, seed: int = 0) -> float:
    raise RuntimeError("never called: configs are asked for")


def target(config: Any, seed: int = 0, budget: float = 0.0) -> float:
    raise RuntimeError("never called: configs are asked for")


class Run:
    def __init__(
        self,
        method: str,
        space: dict[str, Any],
        seed: int,
        trials: int,
        deterministic: bool,
        steps: list[float],
    ) -> None:
        self.space, self.penalty = space, Penalty()
        self.folder = tempfile.TemporaryDirectory()
        self.partial = method == "mf"
        budgets = {"min_budget": steps[0], "max_budget": steps[-1]} if self.partial else {}
        scenario = Scenario(
            build(space, seed),
            n_trials=trials * (10 if self.partial else 1),
            seed=seed,
            deterministic=deterministic,
            output_directory=self.folder.name,
            **budgets,
        )
        self.smac = FACADES[method](
            scenario, target if self.partial else plain, overwrite=True, logging_level=False
        )

    def ask(self) -> tuple[Any, ...]:
        info = self.smac.ask()
        config = config_of(self.space, dict(info.config))
        return (info, config, float(info.budget)) if self.partial else (info, config)

    def tell(self, token: Any, loss: float | None) -> None:
        status = StatusType.CRASHED if loss is None else StatusType.SUCCESS
        self.smac.tell(token, TrialValue(cost=self.penalty(loss), status=status), save=False)


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Run:
    return Run(method, space, seed, trials, deterministic, steps)
