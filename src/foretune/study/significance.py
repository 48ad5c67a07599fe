"""Is it better, or lucky? Noise floor, the winner's value corrected for selection, comparisons of two configs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from foretune.base.errors import ArgumentError, StudyError
from foretune.numeric.replicates import detectable, deviation_interval, pooled
from foretune.numeric.smoothed import Smoothed, smoothed
from foretune.numeric.stats import normal_quantile, student_cdf, student_quantile
from foretune.search.distinct import signature
from foretune.study.judged import alone
from foretune.trial.history import History
from foretune.trial.trial import COMPLETE, Trial

__all__ = [
    "Comparison",
    "Corrected",
    "NoiseFloor",
    "compared",
    "corrected",
    "noise_floor",
    "ranked",
    "results",
]

LEVEL = 0.05  # of the test behind a "smallest difference that could have been seen"
POWER = 0.8  # with which it would have been seen


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """How much the result of one and the same config differs from run to run.

    Attributes:
        sd: standard deviation of one run, in the goal's unit.
        dof: degrees of freedom; 0 where it comes from a model or from reported errors.
        low, high: 90 % interval of ``sd``; NaN where it comes from a model.
        configs: how many configs were run more than once.
        how: where it comes from.
    """

    sd: float
    dof: int
    low: float
    high: float
    configs: int
    how: str

    def __str__(self) -> str:
        between = f" (90 % interval {self.low:.3g} to {self.high:.3g})" if self.dof else ""
        return f"noise of one run: {self.sd:.3g}{between}; {self.how}"


@dataclass(frozen=True, slots=True)
class Corrected:
    """What the winner is worth, once it is allowed for that it was chosen for being best.

    Attributes:
        number: the trial with the best corrected value; often not the one with the best observed value.
        config: its config.
        value: its corrected value, in the goal's own sign; ``low`` to ``high`` is its 90 % interval.
        observed: what was observed of it.
        winner: the trial with the best observed value; ``winner_observed`` is that value,
            ``winner_value`` what remains of it.
        noise: standard deviation of one run.
        how: by which reasoning.
    """

    number: int
    config: Mapping[str, Any]
    value: float
    low: float
    high: float
    observed: float
    winner: int
    winner_observed: float
    winner_value: float
    noise: float
    how: str

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"trial {self.number}: {self.value:.6g}; {self.how}"
        return (
            f"trial {self.number}: {self.value:.6g} (90 % interval {self.low:.6g} to {self.high:.6g}), corrected "
            f"for selection; best observed: trial {self.winner} with {self.winner_observed:.6g}, of which "
            f"{self.winner_value:.6g} remains; {self.how}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether A is better than B.

    Attributes:
        a, b: what was compared.
        difference: by how much A is better (losses of B minus losses of A), in the goal's unit.
        sem: standard error of the difference; ``dof`` its degrees of freedom (inf: known, or modelled).
        probability: that A is better than B, given the results and no prior opinion.
        n: results of A and of B.
        detectable: the smallest true difference that so many results would have shown (a two-sided test
            at 5 %, with probability 0.8).
        paired: whether both were run on the same seeds, whose differences were taken.
        caveats: what to mind.
    """

    a: str
    b: str
    difference: float
    sem: float
    dof: float
    probability: float
    n: tuple[int, int]
    detectable: float
    paired: bool
    caveats: tuple[str, ...] = ()

    def __str__(self) -> str:
        seeds = ", paired by seed" if self.paired else ""
        words = "".join(f"; {c}" for c in self.caveats)
        return (
            f"P({self.a} better than {self.b}) = {self.probability:.3f}: better by {self.difference:.4g} with "
            f"standard error {self.sem:.2g} (n = {self.n[0]} and {self.n[1]}{seeds}); so many runs show differences "
            f"of {self.detectable:.2g} or more{words}"
        )


def results(history: History) -> list[Trial]:
    """Return the complete trials with a finite loss of the first goal."""
    return [history[i] for i in history.numbers(COMPLETE) if math.isfinite(history.loss(i))]


def _groups(history: History) -> dict[Any, list[int]]:
    found: dict[Any, list[int]] = {}
    for trial in results(history):
        found.setdefault(signature(trial.config), []).append(trial.number)
    return found


def _model(history: History, numbers: Sequence[int]) -> Smoothed | None:
    from foretune.numeric.kernel import Columns
    from foretune.search.encoding import encoding

    code = encoding(history.space)
    rows = np.array(numbers, dtype=int)
    losses = np.array([history.loss(i) for i in numbers])
    return smoothed(Columns(code.levels, code.optional), history.units[rows], losses)


