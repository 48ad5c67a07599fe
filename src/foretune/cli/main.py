"""The console entry point: all commands in one application.

Nothing heavy is imported here: a command imports what it needs when it is called.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from foretune.cli import (
    bench,
    check,
    compare,
    demo,
    doctor,
    extend,
    finalists,
    fit,
    lists,
    papers,
    plan,
    recommend,
    report,
    show,
    transfer,
    tune,
    worker,
)
from foretune.cli.exits import INTERRUPTED, TRACEBACK, guarded

__all__ = ["app", "main"]

HELP = "Tune small, foretell big: search that knows about scale, for people who train models."

EPILOG = """\b
Examples:
  foretune demo --quick
  foretune tune --space space.toml --goal "min loss" --budget "40 trials" -- python train.py --lr {lr}
  foretune show study.db --json
  foretune fit chinchilla runs.csv --x N=params --x D=tokens --y loss --predict N=7e9,D=2e12

\b
Exit codes:
  0    done
  1    a check failed, or its verdict is negative
  2    wrong usage or bad input
  3    trouble with the store
  4    the study has no result
  130  interrupted

\b
Results go to stdout, all else to stderr. FORETUNE_TRACEBACK=1 shows tracebacks of errors.
"""


class _Guarded(TyperGroup):
    """Runs every command under one roof for errors."""

    def invoke(self, ctx: Any) -> Any:
        with guarded():
            return super().invoke(ctx)


app = typer.Typer(
    name="foretune",
    cls=_Guarded,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts twice as fast
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        from foretune import __version__

        typer.echo(f"foretune {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _module in (
    demo,
    tune,
    show,
    worker,
    extend,
    finalists,
    compare,
    report,
    fit,
    plan,
    recommend,
    transfer,
    check,
    papers,
    doctor,
    bench,
    lists,
):
    _module.register(app)


def _one_line(message: Warning | str, category: type[Warning], *place: object, **more: object) -> str:
    """Write a warning as a line for its reader, without the place in the code and the code itself."""
    return f"Warning: {message}\n"


def main() -> None:
    """Run the command line."""
    if os.environ.get(TRACEBACK) != "1":
        warnings.formatwarning = _one_line
    try:
        app(prog_name="foretune")
    except KeyboardInterrupt:  # before or after a command
        sys.exit(INTERRUPTED)
