"""Standing: who stands where in each rung of each bracket, kept up to date as a history grows.

A memo of a pure function of the history, never a state of its own: built afresh or followed event by
event, it answers the same. Failed trials, and trials that ended a plan without a loss, stand in the
rung that they were sent to with a loss of +inf: behind all others, yet counted. Before them come trials that
are known there to break a constraint, as ``History.rung`` has it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

from foretune.schedule.scheduler import Action, Done, Resume, Wait
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED, PAUSED, RUNNING, WAITING, Plan

__all__ = ["Place", "Standing", "budget_reached", "halvings", "ordinal", "promote", "queued", "settle"]

_MEMO: WeakKeyDictionary[History, dict[tuple[float, ...], Standing]] = WeakKeyDictionary()


def halvings(n: int, eta: float, rungs: int) -> Iterator[int]:
    """Yield how many trials of ``n`` come to each of ``rungs`` rungs: n, floor(n / eta), ...

    >>> list(halvings(34, 3, 4))
    [34, 11, 3, 1]
    """
    for _ in range(rungs):
        yield n
        n = math.floor(n / eta)


def ordinal(n: int) -> str:
    """Write a place.

    >>> ordinal(1), ordinal(12), ordinal(23)
    ('1st', '12th', '23rd')
    """
    teen = 10 <= n % 100 <= 20
    return f"{n}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def queued(history: History, number: int) -> bool:
    """Whether a trial was added by the user and has not begun: it takes the plan of the next start."""
    return history.state(number) == WAITING and history.plan(number).until <= 0


def budget_reached(problem: Problem, history: History) -> bool:
    """Whether the study may start no further trial; trials that are queued have not been started."""
    limit = problem.budget_trials
    if limit is None or len(history) < limit:
        return False
    return len(history) - sum(queued(history, n) for n in history.numbers(WAITING)) >= limit


def settle(history: History, why: str, awaiting: str) -> Action:
    """Answer when there is nothing to start and nothing to promote: wait, or be done."""
    if history.count(RUNNING):
        return Wait(awaiting)
    for number in history.numbers(WAITING):
        if not queued(history, number):
            return Resume(number, history.plan(number), "its worker was lost: taken up again")
    return Done(why)


class Place(NamedTuple):
    """The best trial of a rung that waits there for a promotion."""

    number: int
    rank: int  # 0 is the best
    of: int  # how many have arrived, failed ones included


def promote(place: Place, bracket: int, here: float, there: float, best: int) -> Resume:
    """Send a trial to the next rung, with the reason."""
    among = "the best" if best == 1 else f"among the best {best}"
    return Resume(
        place.number,
        Plan(there, bracket),
        f"{ordinal(place.rank + 1)} of {place.of} at step {here:g}: {among}, promoted to {there:g}",
    )


class _Table:
    """One rung of one bracket."""

    __slots__ = ("free", "known", "order")

    def __init__(self) -> None:
        self.order: list[tuple[float, int]] = []  # (loss, number) of all arrived, best first
        self.known: dict[int, float] = {}
        self.free: list[tuple[float, int]] = []  # heap of those that were seen paused here

    def put(self, number: int, loss: float) -> None:
        old = self.known.get(number)
        if old == loss:
            return
        if old is not None:
            del self.order[bisect_left(self.order, (old, number))]
        self.known[number] = loss
        insort(self.order, (loss, number))


class Standing:
    """The sorted tables of all rungs (steps of one ladder) of all brackets.

    Following k new events costs O(k * rungs * log n) comparisons (plus shifting pointers of a sorted
    list), and the best paused trial of a rung is found in O(log n), whatever the number n of trials.
    """

    def __init__(self, ladder: tuple[float, ...]) -> None:
        self.ladder = ladder
        self.started: dict[int, int] = {}  # bracket -> trials begun
        self.begun = 0  # trials begun in all
        self.open: set[int] = set()  # brackets that may still have something to do
        self.last = -1  # the highest bracket begun
        self._tables: dict[tuple[int, int], _Table] = {}
        self._seen = 0
        self._queued: list[int] = []
        self._settled = 0
        self._reached = [0] * len(ladder)

    @classmethod
    def of(cls, history: History, ladder: tuple[float, ...]) -> Standing:
        """Return the tables of a history, brought up to date."""
        memo = _MEMO.setdefault(history, {})
        if ladder not in memo:
            memo[ladder] = cls(ladder)
        standing = memo[ladder]
        standing._follow(history)
        return standing

    def first(self, history: History, bracket: int, k: int) -> Place | None:
        """Return the best trial that is paused at rung ``k`` with a finite loss, if there is one."""
        table = self._tables.get((bracket, k))
        while table is not None and table.free:
            loss, number = table.free[0]
            if (
                history.state(number) == PAUSED
                and history.plan(number).until < self.ladder[k + 1]
                and table.known.get(number) == loss
            ):
                return Place(number, bisect_left(table.order, (loss, number)), len(table.order))
            heapq.heappop(table.free)  # it went on; should it pause here again, it is pushed again
        return None

    def arrived(self, bracket: int, k: int) -> int:
        """Count the trials that have arrived at rung ``k``, failed ones included."""
        table = self._tables.get((bracket, k))
        return len(table.order) if table else 0

    def _follow(self, history: History) -> None:
        fresh_numbers = [*self._queued, *range(self._seen, len(history))]
        self._seen, self._queued = len(history), []
        for number in fresh_numbers:
            if queued(history, number):
                self._queued.append(number)
                continue
            bracket = history.plan(number).bracket
            self.started[bracket] = self.started.get(bracket, 0) + 1
            self.begun += 1
            self.open.add(bracket)
            self.last = max(self.last, bracket)
        for k, step in enumerate(self.ladder):
            reached = cast(dict[int, float], history.rung(step))
            fresh = len(reached) - self._reached[k]
            self._reached[k] = len(reached)
            # a rung's mapping only grows, at its end
            for number, loss in itertools.islice(reversed(reached.items()), fresh):
                self._table(history.plan(number).bracket, k).put(number, loss)
        for number in history.settled[self._settled :]:
            self._place(history, number)
        self._settled = len(history.settled)

    def _table(self, bracket: int, k: int) -> _Table:
        return self._tables.setdefault((bracket, k), _Table())

    def _place(self, history: History, number: int) -> None:
        """Enter a trial that has settled, in every rung that it was sent to."""
        state, plan = history.state(number), history.plan(number)
        awaited = state in (RUNNING, WAITING)
        self.open.add(plan.bracket)
        place, loss = -1, math.inf
        for k, step in enumerate(self.ladder):
            known = history.rung(step).get(number)
            if known is None and (step >= plan.until if awaited else step > plan.until):
                break
            place, loss = k, math.inf if known is None else known
            self._table(plan.bracket, k).put(number, loss)
        if place < 0:
            return
        if state == FAILED:
            self._table(plan.bracket, place).put(number, math.inf)
        elif state == PAUSED and loss < math.inf and place + 1 < len(self.ladder):
            heapq.heappush(self._table(plan.bracket, place).free, (loss, number))
