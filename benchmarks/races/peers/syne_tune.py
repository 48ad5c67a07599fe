"""Syne Tune: conformal quantile regression (cqr), BORE, KDE-TPE and BoTorch; over time also ASHA with them.

cqr, bore, tpe, botorch, random: its ask/tell scheduler. asha, ashacqr, ashabore, bohb: its asynchronous successive
halving (reduction factor 3), from the first level of the task on. Conditional parameters are always searched and
dropped where they are inactive.
"""

from __future__ import annotations

import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from _space import chosen, searched
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHA, ASHABORE, ASHACQR, BOHB, BORE, CQR, TPE, BOTorch, RandomSearch
from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

VERSION = version("syne-tune")
FULL = {"cqr": CQR, "bore": BORE, "tpe": TPE, "botorch": BOTorch, "random": RandomSearch}
HALVING = {"asha": ASHA, "ashacqr": ASHACQR, "ashabore": ASHABORE, "bohb": BOHB}


def domain(t: dict[str, Any]) -> Any:
    if t["type"] == "choice":
        return choice([str(i) for i in range(len(t["values"]))])
    if t["type"] == "int":
        return (lograndint if t["log"] else randint)(t["low"], t["high"])
    return (loguniform if t["log"] else uniform)(t["low"], t["high"])


class FullRuns:
    def __init__(self, method: str, space: dict[str, Any], seed: int) -> None:
        self.space = space
        domains = {n: domain(t) for n, t in searched(space)}
        kwargs: dict[str, Any] = {"metric": "loss", "random_seed": seed, "do_minimize": True}
        if method == "random":
            kwargs = {"metrics": ["loss"], "random_seed": seed}
        self.scheduler = AskTellScheduler(FULL[method or "cqr"](domains, **kwargs))

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.scheduler.ask()
        return trial, chosen(self.space, trial.config)

    def tell(self, token: Any, loss: float | None) -> None:
        if loss is None:
            self.scheduler.base_scheduler.on_trial_error(token)
        else:
            self.scheduler.tell(token, {"loss": loss})


class Halving:
    def __init__(self, method: str, space: dict[str, Any], seed: int, steps: list[float]) -> None:
        self.space, self.high, self.count = space, int(steps[-1]), 0
        np.random.seed(seed)  # its brackets are drawn from NumPy's global state
        self.scheduler = HALVING[method](
            {n: domain(t) for n, t in searched(space)},
            metric="loss",
            time_attr="epoch",
            max_t=self.high,
            grace_period=int(steps[0]),
            do_minimize=True,
            random_seed=seed,
        )
        self.last: dict[int, float] = {}

    def ask(self) -> tuple[Any, dict[str, Any], float]:
        config = self.scheduler.suggest().config
        trial = Trial(trial_id=self.count, config=config, creation_time=datetime.datetime.now())
        self.count += 1
        self.scheduler.on_trial_add(trial)
        return trial, chosen(self.space, config), self.high

    def report(self, token: Any, step: float, loss: float) -> str:
        if step >= self.high:
            self.scheduler.on_trial_complete(token, {"loss": loss, "epoch": int(step)})
            return "stop"
        word = self.scheduler.on_trial_result(token, {"loss": loss, "epoch": int(step)})
        return "go" if word == "CONTINUE" else "stop"

    def tell(self, token: Any, loss: float | None) -> None:
        if loss is None:
            self.scheduler.on_trial_error(token)


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Any:
    return Halving(method, space, seed, steps) if method in HALVING else FullRuns(method, space, seed)
