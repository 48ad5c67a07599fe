"""Optuna: TPE (its default), GP, CMA-ES and random samplers; TPE with the Hyperband pruner.

tpe: TPESampler() of 5.0, which is multivariate with constant liar by default. gp: GPSampler, told whether the
objective is deterministic. cmaes: CmaEsSampler (categorical parameters are sampled independently, as Optuna does).
hyperband: TPESampler with HyperbandPruner between the first and the last step; reports at each step.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import TrialState

VERSION = optuna.__version__
optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def sampler(method: str, seed: int, deterministic: bool) -> Any:
    if method in ("", "tpe", "hyperband"):
        return optuna.samplers.TPESampler(seed=seed)
    if method == "gp":
        return optuna.samplers.GPSampler(seed=seed, deterministic_objective=deterministic)
    if method == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed)
    if method == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    raise ValueError(f"no method {method!r}: tpe, gp, cmaes, random, hyperband")


class Run:
    def __init__(
        self, method: str, space: dict[str, Any], seed: int, deterministic: bool, steps: list[float]
    ) -> None:
        self.space = space
        pruner: Any = optuna.pruners.NopPruner()
        if method == "hyperband":
            pruner = optuna.pruners.HyperbandPruner(min_resource=int(steps[0]), max_resource=int(steps[-1]))
        self.prunes = method == "hyperband"
        self.study = optuna.create_study(
            sampler=sampler(method, seed, deterministic), pruner=pruner, study_name=f"race{seed}"
        )
        self.pruned: set[int] = set()

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
            return trial.suggest_categorical(name, table["values"])
        if kind == "int":
            return trial.suggest_int(name, table["low"], table["high"], log=table["log"])
        return trial.suggest_float(name, table["low"], table["high"], log=table["log"])

    def report(self, token: Any, step: float, loss: float) -> str:
        if not self.prunes:
            return "go"
        token.report(loss, int(step))
        if token.should_prune():
            self.pruned.add(token.number)
            return "stop"
        return "go"

    def tell(self, token: Any, loss: float | None) -> None:
        if loss is None:
            self.study.tell(token, state=TrialState.FAIL)
        elif token.number in self.pruned:
            self.study.tell(token, state=TrialState.PRUNED)
        else:
            self.study.tell(token, loss)


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Run:
    return Run(method, space, seed, deterministic, steps)
