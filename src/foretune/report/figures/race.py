"""Figures of races: anytime curves, and average ranks with their critical difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foretune.report.figures.style import FAINT, MAIN, PALETTE, Figure, axis, blank, canvas, log_axis, safe

__all__ = ["anytime_curves", "rank_lines"]

DASHES = ("solid", "dash", "dot", "dashdot")  # a second mark, where colours repeat


def anytime_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], ours: str = "", unit: str = "trials"
) -> Figure:
    """Draw mean regret against trials (or seconds), one line a contestant, ours the strongest.

    Args:
        curves: contestant -> (place, regret) points.
        ours: whose line is drawn strong.
        unit: of the places.
    """
    known = {name: [(x, y) for x, y in points if y == y] for name, points in curves.items()}
    if not any(known.values()):
        return blank("There is no run yet.")
    values = [max(y, 1e-6) for points in known.values() for _, y in points]
    figure = canvas(460, xaxis=axis(unit, rangemode="tozero"), yaxis=log_axis("normalised regret", values))
    others = [n for n in known if n != ours]
    for i, name in enumerate([*others, *([ours] if ours in known else [])]):
        mine = name == ours
        figure.add_scatter(
            x=[x for x, _ in known[name]],
            y=[max(y, 1e-6) for _, y in known[name]],
            mode="lines",
            name=safe(name),
            line={
                "color": MAIN if mine else PALETTE[1 + i % (len(PALETTE) - 1)],
                "width": 3.5 if mine else 1.8,
                "dash": DASHES[0] if mine else DASHES[i // (len(PALETTE) - 1) % len(DASHES)],
            },
            hovertemplate=f"{safe(name)}: %{{y:.4f}} at %{{x:.4g}}<extra></extra>",
        )
    return figure


def rank_lines(standings: Mapping[str, Any], ours: str = "") -> Figure:
    """Draw average ranks with their standard errors, and a bar as long as the critical difference.

    Args:
        standings: of one place: contestants, rank, error, difference.
        ours: whose mark is drawn strong.
    """
    names = [safe(n) for n in standings["contestants"]]
    if not names:
        return blank("There is no run yet.")
    figure = canvas(
        110 + 26 * len(names),
        showlegend=False,
        margin={"l": 8, "r": 24, "t": 20, "b": 52},
        xaxis=axis("average rank (1 is best)"),
        yaxis=axis("", type="category", autorange="reversed", ticks="", showline=False),
    )
    error = [e if e == e else 0.0 for e in standings["error"]]
    figure.add_scatter(
        x=list(standings["rank"]),
        y=names,
        mode="markers",
        marker={"size": 11, "color": [MAIN if n == safe(ours) else FAINT for n in names]},
        error_x={"type": "data", "array": error, "thickness": 1.5, "width": 4, "color": FAINT},
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )
    difference = float(standings["difference"])
    if difference == difference:
        low = float(standings["rank"][0])
        figure.add_scatter(
            x=[low, low + difference],
            y=[names[0], names[0]],
            mode="lines",
            line={"color": PALETTE[1], "width": 3},
            hovertemplate=f"critical difference {difference:.2f}<extra></extra>",
        )
    return figure
