"""All that a race has to say, as plain data: for the terminal, for a page, for a program."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.bench.record import Run, newest
from foretune.bench.standings import ahead, cube, is_peer, losing_tasks, standings
from foretune.bench.task import DEVELOPMENT, HELD_OUT

__all__ = ["PLACES", "summary"]

PLACES = (10, 25, 50, 100, 200)  # trials at which ranks are told
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the length, in races over time
REACH = 60  # places at which curves are compared
POINTS = 40  # of each anytime curve
BOTH = "both halves"


def summary(
    runs: Sequence[Run],
    ours: str | None = None,
    only: Sequence[str] = (),
    group: str = "single",
    places: Sequence[float] = (),
    need: float = 0.5,
    key: Key | None = None,
) -> dict[str, Any]:
    """Summarise the runs of one group of tasks.

    Args:
        runs: of a book; old versions of a contestant are left out.
        ours: whose p-values and losses are told; the best ranked of Foretune's by default.
        only: contestants to compare; all by default.
        group: "single", "conditional", "noise", "duplicates", "zombies", "fidelity".
        places: trials (in races over time: full runs) at which ranks are told.
        need: contestants with less than this share of the most runs are set aside.
        key: of the bootstrap.

    Returns:
        "standings": half -> place -> table; "ahead": place -> p-values; "overhead": rows; "losing": rows;
        "named": in noisy races half -> place -> table of the configs that the methods themselves name as their best;
        "reach": how soon each has the last quality of random search and of the best peer;
        "curves": contestant -> (place, mean regret); "tasks", "errors", "set aside".
    """
    kept = newest([r for r in runs if r.group == group and (not only or r.contestant in only)])
    if not kept:
        have = sorted({r.group for r in runs})
        raise ArgumentError(
            f"There is no run of the group {group!r}; there are runs of: {', '.join(have) or 'none'}."
        )
    longest = statistics.multimode([r.length for r in kept])[0]
    usual = PLACES if kept[0].axis == "trials" else [longest * share for share in SHARES]
    at: list[float | str] = [p for p in (places or usual) if p <= longest]
    at = [*(at or [longest]), "anytime"]
    tables: dict[str, dict[str, Any]] = {}
    p_values: dict[str, dict[str, float]] = {}
    whole = cube(kept, at[-2], need)
    if ours is None or ours not in whole.contestants:
        order = standings(whole).contestants
        ours = ours or next((c for c in order if not is_peer(c)), order[0])
    for half in (BOTH, DEVELOPMENT, HELD_OUT):
        part = [r for r in kept if half in (BOTH, r.half)]
        if not part:
            continue
        tables[half] = {}
        for place in at:
            found = cube(part, place, need)
            tables[half][_word(place)] = dataclasses.asdict(standings(found))
            if len(found.contestants) > 1 and ours in found.contestants:
                p_values[f"{half}, {_word(place)}"] = ahead(found, ours, key or Key.of(0))
    names = whole.contestants
    named, named_p = _named(kept, [p for p in at if p != "anytime"], ours, need, key or Key.of(0))
    p_values |= named_p
    return {
        "group": group,
        "ours": ours,
        "places": [_word(p) for p in at],
        "standings": tables,
        "ahead": p_values,
        "named": named,
        "overhead": _overhead(kept, names),
        "losing": losing_tasks(whole, ours) if ours in names else [],
        "curves": _curves(kept, names, whole.rows),
        "reach": _reach(kept, names, whole.rows, float(at[-2])),
        "axis": kept[0].axis,
        "by task": _by_task(kept, names, whole.rows, float(at[-2])),
        "tasks": list(whole.tasks),
        "rows": len(whole.rows),
        "contestants": {c: _about(kept, c) for c in names},
        "set aside": dict(whole.set_aside),
        "errors": [
            {"task": r.task, "contestant": r.contestant, "seed": r.seed, "error": r.error}
            for r in kept
            if r.error
        ],
    }


def _named(
    runs: Sequence[Run], places: Sequence[float | str], ours: str, need: float, key: Key
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, float]]]:
    """Rank by the configs that the methods name, where runs have them; tables, and p-values by "named, half, place"."""
    tables: dict[str, dict[str, Any]] = {}
    p_values: dict[str, dict[str, float]] = {}
    for half in (BOTH, DEVELOPMENT, HELD_OUT):
        part = [r for r in runs if r.named and half in (BOTH, r.half)]
        for place in places if part else ():
            found = cube(part, place, need, named=True)
            tables.setdefault(half, {})[_word(place)] = dataclasses.asdict(standings(found))
            if len(found.contestants) > 1 and ours in found.contestants:
                p_values[f"named, {half}, {_word(place)}"] = ahead(found, ours, key)
    return tables, p_values


def _word(place: float | str) -> str:
    return place if isinstance(place, str) else f"{place:g}"


def _about(runs: Sequence[Run], name: str) -> dict[str, Any]:
    mine = [r for r in runs if r.contestant == name]
    trials = sum(r.trials for r in mine)
    return {
        "version": mine[0].version, "runs": len(mine), "tasks": len({r.task for r in mine}),
        "seeds": len({r.seed for r in mine}),
        "optimism": float(np.mean([r.optimism / (r.scale[1] - r.scale[0]) for r in mine if r.trace] or [math.nan])),
        "stated optimism": float(
            np.mean([r.stated_optimism / (r.scale[1] - r.scale[0]) for r in mine if r.named] or [math.nan])
        ),
        "repeats": sum(r.repeats for r in mine) / max(trials, 1),
        "failed trials": sum(r.failures for r in mine) / max(trials, 1), "errors": sum(bool(r.error) for r in mine),
    }  # fmt: skip


def _overhead(runs: Sequence[Run], names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        mine = [r for r in runs if r.contestant == name and not r.error and r.trials]
        row: dict[str, Any] = {
            "contestant": name,
            "mean ms a trial": 1e3 * float(np.mean([r.ask[0] / r.trials for r in mine])),
            "median ms an ask": 1e3 * float(np.median([r.ask[1] for r in mine])),
            "last ask ms": 1e3 * float(np.median([r.ask[2] for r in mine])),
            "n": len(mine),
        }
        rows.append(row)
    return sorted(rows, key=lambda r: float(r["mean ms a trial"]))


def _curves(
    runs: Sequence[Run], names: Sequence[str], rows: Sequence[tuple[str, int]]
) -> dict[str, list[tuple[float, float]]]:
    """Mean regret over whole rows (seeds, then tasks), by place."""
    by = {(r.contestant, r.task, r.seed): r for r in runs}
    least = min(by[n, t, s].length for n in names for t, s in rows)
    whole = all(by[n, t, s].axis == "trials" for n in names for t, s in rows)
    grid = np.linspace(least / POINTS, least, POINTS)
    grid = np.unique(np.maximum(np.round(grid), 1.0)) if whole else grid
    tasks = sorted({t for t, _ in rows})
    return {
        n: [
            (float(x), float(np.mean([np.mean([by[n, t, s].regret(x) for t2, s in rows if t2 == t]) for t in tasks])))
            for x in grid
        ]
        for n in names
    }  # fmt: skip


def _reach(
    runs: Sequence[Run], names: Sequence[str], rows: Sequence[tuple[str, int]], length: float
) -> list[dict[str, Any]]:
    """Tell how soon each contestant's mean curve of a task is as low as a reference's at the end.

    The references are random search and the peer with the least mean regret on that task. A share of 1 is the whole
    length; tasks on which it is not reached count as more than that.
    """
    by = {(r.contestant, r.task, r.seed): r for r in runs}
    grid = np.linspace(length / REACH, length, REACH)
    curve: dict[tuple[str, str], Any] = {}
    tasks = list(dict.fromkeys(t for t, _ in rows))
    for task in tasks:
        for name in names:
            mine = [by[name, t, s] for t, s in rows if t == task]
            curve[name, task] = np.mean([[r.regret(x) for x in grid] for r in mine], axis=0)
    random = [n for n in names if n in ("random", "random+full")]
    peers = [n for n in names if is_peer(n)]
    found = []
    for word, pool in (("random search", random), ("the best peer", peers)):
        for name in names if pool else ():
            shares = []
            for task in tasks:
                rivals = [n for n in pool if n != name] or pool
                target = min(float(curve[n, task][-1]) for n in rivals)
                there = np.flatnonzero(curve[name, task] <= target + 1e-12)
                shares.append(float(grid[there[0]] / length) if there.size else math.inf)
            found.append({
                "contestant": name, "as good as": word, "median share": float(np.median(shares)),
                "within two thirds": float(np.mean([s <= 2 / 3 + 1e-9 for s in shares])),
                "within a tenth": float(np.mean([s <= 0.1 + 1e-9 for s in shares])), "tasks": len(tasks),
            })  # fmt: skip
    return found


def _by_task(
    runs: Sequence[Run], names: Sequence[str], rows: Sequence[tuple[str, int]], place: float
) -> dict[str, Mapping[str, float]]:
    by = {(r.contestant, r.task, r.seed): r for r in runs}
    return {
        task: {n: float(np.mean([by[n, task, s].regret(place) for t, s in rows if t == task])) for n in names}
        for task in dict.fromkeys(t for t, _ in rows)
    }
