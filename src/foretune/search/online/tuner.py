"""The interface of online tuners: frozen descriptions, pure behaviour, JSON state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from foretune.base.key import Key

__all__ = ["OnlineTuner", "best_fixed_regret", "play"]

Array = NDArray[np.float64]
S = TypeVar("S")

Context = float | Sequence[float] | Array | None


class OnlineTuner(ABC, Generic[S]):
    """Chooses one of a few arms for each job of a stream, and learns from what the job cost.

    Unlike a sampler it does not look for the best config: each choice counts, and the best choice may depend on
    the job (its context) or drift.

    Laws (tested for each tuner):
        ``suggest`` and ``observe`` are pure: same arguments, same answers, in any process.
        The state is JSON: ``json.loads(json.dumps(state))`` behaves like ``state``.
        ``probabilities`` are positive and add up to 1; ``suggest`` draws from them.
    """

    arms: int

    @abstractmethod
    def init(self) -> S:
        """Return the state before the first job; must be JSON."""

    @abstractmethod
    def probabilities(self, state: S, context: Context = None) -> Array:
        """Return the probability of each arm for a job."""

    @abstractmethod
    def observe(self, state: S, context: Context, arm: int, cost: float) -> S:
        """Fold what a job cost with an arm into the state."""

    def suggest(self, state: S, context: Context, key: Key) -> int:
        """Choose an arm for a job.

        Args:
            state: of the jobs before.
            context: what is known of the job.
            key: one of the job's own, such as ``key.fold("job", t)``.
        """
        p = self.probabilities(state, context)
        return int(np.searchsorted(np.cumsum(p), key.generator().random() * p.sum(), side="right"))


def play(
    tuner: OnlineTuner[Any], contexts: Sequence[Any], cost: Callable[[int, int], float], key: Key
) -> tuple[NDArray[np.intp], Array]:
    """Run a tuner over a stream of jobs.

    Args:
        contexts: what is known of each job; None for nothing.
        cost: ``cost(job, arm)``.

    Returns:
        The arms, and what they cost: (jobs,) each.
    """
    state, arms, costs = tuner.init(), [], []
    for t, context in enumerate(contexts):
        arm = tuner.suggest(state, context, key.fold("job", t))
        paid = float(cost(t, arm))
        state = tuner.observe(state, context, arm, paid)
        arms.append(arm)
        costs.append(paid)
    return np.array(arms, dtype=int), np.array(costs, dtype=float)


def best_fixed_regret(costs: Array, table: Array) -> Array:
    """Return the regret after each job: what was paid, less the best fixed arm's cost until the last job.

    Args:
        costs: (jobs,) what was paid.
        table: (jobs, arms) what each arm would have cost.

    >>> best_fixed_regret(np.array([3.0, 1.0]), np.array([[1.0, 3.0], [1.0, 3.0]])).tolist()
    [2.0, 2.0]
    """
    best = int(np.argmin(np.sum(table, axis=0)))
    return np.asarray(np.cumsum(costs) - np.cumsum(table[:, best]), dtype=float)
