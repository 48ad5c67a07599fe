"""Ax: the Client with its default generation strategy ("fast" Bayesian optimisation).

Told a standard error of 0 where the objective is deterministic. Conditional parameters are always searched and
dropped where they are inactive.
"""

from __future__ import annotations

from typing import Any

import ax
from _space import chosen, searched
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

VERSION = ax.__version__


def parameter(name: str, t: dict[str, Any]) -> Any:
    if t["type"] == "choice":
        return ChoiceParameterConfig(
            name=name,
            values=[str(i) for i in range(len(t["values"]))],
            parameter_type="str",
            is_ordered=False,
        )
    return RangeParameterConfig(
        name=name,
        bounds=(t["low"], t["high"]),
        parameter_type=t["type"],
        scaling="log" if t["log"] else "linear",
    )


class Run:
    def __init__(self, space: dict[str, Any], seed: int, deterministic: bool) -> None:
        self.space, self.deterministic = space, deterministic
        self.client = Client(random_seed=seed)
        self.client.configure_experiment(parameters=[parameter(n, t) for n, t in searched(space)])
        self.client.configure_optimization(objective="-loss")
        self.client.configure_generation_strategy(method="fast", initialization_random_seed=seed)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        index, found = next(iter(self.client.get_next_trials(max_trials=1).items()))
        return index, chosen(self.space, found)

    def tell(self, token: Any, loss: float | None) -> None:
        if loss is None:
            self.client.mark_trial_failed(token)
        else:
            self.client.complete_trial(token, raw_data={"loss": (loss, 0.0 if self.deterministic else None)})

    def named(self) -> tuple[dict[str, Any], float]:
        """Return the best arm by the model's predictions, which is what Ax recommends under noise."""
        found, metrics, _, _ = self.client.get_best_parameterization(use_model_predictions=True)
        value = metrics["loss"]
        return chosen(self.space, found), float(value[0] if isinstance(value, tuple) else value)


def begin(
    method: str,
    space: dict[str, Any],
    seed: int,
    trials: int,
    deterministic: bool,
    steps: list[float],
    workers: int = 1,
) -> Run:
    return Run(space, seed, deterministic)
