"""Plotly figures as pure functions of plain data: one palette, units on the axes, readable hover."""

from foretune.report.figures.comparison import budget_bars, comparison_bars
from foretune.report.figures.coordinate import CoordinateRow, coordinate_check
from foretune.report.figures.front import front_of_goals
from foretune.report.figures.law import law_with_target
from foretune.report.figures.study import best_so_far, parameters_against_loss, rungs
from foretune.report.figures.sweep import lr_against_loss
from foretune.report.figures.training import Curve, learning_curves

__all__ = [
    "CoordinateRow",
    "Curve",
    "best_so_far",
    "budget_bars",
    "comparison_bars",
    "coordinate_check",
    "front_of_goals",
    "law_with_target",
    "learning_curves",
    "lr_against_loss",
    "parameters_against_loss",
    "rungs",
]
