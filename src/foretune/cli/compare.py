"""``foretune compare``: is one config better than another, or was it lucky?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.screen import Screen, print_json

if TYPE_CHECKING:
    from foretune.trial.history import History

__all__ = ["register"]

HELP = (
    "Say with what probability one config is better than another; without configs, what the winner is worth."
)
EPILOG = """\b
Examples:
  foretune compare study.db:width
  foretune compare study.db:width 12 7
  foretune compare study.db:width 12 '{"lr": 0.1, "opt": "adam"}' --json

\b
Configs are numbers of trials, or JSON objects. The runs of the search favour what was selected by them: where
finalists were raced (foretune finalists), their seeds alone count.
"""


def compare(
    address: Annotated[str, typer.Argument(metavar="STORE[:NAME]", help="A store, and one of its studies.")],
    configs: Annotated[
        list[str] | None, typer.Argument(metavar="[A B]", help="Numbers of trials, or configs as JSON.")
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Which of several goals counts; the first unless given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two configs."""
    from foretune.base.codec import plain
    from foretune.base.errors import ArgumentError
    from foretune.cli.opened import open_study
    from foretune.study.finalists import raced
    from foretune.study.judged import judged
    from foretune.study.significance import compared, corrected, noise_floor

    study = open_study(address, only_look=True)
    if configs and len(configs) != 2:
        raise ArgumentError(f"compare takes two configs, A and B, or none; got {len(configs)}.")
    race = raced(study)
    other: History | None = judged(race, goal) if race is not None else None
    history = judged(study, goal)
    if configs:
        found = compared(history, _which(configs[0]), _which(configs[1]), other)
        if as_json:
            print_json(plain(found))
        else:
            Screen().say(f"{found}.")
        return
    winner = corrected(history)
    noise = noise_floor(history, (other,) if other is not None else ())
    if as_json:
        print_json({"winner": plain(winner), "noise": plain(noise)})
        return
    Screen().say(f"{winner}.")
    Screen().say(f"{noise}." if noise is not None else "Nothing tells how noisy the results are.")


def _which(text: str) -> Any:
    import json

    from foretune.base.errors import ArgumentError

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) or (isinstance(found, int) and not isinstance(found, bool)):
        return found
    raise ArgumentError(f"A and B must be numbers of trials, or configs as JSON objects; got {text!r}.")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("compare", help=HELP, epilog=EPILOG)(compare)
