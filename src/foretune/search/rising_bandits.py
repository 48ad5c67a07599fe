"""Rising Bandits: each algorithm has a searcher of its own; those that can no longer win are dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Union, final

from foretune.base import check
from foretune.base.key import Key
from foretune.search import make
from foretune.search.arms import arm_of, follow, within
from foretune.search.distinct import DRAWS, pick, signature
from foretune.search.random import draws
from foretune.search.sampler import Proposal, Sampler
from foretune.space.domain import Choice
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["RisingBandits", "bounds", "candidates"]

__entry__ = "RisingBandits"


def bounds(
    losses: Sequence[float], window: int, left: float, least: float = -math.inf
) -> tuple[float, float]:
    """Bound the best loss that an arm will have reached at the end, from below and from above.

        low = max(y(t) - w (T - t), least),   w = (y(t - C) - y(t)) / C,   high = y(t)

    where y(t) is the best of the arm's first t losses. If y falls ever more slowly (a concave reward), ``low``
    is never above what the arm reaches with ``left`` further trials.

    Args:
        losses: of the arm's settled trials, in order; +inf for failed ones.
        window: C, trials over which the slope is taken.
        left: T - t, trials that the arm can still get at most.
        least: the smallest possible loss.

    Returns:
        (low, high); low is ``least`` before C + 1 trials, or while there was no finite loss C trials ago.

    >>> bounds([8.0, 4.0, 2.0, 1.5, 1.25], 2, 2)
    (0.5, 1.25)
    """
    best = math.inf
    curve = [best := min(best, x) for x in losses]
    if len(curve) <= window:
        return least, best
    before = curve[-1 - window]
    if math.isinf(before):  # nothing finite for a whole window: hopeless, unless a loss has come since
        return (math.inf if math.isinf(best) else least), best
    return max(best - (before - best) / window * left, least), best


def candidates(bound: Sequence[tuple[float, float]]) -> list[int]:
    """Return the arms that can still win: none whose low is at or above another's high.

    Of several that have stopped at the same loss the first stays.

    >>> candidates([(0.2, 0.5), (0.5, 0.9), (0.1, 0.6)])
    [0, 2]
    """
    leader = min(range(len(bound)), key=lambda i: (bound[i][1], i))
    return [i for i, (low, _) in enumerate(bound) if i == leader or low < bound[leader][1]]


@final
@dataclass(frozen=True)
class RisingBandits(Sampler[None]):
    """Chooses the algorithm by bounds on what each can still reach, its config by the algorithm's own searcher.

    The values of one choice are the arms. Arms that can still win take turns; each turn is one trial, which
    ``searcher`` proposes from the arm's trials alone. An arm is dropped for good once the best it can reach
    within the budget, if its progress goes on at the present pace, is no better than what another arm has
    (:func:`bounds`). Where no parameter depends on a choice, and none is named, there is one arm. The cost of
    an ask grows with the number of trials, as the arm's history is retold.

    Args:
        arm: the choice that names the algorithm; None: the one on which most parameters depend.
        searcher: the sampler within each arm.
        window: C, trials over which an arm's slope is taken.
        total: T, trials in all; None: the study's budget, and where there is none, as many again as
            were begun.
        best: the best value that the goal can have, in its own unit; None: unbounded.

    Source: Efficient Automatic CASH via Rising Bandits | Algorithm 1, with T - t in trials of all arms

    Differs:
        1. Rewards are losses, so that bounds are turned round; the reward's cap (1 in the paper) is ``best``.
        2. Where the window would let no arm be dropped before half of the budget is spent, it is
           shortened, to 3 at least.
        3. Asynchronous: pending trials count for the turns, not for the bounds.
        4. Small spaces are used up: when the arms in play have nothing untried left, the others are tried.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex", "learns"})

    arm: str | None = None
    searcher: Union[str, Sampler[Any]] = "auto"
    window: int = 7
    total: int | None = None
    best: float | None = None

    def __post_init__(self) -> None:
        if self.arm is not None:
            check.name("arm", self.arm)
        inner = make(self.searcher)
        if not isinstance(self.searcher, str):  # a table of its options: frozen as the object
            object.__setattr__(self, "searcher", inner)
        check.integer("window", self.window, 1)
        if self.total is not None:
            check.integer("total", self.total, 1)
        if self.best is not None:
            check.number("best", self.best)

    def standing(
        self, problem: Problem, history: History
    ) -> tuple[list[list[int]], list[int], list[tuple[float, float]]]:
        """Return each arm's trials, the arms that can still win, and all bounds.

        One arm where nothing depends on a choice.
        """
        name = arm_of(problem.space, self.arm)
        if name is None:
            return [list(range(len(history)))], [0], [(-math.inf, math.inf)]
        domain = problem.space[name]
        assert isinstance(domain, Choice)  # for the type checker
        trials: list[list[int]] = [[] for _ in domain.values]
        for trial in history:
            trials[domain.index(trial.config[name])].append(trial.number)
        total = self.total if self.total is not None else problem.budget_trials
        left = max(0, total - len(history)) if total is not None else len(history)
        window = self.window
        if total is not None:
            window = min(window, max(3, total // (2 * len(trials)) - 1))
        least = -math.inf if self.best is None else problem.goal.sign * self.best
        losses: list[list[float]] = [[] for _ in trials]
        for number in dict.fromkeys(history.settled):
            loss = history.loss(number)
            if loss == loss:
                losses[domain.index(history[number].config[name])].append(loss)
        found = [bounds(x, window, left, least) for x in losses]
        return trials, candidates(found), found

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        name = arm_of(problem.space, self.arm)
        inner = make(self.searcher)
        if name is None:
            within_one, known = follow(inner, problem, history, range(len(history)))
            return inner.ask(problem, known, within_one, n, key)
        domain = problem.space[name]
        assert isinstance(domain, Choice)  # for the type checker
        trials, alive, bound = self.standing(problem, history)
        taken = [len(x) for x in trials]
        turns: list[int] = []
        for _ in range(n):
            turns.append(min(alive, key=lambda i: (taken[i], i)))
            taken[turns[-1]] += 1
        said: list[tuple[Mapping[str, Any], str]] = []

        def proposals(i: int, m: int) -> Iterator[Mapping[str, Any]]:
            smaller = within(problem, name, domain.values[i], i)
            past, known = follow(inner, smaller, history, trials[i])
            low, high = bound[i]
            goal = problem.goal
            can = "" if math.isinf(low) else f", can reach {goal.sign * low + 0.0:.4g}"
            so_far = "no result yet" if math.isinf(high) else f"best {goal.said(high, 4)}{can}"
            head = f"{name} {domain.values[i]} ({len(alive)} of {len(trials)} can still win; {so_far})"
            tried = {signature(t.config) for t in past}
            for j, p in enumerate(inner.ask(smaller, known, past, m, key.fold("arm", i))):
                config, why = p.config, p.reason
                if signature(config) in tried:  # before a searcher has a model it may repeat itself
                    others = islice(draws(smaller.space, key.fold("again", i, j)), DRAWS)
                    config, why = (
                        next((c for c in others if signature(c) not in tried), config),
                        "a uniform draw",
                    )
                tried.add(signature(config))
                said.append((config, f"{head}: {why}"))
                yield config

        def stream() -> Iterator[Mapping[str, Any]]:
            each = {i: proposals(i, turns.count(i)) for i in dict.fromkeys(turns)}
            for i in turns:
                yield from (c for c in [next(each[i], None)] if c is not None)
            yield from draws(problem.space, key.fold("more"))

        found = pick(history, stream(), n)
        why = {id(config): reason for config, reason in said}
        spare = "a uniform draw: the arms in play are used up"
        return [Proposal(c, note or why.get(id(c), spare)) for c, note in found]
