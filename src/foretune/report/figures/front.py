"""The figure of several goals: every trial by two of them, and the front that none is better than."""

from __future__ import annotations

import math

from foretune.report.figures.style import FAINT, GOOD, MAIN, Figure, axis, blank, canvas, fade, with_unit
from foretune.report.words import number
from foretune.trial.history import History
from foretune.trial.trial import COMPLETE

__all__ = ["front_of_goals"]


def _range(front: list[float], all_values: list[float]) -> list[float]:
    """Return an axis range: the front, and around it what lies within twice its extent."""
    near = front or all_values
    room = 2.0 * (max(near) - min(near)) or max(all_values) - min(all_values) or abs(near[0]) or 1.0
    kept = [v for v in all_values if min(near) - room <= v <= max(near) + room]
    pad = 0.06 * (max(kept) - min(kept) or room)
    return [min(kept) - pad, max(kept) + pad]


def front_of_goals(history: History, front: list[int], *, limit: int = 2000) -> Figure:
    """Draw the complete trials by the first two goals, and those of the front among them.

    Args:
        history: of a study with two goals or more.
        front: numbers of the trials on the front; with two goals they are joined by steps.
        limit: the most dots drawn beside the front: an even sample of the others.
    """
    goals = history.problem.goals[:2]
    x, y = (history.losses[:, k] * goals[k].sign for k in range(2))
    done = [n for n in history.numbers(COMPLETE) if math.isfinite(x[n]) and math.isfinite(y[n])]
    if not done:
        return blank("No complete trial has a value of each goal yet.")
    feasible, ahead = history.feasible, set(front)
    titles = [with_unit(g.metric, "" if g.unit == "1" else g.unit) for g in goals]
    ranges = [_range([float(v[n]) for n in front], [float(v[n]) for n in done]) for v in (x, y)]
    figure = canvas(380, xaxis=axis(titles[0], range=ranges[0]), yaxis=axis(titles[1], range=ranges[1]))

    def draw(name: str, numbers: list[int], colour: str, **more: object) -> None:
        if not numbers:
            return
        hover = [f"trial {n}<br>{titles[0]} {number(x[n])}<br>{titles[1]} {number(y[n])}" for n in numbers]
        figure.add_scatter(
            x=[x[n] for n in numbers], y=[y[n] for n in numbers], name=name, text=hover,
            hovertemplate="%{text}<extra></extra>",
            **{"mode": "markers", "marker": {"size": 7, "color": colour}, **more},
        )  # fmt: skip

    others = [n for n in done if n not in ahead]
    others = others[:: max(1, math.ceil(len(others) / limit))]
    draw("breaks a constraint", [n for n in others if not feasible[n]], fade(FAINT, 0.55))
    draw("complete", [n for n in others if feasible[n]], MAIN)
    joined = len(history.problem.goals) == 2
    draw(
        "front", sorted(ahead, key=lambda n: float(x[n])), GOOD, mode="lines+markers" if joined else "markers",
        line={"shape": "hv" if goals[0].sign > 0 else "vh", "color": GOOD, "width": 1.6},
        marker={"size": 9, "color": GOOD},
    )  # fmt: skip
    return figure
