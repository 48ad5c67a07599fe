"""``foretune tune``: search the best config of a function or of any command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.base.errors import ArgumentError, did_you_mean
from foretune.cli.screen import Screen

if TYPE_CHECKING:
    from foretune.cli.training import Training
    from foretune.space.space import Space
    from foretune.store.store import Store

__all__ = ["register"]

HELP = "Search the best config of a training function (FILE.py:FUNCTION) or of any command (after --)."
EPILOG = """\b
Examples:
  foretune tune --space space.toml --goal "min loss" --budget "40 trials" -- python train.py --lr {lr}
  foretune tune train.py:train --space space.toml --budget 2h --scheduler asha --steps 1000 --workers 4
  foretune tune train.py:train --budget "80 trials" --name study     (goes on with a stored study)

\b
A command gets its choices by placeholders ({lr}, {lr:.3g}; also {until}, {start}, {checkpoint}, {seed},
{number}) or by the environment (FORETUNE_CONFIG, FORETUNE_UNTIL, ...), and prints metrics as JSON objects,
one a line: {"step": 100, "loss": 2.31}. A function is train(config) or train(config, run): see run.report.

\b
A space file has one table a choice:
  [lr]
  type = "float"
  low = 1e-4
  high = 1e-1
  log = true

\b
A sampler's options follow its name: gp:acquisition=thompson. Values are JSON or words. A dot leads into a table,
or to the options of a sampler inside: user_prior:prior.lr=0.01,inner=gp,inner.acquisition=thompson

