"""``foretune demo``: the whole journey on this machine's own text; it runs ``examples/stdlib_lm.py``."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from foretune.cli.screen import print_json

__all__ = ["example_file", "load_example", "register"]

NAME = "stdlib_lm"
HELP = (
    "Tune small language models on Python's own library, forecast a larger one, train it, and compare. "
    "Takes up to ten minutes on two cores; --quick about a minute and a half."
)
EPILOG = """\b
Examples:
  foretune demo --quick
  foretune demo --seed 3 --json > result.json

\b
--json prints one object last: forecast, low, high, outcome (nats/byte), inside, relative_error,
transfer (verdict, slope, low, high), ours, direct, untuned, seconds, config, report (path).
"""


def example_file() -> Path:
    """Return the example's file: beside this one where it is installed, else in the checkout.

    Raises:
        ArgumentError: it is in neither place.
    """
    from foretune.base.errors import ArgumentError

    here = Path(__file__).resolve()
    places = [here.parent / f"{NAME}.py", *(p / "examples" / f"{NAME}.py" for p in here.parents[3:4])]
    for place in places:
        if place.is_file():
            return place
    raise ArgumentError(
        f"The demo's file {NAME}.py is missing from this installation (looked in "
        f"{', '.join(str(p.parent) for p in places)}): install foretune again."
    )


def load_example() -> ModuleType:
    """Import the example by a name that worker processes can import too."""
    file = example_file()
    if file.parent == Path(__file__).resolve().parent:
        return importlib.import_module(f"foretune.cli.{NAME}")
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(NAME)


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller sizes: a smoke test.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where report and study are kept.")
    ] = "foretune-runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
) -> None:
    """Run the demo."""
    from foretune.base.lazy import require

    require("torch", "The demo")
    require("plotly", "The demo's report")
    result = load_example().run_demo(quick=quick, seed=seed, out=out)
    if as_json:
        print_json(result)
    else:
        _say(result)


def _say(result: Mapping[str, Any]) -> None:
    """Print what came out, and where the report lies."""
    inside = "inside" if result["inside"] else "outside"
    typer.echo(
        f"Forecast {result['forecast']:.4g} [{result['low']:.4g}, {result['high']:.4g}], outcome "
        f"{result['outcome']:.4g}: {inside} the interval\n"
        f"Loss     ours {result['ours']:.4g}, searched at the target {result['direct']:.4g}, untuned "
        f"{result['untuned']:.4g}\n"
        f"Config   {json.dumps(result['config'])}\n"
        f"Report   {result['report']}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("demo", help=HELP, epilog=EPILOG)(demo)
