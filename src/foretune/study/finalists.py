"""Finalists: the best configs of a study raced on further seeds, until it is clear which one is best.

The seeds of the race are test seeds: no trial of the search has run on them, and all finalists run on the
same ones, so that what a seed does to everybody cancels in their differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from foretune.base import check
from foretune.base.codec import plain
from foretune.base.errors import StudyError
from foretune.numeric.replicates import detectable, pooled, shrunk, two_way_residual
from foretune.numeric.stats import student_cdf
from foretune.search.distinct import signature
from foretune.study.judged import alone, judged
from foretune.study.queued import Queued
from foretune.study.significance import LEVEL, POWER, interval, ranked
from foretune.study.study import WHOLE_RUN, Study
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.trial import COMPLETE, FAILED

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SUFFIX", "Finalist", "Finalists", "race", "raced"]

SUFFIX = ".finalists"  # the race is a study of its own in the same store: <name>.finalists

Advance = Callable[[Study], Any]


@dataclass(frozen=True, slots=True)
class Finalist:
    """One config of the race.

    Attributes:
        number: its trial in the search.
        config: the choices.
        tuned: its value in the search, on which it was chosen.
        mean: mean of its values on the race's seeds; ``sem`` its standard error, ``n`` how many seeds.
        best: probability that it is the best of those that raced.
        out: why it was dropped, or "".
    """

    number: int
    config: Mapping[str, Any]
    tuned: float
    mean: float
    sem: float
    n: int
    best: float
    out: str = ""


@dataclass(frozen=True, slots=True)
class Finalists:
    """What a race showed.

    Attributes:
        rows: the finalists, best first.
        noise: standard deviation of one run from seed to seed; ``dof`` its degrees of freedom.
        value: the winner's mean, corrected for its having been the best of the race; ``low`` to ``high``
            is its 90 % interval.
        optimism: by how much the search had flattered the winner: positive, too good; ``optimism_sem``
            the error of that number, which the search's single run dominates.
        detectable: the smallest difference between two finalists that the race could have seen.
        runs: how many trainings it took.
        judged: by which goal, where there are several; "" where there is one.
    """

    metric: str
    rows: tuple[Finalist, ...]
    noise: float
    dof: int
    value: float
    low: float
    high: float
    optimism: float
    optimism_sem: float
    detectable: float
    runs: int
    judged: str = ""

    @property
    def winner(self) -> Finalist:
        """The finalist with the best mean."""
        return self.rows[0]

    def __str__(self) -> str:
        lines = [
            f"trial {r.number}: {self.metric} {r.mean:.6g} +- {r.sem:.2g} (n = {r.n}), in the search {r.tuned:.6g}; "
            f"P(best) {r.best:.2f}{'; ' + r.out if r.out else ''}"
            for r in self.rows
        ]
        lines.append(
            f"Winner trial {self.winner.number}: {self.value:.6g} after correction (90 % interval {self.low:.6g} to "
            f"{self.high:.6g}); the search had flattered it by {self.optimism:.3g} +- {self.optimism_sem:.2g}."
        )
        lines.append(
            f"Noise of one run {self.noise:.3g} ({self.dof} degrees of freedom); {self.runs} runs; differences "
            f"below {self.detectable:.2g} could not be seen."
        )
        if self.judged:
            lines.insert(len(self.rows), f"{self.judged.capitalize()}.")
        return "\n".join(lines)


def raced(study: Study) -> Study | None:
    """Return the race that a study has had, or None."""
    name = study.name + SUFFIX
    if name not in study.store.studies():
        return None
    return Study(store=study.store, name=name, sampler=Queued(), clock=study.clock)


def race(
    study: Study, advance: Advance, *, k: int = 5, seeds: int = 10, least: int = 3, level: float = LEVEL,
    about: Mapping[str, Any] | None = None, goal: Union[str, Goal, None] = None,
) -> Finalists:  # fmt: skip
    """Race the ``k`` most promising configs of a study on up to ``seeds`` further seeds.

    Each round trains every config that is left on one more seed, the same for all. From ``least`` rounds
    on, who is worse than the leader with probability 1 - level / (looks * (configs left - 1)) drops out, where
    looks = seeds - least + 1: so the level holds for the whole race. The race ends when one is left. One that
    was interrupted, or is asked for more seeds, goes on.

    Args:
        advance: trains what is queued in the study that it is given.
        about: as for :class:`Study`.
        goal: the goal that they are chosen and judged by, of several; the first unless given.

    Raises:
        StudyError: the study has no result to race.
        ArgumentError: the study has no such goal.
    """
    check.integer("k", k, 1)
    check.integer("seeds", seeds, 1)
    check.integer("least", least, 2)
    check.number("level", level, 0.0, 0.5, open_low=True)
    search = judged(study, goal)
    numbers = ranked(search, k)
    if not numbers:
        raise StudyError(f"The study {study.name!r} has no complete result yet: there are no finalists.")
    held = raced(study)
    if held is None:
        problem = study.problem
        data = {"finalists_of": study.name, **(about or {})}
        budget = {"trials": len(numbers) * seeds}
        held = Study(
            problem.space, list(problem.goals), sampler=Queued(), scheduler="full",
            steps=None if problem.steps.unit == WHOLE_RUN else problem.steps,
            store=study.store, name=study.name + SUFFIX, budget=budget, seed=study.seed, clock=study.clock,
            about=data, constraints=list(problem.constraints) or None,
        )  # fmt: skip
    marks = {i: signature(search[i].config) for i in numbers}
    out: dict[int, str] = {}
    for seed in range(seeds):
        left = [i for i in numbers if i not in out]
        _queue(held, {i: search[i].config for i in left}, marks, seed)
        advance(held)
        values = _values(judged(held, goal), marks)
        out |= _dropped(values, left, seed + 1, least, level / max(1, seeds - least + 1))
        if len(numbers) - len(out) <= 1 and seed + 1 >= (least if len(numbers) > 1 else seeds):
            break
    return _concluded(study.name, search, judged(held, goal), numbers, marks, out)


def _queue(held: Study, configs: Mapping[int, Any], marks: Mapping[int, Any], seed: int) -> None:
    known = {(signature(t.config), t.notes.get("seed")) for t in held.history}
    missing = [i for i in configs if (marks[i], seed) not in known]
    room = len(held.history) + len(missing)
    if missing and held.budget.trials is not None and held.budget.trials < room:
        held.extend({"trials": room})
    for i in missing:
        held.add(configs[i], f"trial {i} of the search on test seed {seed}", seed=seed)


def _values(history: History, marks: Mapping[int, Any]) -> dict[int, dict[int, float]]:
    """Return trial of the search -> seed -> loss; +inf where the run failed."""
    number = {mark: i for i, mark in marks.items()}
    found: dict[int, dict[int, float]] = {i: {} for i in marks}
    for trial in history:
        i = number.get(signature(trial.config))
        if i is not None and trial.state in (COMPLETE, FAILED) and "seed" in trial.notes:
            found[i][trial.notes["seed"]] = history.loss(trial.number)
    return found


def _table(values: Mapping[int, Mapping[int, float]], who: Sequence[int]) -> NDArray[np.float64]:
    """Return the losses on the seeds that all of ``who`` have run on: (configs, seeds)."""
    common = sorted(set.intersection(*(set(values[i]) for i in who))) if who else []
    return np.array([[values[i][s] for s in common] for i in who], dtype=float).reshape(len(who), len(common))


def _dropped(
    values: Mapping[int, Mapping[int, float]], left: Sequence[int], rounds: int, least: int, level: float
) -> dict[int, str]:
    gone = {
        i: "a run of it failed or diverged"
        for i in left
        if any(not math.isfinite(v) for v in values[i].values())
    }
    sound = [i for i in left if i not in gone]
    if not sound:
        return gone if len(gone) < len(left) else {}
    if rounds < least or len(sound) < 2:
        return gone
    table = _table(values, sound)
    if table.shape[1] < 2:
        return gone
    sd, dof = two_way_residual(table)
    means = table.mean(axis=1)
    leader = int(np.argmin(means))
    sem = sd * math.sqrt(2.0 / table.shape[1])
    for j, i in enumerate(sound):
        gap = float(means[j] - means[leader])
        p = student_cdf(-gap / sem, dof) if sem > 0 else (0.5 if gap == 0.0 else 0.0)
        if j != leader and p < level / (len(sound) - 1):
            gone[i] = (
                f"after {table.shape[1]} seeds better than trial {sound[leader]} with probability {p:.3f}"
            )
    return gone


def _concluded(
    name: str, search: History, history: History, numbers: Sequence[int], marks: Mapping[int, Any],
    out: Mapping[int, str],
) -> Finalists:  # fmt: skip
    values = _values(history, marks)
    sign = search.problem.goal.sign
    sound = [i for i in numbers if values[i] and all(math.isfinite(v) for v in values[i].values())]
    runs = sum(len(v) for v in values.values())
    if not sound:
        raise StudyError(
            f"No finalist of {name!r} ended all of its {runs} runs; the last failure: "
            f"{next((t.failure for t in reversed(history) if t.failure), 'they diverged')}"
        )
    sd, dof = pooled([list(values[i].values()) for i in sound])
    left = [i for i in sound if i not in out] or sound
    raw = {i: float(np.mean(list(values[i].values()))) for i in sound}
    leader = min(left, key=lambda i: (raw[i], i))
    # Who dropped out early has run on fewer seeds: what counts is the difference from the leader on these.
    means = {i: raw[leader] + _gap(values[i], values[leader]) for i in sound}
    order = [leader, *sorted((i for i in sound if i != leader), key=lambda i: (i in out, means[i], i))]
    sems = {i: sd / math.sqrt(len(values[i])) if dof else math.nan for i in sound}
    rest, rest_dof = two_way_residual(_table(values, order)) if len(order) > 1 else (math.nan, 0)
    own = rest if rest_dof else sd  # what the seeds do to everybody cancels in differences
    best = _chances(history, order, means, {i: own / math.sqrt(len(values[i])) for i in sound})
    value = means[leader]
    if dof and len(order) > 2 and own > 0:
        value = float(shrunk([means[i] for i in order], [own**2 / len(values[i]) for i in order])[0][0])
    low, high = sorted(sign * v for v in interval(value, sems[leader], dof)) if dof else (math.nan, math.nan)
    seen = len(values[leader])
    rows = [
        Finalist(
            i,
            search[i].config,
            sign * search.loss(i),
            sign * means[i],
            sems[i],
            len(values[i]),
            best[i],
            out.get(i, ""),
        )
        for i in order
    ] + [
        Finalist(
            i,
            search[i].config,
            sign * search.loss(i),
            math.nan,
            math.nan,
            len(values[i]),
            0.0,
            out.get(i, "no run of it ended"),
        )
        for i in numbers
        if i not in sound
    ]
    return Finalists(
        metric=search.problem.goal.metric,
        rows=tuple(rows),
        noise=sd,
        dof=dof,
        value=sign * value,
        low=low,
        high=high,
        optimism=value - search.loss(leader),
        optimism_sem=math.hypot(sd, sems[leader]) if dof else math.nan,
        detectable=detectable(own * math.sqrt(2.0 / seen), max(rest_dof or dof, 1), LEVEL, POWER)
        if dof
        else math.nan,
        runs=runs,
        judged=alone(search),
    )


def _gap(ours: Mapping[int, float], leader: Mapping[int, float]) -> float:
    """Return the mean difference from the leader on the seeds that both have run on."""
    common = [s for s in ours if s in leader]
    return math.fsum(ours[s] - leader[s] for s in common) / max(1, len(common))


def _chances(
    history: History, order: Sequence[int], means: Mapping[int, float], sems: Mapping[int, float]
) -> dict[int, float]:
    """Estimate for each the probability that it is the best, by draws from the normal posteriors."""
    if len(order) == 1 or any(s != s for s in sems.values()):
        return {i: 1.0 / len(order) for i in order}
    rng = history.problem.key.fold("chances").generator()
    middle, spread = np.array([means[i] for i in order]), np.array([sems[i] for i in order])
    draws = middle + spread * rng.standard_normal((4000, len(order)))
    share = np.bincount(np.argmin(draws, axis=1), minlength=len(order)) / len(draws)
    return {i: float(share[j]) for j, i in enumerate(order)}


def as_json(found: Finalists) -> dict[str, Any]:
    """Return a race's outcome as JSON values."""
    body = plain(found)
    assert isinstance(body, dict)  # a dataclass is written as a mapping
    return body
