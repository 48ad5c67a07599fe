"""Iterative deepening Hyperband: one round of Hyperband that can be taken to a larger last step afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from foretune.base import check
from foretune.base.key import Key
from foretune.schedule.bracket import Bracket
from foretune.schedule.hyperband import Hyperband, sizes
from foretune.schedule.scheduler import Action, Resume, Rung, Scheduler, Start
from foretune.schedule.standing import Place, budget_reached, promote, queued, settle
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED, PAUSED, RUNNING, WAITING, Plan

__entry__ = "IterativeDeepeningHyperband"

POLICIES = ("discard", "preserve", "efficient")


def _loss(history: History, number: int, step: float) -> float | None:
    """Return a trial's loss at a rung: None while it is awaited, +inf if it will never have one."""
    state, known = history.state(number), history.rung(step).get(number)
    if state == FAILED and (known is None or history.plan(number).until <= step):
        return math.inf
    if known is None and state not in (RUNNING, WAITING):
        return math.inf
    return known


@final
@dataclass(frozen=True)
class IterativeDeepeningHyperband(Scheduler):
    """Hyperband whose maximal step R can be raised when it has ended: nothing is trained twice.

    It makes one round of Hyperband and says that it is done. Opened again with more steps
    (``Study(..., steps=81)``, ``Study.lengthen``), best by a power of eta, the study goes on: bracket
    b, which began at rung b, gets the new trials that it lacks for its size at the new R, each rung is
    halved anew over old and new trials, and one bracket more is begun for each power of eta. Trials go
    on from their checkpoints, which are kept for that, those of complete ones too. What the policies
    differ in is the fate of trials that were promoted in the smaller run and would not be promoted now,
    as new ones are better:

        discard     the best floor(n / eta) of a rung go on; the others are left behind. What remains
                    is Hyperband at the new R, with fewer trainings.
        preserve    so, but at the rungs above, the trials left behind are compared, too, with the losses
                    that they have there, and return if they are among the best.
        efficient   what was promoted once stays; the best of the rest fill the places that remain.
                    Fewest steps.

    Without an extension all three are one round of Hyperband. A decision costs O(trials * rungs).

    Args:
        eta: of eta trials at a rung, one goes on (greater than 1; need not be whole).
        low: step of the lowest rung; ``steps.low`` if None.
        policy: "discard", "preserve" or "efficient".

    Source: Iterative Deepening Hyperband | Algorithm 2, ID-Hyperband over incremental successive halving
    Source: Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization | Algorithm 1

    Differs:
        1. Trials are resumed where they paused; the paper counts each training from the start.
        2. Any larger R is accepted; where it is no power of eta times the old one, rungs move, and a trial
           stands at the last rung that it has passed, with its first loss there.
        3. Failed and diverged trials count as the worst of their rung; nobody takes their places.

    >>> from foretune.space import Fidelity, Space
    >>> plan = IterativeDeepeningHyperband().plan(Problem(Space({}), steps=Fidelity(9)))
    >>> [(r.bracket, r.step, r.trials) for r in plan]
    [(0, 1, 9), (0, 3, 3), (0, 9, 1), (1, 3, 5), (1, 9, 1), (2, 9, 3)]
    """

    eta: float = 3
    low: float | None = None
    policy: str = "efficient"

    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity", "extends"})

    def __post_init__(self) -> None:
        check.number("eta", self.eta, 1, open_low=True)
        if self.low is not None:
            check.number("low", self.low, 0, open_low=True)
        check.one_of("policy", self.policy, POLICIES)

    @property
    def ends(self) -> bool:
        return True

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        ladder = problem.steps.rungs(self.eta, self.low)
        groups: dict[int, list[int]] = {}
        for number in range(len(history)):
            if not queued(history, number):
                groups.setdefault(history.plan(number).bracket, []).append(number)
        begun = sum(map(len, groups.values()))
        left = math.inf if problem.budget_trials is None else max(0, problem.budget_trials - begun)
        for b, size in enumerate(sizes(self.eta, len(ladder))):
            members = groups.get(b, [])
            n = max(len(members), int(min(size, len(members) + left)))
            left -= n - len(members)
            if n == 0:
                continue
            bracket = Bracket.of(b, n, b, self.eta, ladder)
            action = self._advance(problem, history, bracket, members)
            if action:
                return action
        return settle(
            history,
            f"all {len(groups)} brackets have been halved up to step {problem.steps.high:g}",
            "each open bracket waits for running trials",
        )

    def _advance(
        self, problem: Problem, history: History, bracket: Bracket, members: Sequence[int]
    ) -> Action | None:
        """Return what a bracket has to do now; None if it must wait for its trials, or has ended."""
        ladder, first, b = bracket.ladder, bracket.first, bracket.number
        if len(members) < bracket.trials and not budget_reached(problem, history):
            return Start(
                Plan(ladder[first], b),
                f"trial {len(members) + 1} of {bracket.trials} of bracket {b}, to step {ladder[first]:g}",
            )
        for number in members:  # a longer run may begin its rungs at a later step than the shorter one did
            plan = history.plan(number)
            if plan.until < ladder[first] and history.state(number) == PAUSED:
                return Resume(
                    number,
                    plan._replace(until=ladder[first]),
                    f"to step {ladder[first]:g}, now the first rung",
                )
        alive, count = list(members), len(members)
        for k in range(first, len(ladder) - 1):
            here, there = ladder[k], ladder[k + 1]
            losses = {n: _loss(history, n, here) for n in alive}
            if any(x is None for x in losses.values()):
                return None
            if self.policy == "preserve":
                back = {
                    n: history.rung(here)[n] for n in members if n in history.rung(here) and n not in losses
                }
                losses |= {n: x for n, x in back.items() if history.plan(n).until >= here}
            ranked = sorted(losses, key=lambda n: (losses[n], n))
            best = math.floor(count / self.eta)
            sent = {n for n in alive if history.plan(n).until >= there}
            if self.policy == "efficient":
                rest = [n for n in ranked if n not in sent]
                chosen = sent.union(rest[: max(0, best - len(sent))])
            else:
                chosen = set(ranked[:best])
            for rank, n in enumerate(ranked):
                waits = history.state(n) == PAUSED and history.plan(n).until < there and losses[n] != math.inf
                if n in chosen and waits:
                    return promote(Place(n, rank, len(ranked)), b, here, there, best)
            alive, count = [n for n in chosen if history.plan(n).until >= there], len(chosen)
        return None

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        return Hyperband(self.eta, self.low, rounds=1).plan(problem, trials)