\b
A budget is a total of the study over all workers and restarts: "40 trials", "2h", "1e6 steps", "5 cost".
--json prints one object last, as `foretune show --json` does. Exit code 4: no trial has a result.
"""


def tune(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE.py:FUNCTION] [-- COMMAND...]", help="What to train.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(metavar="FILE", help="TOML or JSON: what may be chosen.")
    ] = None,
    goal: Annotated[
        list[str] | None, typer.Option(help='"min loss", "max accuracy"; "min loss" unless given.')
    ] = None,
    budget: Annotated[str | None, typer.Option(help='"40 trials", "2h", "1e6 steps", or several.')] = None,
    store: Annotated[str, typer.Option(metavar="FILE", help="Where the study is kept.")] = "study.db",
    name: Annotated[str, typer.Option(help="The study's name in the store.")] = "study",
    seed: Annotated[int | None, typer.Option(help="Seed of all randomness; 0 unless given.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that train at once.")] = 1,
    devices: Annotated[
        str | None, typer.Option(help="cpu, gpus, GPU ids such as 0,1 or '{\"gpu\": 0.5}' (for each worker).")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME[:k=v,...]", help="See `foretune samplers`; auto unless given.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="NAME[:k=v,...]", help="See `foretune schedulers`; full unless given."),
    ] = None,
    steps: Annotated[float | None, typer.Option(help="Length of a full trial, as it reports steps.")] = None,
    low: Annotated[float | None, typer.Option(help="The least step at which trials are compared.")] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="DURATION", help="When a trial counts as hung: 90s, 10min, 2h.")
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help='A bound on another metric, "memory_gb<=16"; repeat for more.'),
    ] = None,
    start: Annotated[
        list[str] | None, typer.Option(metavar="JSON", help="A config to train first; repeat for more.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Hold a choice at a value; repeat for more."),
    ] = None,
    warm_from: Annotated[
        list[str] | None,
        typer.Option(metavar="STORE[:NAME]", help="Learn from an earlier study; repeat for more."),
    ] = None,
    ask_cap: Annotated[
        str | None,
        typer.Option(metavar="CAP", help="Processor time of an ask at most: 2s, 5% of a trial, off."),
    ] = None,
    give_up: Annotated[
        int | None,
        typer.Option(metavar="N", help="Stop when the first N trials fail alike; 10 unless given, 0: never."),
    ] = None,
    metrics_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where the command writes its metrics, if not to stdout."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result.")] = False,
) -> None:
    """Tune."""
    from foretune.base import check
    from foretune.base.key import Key
    from foretune.cli.driving import conclude, drive_here
    from foretune.cli.options import read_algorithm, read_devices, read_fixed, read_limit, read_start
    from foretune.cli.training import Training
    from foretune.cli.words import show_plan
    from foretune.execute.devices import slots
    from foretune.schedule import make as make_scheduler
    from foretune.search import make as make_sampler
    from foretune.space.fidelity import Fidelity
    from foretune.space.files import read_space
    from foretune.store import open_store
    from foretune.store.address import study_name
    from foretune.study.asking import AskCap
    from foretune.study.budget import Budget
    from foretune.study.earlier import all_earlier, learning_from
    from foretune.study.study import Study
    from foretune.study.tune import begin_with, completed_starts, holding
    from foretune.trial.constraint import parse_constraints
    from foretune.trial.goal import parse_goals

    # Everything is read before the store is touched, so that a mistake leaves nothing behind.
    seconds = read_limit(limit)
    training = Training.of(words, metrics_file=metrics_file, limit=seconds) if words else None
    choices = read_space(space) if space is not None else None
    goals = parse_goals(goal) if goal else None
    bounds = parse_constraints(constraint) if constraint else None
    allowed = Budget.parse(budget) if budget is not None else None
    study_name(name)
    check.integer("--workers", workers, 1)
    if give_up is not None:
        check.integer("--give-up", give_up, 0)
    if low is not None and steps is None:
        raise ArgumentError("--low goes with --steps, the length of a full trial.")
    axis = None if steps is None else Fidelity(steps, low if low is not None else 1)
    named_sampler, named_scheduler = (
        read_algorithm("--sampler", sampler),
        read_algorithm("--scheduler", scheduler),
    )
    proposer = None if named_sampler is None else make_sampler(named_sampler[0], **named_sampler[1])
    planner = None if named_scheduler is None else make_scheduler(named_scheduler[0], **named_scheduler[1])
    first = [read_start(text) for text in start or ()]
    held, cap = read_fixed(fix), AskCap.parse(ask_cap)
    sources = all_earlier(list(warm_from)) if warm_from else ()
    given = read_devices(devices)
    slots(workers, given)
    if choices is not None:
        completed_starts(choices, first, Key(seed or 0), held)
        if training is not None:
            training.check(choices)

    screen = Screen(aside=True, quiet=quiet)
    store = os.path.expanduser(store)  # bash leaves --store=~/study.db as it is
    place = open_store(store) if store == "memory" or os.path.exists(store) else None
    known = list(place.studies()) if place is not None else []
    if place is not None and name in known:
        training = _known(place, name, training)
        if seconds is not None:
            training = replace(training, limit=seconds)
    else:
        if choices is None:
            raise _no_space(name, known)
        training = _new(training, allowed, proposer, planner, axis)
        place = place or open_store(store)
    if sources and name not in known:
        proposer = learning_from(sources, proposer)
    if held:
        proposer = holding(held, proposer, place, name)
        planner = None if planner is None else planner.holding(list(held))
    study = Study(
        choices,
        goals,
        sampler=proposer,
        scheduler=planner,
        steps=axis,
        store=place,
        name=name,
        budget=allowed,
        seed=seed,
        constraints=bounds,
        about={"train": training.about()},
        ask_cap=cap,
        give_up=give_up,
    )
    training.check(study.problem.space)
    _hint_unused(screen, training, study.problem.space)
    begin_with(study, first, held)
    show_plan(screen, study, workers)
    reason = drive_here(study, training, workers=workers, devices=given, screen=screen, quiet=quiet)
    conclude(study, reason, as_json=as_json, quiet=quiet)


def _known(store: Store, name: str, training: Training | None) -> Training:
    """Hold what is to be trained against what a stored study was begun with."""
    from foretune.cli.training import Training

    about = store.read(name)[0].data
    if training is None:
        return Training.stored(about, name)
    if "train" in about:
        stored = Training.stored(about, name)
        if not training.same(stored):
            raise ArgumentError(
                f"The study {name!r} was begun with {stored}, not {training}: its results would not compare. "
                "Choose another --name for a new study."
            )
    return training


def _no_space(name: str, known: Sequence[str]) -> ArgumentError:
    there = f" Studies there: {', '.join(known)}." if known else ""
    return ArgumentError(
        f"--space is needed to begin the study {name!r}: a TOML or JSON file of what may be chosen."
        f"{did_you_mean(name, known)}{there}"
    )


def _new(training: Training | None, budget: Any, sampler: Any, scheduler: Any, steps: Any) -> Training:
    """Check that a new study has all that it needs besides its space."""
    from foretune.cli.training import Training
    from foretune.study.opening import ends_by_itself

    if steps is None and scheduler is not None and "multi-fidelity" in scheduler.tags:
        raise ArgumentError(
            f"--scheduler {type(scheduler).__name__} compares trials before their end, so it needs the "
            "length of a full trial: --steps 1000 (and --low 10, where trials are first compared)."
        )
    endless = budget is None or (budget.trials, budget.seconds, budget.steps, budget.cost) == (None,) * 4
    if endless and not ends_by_itself(sampler, scheduler):
        raise ArgumentError(
            '--budget is needed, for nothing else ends the study: --budget "40 trials", or 2h.'
        )
    return training if training is not None else Training.of(())


def _hint_unused(screen: Screen, training: Training, space: Space) -> None:
    """Name the choices that a command does not ask for by placeholders: it may have forgotten them."""
    from foretune.execute.template import placeholders

    if not training.command:
        return
    asked = {name for text in (*training.command, training.metrics_file or "") for name in placeholders(text)}
    unused = [n for n, d in space.items() if n not in asked and d.type != "constant"]
    if unused:
        names = ", ".join(f"{{{n}}}" for n in unused)
        screen.say(
            f"Note: the command has no placeholder {names}; it can read FORETUNE_CONFIG instead.",
            style="yellow",
        )


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("tune", help=HELP, epilog=EPILOG)(tune)
