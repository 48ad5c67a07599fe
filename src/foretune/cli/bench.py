"""``foretune bench``: races between search methods on tasks with known answers."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.screen import Screen, print_json

if TYPE_CHECKING:
    from foretune.bench.contestant import Contestant

__all__ = ["register"]

RACE_EPILOG = """\b
Examples:
  foretune bench race --tasks hpobench,functions --samplers random,gp --seeds 5 --trials 50
  foretune bench race --tasks "*" --samplers auto --peers optuna.tpe,optuna.gp --seeds 30 --trials 100
  foretune bench race --tasks lcbench --runs 20 --samplers gp+asha,random+full --peers optuna.hyperband --seeds 10

\b
Every run is one line in the folder of results; runs that are there already are passed over, so that a race that was
stopped goes on, and more --seeds make n grow. Runs of another version of a sampler's code are run anew.
--runs N races over simulated time, N mean full runs long, on several workers: samplers are sampler+scheduler.
Peers run from their own packages: `python benchmarks/races/setup.py FOLDER` makes their environments.
"""
SHOW_EPILOG = """\b
Examples:
  foretune bench show
  foretune bench show --ours gp --places 25,50,100 --page races.html
  foretune bench show --group noise --json
"""
GROUP_EPILOG = """\b
Examples:
  foretune bench race --tasks functions --samplers random,gp --seeds 5
  foretune bench show --ours gp
"""
TASKS_EPILOG = """\b
Examples:
  foretune bench tasks
  foretune bench tasks hpobench "functions/*10" --json
"""


def _list(text: str) -> list[str]:
    """Split a list at commas; a comma within a sampler's options belongs to them."""
    parts: list[str] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        if parts and "=" in part and ":" in parts[-1] and ":" not in part:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _seeds(text: str) -> list[int]:
    """Read a number of seeds (``8``: 0 to 7) or a range (``8-15``)."""
    from foretune.base.errors import ArgumentError

    low, dash, high = text.partition("-")
    try:
        found = list(range(int(low), int(high) + 1)) if dash else list(range(int(low)))
    except ValueError:
        found = []
    if not found or found[0] < 0:
        raise ArgumentError(
            f"--seeds must be a number of seeds (8) or a range from 0 up (8-15); got {text!r}."
        )
    return found


def _results(given: str | None) -> Path:
    from foretune.bench.data import repository

    root = repository()
    if given is not None:
        return Path(given)
    return (root / "benchmarks" / "races" / "results") if root is not None else Path("results")


def _peers(names: list[str], environments: str | None) -> list[Contestant]:
    from foretune.base.errors import ArgumentError
    from foretune.bench.data import repository
    from foretune.bench.peer import Peer

    root = repository()
    if not names:
        return []
    if root is None:
        raise ArgumentError("--peers needs the repository (benchmarks/races/peers): run from a checkout.")
    folder = Path(environments) if environments is not None else root.parent / "peers"
    return [Peer(name, root / "benchmarks" / "races" / "peers", folder) for name in names]


def _with_curves(tasks: list[Any]) -> list[Any]:
    from foretune.base.errors import ArgumentError

    found = [t for t in tasks if len(getattr(t.family, "levels", (1.0,))) > 1]
    if not found:
        raise ArgumentError(
            "--runs races over simulated time, on tasks with learning curves: --tasks lcbench."
        )
    return found


