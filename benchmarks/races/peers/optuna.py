"""Optuna: TPE (its default), GP, CMA-ES and random samplers.

tpe: TPESampler() of 5.0, which is multivariate with constant liar by default. gp: GPSampler with
deterministic_objective told. cmaes: CmaEsSampler (categorical parameters are sampled independently, as Optuna does).
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

VERSION = optuna.__version__
optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def sampler(method: str, seed: int, deterministic: bool) -> Any:
    if method in ("", "tpe"):
        return optuna.samplers.TPESampler(seed=seed)
    if method == "gp":
        return optuna.samplers.GPSampler(seed=seed, deterministic_objective=deterministic)
    if method == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed)
    if method == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    raise ValueError(f"no method {method!r}: tpe, gp, cmaes, random")


class Run:
    def __init__(self, method: str, space: dict[str, Any], seed: int, deterministic: bool) -> None:
        self.space = space
        self.study = optuna.create_study(sampler=sampler(method, seed, deterministic))

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask()
        config: dict[str, Any] = {}
        left = dict(self.space)
        while left:  # parents before children, as a define-by-run objective would do
            name = next(n for n, t in left.items() if not any(p in left for p in t.get("when", {})))
            table = left.pop(name)
            when = table.get("when", {})
            if all(p in config and config[p] in values for p, values in when.items()):
                config[name] = self.suggest(trial, name, table)
        return trial, config

    @staticmethod
    def suggest(trial: Any, name: str, table: dict[str, Any]) -> Any:
        kind = table["type"]
        if kind == "constant":
            return table["values"][0]
        if kind == "choice":
            return trial._suggest(name, CategoricalDistribution(table["values"]))
        make = FloatDistribution if kind == "float" else IntDistribution
        return trial._suggest(name, make(table["low"], table["high"], log=table["log"]))

    def tell(self, token: Any, loss: float | None) -> None:
        if loss is None:
            self.study.tell(token, state=TrialState.FAIL)
        else:
            self.study.tell(token, loss)


def begin(
    method: str, space: dict[str, Any], seed: int, trials: int, deterministic: bool, steps: list[float]
) -> Run:
    return Run(method, space, seed, deterministic)
