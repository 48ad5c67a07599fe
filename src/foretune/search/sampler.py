"""The interface of samplers: frozen descriptions, pure behaviour, state passed in and out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from foretune.base.key import Key
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial

__all__ = ["Proposal", "Sampler"]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A config and why it was proposed."""

    config: Mapping[str, Any]
    reason: str


class Sampler(ABC, Generic[S]):
    """Proposes configs. A sampler object is a frozen dataclass of hyperparameters and nothing else.

    Laws (tested by ``foretune.testing.SamplerSuite`` for every sampler):
        Same arguments, same proposals, in any process; no global randomness is read or set.
        Each proposal is legal: ``problem.space.check(p.config)`` passes.
        ``n`` proposals come back; fewer only when the space is exhausted.
        Folding ``tell`` over the trials in the order in which they settled gives the live state,
        and the state survives JSON: ``json.loads(json.dumps(state))`` behaves like ``state``.
        Pending trials repel: with ``n`` trials running, the next proposal differs from each of them
        unless the space is exhausted.

    Tags: ``conditional`` handles conditional parameters, ``mixed`` handles choices and ints,
    ``simplex`` handles mixtures, ``multi-fidelity`` learns from partial runs too,
    ``multi-objective`` uses all goals (a study warns where it has several and its sampler lacks the tag),
    ``constrained`` handles constraints itself, by ``history.violations`` or by what trials report,
    ``learns`` improves on random once it has history, ``exhaustible`` ends (a grid), ``once`` proposes no
    config twice, so that a finite space ends, ``independent`` ignores history.

    Where a problem has constraints, a sampler without the tag ``constrained`` needs no line for them: losses
    that it is shown and told put feasibility first (``search/feasible.py``). A trial that breaks a constraint
    is worse than all that keep them, the more it breaks the worse.
    """

    tags: ClassVar[frozenset[str]] = frozenset()

    def init(self, problem: Problem) -> S:
        """Return the state before any trial; must be JSON."""
        return None  # type: ignore[return-value]

    @abstractmethod
    def ask(self, problem: Problem, state: S, history: History, n: int, key: Key) -> list[Proposal]:
        """Propose ``n`` configs, given all that is known, pending trials included."""

    def tell(self, problem: Problem, state: S, trial: Trial) -> S:
        """Fold a trial that has just settled (complete, stopped, failed or paused) into the state.

        A paused trial that is promoted settles again later, at a higher step.
        """
        return state
