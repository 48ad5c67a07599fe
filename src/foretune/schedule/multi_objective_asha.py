"""Multi-objective ASHA: asynchronous halving where non-dominated trials are the best of a rung."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final
from weakref import WeakKeyDictionary

import numpy as np

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.fronts import Fronts
from foretune.numeric.pareto import crowding, ranks
from foretune.schedule.asha import Asha
from foretune.schedule.scheduler import Action, Rung, Scheduler, Start
from foretune.schedule.standing import Place, budget_reached, promote, queued, settle
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.ranked import excess
from foretune.trial.trial import FAILED, PAUSED, RUNNING, WAITING, Plan, Report, Trial

__entry__ = "MultiObjectiveAsha"

MANY = 32  # points that are sorted in one by one in any case
_MEMO: WeakKeyDictionary[History, dict[tuple[float, ...], _Standing]] = WeakKeyDictionary()


def losses_at(problem: Problem, trial: Trial, step: float) -> tuple[tuple[float, ...], float] | None:
    """Return a trial's losses, one a goal, at its first report at or after a step that has them all.

    With them comes by how much constraints are broken, as far as the reports until there say.
    """
    start = bisect.bisect_left(trial.reports, step, key=lambda r: r.step)
    for i, report in enumerate(trial.reports[start:], start):
        if all(g.metric in report.values for g in problem.goals):
            losses = tuple(History.loss_of(report.values[g.metric], g.sign) for g in problem.goals)
            return losses, excess(problem.constraints, functools.partial(_last, trial.reports[: i + 1]))
    return None


def _last(reports: Sequence[Report], metric: str) -> float | None:
    return next((r.values[metric] for r in reversed(reports) if metric in r.values), None)


def order(rows: Sequence[Sequence[float]]) -> list[int]:
    """Order points: by front, within a front the loneliest first, then as they came.

    >>> order([[3, 3], [1, 4], [2, 2], [4, 1], [2.1, 1.9]])
    [1, 3, 2, 4, 0]
    """
    points = np.array(rows, dtype=float)
    points[~np.isfinite(points).all(axis=1)] = np.inf  # diverged in one goal: behind all others
    rank = ranks(points)
    if points.shape[1] == 1:
        return np.argsort(points[:, 0], kind="stable").tolist()  # type: ignore[no-any-return]
    lonely = crowding(points, rank)
    return np.lexsort((np.arange(len(points)), -lonely, rank)).tolist()  # type: ignore[no-any-return]


class _Rung:
    """Who has arrived at a rung, in fronts, and who waits there."""

    def __init__(self, goals: int) -> None:
        self.goals = goals
        self.known: dict[
            int, tuple[tuple[float, ...], float]
        ] = {}  # (losses, by how much constraints are broken)
        self.free: set[int] = set()  # trials that were seen paused here
        self.fronts = Fronts(goals)  # of those that keep the constraints, with finite losses
        self.broken: list[tuple[float, int]] = []  # of those that break one, by how much
        self._new: list[int] = []  # not sorted in yet
        self._anew = False

    def put(self, number: int, losses: tuple[float, ...], by: float) -> None:
        old, new = self.known.get(number), (losses, by)
        if old == new:
            return
        self.known[number] = new
        self._new.append(number)
        self._anew |= old is not None  # rare: it failed here, or its result replaced a report

    def sort(self) -> None:
        """Sort in what has been put: one by one, or all anew where most are new."""
        finite = [i for i in self._new if all(map(math.isfinite, self.known[i][0]))]  # others only count
        if self._anew or len(finite) > MANY + len(self.fronts):
            finite = [i for i, (losses, _) in self.known.items() if all(map(math.isfinite, losses))]
            kept = [i for i in finite if self.known[i][1] <= 0.0]
            rows = np.array([self.known[i][0] for i in kept]).reshape(-1, self.goals)
            self.fronts, self.broken = Fronts.of(kept, rows), []
            finite = [i for i in finite if self.known[i][1] > 0.0]
        for number in finite:
            losses, by = self.known[number]
            if by > 0.0:
                bisect.insort(self.broken, (by, number))
            else:
                self.fronts.add(number, losses)
        self._new, self._anew = [], False

    def first(self, history: History, there: float, best: int) -> Place | None:
        """Return the first of the best that is paused here and has not been sent further."""

        def waits(number: int) -> bool:
            if history.state(number) == PAUSED and history.plan(number).until < there:
                return True
            self.free.discard(number)  # it went on; should it pause here again, it is entered again
            return False

        at = 0
        for front in self.fronts:
            if at >= best:
                return None
            waiting = [i for i in front.tolist() if i in self.free and waits(i)]
            if waiting:
                ranked = front[order([self.known[i][0] for i in front.tolist()])]
                place = min(int(np.flatnonzero(ranked == i)[0]) for i in waiting)
                return Place(int(ranked[place]), at + place, len(self.known)) if at + place < best else None
            at += len(front)
        for place, (_, number) in enumerate(self.broken[: max(0, best - at)], at):
            if number in self.free and waits(number):
                return Place(number, place, len(self.known))
        return None


class _Standing:
    """The rungs of a ladder, followed event by event: a memo of a pure function of the history."""

    def __init__(self, ladder: tuple[float, ...], goals: int) -> None:
        self.ladder = ladder
        self.rungs = [_Rung(goals) for _ in ladder[:-1]]
        self._settled = 0

    @classmethod
    def of(cls, problem: Problem, history: History, ladder: tuple[float, ...]) -> _Standing:
        memo = _MEMO.setdefault(history, {})
        if ladder not in memo:
            memo[ladder] = cls(ladder, len(problem.goals))
        memo[ladder]._follow(problem, history)
        return memo[ladder]

    def _follow(self, problem: Problem, history: History) -> None:
        fresh = history.settled[self._settled :]
        self._settled = len(history.settled)
        for number in dict.fromkeys([*fresh, *history.pending]):
            if not queued(history, number):
                self._place(problem, history[number])
        for rung in self.rungs:
            rung.sort()

    def _place(self, problem: Problem, trial: Trial) -> None:
        awaited = trial.state in (RUNNING, WAITING)
        for rung, here in zip(self.rungs, self.ladder, strict=False):
            if awaited and trial.number in rung.known:
                continue
            known = losses_at(problem, trial, here)
            mute = known is None and not awaited and trial.plan.until >= here
            if mute or (trial.state == FAILED and trial.plan.until == here):
                known = (math.inf,) * len(problem.goals), 0.0
            if known is None:
                return
            rung.put(trial.number, *known)
            if trial.state == PAUSED and all(map(math.isfinite, known[0])):
                rung.free.add(trial.number)


@final
@dataclass(frozen=True)
class MultiObjectiveAsha(Scheduler):
    """ASHA (promotion) for several goals: of a rung, the best floor(n / eta) by non-dominated sorting go on.

    Trials at a rung are ordered by front; within a front the one with the largest crowding distance comes
    first, so that the ends of the front and its gaps are kept. With one goal it is ASHA. Trials that failed,
    or diverged in any goal, come last and are not promoted; before them come those that break a constraint. A
    trial pauses at each rung; its losses there are those of its first report at or after the step that has all
    goals. Fronts are followed trial by trial (``numeric/fronts.py``): a decision costs what has changed, and one
    look through the fronts of the best.

    Args:
        eta: of eta trials at a rung, one goes on (greater than 1; need not be whole).
        low: step of the lowest rung; ``steps.low`` if None.

    Source: Multi-objective Asynchronous Successive Halving
    Source: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II | the order

    Differs:
        1. Ties within a front are broken by crowding distance; the paper's best variant uses an epsilon-net,
           which spreads over the front likewise.

    >>> from foretune.space import Fidelity, Space
    >>> plan = MultiObjectiveAsha().plan(Problem(Space({}), steps=Fidelity(9)), trials=27)
    >>> [(r.step, r.trials) for r in plan]
    [(1, 27), (3, 11), (9, 4)]
    """

    eta: float = 3
    low: float | None = None

    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity", "multi-objective"})

    def __post_init__(self) -> None:
        check.number("eta", self.eta, 1, open_low=True)
        if self.low is not None:
            check.number("low", self.low, 0, open_low=True)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        if len(problem.goals) == 1:
            return Asha(self.eta, self.low).next(problem, history, key)
        ladder = problem.steps.rungs(self.eta, self.low)
        standing = _Standing.of(problem, history, ladder)
        for k in range(len(ladder) - 2, -1, -1):
            rung = standing.rungs[k]
            best = math.floor(len(rung.known) / self.eta)
            place = rung.first(history, ladder[k + 1], best) if best else None
            if place is not None:
                return promote(place, 0, ladder[k], ladder[k + 1], best)
        if budget_reached(problem, history):
            return settle(
                history,
                f"all {problem.budget_trials} trials have begun and no paused one can be promoted",
                "no paused trial can be promoted before a running one reports",
            )
        return Start(Plan(ladder[0]), f"no trial can be promoted: a new one, to step {ladder[0]:g}")

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        return Asha(self.eta, self.low).plan(problem, trials)
