"""``foretune extend``: raise a study's budget, or the length of its trials, and go on."""

from __future__ import annotations

from typing import Annotated

import typer

from foretune.cli.screen import Screen, print_json

__all__ = ["register"]

HELP = "Raise the total budget of a study, or make its full trials longer, and go on with it."
EPILOG = """\b
Examples:
  foretune extend study.db:width --budget "80 trials"
  foretune extend study.db:width --budget "4h, 200 trials" --no-run
  foretune extend study.db:width --steps 81          (trials that were complete go on from their checkpoints)

\b
The budget is the new total, not an addition; parts that are not named stay as they are. Workers that are
running see it at once.
"""


def extend(
    address: Annotated[str, typer.Argument(metavar="STORE[:NAME]", help="A store, and one of its studies.")],
    budget: Annotated[
        str | None, typer.Option(help='The new total: "80 trials", "4h", ...; as it was unless given.')
    ] = None,
    steps: Annotated[float | None, typer.Option(help="The new length of a full trial.")] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE.py:FUNCTION] [-- COMMAND...]", help="What to train, if not as stored."),
    ] = None,
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Go on here and now, or leave it to workers.")
    ] = True,
    workers: Annotated[int, typer.Option(help="Processes that train at once.")] = 1,
    devices: Annotated[
        str | None, typer.Option(help="cpu, gpus, GPU ids such as 0,1 or '{\"gpu\": 0.5}' (for each worker).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result.")] = False,
) -> None:
    """Extend a study."""
    from foretune.base.errors import ArgumentError
    from foretune.cli.opened import open_study
    from foretune.cli.words import budget_words
    from foretune.cli.worker import worker
    from foretune.store import Address
    from foretune.study.budget import Budget
    from foretune.study.result import summary

    if budget is None and steps is None:
        raise ArgumentError('Say what to raise: --budget "80 trials", --steps 81, or both.')
    wanted = None if budget is None else Budget.parse(budget)  # first, so that a mistake opens nothing
    study = open_study(address, only_look=not run)
    if steps is not None:
        study.lengthen(steps)
    if wanted is not None:
        study.extend(wanted)
    if not run:
        if as_json:
            print_json(summary(study))
        else:
            long = f" Full trials have {study.problem.steps.high:g} steps." if steps is not None else ""
            Screen(quiet=quiet).say(f"Budget: {'; '.join(budget_words(study))}.{long}")
        return
    full = str(Address(Address.parse(address).path, study.name))
    worker(full, words, workers=workers, devices=devices, as_json=as_json, quiet=quiet)


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("extend", help=HELP, epilog=EPILOG)(extend)
