"""What a study leaves: the best config, its value, and the whole history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from foretune.base.codec import plain
from foretune.base.errors import ArgumentError, StudyError
from foretune.numeric import pareto
from foretune.study.finalists import Finalists, race, raced
from foretune.study.judged import judged
from foretune.study.significance import Comparison, Corrected, NoiseFloor, compared, corrected, noise_floor
from foretune.study.study import Study
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.trial import COMPLETE, FAILED, STATES, Trial

if TYPE_CHECKING:
    from foretune.execute.executor import Executor

__all__ = ["Best", "Result", "best_of", "front_of", "hypervolume_trace", "summary"]


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial: its number, its config, and the value of the first goal in its own sign."""

    number: int
    config: Mapping[str, Any]
    value: float
    step: float


@dataclass(frozen=True)
class Result:
    """What :func:`foretune.tune` returns."""

    study: Study
    reason: str

    @property
    def history(self) -> History:
        """All trials."""
        return self.study.history

    @property
    def best(self) -> Best:
        """The best trial.

        Raises:
            StudyError: no trial has a result; how many diverged, how many broke a constraint, and why
                others failed is named.
        """
        found = best_of(self.history)
        if found is None:
            failures = [t.failure for t in self.history if t.failure]
            why = f" The first of {len(failures)} failures: {failures[0]}" if failures else ""
            if self.reason.startswith("gave up"):
                why = f" The study {self.reason}."
            raise StudyError(
                f"No trial of {self.study.name!r} has a result yet.{self._diverged()}{self._infeasible()}{why}"
            )
        return found

    @property
    def noise(self) -> NoiseFloor | None:
        """How much the result of one config differs from run to run; None where nothing tells.

        Measured from configs that ran more than once (finalists, or ``study.add`` of the same config), else
        from reported standard errors, else from a model of all results.
        """
        other = raced(self.study)
        return noise_floor(self.history, (other.history,) if other is not None else ())

    @property
    def corrected(self) -> Corrected:
        """The most promising config, and what it is worth once it is allowed for that it was selected.

        With noise, the best of many results is too good to be true, and often not the best config.

        Raises:
            StudyError: no trial has a result.
        """
        return corrected(self.history)

    def compare(
        self, a: int | Mapping[str, Any], b: int | Mapping[str, Any], *, goal: Union[str, Goal, None] = None
    ) -> Comparison:
        """Say with what probability one config is better than another, and what could have been seen.

        Args:
            a, b: numbers of trials, or configs.
            goal: which of several goals they are judged by; the first unless given.

        Raises:
            ArgumentError: the study has no such goal.
            StudyError: one of them has no result, or nothing tells how noisy results are.
        """
        other = raced(self.study)
        runs = None if other is None else judged(other, goal)
        return compared(judged(self.study, goal), a, b, runs)

    def finalists(
        self,
        train: Callable[..., Any] | None,
        k: int = 5,
        seeds: int = 10,
        *,
        least: int = 3,
        goal: Union[str, Goal, None] = None,
        workers: int = 1,
        devices: Any = None,
        executor: Executor | None = None,
        limit: float | str | None = None,
    ) -> Finalists:
        """Race the best configs on further seeds: which one is best, by how much, and how sure is it?

        The race is a study of its own in the same store (``<name>.finalists``): the search stays as it is,
        and an interrupted race goes on where it was.

        Args:
            train: the training function of the search. Its ``run.seed`` is a test seed, which no trial of
                the search has had; all finalists run on the same ones.
            k: how many of the most promising configs take part (see ``corrected``).
            seeds: runs of each at most; who is clearly worse drops out after ``least``.
            goal: which of several goals they are chosen and judged by; the first unless given.
            workers, devices, executor, limit: as for :func:`foretune.tune`.

        Raises:
            ArgumentError: the study has no such goal.
            StudyError: the study has no result.

        Source: Hyperparameters in Reinforcement Learning and How To Tune Them
        """

        def advance(held: Study) -> None:
            held.run(train, executor, workers=workers, devices=devices, limit=limit)

        return race(self.study, advance, k=k, seeds=seeds, least=least, goal=goal)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The complete trials that no other one dominates, by the first goal.

        Only finite results that keep all constraints take part; with one goal it is the best alone.
        """
        return front_of(self.history)

    def hypervolume(self, reference: Sequence[float] | None = None) -> tuple[tuple[int, float], ...]:
        """What the front covers after each complete trial: (number, hypervolume), in order of completion.

        Args:
            reference: one value a goal, in the goal's own sign, that results shall beat. Unless given: the
                worst of the final front, a tenth of its range further out; compare runs only with the
                same reference.
        """
        return hypervolume_trace(self.history, reference)

    def _diverged(self) -> str:
        """Say how many trials ended with a loss that is no finite number; "" if none did."""
        history = self.history
        n = sum(history.loss(i) == math.inf and history.state(i) != FAILED for i in range(len(history)))
        metric = history.problem.goal.metric
        return f" {n} of {len(history)} trials diverged: their {metric} was NaN or infinite." if n else ""

    def _infeasible(self) -> str:
        """Say how many trials broke a constraint, and by how little the nearest did; "" if none did."""
        history = self.history
        bounds = history.problem.constraints
        rows = [(i, row) for i, row in enumerate(history.violations.tolist()) if max(row, default=0.0) > 0.0]
        finite = [(max(row), i, row) for i, row in rows if max(row) < math.inf]
        if not finite:
            return ""
        _, number, row = min(finite)
        said = ", ".join(f"{c} by {v:.3g}" for c, v in zip(bounds, row, strict=True) if v > 0.0)
        many = f" {len(finite)} of {len(history)} trials broke a constraint"
        return f"{many}; trial {number} came nearest, breaking {said}."

    def __repr__(self) -> str:
        found = best_of(self.history)
        words = f"best {found.value:g} at {dict(found.config)}" if found else "no result"
        return f"<Result of {self.study.name!r}: {len(self.history)} trials, {words}; {self.reason}>"


def best_of(history: History) -> Best | None:
    """Return the best trial of a history, or None."""
    trial: Trial | None = history.best
    if trial is None:
        return None
    goal = history.problem.goal
    return Best(trial.number, trial.config, goal.sign * history.loss(trial.number), trial.step)


def front_of(history: History) -> tuple[Trial, ...]:
    """Return the complete, feasible trials that no other one dominates, by the first goal."""
    numbers, losses = _results(history)
    if not numbers:
        return ()
    chosen = np.flatnonzero(pareto.front(losses))
    order = sorted(chosen.tolist(), key=lambda i: (losses[i].tolist(), numbers[i]))
    return tuple(history[numbers[i]] for i in order)


def _results(history: History) -> tuple[list[int], NDArray[np.float64]]:
    """Return the complete, finite, feasible trials in order of completion, and their losses."""
    losses, feasible = history.losses, history.feasible
    numbers = [
        i
        for i in dict.fromkeys(history.settled)
        if history.state(i) == COMPLETE and feasible[i] and np.isfinite(losses[i]).all()
    ]
    return numbers, losses[numbers]


def hypervolume_trace(
    history: History, reference: Sequence[float] | None = None
) -> tuple[tuple[int, float], ...]:
    """Return (number, hypervolume of the front until then) for each complete, feasible trial."""
    numbers, losses = _results(history)
    if not numbers:
        return ()
    goals = history.problem.goals
    if reference is None:
        at = losses[pareto.front(losses)]
        corner = at.max(axis=0) + 0.1 * (np.ptp(at, axis=0) + (np.ptp(at, axis=0) == 0.0))
    else:
        if len(reference) != len(goals):
            raise ArgumentError(
                f"reference needs one value a goal, {len(goals)} of them; got {list(reference)!r}."
            )
        corner = np.array([g.sign * float(v) for g, v in zip(goals, reference, strict=True)])
    trace = []
    kept = losses[:0]
    for number, row in zip(numbers, losses, strict=True):
        kept = np.concatenate([kept, row[None]])
        kept = kept[pareto.front(kept)]
        trace.append((number, pareto.hypervolume(kept, corner)))
    return tuple(trace)


def _pareto(history: History) -> list[dict[str, Any]]:
    goals = history.problem.goals
    return [
        {
            "number": t.number,
            "config": plain(t.config),
            "values": {g.metric: plain(g.sign * float(v)) for g, v in zip(goals, row, strict=True)},
        }
        for t, row in ((t, history.losses_of(t.number)) for t in front_of(history))
    ]


def summary(study: Study) -> dict[str, Any]:
    """Summarise a study as JSON: ``best``, ``trials`` by state, ``budget``, ``version``, and more."""
    found = best_of(study.history)
    spent = study.history.spent
    return {
        "name": study.name,
        "goal": [str(g) for g in study.problem.goals],
        "best": None
        if found is None
        else {
            "config": plain(found.config),
            "value": plain(found.value),
            "number": found.number,
            "step": found.step,
        },
        **({"front": _pareto(study.history)} if len(study.problem.goals) > 1 else {}),
        **({"constraints": [str(c) for c in study.problem.constraints]} if study.problem.constraints else {}),
        "trials": {state: study.history.count(state) for state in STATES},
        "budget": {
            name: {"limit": getattr(study.budget, name), "spent": spent[name]}
            for name in ("trials", "seconds", "steps", "cost")
        },
        "version": study.history.version,
        "asks": {"count": study.asks[0], "seconds": round(study.asks[1], 4)},
        "notes": list(study.notes),
        "sampler": study.about["sampler"],
        "scheduler": study.about["scheduler"],
        "seed": study.seed,
        "store": study.store.path,
    }
