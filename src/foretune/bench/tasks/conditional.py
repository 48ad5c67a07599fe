"""Spaces with branches: which parameters exist depends on other choices. Three kinds, drawn anew by each seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from foretune.base.key import Key
from foretune.bench.task import Family, Instance, Outcome
from foretune.space.domain import Choice, Float, Int
from foretune.space.space import Space

__all__ = ["Conditional"]

__entry__ = "Conditional"

DRAWS = 2048
BRANCHES = ("a", "b", "c", "d")


@final
class Conditional(Family):
    """branch: four branches with a parameter each, whose optimum moves with a shared one. cash: four algorithms with
    none to five parameters of their own and nothing shared. nested: up to four layers, each with a width and a rate
    that exist only where the layer does.

    Every minimum is 0 by construction: the best branch has no offset, and its terms are dents with ripples, flat far
    from the optimum, so that no model has their form.
    """

    group: ClassVar[str] = "conditional"
    edition: ClassVar[int] = 2  # the first had squares, which suit a model with a quadratic trend

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)

    def names(self) -> Sequence[str]:
        return ["branch", "cash", "nested"]

    def instance(self, name: str, seed: int) -> Instance:
        key = Key.of(seed).fold("race conditional", name)
        space, judge = {"branch": _branch, "cash": _cash, "nested": _nested}[name](key)

        def measure(config: Mapping[str, Any], step: float, draw: int) -> Outcome:
            return Outcome(judge(config))

        drawn = [judge(c) for c in space.sample(DRAWS, key.fold("typical"))]
        return Instance(space, measure, judge, 0.0, float(np.median(drawn)))


def _dent(d: float) -> float:
    """0 at 0, rising to about 1: d^2 / (d^2 + 1/16), with a ripple of period 1/4."""
    return d * d / (d * d + 0.0625) + 0.03 * (1.0 - math.cos(8.0 * math.pi * d))


def _branch(key: Key) -> tuple[Space, Any]:
    rng = key.generator()
    offset = rng.permutation([0.0, 0.1, 0.2, 0.4])
    slope, place = rng.uniform(-0.8, 0.8, 4), rng.uniform(0.3, 0.7, 4)
    shared = rng.uniform(0.2, 0.8, 4)
    space = Space(
        {
            "x": Float(0.0, 1.0),
            "branch": Choice(BRANCHES),
            **{f"y_{b}": Float(0.0, 1.0) for b in BRANCHES},
        },
        {f"y_{b}": {"branch": [b]} for b in BRANCHES},
    )

    def judge(config: Mapping[str, Any]) -> float:
        j = BRANCHES.index(config["branch"])
        x, y = config["x"], config[f"y_{config['branch']}"]
        target = place[j] + slope[j] * (x - shared[j])
        return float(offset[j] + 0.5 * _dent(x - shared[j]) + _dent(y - target))

    return space, judge


def _cash(key: Key) -> tuple[Space, Any]:
    rng = key.generator()
    sizes = dict(zip(BRANCHES, (0, 2, 3, 5), strict=True))
    best = rng.choice(["b", "c", "d"])
    offset = {b: 0.0 if b == best else float(rng.uniform(0.05, 0.3)) for b in BRANCHES}
    places = {b: rng.uniform(0.1, 0.9, n) for b, n in sizes.items()}
    weights = {b: rng.uniform(0.3, 2.0, n) for b, n in sizes.items()}
    own = {f"{b}{i}": Float(1e-4, 1.0, log=True) for b, n in sizes.items() for i in range(n)}
    space = Space({"algorithm": Choice(BRANCHES), **own}, {n: {"algorithm": [n[0]]} for n in own})

    def judge(config: Mapping[str, Any]) -> float:
        b = config["algorithm"]
        u = np.array([1.0 + math.log10(config[f"{b}{i}"]) / 4.0 for i in range(sizes[b])])
        return offset[b] + sum(
            float(w) * _dent(float(v)) for w, v in zip(weights[b], u - places[b], strict=True)
        )

    return space, judge


def _nested(key: Key) -> tuple[Space, Any]:
    rng = key.generator()
    depth = int(rng.integers(2, 5))
    width, rate = rng.uniform(4.5, 7.5, 4), rng.uniform(0.1, 0.6, 4)
    layers = (1, 2, 3, 4)
    space = Space(
        {
            "layers": Int(1, 4),
            "lr": Float(1e-4, 1e-1, log=True),
            **{f"width{i}": Int(16, 256, log=True) for i in layers},
            **{f"dropout{i}": Float(0.0, 0.8) for i in layers},
        },
        {f"{p}{i}": {"layers": [k for k in layers if k >= i]} for p in ("width", "dropout") for i in layers},
    )
    best_rate = rng.uniform(-3.5, -1.5)

    def judge(config: Mapping[str, Any]) -> float:
        n = config["layers"]
        total = 0.15 * abs(n - depth) + 0.5 * _dent((math.log10(config["lr"]) - best_rate) / 3.0)
        for i in range(n):
            total += 0.2 * _dent(_octaves(config[f"width{i + 1}"], width[i]) / 4.0)
            total += 0.2 * _dent(config[f"dropout{i + 1}"] - rate[i])
        return float(total)

    return space, judge


def _octaves(width: int, target: float) -> float:
    """Distance in octaves from the whole width nearest to the target: 0 is reachable."""
    return math.log2(width) - math.log2(round(2.0**target))
