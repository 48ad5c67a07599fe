"""``foretune finalists``: race the best configs of a study on further seeds."""

from __future__ import annotations

from typing import Annotated

import typer

from foretune.cli.screen import Screen, print_json

__all__ = ["register"]

HELP = (
    "Race the best configs of a study on further seeds: which one is best, by how much, and how sure is it?"
)
EPILOG = """\b
Examples:
  foretune finalists study.db:width
  foretune finalists study.db:width --k 3 --seeds 20 --workers 4
  foretune finalists study.db train.py:train --json

\b
The seeds are test seeds: no trial of the search has had them, and all finalists run on the same ones ({seed} of
a command, FORETUNE_SEED, run.seed of a function). The race is the study NAME.finalists in the same store; said
again, it goes on where it was. Who is clearly worse drops out after --least seeds.
"""


def finalists(
    address: Annotated[str, typer.Argument(metavar="STORE[:NAME]", help="A store, and one of its studies.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE.py:FUNCTION] [-- COMMAND...]", help="What to train, if not as stored."),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="How many configs take part.")] = 5,
    seeds: Annotated[int, typer.Option(help="Runs of each config at most.")] = 10,
    least: Annotated[int, typer.Option(help="Runs of each before any drops out.")] = 3,
    goal: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Which of several goals counts; the first unless given."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that train at once.")] = 1,
    devices: Annotated[
        str | None, typer.Option(help="cpu, gpus, GPU ids such as 0,1 or '{\"gpu\": 0.5}' (for each worker).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result.")] = False,
) -> None:
    """Race finalists."""
    from foretune.base import check
    from foretune.cli.driving import enter_folder
    from foretune.cli.opened import open_study
    from foretune.cli.options import read_devices
    from foretune.cli.training import Training
    from foretune.execute.processes import ProcessExecutor
    from foretune.report.words import number, short
    from foretune.study.finalists import as_json as body
    from foretune.study.finalists import race
    from foretune.study.loop import drive
    from foretune.study.study import Study

    check.integer("--workers", workers, 1)
    study = open_study(address, only_look=True)
    screen = Screen(aside=True, quiet=quiet)
    training = Training.of(words) if words else Training.stored(study.about, study.name)
    enter_folder(training, screen)
    training.check(study.problem.space)
    target = training.target(list(study.problem.space))
    with ProcessExecutor(target, workers, read_devices(devices)) as executor:

        def advance(held: Study) -> None:
            drive(held, executor, limit=training.limit)
            screen.say(f"{len(held.history.settled)} runs of at most {k * seeds}")

        found = race(
            study, advance, k=k, seeds=seeds, least=least, goal=goal, about={"train": training.about()}
        )
    if as_json:
        print_json(body(found))
        return
    shown = Screen()
    metric = found.metric
    shown.table(
        ["trial", metric, "+-", "runs", f"{metric} in the search", "P(best)", "config", "out"],
        [
            [
                r.number, number(r.mean, 6), number(r.sem, 2), r.n, number(r.tuned, 6), f"{r.best:.2f}",
                ", ".join(f"{n} {short(v)}" for n, v in r.config.items()), r.out,
            ]
            for r in found.rows
        ],
        right=(0, 1, 2, 3, 4, 5),
    )  # fmt: skip
    for line in str(found).splitlines()[len(found.rows) :]:
        shown.say(line)


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("finalists", help=HELP, epilog=EPILOG)(finalists)
