"""Syne Tune: conformal quantile regression (cqr), BORE, KDE-TPE and BoTorch through its ask/tell scheduler.

Conditional parameters are always searched and dropped where they are inactive.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from _space import chosen, searched
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import BORE, CQR, TPE, BOTorch, RandomSearch
from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

VERSION = version("syne-tune")
METHODS = {"cqr": CQR, "bore": BORE, "tpe": TPE, "botorch": BOTorch, "random": RandomSearch}


def domain(t: dict[str, Any]) -> Any:
    if t["type"] == "choice":
        return choice([str(i) for i in range(len(t["values"]))])
    if t["type"] == "int":
        return (lograndint if t["log"] else randint)(t["low"], t["high"])
    return (loguniform if t["log"] else uniform)(t["low"], t["high"])


class Run:
    def __init__(self, method: str, space: dict[str, Any], seed: int) -> None:
        self.space = space
        domains = {n: domain(t) for n, t in searched(space)}
        kwargs: dict[str, Any] = {"metric": "loss", "random_seed": seed}
        if method == "random":
            kwargs = {"metrics": ["loss"], "random_seed": seed}
        else:
            kwargs["do_minimize"] = True
        self.scheduler = AskTellScheduler(METHODS[method or "cqr"](domains, **kwargs))

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.scheduler.ask()
        return trial, chosen(self.space, trial.config)

    def tell(self, token: Any, loss: float | None) -> None:
        if loss is None:
            self.scheduler.base_scheduler.on_trial_error(token)
        else:
            self.scheduler.tell(token, {"loss": loss})


def begin(
    method: str, space: dict[str, Any], seed: int, trials: int, deterministic: bool, steps: list[float]
) -> Run:
    return Run(method, space, seed)
