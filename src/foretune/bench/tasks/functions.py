"""Ten analytic functions whose boxes are moved and rotated by each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base.key import Key
from foretune.bench.task import Family, Instance, Outcome
from foretune.space.domain import Float
from foretune.space.space import Space

__all__ = ["Functions", "rotation"]

__entry__ = "Functions"

Array = NDArray[np.float64]

MARGIN = 0.1  # the optimum keeps this share of the box's width from each face
DRAWS = 1024  # random configs whose median loss is regret 1


@dataclass(frozen=True)
class _Function:
    """A function whose minimum over all of R^d is known.

    Attributes:
        f: x (d,) -> value.
        width: (d,) of the box in which the literature searches it.
        argmin: (d,) one of its minimisers.
        minimum: its least value.
    """

    f: Callable[[Array], float]
    width: Array
    argmin: Array
    minimum: float


def _branin(x: Array) -> float:
    a, b = x
    first = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return float(first**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10)


def _camel(x: Array) -> float:
    a, b = x
    return float((4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2)


_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A3 = np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]], dtype=float)
_P3 = 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])
_A6 = np.array([
    [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
])  # fmt: skip
_P6 = 1e-4 * np.array([
    [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
])  # fmt: skip


def _hartmann(a: Array, p: Array) -> Callable[[Array], float]:
    return lambda x: float(-(_ALPHA * np.exp(-(a * (x - p) ** 2).sum(axis=1))).sum())


def _ackley(x: Array) -> float:
    first = -20 * math.exp(-0.2 * math.sqrt((x**2).mean()))
    return float(first - math.exp(np.cos(2 * np.pi * x).mean()) + 20 + math.e)


def _rosenbrock(x: Array) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def _levy(x: Array) -> float:
    w = 1 + (x - 1) / 4
    middle = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)).sum()
    return float(np.sin(np.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2))


def _rastrigin(x: Array) -> float:
    return float((x**2 - 10 * np.cos(2 * np.pi * x) + 10).sum())


def _griewank(x: Array) -> float:
    return float((x**2).sum() / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, len(x) + 1)))) + 1)


def _styblinski(x: Array) -> float:
    return float(0.5 * (x**4 - 16 * x**2 + 5 * x).sum())


def _even(f: Callable[[Array], float], d: int, width: float, at: float, minimum: float) -> _Function:
    return _Function(f, np.full(d, width), np.full(d, at), minimum)


# Boxes and minima: Surjanovic and Bingham's Virtual Library of Simulation Experiments, minima polished here.
FUNCTIONS: Mapping[str, _Function] = {
    "branin2": _Function(
        _branin, np.array([15.0, 15.0]), np.array([math.pi, 2.275]), 0.397887357729738
    ),
    "camel2": _Function(
        _camel, np.array([6.0, 4.0]), np.array([0.0898420131003, -0.7126564032704]), -1.031628453489877
    ),
    "hartmann3": _Function(
        _hartmann(_A3, _P3), np.ones(3), np.array([0.114589, 0.555649, 0.852547]), -3.862779787332663
    ),
    "hartmann6": _Function(
        _hartmann(_A6, _P6), np.ones(6),
        np.array([0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730053]), -3.322368011415512,
    ),
    "rosenbrock5": _even(_rosenbrock, 5, 15.0, 1.0, 0.0),
    "styblinski5": _even(_styblinski, 5, 10.0, -2.9035340277711771, 5 * -39.16616570377142),
    "rastrigin6": _even(_rastrigin, 6, 10.24, 0.0, 0.0),
    "griewank8": _even(_griewank, 8, 1200.0, 0.0, 0.0),
    "ackley10": _even(_ackley, 10, 15.0, 0.0, 0.0),
    "levy10": _even(_levy, 10, 20.0, 1.0, 0.0),
}  # fmt: skip


def rotation(d: int, key: Key) -> Array:
    """Draw a rotation or reflection of d dimensions, uniform over all of them (QR of a normal matrix)."""
    q, r = np.linalg.qr(key.generator().standard_normal((d, d)))
    return np.asarray(q * np.sign(np.diag(r)), dtype=float)


@final
class Functions(Family):
    """x = x* + R W (u - c): the optimum lies at a random place c of the unit box, no axis is an axis of the function.

    W are the widths of the function's usual box and R a random rotation: both c and R are drawn by the seed, the
    same for all contestants. Methods that begin in the middle, or that move along one coordinate at a time, gain
    nothing by it. All ten have their known minimum over the whole of R^d, so it stays the minimum.

    Args:
        data: not needed.
    """

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)

    def names(self) -> Sequence[str]:
        return sorted(FUNCTIONS)

    def instance(self, name: str, seed: int) -> Instance:
        function = FUNCTIONS[name]
        d = len(function.width)
        key = Key.of(seed).fold("race functions", name)
        centre = key.fold("place").generator().uniform(MARGIN, 1.0 - MARGIN, d)
        turn = rotation(d, key.fold("turn")) * function.width
        space = Space({f"x{j}": Float(0.0, 1.0) for j in range(d)})

        def value(u: Array) -> float:
            return max(function.f(function.argmin + turn @ (u - centre)), function.minimum)

        def judge(config: Mapping[str, Any]) -> float:
            return value(np.array([config[f"x{j}"] for j in range(d)]))

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(judge(config))

        drawn = [value(u) for u in key.fold("typical").generator().random((DRAWS, d))]
        return Instance(space, measure, judge, function.minimum, float(np.median(drawn)))
