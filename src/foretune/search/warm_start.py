"""Warm start: results of earlier studies count as if this study had made them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.search.distinct import signature
from foretune.search.earlier import Earlier, carried, sources_of
from foretune.search.sampler import Proposal
from foretune.search.wrapping import Wrapper, relabelled
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.recast import Known, recast
from foretune.trial.trial import Trial

__all__ = ["WarmStart"]

__entry__ = "WarmStart"


@final
@dataclass(frozen=True)
class WarmStart(Wrapper):
    """Shows ``inner`` the trials of earlier studies before those of this one, and tries their best again first.

    For the same task (a search that goes on with another space, budget or sampler): losses are taken as they
    are. For related tasks, whose losses differ in level or scale, see ``quantile_transfer`` and
    ``ranking_transfer``. Between different spaces results are carried over by shared parameters; see
    :func:`foretune.search.earlier.carried` for what is assumed of the others. The data stand in the study's
    first event, so that the search does not change when the earlier store does.

    Args:
        sources: earlier studies (``foretune.earlier("study.db:NAME")``).
        first: how many of the best earlier configs are trained again before anything else.
        inner: goes on from there.
    """

    sources: tuple[Earlier, ...] = ()
    first: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sources", sources_of(self.sources))
        check.integer("first", self.first, 0)

    def known(self, problem: Problem) -> list[Known]:
        """Return all earlier results, carried over to the problem's space."""
        return [k for source in self.sources for k in carried(source, problem.space)]

    def within(self, problem: Problem) -> Problem:
        more = len(self.known(problem))
        if problem.budget_trials is None or not more:
            return problem
        return replace(problem, budget_trials=problem.budget_trials + more)

    def init(self, problem: Problem) -> Any:
        for source in self.sources:
            if source.metric and source.metric != problem.goal.metric:
                raise ArgumentError(
                    f"The earlier study {source.name!r} has the goal {source.metric!r}, not "
                    f"{problem.goal.metric!r}: its losses would not compare. quantile_transfer and "
                    "ranking_transfer learn from ranks."
                )
        seen = recast(History(problem), self.within(problem), before=self.known(problem))
        state = self.wrapped.init(seen.problem)
        for number in seen.settled:
            state = self.wrapped.tell(seen.problem, state, seen[number])
        return state

    def tell(self, problem: Problem, state: Any, trial: Trial) -> Any:
        shifted = replace(trial, number=trial.number + len(self.known(problem)))
        return self.wrapped.tell(self.within(problem), state, shifted)

    def ask(self, problem: Problem, state: Any, history: History, n: int, key: Key) -> list[Proposal]:
        known = self.known(problem)
        if not known:
            return self.wrapped.ask(problem, state, history, n, key)
        found = self._again(history, known)[:n]
        if len(found) == n:
            return found
        seen = recast(history, self.within(problem), before=known)
        rest = self.wrapped.ask(seen.problem, state, seen, n if found else n - len(found), key)
        names = [
            f"trial {i} of {s.name}" for s in self.sources for i in range(len(carried(s, problem.space)))
        ]
        marks = {signature(p.config) for p in found}
        rest = relabelled(rest, names + [f"trial {i}" for i in range(len(history))])
        return (found + [p for p in rest if signature(p.config) not in marks])[:n]

    def _again(self, history: History, known: list[Known]) -> list[Proposal]:
        """Propose the best earlier configs that this study has not tried."""
        ranked = sorted((k for k in known if k.loss is not None), key=lambda k: (-k.fraction, k.loss))
        best = {signature(k.config): k for k in reversed(ranked)}  # each config once, the best of it
        chosen = sorted(best.values(), key=lambda k: (-k.fraction, k.loss))[: self.first]
        if not chosen:
            return []
        tried = {signature(t.config) for t in history[: len(history)]}
        sign = history.problem.goal.sign
        return [
            Proposal(
                dict(k.config),
                f"number {i + 1} of the earlier studies, with {sign * (k.loss or 0.0):.6g} there",
            )
            for i, k in enumerate(chosen)
            if signature(k.config) not in tried
        ]
