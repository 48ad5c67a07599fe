"""PASHA: ASHA that unlocks a further rung only when the ranking of the two highest ones disagrees."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final
from weakref import WeakKeyDictionary

from foretune.base import check
from foretune.base.key import Key
from foretune.schedule.asha import Asha
from foretune.schedule.scheduler import Action, Resume, Rung, Scheduler, Start
from foretune.schedule.standing import Standing, budget_reached, ordinal, promote, queued, settle
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED, RUNNING, WAITING, Plan

__entry__ = "Pasha"

PERCENTILE = 0.9  # of the gaps between curves that cross twice: the paper's N = 90
_MEMO: WeakKeyDictionary[History, dict[tuple[tuple[int, ...], float], float]] = WeakKeyDictionary()
MOST = 40  # curves of which gaps are measured: the best of the highest rung


def tolerance(curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Estimate how large a gap between two losses noise can make: epsilon of the soft ranking.

    Two curves that cross, and cross back, are taken to be equal but for noise: the 90th percentile of
    the gaps of all such pairs, each at the last step that both have, or 0 if there is none.

    Args:
        curves: (steps, losses) of each, by increasing step.

    >>> tolerance([([1, 2, 3], [0.5, 0.3, 0.22]), ([1, 2, 3], [0.4, 0.35, 0.2])])
    0.02
    """
    gaps = []
    for (s, x), (t, y) in itertools.combinations(curves, 2):
        other = dict(zip(t, y, strict=True))
        pairs = [(a, other[at]) for at, a in zip(s, x, strict=True) if at in other]
        signs = [a > b for a, b in pairs if a != b]
        if sum(p != q for p, q in itertools.pairwise(signs)) >= 2:
            gaps.append(abs(pairs[-1][0] - pairs[-1][1]))
    finite = sorted(g for g in gaps if math.isfinite(g))
    return round(finite[math.ceil(PERCENTILE * len(finite)) - 1], 12) if finite else 0.0


def noise(history: History, numbers: tuple[int, ...], step: float) -> float:
    """Return the tolerance of some trials' curves up to a rung; looked up where it was asked before.

    Up to a rung that all have passed, curves do not change any more.
    """
    memo = _MEMO.setdefault(history, {})
    if (numbers, step) not in memo:
        curves = []
        for steps, losses in map(history.curve, numbers):
            count = bisect.bisect_left(steps, step) + 1
            curves.append((steps[:count], losses[:count]))
        memo[numbers, step] = tolerance(curves)
    return memo[numbers, step]


def agree(upper: Mapping[int, float], lower: Mapping[int, float], epsilon: float) -> bool:
    """Whether the ranking of a rung holds in the one below it, losses within epsilon being equal.

    Place by place, the trial of the upper ranking must be within epsilon of the one that has its place in
    the lower ranking (of the same trials).

    >>> agree({1: 0.1, 2: 0.2}, {1: 0.5, 2: 0.4}, 0.0), agree({1: 0.1, 2: 0.2}, {1: 0.5, 2: 0.4}, 0.1)
    (False, True)
    """
    common = [n for n in upper if n in lower]
    above = sorted(common, key=lambda n: (upper[n], n))
    below = sorted(common, key=lambda n: (lower[n], n))
    return all(
        lower[a] == lower[b] or abs(lower[a] - lower[b]) <= epsilon * (1 + 1e-9)
        for a, b in zip(above, below, strict=True)
    )