def noise_floor(history: History, others: Sequence[History] = ()) -> NoiseFloor | None:
    """Measure the noise: from configs that ran more than once, else from reported errors, else from a model.

    Args:
        others: further histories of the same configs (finalists' seeds).

    Returns:
        None where nothing tells: fewer than eight results, or all the same.
    """
    groups = [[h.loss(i) for i in g] for h in (history, *others) for g in _groups(h).values()]
    sd, dof = pooled(groups)
    if dof:
        configs = sum(len(g) > 1 for g in groups)
        low, high = deviation_interval(sd, dof)
        how = f"from {configs} configs that ran {sum(len(g) for g in groups if len(g) > 1)} times in all"
        return NoiseFloor(sd, dof, low, high, configs, how)
    told = [t.reports[-1].sem.get(history.problem.goal.metric, math.nan) for t in results(history)]
    known = [e for e in told if e == e]
    if known:
        sd = math.sqrt(sum(e * e for e in known) / len(known))
        return NoiseFloor(
            sd, 0, math.nan, math.nan, 0, f"from the standard errors that {len(known)} trials reported"
        )
    numbers = [t.number for t in results(history)]
    model = _model(history, numbers)
    if model is None:
        return None
    how = f"a Gaussian process through {len(model.rows)} results takes so much for noise; replicates would measure it"
    return NoiseFloor(model.noise, 0, math.nan, math.nan, 0, how)


def corrected(history: History) -> Corrected:
    """Correct the winner's value for its having been selected.

    The best of many noisy results is too good to be true: of 200 runs by more than two standard deviations
    of the noise. A Gaussian process through all results says what each config is worth once its neighbours
    have been asked; its posterior is not biased by the selection as far as its assumptions hold.

    Raises:
        StudyError: no trial has a result.
    """
    found = [
        t.number for t in results(history) if not history.problem.constraints or history.feasible[t.number]
    ]
    if not found:
        raise StudyError("No complete trial has a result yet: there is no winner to correct.")
    sign, aside = history.problem.goal.sign, "; " * bool(alone(history)) + alone(history)
    losses = np.array([history.loss(i) for i in found])
    w = int(np.argmin(losses))
    model = _model(history, found)
    if model is None or w not in model.rows.tolist():
        only = sign * float(losses[w])
        how = (
            f"not corrected: {len(found)} results are too few, or too alike, to tell noise from signal{aside}"
        )
        number = found[w]
        return Corrected(
            number, history[number].config, only, math.nan, math.nan, only, number, only, only, math.nan, how
        )
    at = int(np.argmin(model.mean))
    number = found[int(model.rows[at])]
    half = normal_quantile(0.95) * float(model.sd[at])
    middle = sign * float(model.mean[at])
    return Corrected(
        number=number,
        config=history[number].config,
        value=middle,
        low=middle - half,
        high=middle + half,
        observed=sign * history.loss(number),
        winner=found[w],
        winner_observed=sign * float(losses[w]),
        winner_value=sign * float(model.mean[model.rows.tolist().index(w)]),
        noise=model.noise,
        how=f"a Gaussian process through {len(model.rows)} results, noise {model.noise:.3g}{aside}",
    )


def ranked(history: History, k: int) -> list[int]:
    """Return the numbers of the ``k`` most promising configs, each once: by corrected values where possible."""
    numbers = [
        t.number for t in results(history) if not history.problem.constraints or history.feasible[t.number]
    ]
    worth = {i: history.loss(i) for i in numbers}
    model = _model(history, numbers) if numbers else None
    if model is not None:
        seen = {numbers[int(r)] for r in model.rows}
        worth = {
            i: float(m) for i, m in zip((numbers[int(r)] for r in model.rows), model.mean, strict=True)
        } | {i: math.inf for i in numbers if i not in seen}
    chosen: list[int] = []
    marks: set[Any] = set()
    for i in sorted(numbers, key=lambda i: (worth[i], history.loss(i), i)):
        mark = signature(history[i].config)
        if mark not in marks and len(chosen) < k:
            marks.add(mark)
            chosen.append(i)
    return chosen


Which = Union[int, Mapping[str, Any]]


def _named(history: History, which: Which, letter: str) -> tuple[str, Any]:
    if isinstance(which, Mapping):
        return f"config {letter}", signature(history.space.fill(which))
    trial: Trial = history[which]
    return f"trial {trial.number}", signature(trial.config)


