"""Feasibility first: losses among which a trial that keeps all constraints is better than any that breaks one.

Deb's rules in one number. Of two trials that keep the constraints the smaller loss is better; one that keeps
them is better than one that does not; of two that break some, the one that breaks them by less. What nothing
is known of counts as kept. Two readings, for two kinds of reader:

    ``ranked``          of one trial alone, so that it never changes: a broken one counts ``BROKEN`` or more,
                        its violations measured by their bounds. For comparisons: rungs, populations.
    ``FeasibleFirst``   a view of a whole history: broken ones come right after the worst that keep the
                        constraints, violations measured by their medians. For models of the loss.

Source: An Efficient Constraint Handling Method for Genetic Algorithms | the three rules
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, final

from foretune.trial.history import History
from foretune.trial.problem import Problem
from foretune.trial.ranked import BROKEN, excess, ranked
from foretune.trial.trial import FAILED, Trial

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BROKEN", "FeasibleFirst", "excess", "feasible_first", "ranked", "ranked_trial"]

MARGIN = 0.01  # between the worst that keep the constraints and the others, so that rounding makes no ties
LEAST = 1e-9  # what counts as broken by the smallest violation


def ranked_trial(problem: Problem, trial: Trial) -> Trial:
    """Return a trial whose goals say how it is ranked: as they are, unless it is known to break a constraint.

    What is known last of the constraints holds for all its reports.
    """
    if not problem.constraints or trial.state == FAILED:
        return trial
    by = excess(problem.constraints, _last(trial))
    if by <= 0.0:
        return trial
    reports = []
    for report in trial.reports:
        values = dict(report.values)
        for goal in problem.goals:
            loss = History.loss_of(values.get(goal.metric), goal.sign)
            if loss < math.inf:
                values[goal.metric] = goal.sign * ranked(loss, by)
        reports.append(report._replace(values=values))
    return replace(trial, reports=tuple(reports))


def _last(trial: Trial) -> Callable[[str], float | None]:
    def last(metric: str) -> float | None:
        return next((r.values[metric] for r in reversed(trial.reports) if metric in r.values), None)

    return last


def feasible_first(history: History) -> History:
    """Return the view of a history whose losses put feasibility first; itself where there are no constraints."""
    if not history.problem.constraints or isinstance(history, FeasibleFirst):
        return history
    return FeasibleFirst(history)


def placed(losses: NDArray[np.float64], broken: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put broken trials behind the others.

        placed = worst + span * (0.01 + e / (1 + e))

    worst and span (largest less smallest) are those of the finite losses that keep the constraints; where there
    are none, worst is 0 and span 1.

    Args:
        losses: (n,) NaN unknown, +inf failed; both stay.
        broken: (n,) e, how much is broken; at most 0 where nothing is.

    >>> import numpy as np
    >>> placed(np.array([1.0, 3.0, 0.0, 9.0, np.inf]), np.array([0.0, 0.0, 1.0, 3.0, 0.0])).tolist()
    [1.0, 3.0, 4.02, 4.52, inf]
    """
    import numpy as np

    behind = (broken > 0.0) & np.isfinite(losses)
    kept = losses[np.isfinite(losses) & ~behind]
    worst = float(kept.max()) if len(kept) else 0.0
    span = (float(np.ptp(kept)) or abs(worst) or 1.0) if len(kept) else 1.0
    share = np.where(behind, np.maximum(broken, 0.0), 0.0)
    return np.where(behind, worst + span * (MARGIN + share / (1.0 + share)), losses)


def measured(violations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum what is broken, each constraint measured by the median of its violations: (n, constraints) -> (n,).

    e = sum over constraints of max(asinh(v / median |v|), 0)

    NaN counts as kept, +inf as the largest finite violation (twice the median where none is broken by a
    finite value).
    """
    import numpy as np

    total = np.zeros(len(violations))
    for v in violations.T:
        known = v[np.isfinite(v)]
        scale = (float(np.median(np.abs(known))) or float(np.abs(known).max())) if len(known) else 1.0
        worst = max(float(known.max()), 0.0) if len(known) else 0.0
        v = np.where(np.isposinf(v), worst or 2.0 * (scale or 1.0), v)
        with np.errstate(over="ignore"):
            by = np.arcsinh(np.minimum(v / (scale or 1.0), 1e300))
        total += np.where(v > 0.0, np.maximum(by, LEAST), 0.0)
    return total


@final
class FeasibleFirst(History):
    """A history seen with feasibility first; whatever is no loss is as it is there, at every moment.

    ``loss``, ``losses``, ``losses_of`` give a trial that is known to break a constraint its place behind all that
    are not (see ``placed``); its ``curve`` is that loss at its last step. Raw values stay raw: those in trials,
    and ``metric``. A view costs O(n) when it is first asked for losses after a change.
    """

    __slots__ = ("_at", "_moved", "plain")

    def __init__(self, history: History) -> None:
        self.__dict__ = history.__dict__  # one history with two faces: nothing is copied, nothing can differ
        self.plain = history
        self._at = -1
        self._moved: dict[int, list[float]] = {}

    @property
    def moved(self) -> Mapping[int, Sequence[float]]:
        """The losses of the trials that break a constraint: number -> one a goal."""
        if self._at != self.version:
            losses, by = self.plain.losses, measured(self.violations)
            columns = [placed(column, by) for column in losses.T]
            behind = (by > 0.0) & (losses == losses).all(axis=1) & (losses < math.inf).all(axis=1)
            self._moved = {i: [float(c[i]) for c in columns] for i in behind.nonzero()[0].tolist()}
            self._at = self.version
        return self._moved

    def loss(self, number: int) -> float:
        found = self.moved.get(number)
        return self.plain.loss(number) if found is None else found[0]

    def losses_of(self, number: int) -> list[float]:
        found = self.moved.get(number)
        return self.plain.losses_of(number) if found is None else list(found)

    @property
    def losses(self) -> NDArray[np.float64]:
        out = self.plain.losses
        for number, row in self.moved.items():
            out[number] = row
        return out

    def curve(self, number: int) -> tuple[list[float], list[float]]:
        steps, losses = self.plain.curve(number)
        found = self.moved.get(number)
        return (steps, losses) if found is None or not steps else (steps[-1:], [found[0]])

    def rung(self, step: float) -> Mapping[int, float]:
        """Return number -> loss, as ``History.rung``; what is known later of a trial's constraints counts too."""
        table = dict(self.plain.rung(step))
        for number in self.moved:
            if table.get(number, BROKEN) < BROKEN:
                record = self._records[number]
                table[number] = ranked(table[number], excess(self.problem.constraints, record.last))
        return table