@final
@dataclass(frozen=True)
class Pasha(Scheduler):
    """Asynchronous halving over as many rungs as the rankings need, from two upwards.

    It works as ASHA, but trials are promoted up to rung K only, K = 2 at first. While the ranking of the
    trials at rung K is not that of the same trials at the rung below (losses that noise may explain being
    equal), K grows by one. Where rankings are stable from early on, most of the cost of ASHA is saved. When a budget
    of trials is used up and nothing is left to be promoted, the best of those that came furthest is trained to the
    last step. Without it (``final=False``, or where no number of trials is known) nobody may come there, and the
    result is a config to be trained on.

    Args:
        eta: of eta trials at a rung, one goes on (greater than 1; need not be whole).
        low: step of the lowest rung; ``steps.low`` if None.
        epsilon: gap under which two losses are equal, in the metric's unit; None: estimated from curves that
            cross twice.
        final: whether the winner is trained to the last step at the end.

    Source: PASHA: Efficient HPO and NAS with Progressive Resource Allocation | Algorithm 1, soft ranking

    Differs:
        1. K is read from the history: the highest rung that a trial was sent to, or one more when the
           rankings there disagree now. A disagreement that is gone before anyone is promoted leaves no trace.
        2. Epsilon is measured over the best 40 trials of the highest rung.
        3. A single trial at the last step unlocks nothing: it may be the winner on its last way. The paper trains
           the winner anew; here it goes on from where it paused.

    >>> from foretune.space import Fidelity, Space
    >>> [(r.step, r.trials) for r in Pasha().plan(Problem(Space({}), steps=Fidelity(27)), trials=54)]
    [(1, 54), (3, 20)]
    """

    eta: float = 3
    low: float | None = None
    epsilon: float | None = None
    final: bool = True

    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity", "finishes"})

    def __post_init__(self) -> None:
        check.number("eta", self.eta, 1, open_low=True)
        if self.low is not None:
            check.number("low", self.low, 0, open_low=True)
        if self.epsilon is not None:
            check.number("epsilon", self.epsilon, 0)
        check.flag("final", self.final)

    def top(self, history: History, ladder: Sequence[float]) -> tuple[int, str]:
        """Return the index of the highest rung in use, and why."""
        last = len(ladder) - 1
        sent = sorted(
            history.plan(n).until
            for n in range(len(history))
            if history.state(n) != FAILED or history.plan(n).until < ladder[-1]
        )
        if self.final and last > 1 and sent and sent[-1] >= ladder[-1] > sent[-2:][0]:
            sent.pop()
        furthest = sent[-1] if sent else 0.0
        k = max(min(1, last), max((i for i, s in enumerate(ladder) if s <= furthest), default=0))
        why = "rankings agree so far"
        while k < last and k > 0:
            upper, lower = history.rung(ladder[k]), history.rung(ladder[k - 1])
            if len(upper) < 2:
                break
            epsilon = self.epsilon
            if epsilon is None:
                epsilon = noise(history, tuple(sorted(upper, key=lambda n: (upper[n], n))[:MOST]), ladder[k])
            if agree(upper, lower, epsilon):
                break
            k += 1
            why = f"rankings at {ladder[k - 2]:g} and {ladder[k - 1]:g} differ by more than {epsilon:.3g}"
        return k, why

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        ladder = problem.steps.rungs(self.eta, self.low)
        if problem.steps.low >= problem.steps.high:  # trials cannot be compared before their end
            ladder = (problem.steps.high,)
        standing = Standing.of(history, ladder)
        top, why = self.top(history, ladder)
        for k in range(top - 1, -1, -1):
            place = standing.first(history, 0, k)
            if place is not None and place.rank < (best := math.floor(place.of / self.eta)):
                return promote(place, 0, ladder[k], ladder[k + 1], best)
        if budget_reached(problem, history):
            winner = self._winner(history, standing, ladder, top) if self.final else None
            if winner is not None:
                return winner
            return settle(
                history,
                f"all {problem.budget_trials} trials have begun and no paused one can be promoted up to step "
                f"{ladder[top]:g}: {why}",
                "no paused trial can be promoted before a running one reports",
            )
        return Start(Plan(ladder[0]), f"no trial can be promoted: a new one, to step {ladder[0]:g}")

    @staticmethod
    def _winner(history: History, standing: Standing, ladder: Sequence[float], top: int) -> Resume | None:
        """Send the best of those that came furthest to the last step, once nothing else is left to do."""
        if history.count(RUNNING) or any(
            history.plan(n).until >= ladder[-1] and history.state(n) != FAILED for n in range(len(history))
        ):
            return None
        if any(not queued(history, n) for n in history.numbers(WAITING)):
            return None
        for k in range(min(top, len(ladder) - 2), -1, -1):
            place = standing.first(history, 0, k)
            if place is not None:
                return Resume(
                    place.number,
                    Plan(ladder[-1]),
                    f"{ordinal(place.rank + 1)} of {place.of} at step {ladder[k]:g}, the furthest that any came: the "
                    f"winner is trained to step {ladder[-1]:g}",
                )
        return None

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        """Foretell the two rungs that are certain; further ones are unlocked as rankings disagree."""
        return Asha(self.eta, self.low).plan(problem, trials)[:2]
