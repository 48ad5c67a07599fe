"""Population based training: a population trains side by side; the worst go on from the best, a little changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np

from foretune.base import check
from foretune.base.errors import ArgumentError, unknown_name
from foretune.base.key import Key
from foretune.schedule.scheduler import Action, Resume, Rung, Scheduler, Start
from foretune.schedule.standing import budget_reached, ordinal, queued, settle
from foretune.space.domain import Float, Int
from foretune.space.space import Space
from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.trial import FAILED, PAUSED, RUNNING, WAITING, Plan

__entry__ = "PopulationBasedTraining"

POPULATION = 20  # without a budget of trials
INTERVALS = 10  # parts that a full trial is cut into, unless ``interval`` says otherwise
VAIN = 3  # children in a row that may fail before any report until a place has no more of them
TRIES = 20  # draws until a child differs from its parent


def explore(
    space: Space, parent: Mapping[str, Any], factor: float, resample: float, fixed: Sequence[str],
    rng: np.random.Generator,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Change a config: each number is multiplied by ``factor`` or its inverse, or anything is drawn anew.

    Returns:
        The config, and in words what has changed.
    """
    config: dict[str, Any] = dict(parent)
    for _ in range(TRIES):
        row = space.encode([parent])[0]
        row = np.where(np.isnan(row), rng.random(row.shape), row)
        for name, value in parent.items():
            up, anew, drawn = rng.random() < 0.5, rng.random() < resample, rng.random(space[name].width)
            domain, columns = space[name], space.columns[name]
            if name in fixed:
                continue
            if anew:
                row[columns] = drawn
            elif isinstance(domain, (Float, Int)):
                moved = value * (factor if up else 1.0 / factor)
                if isinstance(domain, Int):
                    moved = math.ceil(moved) if moved > value else math.floor(moved)
                row[columns] = domain.encode(min(max(moved, domain.low), domain.high))
        config = dict(space.decode(row[None])[0])
        if config != parent:
            break
    changed = [
        f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
        for k, v in config.items()
        if k not in parent or v != parent[k]
    ]
    return config, ", ".join(changed[:4]) + (", ..." if len(changed) > 4 else "") or "the same config"


def _after(times: Sequence[float], step: float) -> float:
    """Return the first of the times after a step."""
    return next(t for t in times if t > step)


