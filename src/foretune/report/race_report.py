"""The page of a race: ranks of both halves, anytime curves, regret by task, overhead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretune.report.figures.race import anytime_curves, rank_lines
from foretune.report.page import Badge, Card, Inline, Page, Strong
from foretune.report.words import number, plural
from foretune.report.write import _write

__all__ = ["race_report", "write_race"]


def race_report(found: Mapping[str, Any], title: str = "A race of search methods") -> str:
    """Return one self-contained HTML page.

    Args:
        found: what ``foretune.bench.summary.summary`` gives.
        title: of the page.
    """
    ours, place = str(found["ours"]), found["places"][-2]
    tables = found["standings"]
    whole = next(iter(tables.values()))[place]
    seeds = max((c["seeds"] for c in found["contestants"].values()), default=0)
    page = Page(
        title, f"{plural(len(found['tasks']), 'task')}, up to {plural(seeds, 'seed')}; group {found['group']}"
    )
    cards = [
        Card(
            "First",
            str(whole["contestants"][0]),
            f"average rank {whole['rank'][0]:.2f} at {place}",
            main=True,
        )
    ]
    for half, table in tables.items():
        p = found["ahead"].get(f"{half}, {place}", {}).get("best peer")
        if p is not None and ours in table[place]["contestants"]:
            rank = table[place]["rank"][table[place]["contestants"].index(ours)]
            word = "ahead" if p < 0.05 else "not ahead"
            tone = "good" if p < 0.05 else "warn"
            cards.append(
                Card(
                    f"{ours}, {half}",
                    f"rank {rank:.2f}",
                    f"ahead of the best peer with p {p:.3g}",
                    Badge(word, tone),
                )
            )
    page.cards(cards)
    page.section("Standings")
    page.paragraph(
        "Rank 1 is the best; ties share. Ranks are averages over seeds, then tasks. Two contestants whose ranks "
        "are closer than the critical difference may be equal. Regret 0 is the best there is on a task, 1 the median "
        "config. "
        f"p: that {ours} has no better average rank (bootstrap over tasks, and seeds within them).",
        kind="note",
    )
    _standings(page, found, tables, "")
    if found.get("named"):
        page.section("By what they name")
        page.paragraph(
            "Losses are noisy here. These are the ranks by the config that each method itself names as its best, which "
            "need not be the one with the best reported loss.",
            kind="note",
        )
        _standings(page, found, found["named"], "named, ")
    page.section("Anytime")
    page.figure(
        anytime_curves(found["curves"], ours, found["axis"]),
        "Mean normalised regret of the incumbent (seeds, then tasks).",
    )
    if found["reach"]:
        columns = ["contestant", "as good as", "median share", "within two thirds", "within a tenth"]
        page.table(
            columns,
            [[r["contestant"], r["as good as"],
              round(r["median share"], 2) if r["median share"] <= 1.0 else "not reached",
              *(f"{100 * r[c]:.0f} %" for c in columns[3:])]
             for r in found["reach"]],
            f"How soon each is as good as another at the end: shares of the length ({found['axis']}), by task.",
            text=(0, 1),
        )  # fmt: skip
    page.section("By task")
    names = list(whole["contestants"])
    page.table(
        ["task", *names],
        [
            [task, *(Strong(number(v[n], 3)) if v[n] == min(v.values()) else v[n] for n in names)]
            for task, v in found["by task"].items()
        ],
        f"Mean normalised regret at {place}; the best of each task is strong.",
    )
    page.section("Overhead")
    page.table(
        ["contestant", "version", "mean ms a trial", "median ms an ask", "last ask, ms", "repeated configs", "runs"],
        [
            [r["contestant"], found["contestants"][r["contestant"]]["version"], r["mean ms a trial"],
             r["median ms an ask"], r["last ask ms"],
             f"{100 * found['contestants'][r['contestant']]['repeats']:.1f} %", r["n"]]
            for r in found["overhead"]
        ],
        "Seconds inside the method, on one thread; training is not counted.",
        text=(0, 1),
    )  # fmt: skip
    if found["errors"] or found["set aside"]:
        page.section("What is missing")
        for name, why in found["set aside"].items():
            page.paragraph(Strong(name), f" is set aside: {why}.")
        if found["errors"]:
            page.table(
                ["task", "contestant", "seed", "error"],
                [[e["task"], e["contestant"], e["seed"], e["error"]] for e in found["errors"][:100]],
                text=(0, 1, 3),
            )
    with page.details("All of it as JSON"):
        page.json(dict(found))
    return page.html()


def write_race(found: Mapping[str, Any], path: str | Path, title: str = "A race of search methods") -> Path:
    """Write the page to a file; returns its absolute path."""
    return _write(race_report(found, title), path)


def _standings(page: Page, found: Mapping[str, Any], tables: Mapping[str, Any], prefix: str) -> None:
    """Add a figure and a table for each half."""
    ours, place = str(found["ours"]), found["places"][-2]
    for half, by_place in tables.items():
        page.heading(half.capitalize())
        last = by_place[place]
        p_values = found["ahead"].get(f"{prefix}{half}, {place}", {})
        page.figure(rank_lines(last, ours), f"Average ranks at {place}; the bar is the critical difference.")
        columns = [
            "contestant",
            *(p if p == "anytime" else f"rank at {p}" for p in by_place),
            "regret",
            f"p ({ours} ahead)",
        ]
        rows: list[list[Inline]] = []
        for name, regret in zip(last["contestants"], last["regret"], strict=True):
            ranks: list[Inline] = [
                round(t["rank"][t["contestants"].index(name)], 2) if name in t["contestants"] else None
                for t in by_place.values()
            ]
            shown = Strong(name) if name == ours else name
            rows.append([shown, *ranks, regret, p_values.get(name)])
        caption = (
            f"{plural(last['tasks'], 'task')}, {last['runs']} whole rows; "
            f"critical difference {last['difference']:.2f}"
        )
        page.table(columns, rows, caption)
