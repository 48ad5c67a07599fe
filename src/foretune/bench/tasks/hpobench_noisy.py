"""HPOBench's MLPs as one meets them: each evaluation is one training seed of five; the mean is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np

from foretune.base.key import Key
from foretune.bench.grid import CompleteTables, read_losses
from foretune.bench.task import Instance, Outcome

__all__ = ["HPOBenchNoisy"]

__entry__ = "HPOBenchNoisy"


@final
class HPOBenchNoisy(CompleteTables):
    """Real seed noise: an evaluation draws one of the five training seeds, whatever was drawn before."""

    file: ClassVar[str] = "hpobench"
    group: ClassVar[str] = "noise"
    edition: ClassVar[int] = 2  # since runs record what methods name as their best
    split: ClassVar[str] = "hpobench"

    def instance(self, name: str, seed: int) -> Instance:
        exact = super().instance(name, seed)
        losses = read_losses(
            self.folder() / f"{self.file}__{name}.npz", self.spec()["direction"] == "maximize"
        )
        key = Key.of(seed).fold("race noise", name)
        order = tuple(exact.space)

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            seeds = losses[tuple(config[n] for n in order)]
            known = seeds[np.isfinite(seeds)]
            return Outcome(float(known[key.fold("draw", draw).integer(len(known))]))

        return Instance(exact.space, measure, exact.judge, exact.best, exact.typical, deterministic=False)