@final
@dataclass(frozen=True)
class PopulationBasedTraining(Scheduler):
    """Hyperparameters that change while training goes on: schedules are found, not only values.

    A population is trained for ``interval`` steps. Then the worst part of it is left behind, and each of
    these is replaced by a new trial that goes on from the whole state of one of the best (exploit:
    ``Plan.continues``; its checkpoint is handed over, an optimizer keeps the settings of the child's config)
    with a changed config (explore). So it goes on until ``steps.high``. A trial's full story is that of its
    ancestors, by ``plan.continues``. The training function must hand what it trains to ``run.track``, and
    begin at ``run.start``. Parameters that decide the shape of the model belong into ``fixed``.

    Failed and diverged members are replaced beyond that part. ``Plan.bracket`` is the interval at which a
    trial was born. With a budget of trials the population is as large as the replacements leave room for,
    and half of the budget at least; when the budget is used up, the members train on without replacements.

    With ``wait=False`` nobody waits: a member that comes to the end of an interval is compared with the latest
    losses of all others, wherever they are, and gives way if it is in the worst part, to a child of one of the best;
    which may be training, and lends its last checkpoint. Free workers take the member that is furthest behind.
    Then ``Plan.bracket`` is the member's place in the population, which its successors take over. Right where
    trials take different times and there are as many workers as members; the result then depends on who is faster.

    Args:
        population: members; None: as many as the budget of trials allows, else 20.
        interval: steps between two comparisons; None: a tenth of ``steps.high``.
        quantile: part that is replaced, and part from which parents are drawn, in (0, 0.5].
        factor: what a number is multiplied by, or divided by.
        resample: probability that a parameter is drawn anew from the space instead.
        fixed: names of parameters that a child has from its parent unchanged.
        wait: whether all members are compared together, at the end of each interval; else each by itself.

    Source: Population Based Training of Neural Networks | truncation selection, perturb and resample; Algorithm 1
        with ``wait=False``

    Differs:
        1. Members wait for each other at each interval unless ``wait=False``, so that the result does not depend
           on whose machine is faster.
        2. Division by 1.2 stands for the paper's 0.8, so that log-scaled parameters do not drift downwards.

    >>> from foretune.space import Fidelity, Space
    >>> plan = PopulationBasedTraining(population=10, interval=10).plan(Problem(Space({}), steps=Fidelity(30)))
    >>> [(r.bracket, r.step, r.trials) for r in plan if r.bracket < 2]
    [(0, 10, 10), (0, 20, 8), (0, 30, 6), (1, 20, 2), (1, 30, 1)]
    """

    population: int | None = None
    interval: float | None = None
    quantile: float = 0.2
    factor: float = 1.2
    resample: float = 0.25
    fixed: tuple[str, ...] = ()
    wait: bool = True

    tags: ClassVar[frozenset[str]] = frozenset({"multi-fidelity"})

    def __post_init__(self) -> None:
        if self.population is not None:
            check.integer("population", self.population, 1)
        if self.interval is not None:
            check.number("interval", self.interval, 0, open_low=True)
        check.number("quantile", self.quantile, 0, 0.5, open_low=True)
        check.number("factor", self.factor, 1, open_low=True)
        check.number("resample", self.resample, 0, 1)
        check.flag("wait", self.wait)
        if isinstance(self.fixed, str) or not all(isinstance(n, str) for n in self.fixed):
            raise ArgumentError(f"fixed must be a tuple of parameter names; got {self.fixed!r}.")

    @property
    def ends(self) -> bool:
        return True

    def holding(self, names: Sequence[str]) -> PopulationBasedTraining:
        return replace(self, fixed=tuple(dict.fromkeys((*self.fixed, *names))))

    def times(self, problem: Problem) -> tuple[float, ...]:
        """Return the steps at which members are compared; the last is ``steps.high``."""
        high = problem.steps.high
        wide = self.interval if self.interval is not None else max(high / INTERVALS, problem.steps.low)
        if float(high).is_integer() and self.interval is None:
            wide = max(1, round(wide))
        count = max(1, math.ceil(high / wide - 1e-9))
        return (*(g * wide for g in range(1, count)), high)

    def _few(self, n: int) -> int:
        """How many of ``n`` members are replaced."""
        return max(1, math.floor(self.quantile * n)) if n > 1 else 0

    def _size(self, intervals: int, limit: int | None) -> int:
        if limit is None:
            return self.population or POPULATION
        if self.population is not None:
            return min(self.population, limit)
        size, least = limit, max(1, math.ceil(limit / 2))
        while size > least and size + (intervals - 1) * self._few(size) > limit:
            size -= 1
        return max(1, size)

    def next(self, problem: Problem, history: History, key: Key) -> Action:
        for name in self.fixed:
            if name not in problem.space:
                raise unknown_name("parameter", name, problem.space)
        times = self.times(problem)
        size = self._size(len(times), problem.budget_trials)
        if not self.wait:
            return self._at_once(problem, history, times, size)
        born: dict[int, list[int]] = {}
        for number in range(len(history)):
            if not queued(history, number):
                born.setdefault(history.plan(number).bracket, []).append(number)
        first = len(born.get(0, ()))
        if first < size and not budget_reached(problem, history):
            return Start(Plan(times[0]), f"member {first + 1} of {size}, to step {times[0]:g}")
        for g in range(1, len(times)):
            here, there = times[g - 1], times[g]
            field = [
                n for b, numbers in born.items() if b < g for n in numbers if history.plan(n).until >= here
            ]
            if any(history.plan(n).until == here and history.state(n) in (RUNNING, WAITING) for n in field):
                return settle(
                    history, "members are missing", f"members are compared when all are at step {here:g}"
                )
            loss = {n: self._loss(history, n, here) for n in field}
            good = sorted((n for n in field if loss[n] < math.inf), key=lambda n: (loss[n], n))
            bad = sorted(n for n in field if loss[n] == math.inf)
            if not good:
                return settle(
                    history, f"no member has a finite loss at step {here:g}", "the last are running"
                )
            before = sum(len(numbers) for b, numbers in born.items() if b < g)
            limit = problem.budget_trials
            room = len(field) if limit is None else limit - before
            replaced = min(max(self._few(len(field)), len(bad)), len(field) - 1, room)
            done = len(born.get(g, ()))
            if done < replaced and not budget_reached(problem, history):
                rng = problem.key.fold("pbt", g, done).generator()
                place = int(rng.integers(max(1, min(self._few(len(field)), len(good)))))
                parent = good[place]
                config, words = explore(
                    problem.space, history[parent].config, self.factor, self.resample, self.fixed, rng
                )
                loser = [*good, *bad][len(field) - 1 - done]
                why = (
                    f"trial {loser} gives way to a child of trial {parent}, {ordinal(place + 1)} of {len(field)} at "
                    f"step {here:g}: {words}"
                )
                return Start(Plan(there, g, continues=parent), why, config)
            for rank, n in enumerate([*good, *bad][: len(field) - replaced]):
                plan = history.plan(n)
                if plan.until == here and history.state(n) == PAUSED and loss[n] < math.inf:
                    return Resume(
                        n, plan._replace(until=there),
                        f"{ordinal(rank + 1)} of {len(field)} at step {here:g}: trains on to {there:g}",
                    )  # fmt: skip
        return settle(
            history,
            f"the population has been trained to step {times[-1]:g}",
            "the last members are running",
        )

    def _at_once(self, problem: Problem, history: History, times: Sequence[float], size: int) -> Action:
        """Send the member on that is furthest behind of those that are ready, or put a child in its place."""
        member: dict[int, int] = {}  # place in the population -> the trial that has it now
        vain: dict[int, int] = {}  # place -> how many in a row have failed there before any report
        for number in range(len(history)):
            if queued(history, number):
                continue
            place = history.plan(number).bracket
            mute = history.state(number) == FAILED and not history.curve(number)[0]
            vain[place] = vain.get(place, 0) + 1 if mute else 0
            if not mute or place not in member:  # else whoever gave way to it has the place again
                member[place] = number
        more = not budget_reached(problem, history)
        if len(member) < size and more:
            place = len(member)
            return Start(Plan(times[0], place), f"member {place + 1} of {size}, to step {times[0]:g}")
        latest = {n: self._latest(history, n, times) for n in member.values()}
        known = sorted((n for n in latest if latest[n] == latest[n]), key=lambda n: (latest[n], n))
        few = self._few(len(known))
        parents = [
            n
            for n in known[:few]
            if latest[n] < math.inf and history.state(n) != FAILED and history.plan(n).until < times[-1]
        ]
        ready = [n for n in member.values() if history.state(n) in (PAUSED, FAILED) and n in known]
        for n in sorted(ready, key=lambda n: (history.plan(n).until, n)):
            plan, rank = history.plan(n), known.index(n)
            if plan.until >= times[-1] and history.state(n) == PAUSED:
                continue  # the study has been made shorter
            others = [m for m in parents if m != n]
            worst = rank >= len(known) - few or latest[n] == math.inf
            if worst and others and more and vain[plan.bracket] < VAIN:
                rng = problem.key.fold("pbt", len(history)).generator()
                parent = others[int(rng.integers(len(others)))]
                config, words = explore(
                    problem.space, history[parent].config, self.factor, self.resample, self.fixed, rng
                )
                there = _after(times, history.plan(parent).until)
                why = (
                    f"trial {n}, {ordinal(rank + 1)} of {len(known)} at step {plan.until:g}, gives way to a child of "
                    f"trial {parent}, {ordinal(known.index(parent) + 1)}: {words}"
                )
                return Start(Plan(there, plan.bracket, continues=parent), why, config)
            if latest[n] < math.inf and history.state(n) == PAUSED:
                there = _after(times, plan.until)
                why = f"{ordinal(rank + 1)} of {len(known)} by their latest losses: trains on to {there:g}"
                return Resume(n, plan._replace(until=there), why)
        return settle(
            history,
            f"the population has been trained to step {times[-1]:g}",
            "a member is compared when it comes to the end of an interval",
        )

    @staticmethod
    def _latest(history: History, number: int, times: Sequence[float]) -> float:
        """Return a trial's loss at the last comparison that it has come to; NaN before the first, +inf: it has none."""
        state, until = history.state(number), history.plan(number).until
        if state == FAILED:
            return math.inf
        found = [loss for t in times if (loss := history.rung(t).get(number)) is not None]
        if state in (RUNNING, WAITING):
            return found[-1] if found else math.nan
        return history.rung(until).get(number, math.inf)

    @staticmethod
    def _loss(history: History, number: int, step: float) -> float:
        if history.state(number) == FAILED and history.plan(number).until <= step:
            return math.inf
        return history.rung(step).get(number, math.inf)

    def plan(self, problem: Problem, trials: int | None = None) -> Sequence[Rung]:
        times = self.times(problem)
        limit = trials if trials is not None else problem.budget_trials
        size = self._size(len(times), limit)
        if (
            not self.wait
        ):  # how many give way is not known before; whoever has a place, it is trained to the end
            ways = zip(times, (0.0, *times[:-1]), strict=True)
            return tuple(Rung(0, t, size, size * (t - before)) for t, before in ways)
        left = math.inf if limit is None else limit - size
        alive: list[tuple[int, float]] = [(0, float(size))]  # (born at, how many are expected to live)
        found: list[list[Rung]] = [[Rung(0, times[0], size, size * times[0])]]
        for g in range(1, len(times)):
            replaced = int(min(self._few(size), left))
            left -= replaced
            alive = [(b, n * (1 - replaced / size)) for b, n in alive]
            for b, n in alive:
                if not found[b]:
                    continue
                count = math.floor(n + 1e-9)
                found[b].append(Rung(b, times[g], count, count * (times[g] - times[g - 1])))
            alive.append((g, float(replaced)))
            found.append([Rung(g, times[g], replaced, replaced * times[g])] if replaced else [])
        return tuple(r for rungs in found for r in rungs)
