"""A plain comparison of searchers on one task: anytime curves, trials to a quality, paired tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.search.sampler import Sampler
from foretune.space.space import Space
from foretune.study.tune import tune

__all__ = ["Comparison", "Pair", "compare", "comparison", "sign_flip"]

Array = NDArray[np.float64]

EXACT = 14  # pairs up to which all signs are tried
DRAWS = 20_000  # random signs beyond


@final
@dataclass(frozen=True)
class Pair:
    """Two searchers, seed by seed.

    Attributes:
        first, second: their names.
        wins, ties, losses: seeds in which the first ends lower, equal, higher.
        difference: mean over seeds of the first's last best loss less the second's; NaN if one found nothing.
        p: two-sided p-value of the sign-flip test on these differences.
    """

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    difference: float
    p: float


@final
@dataclass(frozen=True)
class Comparison:
    """Traces of several searchers on one task, under the same seeds.

    Attributes:
        best: name -> (seeds, trials) best loss so far.
        pairs: each pair of searchers, tested on the last trial.
    """

    best: Mapping[str, Array]
    pairs: tuple[Pair, ...]

    def anytime(self) -> dict[str, Array]:
        """Return name -> (3, trials): median over seeds, and the 10 % and 90 % quantiles."""
        return {n: np.quantile(b, [0.5, 0.1, 0.9], axis=0, method="nearest") for n, b in self.best.items()}

    def trials_to(self, quality: float) -> dict[str, Array]:
        """Return name -> (seeds,) trials until the best loss is at most ``quality``; infinity where never."""
        found = {}
        for name, best in self.best.items():
            there = best <= quality
            found[name] = np.where(there.any(axis=1), there.argmax(axis=1) + 1.0, np.inf)
        return found

    def pair(self, first: str, second: str) -> Pair:
        """Return the pair of two names, in this order."""
        for p in self.pairs:
            if (p.first, p.second) == (first, second):
                return p
            if (p.first, p.second) == (second, first):
                return Pair(first, second, p.losses, p.ties, p.wins, -p.difference, p.p)
        raise ArgumentError(
            f"first and second must be two different searchers of {', '.join(self.best)}; got {first!r}, {second!r}."
        )

    def __str__(self) -> str:
        """Say the median at the end, and each pair's test."""
        lines = [
            f"{n}: median best loss {np.median(b[:, -1]):.6g}, n = {len(b)}" for n, b in self.best.items()
        ]
        for p in self.pairs:
            lines.append(
                f"{p.first} against {p.second}: {p.wins} better, {p.ties} equal, {p.losses} worse; p = {p.p:.3g}"
            )
        return "\n".join(lines)


def sign_flip(differences: ArrayLike, key: Key | None = None) -> float:
    """Return the two-sided p-value that paired differences are symmetric around zero.

    The sum is compared with the sums under all 2^n signs (n <= 14), else under 20,000 drawn ones. The
    least p-value is 2^(1-n), so that fewer than six pairs cannot tell anything at 5 %.

    Args:
        differences: (n,); NaN is refused, zeros stay.
        key: of the drawn signs.

    >>> sign_flip([1.0, 2.0, 3.0])
    0.25
    """
    d = np.asarray(differences, dtype=float).reshape(-1)
    if not d.size or not np.isfinite(d).all():
        raise ArgumentError(f"differences must be finite numbers, at least one; got {differences!r}.")
    if d.size <= EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=d.size)))
    else:
        rng = (key or Key.of(0)).fold("sign flip").generator()
        signs = np.concatenate([np.ones((1, d.size)), 2.0 * rng.integers(0, 2, (DRAWS, d.size)) - 1.0])
    sums = np.abs(signs @ d)
    return float((sums >= sums[0] * (1 - 1e-12)).mean())


def comparison(traces: Mapping[str, Sequence[ArrayLike]]) -> Comparison:
    """Compare searchers by what each of their trials gave.

    Args:
        traces: name -> one list of losses a seed, in the order of the trials; less is better, NaN and +inf are
            failures. Seed i of each searcher is paired with seed i of the others. A shorter list (a grid that
            came to its end) keeps its best.

    Raises:
        ArgumentError: no searcher, an empty list, or different numbers of seeds.

    Source: Grid Search, Random Search, Genetic Algorithm: A Big Comparison for NAS

    >>> found = comparison({"a": [[3.0, 1.0], [2.0, 2.0]], "b": [[3.0, 3.0], [3.0, 2.0]]})
    >>> found.pair("a", "b").wins, found.trials_to(2.0)["b"].tolist()
    (1, [inf, 2.0])
    """
    seeds = {len(t) for t in traces.values()}
    if len(seeds) != 1 or 0 in seeds or any(not len(np.atleast_1d(x)) for t in traces.values() for x in t):
        raise ArgumentError(
            "traces must hold, for each searcher, one non-empty list of losses a seed, and as many seeds for each; "
            f"got { ({n: len(t) for n, t in traces.items()})!r} seeds."
        )
    most = max(len(np.atleast_1d(x)) for t in traces.values() for x in t)
    best = {}
    for name, runs in traces.items():
        rows = []
        for run in runs:
            y = np.nan_to_num(np.atleast_1d(np.asarray(run, dtype=float)), nan=np.inf, posinf=np.inf)
            rows.append(np.minimum.accumulate(np.append(y, np.full(most - len(y), np.inf))))
        best[name] = np.array(rows)
    pairs = []
    for a, b in itertools.combinations(best, 2):
        x, y = best[a][:, -1], best[b][:, -1]
        known = bool(np.isfinite(x).all() and np.isfinite(y).all())
        d = x - y if known else np.sign(np.nan_to_num(x, posinf=1e300) - np.nan_to_num(y, posinf=1e300))
        wins, losses = int((x < y).sum()), int((x > y).sum())
        mean = float(d.mean()) if known else math.nan
        pairs.append(Pair(a, b, wins, len(x) - wins - losses, losses, mean, sign_flip(d)))
    return Comparison(best, tuple(pairs))


def compare(
    searchers: Sequence[str] | Mapping[str, Union[str, Sampler[Any]]],
    task: tuple[Space | Mapping[str, Any], Callable[[Mapping[str, Any]], float]],
    budget: int,
    seeds: int | Sequence[int] = 10,
) -> Comparison:
    """Run searchers on one task under the same seeds, one trial after the other, and compare them.

    Args:
        searchers: names of samplers; or a label for each name or object.
        task: a space and a function of a config that returns the loss.
        budget: trials of each run.
        seeds: how many, or which.

    Source: Grid Search, Random Search, Genetic Algorithm: A Big Comparison for NAS

    Differs:
        1. Cost is counted in trials; for races over time see ``foretune.bench.race``.

    >>> from foretune.space import Float
    >>> found = compare(["random", "grid"], ({"x": Float(0, 1)}, lambda c: abs(c["x"] - 0.5)), 5, seeds=6)
    >>> found.pair("grid", "random").wins
    6
    """
    space, function = task
    check.integer("budget", budget, 1)
    which = range(check.integer("seeds", seeds, 1)) if isinstance(seeds, int) else list(seeds)
    named = dict(searchers) if isinstance(searchers, Mapping) else {s: s for s in searchers}
    traces: dict[str, list[Array]] = {}
    for label, sampler in named.items():
        traces[label] = [
            tune(function, space, sampler=sampler, budget=f"{budget} trials", seed=seed).history.losses[:, 0]
            for seed in which
        ]
    return comparison(traces)
