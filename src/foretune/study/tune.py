"""``tune``: one call from a training function and a space to a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

from foretune.base import check
from foretune.base.errors import ArgumentError, ConfigError
from foretune.base.key import Key
from foretune.execute.child import refuse_reimport
from foretune.execute.executor import Executor
from foretune.schedule import make as make_scheduler
from foretune.schedule.scheduler import Scheduler
from foretune.search.fixed import Fixed
from foretune.search.sampler import Sampler
from foretune.search.starts import completed
from foretune.search.wrapping import table
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.store import open_store
from foretune.store.store import Store
from foretune.study.budget import limit_of
from foretune.study.earlier import learning_from
from foretune.study.executors import executor_for
from foretune.study.loop import Watch
from foretune.study.opening import as_space, ends_by_itself
from foretune.study.replicated import Replicated
from foretune.study.result import Result
from foretune.study.study import Study
from foretune.trial.goal import Goal

__all__ = ["begin_with", "completed_starts", "holding", "tune"]


def tune(
    train: Callable[..., Any],
    space: Union[Space, Mapping[str, Any], None],
    *,
    goal: Union[str, Goal, Sequence[Union[str, Goal]], None] = None,
    sampler: Union[str, Sampler[Any], None] = None,
    scheduler: Union[str, Scheduler, None] = None,
    steps: Union[float, Fidelity, None] = None,
    workers: int = 1,
    devices: Any = None,
    budget: Any = None,
    store: Union[str, Store, None] = None,
    name: str = "study",
    seed: int | None = None,
    starts: Sequence[Mapping[str, Any]] = (),
    fixed: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    warm_from: Any = None,
    limit: float | str | None = None,
    constraints: Any = None,
    executor: Executor | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Result:
    """Search the best config of a training function.

    A study of this name that the store already holds is continued: budgets are totals, so the same call
    after a crash finishes the job, and a larger budget goes on from there.

    Args:
        train: ``train(config, run)`` or ``train(config)``; returns the goal's metric, a mapping of
            metrics, or nothing when it has reported them by ``run.report(step, loss=...)``.
        space: what may be chosen.
        goal: ``"min loss"`` unless given.
        sampler: "auto" unless given; "random", "sobol", "grid", "gp", ... or an object.
        scheduler: "auto" unless given: trials are stopped early where ``steps`` are given and the budget is one of
            time; "full", "asha", "hyperband", ... (most need ``steps``).
        steps: the length of a full trial, in whatever ``run.report`` counts.
        workers: processes that train at once; with 1, ``train`` runs in this process, unless there is
            a ``limit`` (see there).
        devices: what each worker gets ("gpus", ids, fractions); see ``ProcessExecutor``.
        budget: ``"40 trials"``, ``"2h"``, ...: totals of the study. Parts that a stored study has and that
            are not named here stay as they are.
        store: a file to keep the study in; None keeps it in memory.
        starts: configs to train first; what one leaves out takes what is held by ``fixed``, its default, or
            is drawn.
        fixed: parameters that are held, with their values: the sampler searches the others.
        warm_from: earlier studies to learn from: ``"old.db:NAME"``, studies, results, or several of them. The
            sampler sees their trials as if they were its own (``warm_start``); with "quantile_transfer" or
            "ranking_transfer" only what they say of ranks. For a new study: a stored one has its own.
        seeds: how many runs a trial is the mean of, each on a tuning seed of its own (``run.seed``); the
            standard error is reported with the mean. For training functions that take the run, without
            ``steps``.
        limit: seconds (or ``"10min"``) after which one trial's plan counts as hung and has failed. A
            function that hangs can only be ended in a process of its own, so with a limit ``train`` runs
            in one even where ``workers`` is 1; if it cannot be sent there (a lambda, one from a notebook),
            it runs here, and the limit is looked at when it reports.
        constraints: bounds on metrics that trials report besides the goal, ``{"memory_gb": "<= 16"}``: the
            best is the best of those that keep them.
        executor: replaces ``workers`` and ``devices``, such as ``ProcessExecutor(..., grace=600)`` where
            writing a checkpoint may take that many seconds.
        watch: called with the study after each change.
        **options: further arguments of :class:`Study`.

    Raises:
        ArgumentError: no budget is given, none is stored, and neither sampler nor scheduler ends by itself.

    >>> from foretune.space import Float
    >>> result = tune(lambda c: (c["x"] - 1) ** 2, Space({"x": Float(-2, 2)}), sampler="random",
    ...               budget="20 trials")
    >>> len(result.history)
    20
    """
    refuse_reimport()
    most = limit_of("limit", limit)
    if seeds is not None:
        if steps is not None:
            raise ArgumentError(
                f"seeds={seeds!r} makes a trial the mean of whole runs, which have no steps to compare: leave "
                "steps out, or seeds."
            )
        train = Replicated(train, seeds, 0 if seed is None else seed)
    with executor if executor is not None else executor_for(train, workers, devices, most) as running:
        opened = open_store(store)
        if budget is None and not ends_by_itself(sampler, scheduler) and not opened.version(name):
            raise ArgumentError(
                "budget must limit the study, for nothing else ends it: budget='40 trials' or '2h'."
            )
        if warm_from is not None and not opened.version(name):
            sampler = learning_from(warm_from, sampler)
        if fixed:
            sampler = holding(fixed, sampler, opened, name)
            if scheduler is not None:
                scheduler = make_scheduler(scheduler).holding(list(fixed))
        study = Study(
            as_space(space), goal, sampler=sampler, scheduler=scheduler, steps=steps, store=opened,
            name=name, budget=budget, seed=seed, constraints=constraints, **options,
        )  # fmt: skip
        begin_with(study, starts, fixed)
        return study.run(train, running, limit=most, watch=watch)


def begin_with(
    study: Study, starts: Sequence[Mapping[str, Any]], fixed: Mapping[str, Any] | None = None
) -> None:
    """Queue the configs that shall be trained first, completed; those that were queued before stay as they are.

    Raises:
        ArgumentTypeError: ``starts`` is no list of configs.
        ConfigError: naming the start, and what the space lacks or does not allow.
    """
    problem = study.problem
    for config in completed_starts(problem.space, starts, problem.key, fixed):
        study.add(config, once=True)


def completed_starts(
    space: Space, starts: Sequence[Mapping[str, Any]], key: Key, fixed: Mapping[str, Any] | None = None
) -> list[Mapping[str, Any]]:
    """Complete the configs that shall be trained first: from what is held, from defaults, by draws."""
    full = []
    for i, start in enumerate(check.several("starts", starts, "configs")):
        try:
            full.append(completed(space, table(f"starts[{i}]", start), key.fold("start", i), fixed))
        except ConfigError as error:
            raise ConfigError(f"starts[{i}]: {error}") from None
    return full


def holding(
    fixed: Mapping[str, Any], sampler: Union[str, Sampler[Any], None], store: Store, name: str
) -> Sampler[Any]:
    """Wrap the sampler that was given, or that a stored study has, so that it holds some parameters."""
    if sampler is None:
        sampler = Study(store=store, name=name).sampler if store.version(name) else "auto"
    if isinstance(sampler, Fixed):
        return Fixed({**sampler.values, **fixed}, inner=sampler.inner)
    return Fixed(fixed, inner=sampler)
