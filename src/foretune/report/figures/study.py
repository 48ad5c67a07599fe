"""Figures of a study: best so far, rungs, and each parameter against the goal."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from foretune.base.lazy import require
from foretune.report.figures.style import (
    FAINT,
    GOOD,
    MAIN,
    WARN,
    Figure,
    axis,
    blank,
    canvas,
    edge_marks,
    fade,
    finite,
    log_axis,
    restyle,
    robust_range,
    safe,
)
from foretune.report.words import count, number, short
from foretune.trial.history import History
from foretune.trial.trial import COMPLETE, PAUSED, STOPPED

__all__ = ["best_so_far", "goal_title", "parameters_against_loss", "rungs", "rungs_of", "spread"]

PANELS = 12  # parameter panels drawn at most: beyond that a page is no longer looked at


def goal_title(history: History) -> str:
    """Name the first goal with its unit."""
    goal = history.problem.goal
    return goal.metric if goal.unit == "1" else f"{goal.metric} [{goal.unit}]"


def spread(numbers: Sequence[int], limit: int) -> list[int]:
    """Return at most ``limit`` of the numbers, evenly spread, first and last kept.

    >>> spread(range(10), 4)
    [0, 3, 6, 9]
    """
    n = len(numbers)
    if n <= limit:
        return list(numbers)
    return [numbers[round(i * (n - 1) / max(1, limit - 1))] for i in range(limit)]


def _beyond(values: Sequence[float], sign: float) -> tuple[float, float, float]:
    """Return the axis range of raw values and its bad edge, where failures are marked."""
    low, high = robust_range([sign * v for v in values])
    return (low, high, high) if sign > 0 else (-high, -low, -high)


def _config_hover(config: Any, most: int = 8) -> str:
    lines = [safe(f"{k} = {short(v)}") for k, v in list(config.items())[:most]]
    return "<br>".join(lines) + ("<br>…" if len(config) > most else "")


def best_so_far(history: History, *, limit: int = 2000) -> Figure:
    """Draw every trial's last value in the order in which trials settled, and the best complete one so far.

    Trials that break a constraint are drawn apart, and are not the best.

    Args:
        history: of the study.
        limit: the most dots drawn; beyond it, an even sample (the best line stays exact).
    """
    goal = history.problem.goal
    order = {n: i + 1 for i, n in enumerate(dict.fromkeys(reversed(history.settled)))}
    total = len(order)
    order = {n: total + 1 - i for n, i in order.items()}
    if not order:
        return blank("No trial has settled yet.")
    numbers = sorted(order, key=order.__getitem__)
    states = {s: set(history.numbers(s)) for s in (COMPLETE, STOPPED, PAUSED)}
    loss = {n: history.loss(n) for n in numbers}
    known = [goal.sign * v for v in loss.values() if math.isfinite(v)]
    low, high, edge = _beyond(known, goal.sign)
    figure = canvas(
        380,
        xaxis=axis("trials settled, in order", rangemode="tozero", tickformat=",d"),
        yaxis=axis(goal_title(history), range=[low, high]),
    )
    sample = spread(numbers, limit)
    feasible = history.feasible
    done = {n for n in states[COMPLETE] if feasible[n]}
    for name, members, colour, size in (
        ("stopped or paused early", states[STOPPED] | states[PAUSED], fade(FAINT, 0.55), 6),
        ("breaks a constraint", states[COMPLETE] - done, fade(WARN, 0.7), 6),
        ("complete", done, MAIN, 7),
    ):
        shown = [n for n in sample if n in members and math.isfinite(loss[n])]
        inside = [n for n in shown if low <= goal.sign * loss[n] <= high]
        if inside:
            figure.add_scatter(
                x=[order[n] for n in inside],
                y=[goal.sign * loss[n] for n in inside],
                mode="markers",
                name=name,
                marker={"size": size, "color": colour},
                text=[
                    f"trial {n}: {number(goal.sign * loss[n])}<br>{_config_hover(history[n].config)}"
                    for n in inside
                ],
                hovertemplate="%{text}<extra></extra>",
            )
    trace: list[tuple[float, float]] = []
    for n in numbers:
        if n in done and math.isfinite(loss[n]) and (not trace or goal.sign * trace[-1][1] > loss[n]):
            trace.append((order[n], goal.sign * loss[n]))
    if trace:
        xs, ys = [x for x, _ in trace] + [total], [y for _, y in trace] + [trace[-1][1]]
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": GOOD, "width": 2.4},
            hovertemplate="best so far %{y:.5g}<extra></extra>",
        )
    lost = [
        n
        for n in sample
        if loss[n] == math.inf or (math.isfinite(loss[n]) and not low <= goal.sign * loss[n] <= high)
    ]
    if lost:
        texts = [f"trial {n}: {_why(history, n)}" for n in lost]
        figure.add_trace(
            edge_marks([order[n] for n in lost], edge, texts, "failed, diverged or off the scale")
        )
    return figure


def _why(history: History, n: int) -> str:
    trial = history[n]
    value = history.problem.goal.sign * history.loss(n)
    said = trial.failure or (number(value) if math.isfinite(value) else "diverged")
    return safe(short(said, width=90))


def rungs_of(history: History, most: int = 12) -> list[float]:
    """Return the steps where trials were compared: the ends of their plans, the commonest first kept."""
    tally: dict[float, int] = {}
    for trial in history:
        if trial.plan.until > 0:
            tally[trial.plan.until] = tally.get(trial.plan.until, 0) + 1
    kept = sorted(tally, key=lambda s: (-tally[s], s))[:most]
    return sorted(kept)


def rungs(history: History, levels: Sequence[float] | None = None, *, limit: int = 300) -> Figure:
    """Draw losses at each rung: a line a trial, as far as it came; counts above.

    Args:
        history: of the study.
        levels: the rungs' steps; by default the ends of the trials' plans.
        limit: the most lines drawn; beyond it, an even sample (counts stay exact).
    """
    goal = history.problem.goal
    steps = sorted(levels) if levels is not None else rungs_of(history)
    paths: dict[int, list[tuple[float, float]]] = {}
    counts = dict.fromkeys(steps, 0)
    for n in range(len(history)):
        at, losses = history.curve(n)
        path = []
        for level in steps:
            i = bisect.bisect_left(at, level)
            if i < len(at):
                counts[level] += 1
                path.append((level, losses[i]))
        if path:
            paths[n] = path
    if not paths:
        return blank("No trial has reached a rung yet.")
    values = [goal.sign * v for p in paths.values() for _, v in p if math.isfinite(v)]
    low, high, _ = _beyond(values, goal.sign)
    unit = history.problem.steps.unit
    reached = [s for s in steps if counts[s]]
    figure = canvas(
        400,
        xaxis=log_axis(unit, reached, text=count) if len(reached) > 1 else axis(unit),
        yaxis=axis(goal_title(history), range=[low, high]),
        margin={"l": 64, "r": 24, "t": 66, "b": 56},
        legend={"orientation": "h", "x": 0, "y": 1.1, "yanchor": "bottom"},
    )
    if len(reached) > 1:
        gaps = [math.log(b / a) for a, b in pairwise(reached)]
        if min(gaps) > 0.06 * math.log(reached[-1] / reached[0]):
            figure.update_xaxes(tickmode="array", tickvals=reached, ticktext=[count(s) for s in reached])
    complete = set(history.numbers(COMPLETE))
    sample = spread(sorted(paths), limit)
    alpha = max(0.2, min(0.85, 15 / max(1, sum(n in complete for n in sample))))
    for name, members, colour, width in (
        ("came part of the way", [n for n in sample if n not in complete], fade(FAINT, 0.45), 1.1),
        ("complete", [n for n in sample if n in complete], fade(MAIN, alpha), 1.6),
    ):
        x: list[float | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for n in members:
            for level, value in paths[n]:
                x.append(level)
                y.append(goal.sign * value if math.isfinite(value) else None)
                texts.append(f"trial {n} at {level:,g} {unit}: {number(goal.sign * value)}")
            x.append(None)
            y.append(None)
            texts.append("")
        if x:
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines+markers",
                name=name,
                line={"color": colour, "width": width},
                marker={"size": 5, "color": colour},
                text=texts,
                hovertemplate="%{text}<extra></extra>",
            )
    previous = -math.inf
    span = math.log(reached[-1] / reached[0]) if len(reached) > 1 and reached[0] > 0 else 1.0
    for level in reached:
        here = math.log(level) if level > 0 else -math.inf
        if here - previous < 0.05 * span:
            continue
        previous = here
        figure.add_annotation(
            x=math.log10(level) if len(reached) > 1 else level,
            xref="x",
            y=1,
            yref="paper",
            yanchor="bottom",
            text=f"{counts[level]:,}",
            showarrow=False,
            font={"size": 12},
        )
    return figure


def _panels(history: History) -> list[tuple[str, str, int | None, bool]]:
    """List (title, parameter, part of a simplex, logarithmic) of each panel."""
    found: list[tuple[str, str, int | None, bool]] = []
    for name, domain in history.space.items():
        if domain.type == "constant":
            continue
        if domain.type == "simplex":
            parts = getattr(domain, "values", ())
            found += [(f"{name}: {part}", name, i, False) for i, part in enumerate(parts)]
        else:
            found.append((name, name, None, bool(getattr(domain, "log", False))))
    return found


def parameters_against_loss(history: History, *, limit: int = 1000) -> Figure:
    """Draw each parameter's values against the goal: one small panel a parameter, the best starred.

    Args:
        history: of the study.
        limit: the most trials drawn; beyond it, an even sample and the best.
    """
    goal = history.problem.goal
    every = [n for n in range(len(history)) if math.isfinite(history.loss(n))]
    panels = _panels(history)[:PANELS]
    if not every or not panels:
        return blank("No trial has a finite value yet." if panels else "The space has nothing to vary.")
    best = history.best
    numbers = spread(every, limit)
    if best is not None and best.number not in numbers:
        numbers.append(best.number)
    complete = set(history.numbers(COMPLETE))
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    subplots = require("plotly.subplots", "A figure")
    height = 70 + 235 * lines
    figure = subplots.make_subplots(
        rows=lines,
        cols=columns,
        shared_yaxes=True,
        horizontal_spacing=0.045,
        vertical_spacing=min(0.5, 74 / height) if lines > 1 else 0,
    )
    restyle(figure, height, margin={"l": 64, "r": 16, "t": 44, "b": 56})
    losses = {n: goal.sign * history.loss(n) for n in numbers}
    low, high, _ = _beyond([goal.sign * history.loss(n) for n in every], goal.sign)
    figure.update_yaxes(axis("", range=[low, high]))
    configs = {n: history[n].config for n in numbers}
    for k, (title, name, part, log) in enumerate(panels):
        row, col = k // columns + 1, k % columns + 1
        active = [n for n in numbers if name in configs[n]]
        raw = [configs[n][name] if part is None else configs[n][name][part] for n in active]
        numeric = history.space[name].type in ("float", "int", "simplex")
        xs: list[Any] = [float(v) if numeric else safe(short(v, width=18)) for v in raw]
        if not numeric:
            values = [safe(short(v, width=18)) for v in getattr(history.space[name], "values", ())]
            figure.update_xaxes(
                axis(safe(title), type="category", categoryorder="array", categoryarray=values),
                row=row,
                col=col,
            )
        elif log and any(v > 0 for v in xs):
            ends = [getattr(history.space[name], "low", 0), getattr(history.space[name], "high", 0)]
            sparse = log_axis(safe(title), [*xs, *finite(ends)], tickangle=0)
            ticks = sparse.get("tickvals", [])
            if len(ticks) > 4:
                kept = spread(range(len(ticks)), 4)
                sparse["tickvals"] = [ticks[i] for i in kept]
                sparse["ticktext"] = [sparse["ticktext"][i] for i in kept]
            figure.update_xaxes(sparse, row=row, col=col)
        else:
            figure.update_xaxes(axis(safe(title), nticks=5), row=row, col=col)
        if col == 1:
            figure.update_yaxes(title={"text": goal_title(history)}, row=row, col=col)
        for label, members, colour in (
            ("part of the way", [i for i, n in enumerate(active) if n not in complete], fade(FAINT, 0.45)),
            ("complete", [i for i, n in enumerate(active) if n in complete], fade(MAIN, 0.75)),
        ):
            figure.add_scatter(
                x=[xs[i] for i in members],
                y=[losses[active[i]] for i in members],
                mode="markers",
                name=label,
                legendgroup=label,
                showlegend=k == 0 and bool(members),
                marker={"size": 6, "color": colour},
                text=[f"trial {active[i]}: {number(losses[active[i]])}" for i in members],
                hovertemplate="%{text}<br>%{x}<extra></extra>",
                row=row,
                col=col,
            )
        if best is not None and best.number in active:
            i = active.index(best.number)
            figure.add_scatter(
                x=[xs[i]],
                y=[losses[best.number]],
                mode="markers",
                name=f"best (trial {best.number})",
                legendgroup="best",
                showlegend=k == 0,
                marker={"symbol": "star", "size": 14, "color": GOOD},
                hovertemplate=f"best: trial {best.number}<br>%{{x}}<extra></extra>",
                row=row,
                col=col,
            )
    for empty in range(len(panels), lines * columns):
        figure.update_xaxes(visible=False, row=empty // columns + 1, col=empty % columns + 1)
        figure.update_yaxes(visible=False, row=empty // columns + 1, col=empty % columns + 1)
    return figure