def compared(history: History, a: Which, b: Which, raced: History | None = None) -> Comparison:
    """Compare two configs by all results that there are of them.

    Args:
        a, b: numbers of trials of ``history``, or configs.
        raced: results of the finalists on seeds of their own. Where both have some, these alone count: the
            results that led to their selection are biased.

    Raises:
        StudyError: one of them has no result, or nothing tells the noise.
        ArgumentError: both are the same config.
    """
    name_a, mark_a = _named(history, a, "A")
    name_b, mark_b = _named(history, b, "B")
    if mark_a == mark_b:
        raise ArgumentError(f"{name_a} and {name_b} are the same config: there is nothing to compare.")
    caveats = [word] if (word := alone(history)) else []
    source, groups = history, _groups(history)
    if raced is not None and {mark_a, mark_b} <= set(found := _groups(raced)):
        source, groups = raced, found
    else:
        caveats.append(
            "from the runs of the search itself, which favour what was selected: race them (finalists)"
        )
    for name, mark in ((name_a, mark_a), (name_b, mark_b)):
        if mark not in groups:
            raise StudyError(f"{name} has no complete result: there is nothing to compare.")
    ours, theirs = ([source.loss(i) for i in groups[m]] for m in (mark_a, mark_b))
    n = (len(ours), len(theirs))
    pair = _pairs(source, groups[mark_a], groups[mark_b])
    if len(pair) >= 3:
        d = np.array(pair)
        gap, sem, dof = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), float(len(d) - 1)
        n = (len(d), len(d))
    else:
        gap = float(np.mean(theirs) - np.mean(ours))
        sem, dof = _error(history, source, raced, ours, theirs, groups[mark_a], groups[mark_b], caveats)
    if math.isinf(dof):
        probability = 0.5 * math.erfc(-gap / (sem * math.sqrt(2.0))) if sem > 0 else float(gap > 0)
    else:
        probability = student_cdf(gap / sem, dof) if sem > 0 else float(gap > 0)
    if sem == 0.0:
        probability = 0.5 if gap == 0 else probability
        caveats.append("the results show no noise at all")
    return Comparison(
        name_a, name_b, gap, sem, dof, probability, n, detectable(sem, dof, LEVEL, POWER), len(pair) >= 3,
        tuple(caveats),
    )  # fmt: skip


def _pairs(history: History, ours: Sequence[int], theirs: Sequence[int]) -> list[float]:
    """Return loss of B minus loss of A for each seed that both have run on."""

    def by_seed(numbers: Sequence[int]) -> dict[Any, float]:
        return {history[i].notes["seed"]: history.loss(i) for i in numbers if "seed" in history[i].notes}

    a, b = by_seed(ours), by_seed(theirs)
    return [b[s] - a[s] for s in a if s in b]


def _error(
    history: History, source: History, raced: History | None, ours: Sequence[float], theirs: Sequence[float],
    a: Sequence[int], b: Sequence[int], caveats: list[str],
) -> tuple[float, float]:  # fmt: skip
    """Return the standard error of a difference of means, and its degrees of freedom."""
    metric = history.problem.goal.metric
    told = [source[i].reports[-1].sem.get(metric, math.nan) for i in (*a, *b)]
    if len(ours) == len(theirs) == 1 and all(e == e for e in told):
        return math.hypot(*told), math.inf
    floor = noise_floor(history, (raced,) if raced is not None else ())
    if floor is None:
        raise StudyError(
            "Nothing tells how noisy the results are: run some config more than once (study.add of the same "
            "config), race finalists, or report standard errors (run.report(step, sem={'loss': 0.01}, loss=...))."
        )
    if not floor.dof:
        caveats.append(floor.how)
    return floor.sd * math.sqrt(1.0 / len(ours) + 1.0 / len(theirs)), float(
        floor.dof
    ) if floor.dof else math.inf


def interval(mean: float, sem: float, dof: float, level: float = 0.9) -> tuple[float, float]:
    """Return the two-sided Student interval of a mean.

    >>> [round(v, 2) for v in interval(1.0, 0.1, 4)]
    [0.79, 1.21]
    """
    if math.isinf(dof):
        half = normal_quantile(0.5 + level / 2.0) * sem
    else:
        half = student_quantile(0.5 + level / 2.0, dof) * sem
    return mean - half, mean + half
