"""Several tuning seeds a trial: the training function run once a seed, the mean reported with its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from foretune.base import check
from foretune.base.errors import ArgumentError, ArgumentTypeError
from foretune.base.key import Key
from foretune.execute.executor import Reported
from foretune.study.run import Run, TrainTarget

__all__ = ["Replicated"]


class Replicated:
    """Wraps ``train(config, run)``: runs it on each tuning seed and reports means and standard errors.

    The tuning seeds are the same for every trial, so that configs are compared on equal terms, and differ
    from those of finalists: what was tuned is tested on seeds that it has not seen.

    Args:
        train: a training function that takes the run, for that is where its seed is (``run.seed``).
        seeds: how many.
        root: seed of the study.

    >>> def train(config, run):
    ...     return run.key.generator().random()
    >>> from foretune.execute.executor import Job
    >>> told = []
    >>> Replicated(train, 2)({}, Run(Job(0, {}), lambda r: told.append(r) or "go"))
    >>> sorted(told[0].values), sorted(told[0].sem)
    (['loss'], ['loss'])

    Source: Hyperparameters in Reinforcement Learning and How To Tune Them
    """

    def __init__(self, train: Callable[..., Any], seeds: int, root: int = 0) -> None:
        if not callable(train):
            raise ArgumentTypeError(f"train must be a function train(config, run); got {train!r}.")
        self.train, self.seeds, self.root = train, check.integer("seeds", seeds, 1), root

    def __call__(self, config: Mapping[str, Any], run: Run) -> None:
        """Train on each seed, and report once."""
        target = TrainTarget(self.train)
        found: list[Mapping[str, float]] = []
        for s in range(self.seeds):
            last: dict[str, float] = {}

            def hear(report: Reported, last: dict[str, float] = last) -> str:
                last.update(report.values)
                return "go"

            job = replace(
                run._job, seed=Key.of(self.root).fold("tuning", s).integer(), checkpoint=None, seconds=0.0
            )
            last.update(target(job, hear))
            found.append(last)
        names = [n for n in found[0] if all(n in f for f in found)]
        if not names:
            raise ArgumentError(
                "seeds: the training function reported no metric on every seed: what it returns must not "
                f"depend on the seed; it gave {found!r}."
            )
        means = {n: math.fsum(f[n] for f in found) / self.seeds for n in names}
        sems = {}
        if self.seeds > 1:
            for n in names:
                squares = math.fsum((f[n] - means[n]) ** 2 for f in found)
                sems[n] = math.sqrt(squares / (self.seeds - 1) / self.seeds)
        run.report(run.until, sem=sems, **means)
