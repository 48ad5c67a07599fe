"""What samplers that learn from other tasks share: normal scores, rows of sources, and the first proposals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.numeric.stats import ranks
from foretune.search.distinct import pick, whole
from foretune.search.earlier import Earlier, carried
from foretune.search.encoding import encoding
from foretune.search.sampler import Proposal
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["known_of", "normal_scores", "rows_of", "thompson"]

Array = NDArray[np.float64]

CANDIDATES = 2000  # uniform rows among which a first proposal is chosen
NEAR = 32  # rows around each of the sources' best, a source
ALONE = 8  # candidates that are left in any case
STEP = 0.05  # their standard deviation in the unit cube


def normal_scores(y: Array) -> Array:
    """Map values to the normal quantiles of their ranks: (n,) -> (n,), ties alike.

    z = Phi^-1((rank - 1/2) / n), which lies within the truncation that the copula of the paper needs.
    """
    if not len(y):
        return y
    special = require("scipy.special", "Transfer between tasks")
    return np.asarray(special.ndtri((ranks(y) - 0.5) / len(y)), dtype=float)


def rows_of(source: Earlier, problem: Problem) -> tuple[Array, Array]:
    """Return a source's rows of the unit cube, (n, d), and their normal scores; failures rank last.

    Only results of the greatest length that the source has count.
    """
    found = carried(source, problem.space)
    most = max((k.fraction for k in found), default=1.0)
    kept = [k for k in found if k.loss is None or k.fraction >= most]
    finite = [k.loss for k in kept if k.loss is not None]
    if len(finite) < 2:
        return np.zeros((0, problem.space.width)), np.zeros(0)
    worst = max(finite)
    y = np.array([worst if k.loss is None else k.loss for k in kept], dtype=float)
    return problem.space.encode([k.config for k in kept]), normal_scores(y)


def known_of(sources: Sequence[Earlier], problem: Problem) -> list[tuple[str, Array, Array]]:
    """Return (name, rows, scores) of each source that has something to say: three results at least, not all alike."""
    found = ((s.name, *rows_of(s, problem)) for s in sources)
    return [(name, x, z) for name, x, z in found if len(z) >= 3 and float(np.ptp(z)) > 0.0]


def thompson(
    problem: Problem, history: History, n: int, key: Key, predict: Callable[[Array], tuple[Array, Array]],
    known: Sequence[tuple[str, Array, Array]], word: str,
) -> list[Proposal]:  # fmt: skip
    """Propose the candidates whose draws from the predicted distributions are least: one draw a proposal.

    The first of a study is the candidate of the least mean; draws are among the best twentieth by the mean.

    Args:
        predict: rows -> mean and standard deviation of the normal score.
        known: the sources; candidates lie around their best, too.
    """
    enc = encoding(problem.space)
    rng = key.generator()
    d = problem.space.width
    parts = [rng.random((CANDIDATES, d))]
    for _, x, z in known:
        best = np.nan_to_num(x[np.argsort(z, kind="stable")[:4]], nan=0.5)
        moved = np.repeat(best, NEAR // 4, axis=0)
        parts += [best, np.clip(moved + STEP * rng.standard_normal(moved.shape), 0.0, 1.0)]
    everything = whole(problem.space)
    if everything is not None:
        parts.append(np.nan_to_num(problem.space.encode(everything), nan=0.5))
    rows = enc.snap(np.concatenate(parts))
    mean, sd = predict(rows)
    order = np.argsort(mean, kind="stable")
    if len(order) > 20 * ALONE:  # of many independent draws the least is the luckiest, not the best
        order = order[: len(order) // 20]
    rows, mean, sd = rows[order], mean[order], sd[order]

    def stream() -> Iterator[Mapping[str, Any]]:
        if not len(history):
            yield problem.space.decode(rows[:1])[0]
        for _ in range(n + len(history) + 8):
            order = np.argsort(mean + sd * rng.standard_normal(len(rows)), kind="stable")
            for i in order[:8]:
                yield problem.space.decode(rows[int(i)][None])[0]

    picked = pick(history, stream(), n)
    names = ", ".join(name for name, _, _ in known[:3]) + (", ..." if len(known) > 3 else "")
    at = problem.space.encode([c for c, _ in picked])
    values = predict(at)[0] if len(picked) else np.zeros(0)
    return [
        Proposal(c, note or f"{word}: expected among the best {share:.0%} of {names}")
        for (c, note), share in zip(picked, _share(values), strict=True)
    ]


def _share(scores: Array) -> list[float]:
    special = require("scipy.special", "Transfer between tasks")
    return [float(max(0.001, p)) for p in np.atleast_1d(special.ndtr(scores))]
