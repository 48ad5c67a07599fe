"""Ranking trials for densities: which are comparable, how much pending ones count, which few stand for many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foretune.search.settled import Settled
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["lateness", "overdue", "standing", "thinned"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

LATEST = 200  # settled trials that say how long trials usually take
USUAL = 0.95
ENOUGH = 10  # trials that make a step comparable


def overdue(settled: Ints, pending: Ints, trials: int) -> Array:
    """Return how overdue each pending trial is, (p,): about 1 at most for what is late as trials usually are.

        overtaken / (usual + 1/2)

    overtaken: how many trials that began after it have settled. usual: of the latest trials that settled, how many
    overtook each of them; the 95 % quantile. No clock is read.

    Args:
        settled: numbers in the order of settling.
        pending: (p,) increasing numbers of all that is pending.
        trials: how many have begun.

    >>> overdue(np.arange(1, 99), np.array([0, 99]), 100).tolist()
    [196.0, 0.0]
    """
    latest = settled[-LATEST:]
    usual = 0.0
    if len(latest):
        passed = np.tril(latest[None, :] > latest[:, None]).sum(axis=1)
        usual = float(np.quantile(passed, USUAL, method="higher"))
    younger_pending = np.arange(len(pending) - 1, -1, -1)
    return np.asarray((trials - 1 - pending - younger_pending) / (usual + 0.5), dtype=float)


def lateness(settled: Ints, pending: Ints, trials: int) -> Array:
    """Return how much each pending trial counts, (p,): 1, and soon next to nothing for one whose worker has died.

        weight = min(1 / overdue^4, (pending / begun)^2, 1)

    pending, begun: of those that began with it or after it, how many are pending, and how many there are: 1 for
    w workers that each run one of the latest w trials.

    >>> lateness(np.arange(97), np.array([97, 98, 99]), 100).tolist()
    [1.0, 1.0, 1.0]
    >>> lateness(np.arange(1, 99), np.array([0, 99]), 100).round(6).tolist()
    [0.0, 1.0]
    """
    share = np.arange(len(pending), 0, -1) / (trials - pending)
    late = np.maximum(overdue(settled, pending, trials), 1.0)
    return np.asarray(np.minimum(late**-4, share**2), dtype=float)


def thinned(bad: Ints, most: int) -> tuple[Ints, Array]:
    """Choose at most ``most`` of the bad trials, best first, and say how many each stands for.

    The first half are kept: g matters near the good ones. The rest are evenly spaced in the order of settling.
    """
    if len(bad) <= most:
        return bad, np.ones(len(bad))
    near, rest = bad[: most // 2], np.sort(bad[most // 2 :])
    places = ((np.arange(most - len(near)) + 0.5) * len(rest) / (most - len(near))).astype(int)
    weight = np.ones(most)
    weight[len(near) :] = len(rest) / (most - len(near))
    return np.concatenate([near, rest[places]]), weight


def standing(problem: Problem, history: History, data: Settled, top: int) -> tuple[Ints, int]:
    """Rank the trials, and say how many are comparable: the good ones come from those.

    Comparable are those that reached the highest step that at least ``ENOUGH`` trials have reached; among them the
    last loss decides. The others follow, those that came further first; failed ones come last. With several goals:
    fronts of the comparable trials, the loneliest first within a front.

    Returns:
        (n,) positions in ``data``, the first ``top`` of them best first; and the number of comparable ones.
    """
    finite = np.isfinite(data.loss)
    many = int(finite.sum())
    step = np.where(finite, data.step, -1.0)
    highest = float(step.max())
    if many and bool((step[finite] == highest).all()):
        level = highest
    else:
        enough = max(1, min(many, max(ENOUGH, len(problem.space) + 1)))
        level = float(np.partition(step, len(step) - enough)[len(step) - enough])
    reached = np.minimum(step, level)
    count = int((reached == level).sum()) if many else 0
    if len(problem.goals) > 1:
        from foretune.numeric.pareto import best

        losses = history.losses[data.number]
        place = np.empty(len(step))
        place[best(losses, len(losses))] = np.arange(len(losses))
        return np.lexsort((place, -reached)), count
    if count < many:
        return np.lexsort((data.loss, -reached)), count
    if top >= len(step):
        return np.argsort(data.loss, kind="stable"), count
    # Not all need sorting. Ties at the boundary go to the earlier trial, whatever the partition did.
    edge = np.partition(data.loss, top)[top]
    first = np.flatnonzero(data.loss < edge)
    tied = np.flatnonzero(data.loss == edge)
    rest = np.flatnonzero(data.loss > edge)
    return np.concatenate([first[np.argsort(data.loss[first], kind="stable")], tied, rest]), count
