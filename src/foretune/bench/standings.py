"""Who is ahead: ranks over tasks, critical difference, bootstrap over tasks and seeds.

Notation: k contestants, N tasks, S seeds; r[i, s, j] is the rank of contestant j among the k on task i under seed s
(1 the best, ties share), R_j its mean over seeds, then over tasks.

    Friedman   chi2 = 12 N / (k (k + 1)) (sum_j R_j^2 - k (k + 1)^2 / 4), on k - 1 degrees of freedom
    Nemenyi    CD = q sqrt(k (k + 1) / (6 N)), q the upper 5 % point of the studentised range over sqrt(2)

Both take tasks as blocks, with one rank each; the mean over seeds has less spread than one rank, so both err on the
side of caution here.

Source: Statistical Comparisons of Classifiers over Multiple Data Sets
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.bench.record import Run
from foretune.numeric.stats import ranks

__all__ = [
    "Cube",
    "Standings",
    "ahead",
    "cube",
    "friedman",
    "is_peer",
    "losing_tasks",
    "nemenyi",
    "rank_rows",
    "standings",
]

Array = NDArray[np.float64]

FEWEST = 5  # tasks that a bootstrap over tasks needs
DRAWS = 2000  # bootstrap resamples: the least p-value told is 1 / (DRAWS + 1)


@final
@dataclass(frozen=True)
class Cube:
    """Regrets of whole rows: those (task, seed) pairs which every contestant has run.

    Attributes:
        contestants: (k,) names.
        rows: (n,) pairs of task and seed.
        regret: (n, k) normalised regrets.
        set_aside: contestant -> how many of its runs are in no whole row, or why it takes no part.
    """

    contestants: tuple[str, ...]
    rows: tuple[tuple[str, int], ...]
    regret: Array
    set_aside: Mapping[str, str]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(dict.fromkeys(t for t, _ in self.rows))


@final
@dataclass(frozen=True)
class Standings:
    """The verdict of a race at one place.

    Attributes:
        contestants: best average rank first.
        rank: average rank of each.
        error: its standard error over tasks.
        rank_of_means: average rank where each task ranks the means over its seeds: large regrets count more.
        regret: mean normalised regret of each (mean over seeds, then tasks).
        tasks: how many tasks.
        runs: how many (task, seed) pairs.
        difference: critical difference of average ranks (Nemenyi, 5 %).
        p_equal: Friedman's p-value of no difference at all.
    """

    contestants: tuple[str, ...]
    rank: tuple[float, ...]
    error: tuple[float, ...]
    rank_of_means: tuple[float, ...]
    regret: tuple[float, ...]
    tasks: int
    runs: int
    difference: float
    p_equal: float


def cube(runs: Sequence[Run], place: float | str, need: float = 0.5, named: bool = False) -> Cube:
    """Take the regrets at a place from runs, whole rows only.

    Args:
        runs: of any number of contestants, of one axis.
        place: trials or seconds; or "anytime": the mean of the regret over all places up to the least length.
        need: contestants with less than this share of the most runs are set aside, and named.
        named: whether the config counts that each method itself names as its best (noisy races).
    """
    good = [
        r
        for r in runs
        if not r.error and (r.named or not named) and (place == "anytime" or r.length >= float(place))
    ]
    by: dict[str, dict[tuple[str, int], Run]] = {}
    for run in good:
        by.setdefault(run.contestant, {})[(run.task, run.seed)] = run
    if not by:
        raise ArgumentError(
            f"There is no run that reaches {place!r}: race longer, or ask for an earlier place."
        )
    most = max(len(v) for v in by.values())
    aside = {c: f"{len(v)} runs of {most}" for c, v in by.items() if len(v) < need * most}
    names = tuple(sorted(c for c in by if c not in aside))
    shared = set.intersection(*(set(by[c]) for c in names))
    rows = tuple(sorted(shared))
    if not rows:
        raise ArgumentError(f"No task and seed was run by all of {', '.join(names)}: name fewer of them.")
    regret = np.array([[_at(by[c][row], place, named) for c in names] for row in rows])
    return Cube(names, rows, regret, aside)


def _at(run: Run, place: float | str, named: bool) -> float:
    if place != "anytime":
        return run.regret(float(place), named)
    return float(np.mean([run.regret(t) for t in np.linspace(run.length / 50.0, run.length, 50)]))


def _by_task(found: Cube, values: Array) -> Array:
    """Average (n, k) rows over seeds: (N, k)."""
    names = np.array([t for t, _ in found.rows])
    return np.stack([values[names == t].mean(axis=0) for t in found.tasks])


def rank_rows(regret: Array) -> Array:
    """Rank each row; losses closer than 1e-9 tie."""
    return np.stack([ranks(np.round(row, 9)) for row in regret])


def friedman(mean_ranks: Array, blocks: int) -> float:
    """Return the p-value of Friedman's test that all contestants are equal.

    Args:
        mean_ranks: (k,) average ranks.
        blocks: how many tasks they are averages over.
    """
    k = len(mean_ranks)
    if k < 2 or blocks < 2:
        return math.nan
    statistic = 12.0 * blocks / (k * (k + 1)) * (float((mean_ranks**2).sum()) - k * (k + 1) ** 2 / 4.0)
    return float(require("scipy.stats", "Friedman's test").chi2.sf(max(statistic, 0.0), k - 1))


def nemenyi(k: int, blocks: int, alpha: float = 0.05) -> float:
    """Return the critical difference of average ranks: two that are closer may be equal.

    >>> round(nemenyi(4, 14), 3)
    1.254
    """
    return (
        _studentised(k, alpha) / math.sqrt(2.0) * math.sqrt(k * (k + 1) / (6.0 * blocks))
        if k > 1
        else math.nan
    )


@functools.cache  # an integral of an integral: a second each
def _studentised(k: int, alpha: float) -> float:
    return float(
        require("scipy.stats", "The critical difference").studentized_range.ppf(1.0 - alpha, k, math.inf)
    )


def standings(found: Cube) -> Standings:
    """Rank the contestants of a cube."""
    by_task = _by_task(found, rank_rows(found.regret))
    mean = by_task.mean(axis=0)
    blocks, k = by_task.shape
    spread = by_task.std(axis=0, ddof=1) / math.sqrt(blocks) if blocks > 1 else np.full(k, math.nan)
    means = _by_task(found, found.regret)
    regret, of_means = means.mean(axis=0), rank_rows(means).mean(axis=0)
    order = np.argsort(mean, kind="stable")
    return Standings(
        tuple(found.contestants[i] for i in order), tuple(float(mean[i]) for i in order),
        tuple(float(spread[i]) for i in order), tuple(float(of_means[i]) for i in order),
        tuple(float(regret[i]) for i in order), blocks,
        len(found.rows), nemenyi(k, blocks), friedman(mean, blocks),
    )  # fmt: skip


def ahead(found: Cube, ours: str, key: Key, draws: int = DRAWS) -> dict[str, float]:
    """Return, for each other contestant, the one-sided p-value of "ours has the better average rank".

    Tasks are drawn with replacement, and within each its seeds (a cluster bootstrap: seeds of one task are no
    independent evidence on other tasks). p = (1 + number of draws in which ours is not ahead) / (1 + draws).
    Empty with fewer than five tasks: too few to resample. The entry "best peer" takes the best of the peers (named
    package.method; all others where there are none) anew in each draw, so that it pays for having been chosen.
    """
    if ours not in found.contestants:
        raise ArgumentError(f"{ours!r} is none of the contestants: {', '.join(found.contestants)}.")
    if len(found.tasks) < FEWEST:
        return {}
    by_row = rank_rows(found.regret)
    names = np.array([t for t, _ in found.rows])
    groups = [by_row[names == t] for t in found.tasks]
    rng = key.fold("ahead").generator()
    at = found.contestants.index(ours)
    others = [j for j in range(len(found.contestants)) if j != at]
    rivals = [j for j in others if is_peer(found.contestants[j])] or others
    total = np.zeros((draws, by_row.shape[1]))
    drawn = rng.integers(0, len(groups), (draws, len(groups)))
    for i, g in enumerate(groups):
        at_draw = np.nonzero(drawn == i)[0]
        seeds = rng.integers(0, len(g), (len(at_draw), len(g)))
        np.add.at(total, at_draw, g[seeds].mean(axis=1))
    behind = (total[:, [at]] >= total).sum(axis=0)
    best = int((total[:, at] >= total[:, rivals].min(axis=1)).sum()) if rivals else 0
    p = {found.contestants[j]: float((1 + behind[j]) / (1 + draws)) for j in others}
    if rivals:
        p["best peer"] = (1 + best) / (1 + draws)
    return p


def is_peer(contestant: str) -> bool:
    """Whether a name is a peer's: ``package.method``.

    >>> is_peer("optuna.tpe"), is_peer("gp:initial=6")
    (True, False)
    """
    return "." in contestant.partition(":")[0]


def losing_tasks(found: Cube, ours: str) -> list[dict[str, Any]]:
    """Return the tasks on which another contestant has a better mean rank than ours, worst first."""
    by_task = _by_task(found, rank_rows(found.regret))
    regret = _by_task(found, found.regret)
    at = found.contestants.index(ours)
    rows = []
    for i, task in enumerate(found.tasks):
        j = int(np.argmin(by_task[i]))
        if by_task[i, j] < by_task[i, at]:
            rows.append({
                "task": task, "best": found.contestants[j], "its rank": float(by_task[i, j]),
                "our rank": float(by_task[i, at]), "its regret": float(regret[i, j]),
                "our regret": float(regret[i, at]),
            })  # fmt: skip
    return sorted(rows, key=lambda r: r["its rank"] - r["our rank"])