def race(
    tasks: Annotated[str, typer.Option(metavar="NAME,...", help="Families, tasks, or patterns.")] = "*",
    samplers: Annotated[
        str, typer.Option(metavar="NAME,...", help="Ours, options as gp:initial=6.")
    ] = "random,gp",
    peers: Annotated[
        str, typer.Option(metavar="PACKAGE.METHOD,...", help="Others, such as optuna.tpe.")
    ] = "",
    seeds: Annotated[str, typer.Option(metavar="N|A-B", help="How many seeds, or which.")] = "5",
    trials: Annotated[int, typer.Option(help="Length of each run.")] = 50,
    runs: Annotated[
        float | None,
        typer.Option(metavar="N", help="Race over simulated time instead: that many full runs long."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Workers of a race over simulated time.")] = 4,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Published tables; default ../shared/data.")
    ] = None,
    results: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where runs are written.")] = None,
    environments: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The peers' environments; default ../peers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Race."""
    from foretune.base import check
    from foretune.bench.contestant import Ours
    from foretune.bench.race import race as run
    from foretune.bench.record import Book
    from foretune.bench.tasks import find
    from foretune.bench.timed import OursTimed, run_timed

    screen = Screen(aside=True)
    book = Book(_results(results))
    found = find(_list(tasks), data)
    numbers = _seeds(seeds)
    if runs is None:
        contestants: list[Contestant] = [Ours(s) for s in _list(samplers)]
    else:
        found = _with_curves(found)
        contestants = [OursTimed(s) for s in _list(samplers)]
    contestants += _peers(_list(peers), environments)
    try:
        if runs is None:
            counts = run(found, contestants, numbers, trials, book, screen.say)
        else:
            over = functools.partial(run_timed, workers=check.integer("--workers", workers, 1))
            counts = run(found, contestants, numbers, runs, book, screen.say, over)
    finally:
        for contestant in contestants:
            contestant.close()
    if as_json:
        print_json({**counts, "tasks": len(found), "results": str(_results(results))})
    else:
        typer.echo(
            f"{counts['run']} runs, {counts['there']} were there already, {counts['failed']} failed: "
            f"{_results(results)}"
        )


def show(
    results: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where runs are.")] = None,
    ours: Annotated[str | None, typer.Option(metavar="NAME", help="Whose lead is judged.")] = None,
    only: Annotated[str, typer.Option(metavar="NAME,...", help="Contestants to compare; all.")] = "",
    group: Annotated[
        str, typer.Option(help="single, conditional, noise, duplicates, zombies, fidelity.")
    ] = "single",
    places: Annotated[str, typer.Option(metavar="25,50", help="Trials at which ranks are told.")] = "",
    need: Annotated[float, typer.Option(help="Least share of the most runs.")] = 0.5,
    by_task: Annotated[
        bool, typer.Option("--by-task", help="Show the mean regret of each task too.")
    ] = False,
    page: Annotated[str | None, typer.Option(metavar="PAGE.HTML", help="Write a page with curves.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show."""
    from foretune.bench.record import Book
    from foretune.bench.summary import summary

    runs = list(Book(_results(results)).runs())
    found = summary(runs, ours, _list(only), group, [float(p) for p in _list(places)], need)
    if page is not None:
        from foretune.report.race_report import write_race

        found["page"] = str(write_race(found, page))
    if as_json:
        print_json(found)
    else:
        _tables(Screen(), found, by_task)


def _tables(screen: Screen, found: dict[str, Any], by_task: bool) -> None:
    seeds = max(c["seeds"] for c in found["contestants"].values())
    screen.say(
        f"{found['group']}: {len(found['tasks'])} tasks, up to {seeds} seeds, {found['rows']} whole rows "
        f"(task and seed that all have run); {found['ours']} is judged",
        style="bold",
    )
    _standings(screen, found, found["standings"], "")
    if found["named"]:
        screen.say("\nBy the config that each method itself names as its best", style="bold")
        _standings(screen, found, found["named"], "named, ")
    screen.say("\nOverhead of the method itself")
    columns = [
        "contestant",
        "version",
        "mean ms a trial",
        "median ms an ask",
        "last ask ms",
        "repeats",
        "runs",
    ]
    rows = []
    for r in found["overhead"]:
        about = found["contestants"][r["contestant"]]
        times = [f"{r[c]:.2f}" for c in columns[2:5]]
        rows.append([r["contestant"], about["version"], *times, f"{about['repeats']:.1%}", r["n"]])
    screen.table(columns, rows, right=range(2, 7))
    if found["losing"]:
        screen.say(f"\nTasks where {found['ours']} is not first")
        columns = ["task", "best", "its rank", "our rank", "its regret", "our regret"]
        rows = [
            [r["task"], r["best"], *(f"{r[c]:.{2 if 'rank' in c else 4}f}" for c in columns[2:])]
            for r in found["losing"]
        ]
        screen.table(columns, rows, right=range(2, 6))
    if found["reach"]:
        screen.say(f"\nHow soon a contestant is as good as another at the end (share of {found['axis']})")
        columns = ["contestant", "as good as", "median share", "within two thirds", "within a tenth"]
        rows = [
            [
                r["contestant"],
                r["as good as"],
                _share(r["median share"]),
                *(f"{r[c]:.0%}" for c in columns[3:]),
            ]
            for r in found["reach"]
        ]
        screen.table(columns, rows, right=range(2, 5))
    if by_task:
        names = list(found["contestants"])
        screen.say(f"\nMean regret at {found['places'][-2]} by task")
        rows = [[task, *(f"{v[n]:.4f}" for n in names)] for task, v in found["by task"].items()]
        screen.table(["task", *names], rows, right=range(1, len(names) + 1))
    if found["group"] == "noise":
        screen.say(
            "\nOptimism: how much better the winner was reported than it is (1 = best to median config)"
        )
        screen.facts(
            {
                n: f"{c['optimism']:.4f}"
                + (
                    ""
                    if math.isnan(c["stated optimism"])
                    else f"; of the config it names {c['stated optimism']:.4f}"
                )
                for n, c in found["contestants"].items()
            }
        )
    for name, why in found["set aside"].items():
        screen.say(f"set aside: {name} ({why})")
    if found["errors"]:
        screen.say(f"{len(found['errors'])} runs ended in an error; the first: {found['errors'][0]}")


def _standings(screen: Screen, found: dict[str, Any], standings: dict[str, Any], prefix: str) -> None:
    for half, tables in standings.items():
        last = tables[found["places"][-2]]
        columns = [
            "contestant",
            *(f"rank at {p}" if p != "anytime" else p for p in tables),
            "regret",
            "p ahead",
        ]
        p = found["ahead"].get(f"{prefix}{half}, {found['places'][-2]}", {})
        rows = []
        for name, regret in zip(last["contestants"], last["regret"], strict=True):
            cells = [
                f"{t['rank'][t['contestants'].index(name)]:.2f}" if name in t["contestants"] else "–"
                for t in tables.values()
            ]
            rows.append([name, *cells, f"{regret:.4f}", f"{p[name]:.4f}" if name in p else ""])
        lead = f"; ahead of the best peer with p {p['best peer']:.4f}" if "best peer" in p else ""
        screen.say(
            f"\n{half}: {last['tasks']} tasks, critical difference {last['difference']:.2f}, "
            f"Friedman p {last['p_equal']:.2g}{lead}"
        )
        screen.table(columns, rows, right=range(1, len(columns)))


def _share(value: float) -> str:
    return f"{value:.2f}" if value <= 1.0 else "not reached"


def tasks(
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Families, tasks, patterns.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="FOLDER", help="Published tables.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List tasks."""
    from foretune.bench.tasks import find

    found = find(patterns or ["*"], data)
    if as_json:
        print_json([{"name": t.name, "group": t.group, "half": t.half} for t in found])
        return
    Screen().table(("task", "group", "half"), [(t.name, t.group, t.half) for t in found])


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, epilog=GROUP_EPILOG,
        help="Race search methods on tasks with known answers.",
    )  # fmt: skip
    for name, command, text, epilog in (
        ("race", race, "Run contestants on tasks, and append what is new to the results.", RACE_EPILOG),
        ("show", show, "Show ranks, critical difference, p-values, overhead, and where ours loses.", SHOW_EPILOG),
        ("tasks", tasks, "List tasks, with the half of the split that each belongs to.", TASKS_EPILOG),
    ):  # fmt: skip
        group.command(name, help=text, epilog=epilog)(command)
    app.add_typer(group, name="bench")
