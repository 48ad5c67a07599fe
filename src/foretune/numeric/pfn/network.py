"""A prior-fitted network for any prior: train it on draws, then predict by one forward pass in NumPy.

Each task of the prior is a set of points (x, y). Some are shown, the others asked: the network minimises

    -E log q(y_asked | x_asked, {(x, y)_shown})

whose minimum over all q is the posterior predictive distribution of the prior. q is a distribution over
bins. Tokens attend to shown points only and carry no position, so the order of the points is no matter.

Source: Transformers Can Do Bayesian Inference

Differs:
    1. Bins have equal shares of the prior's outcomes, with exponential tails; theirs have half-normal tails.
    2. Sizes are small (a default of 2 layers 64 wide): made for one core.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.curves.pfn import Pfn
from foretune.numeric.pfn.binned import Binned

__all__ = ["PFN", "WEIGHTS", "FittedPFN", "Prior", "stored"]

Array = NDArray[Any]

# (generator, tasks b, points n) -> x (b, n, d) with values of about unit size, y (b, n)
Prior = Callable[[np.random.Generator, int, int], tuple[Array, Array]]

WEIGHTS = Path(__file__).with_name("search.npz")
LEAST = 3  # points that are shown, at least, where values are standardised by them
ASKED = 24  # points that are asked of each task while training


def tokens(x: Array, y: Array, asked: Array, features: int) -> tuple[Array, Array]:
    """Make the features of shown (b, n, d + 2) and asked (b, m, d + 2) points, padded to ``features`` columns.

    A token holds 2 x - 1 (0 where padded), the share of columns in use, and y (0 where asked).
    """

    def rows(points: Array, values: Array) -> Array:
        b, n, d = points.shape
        padding = np.zeros((b, n, features - d))
        share = np.full((b, n, 1), d / features)
        parts = [2.0 * points - 1.0, padding, share, values[..., None]]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    return rows(x, y), rows(asked, np.zeros(asked.shape[:2]))


def scaling(y: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation, (b, 1) each, of shown values (b, n)."""
    unit = y.std(axis=1, keepdims=True)
    return y.mean(axis=1, keepdims=True), np.where(unit > 1e-12, unit, 1.0)


@final
@dataclass(frozen=True)
class PFN:
    """The description of a prior-fitted network; :meth:`fit` trains it (needs torch).

    Args:
        prior: draws tasks, ``prior(generator, b, n) -> x (b, n, d), y (b, n)``; d may vary from call to call, up
            to ``features``; x is best in [0, 1].
        features: columns at most.
        bins: of the predictive distribution.
        layers, width, heads: of the transformer.
        most: points that are shown, at most, while training.
        standardise: whether y is scaled by the mean and deviation of the shown points; else the
            network speaks in the prior's own unit.
        rate: peak learning rate.
    """

    prior: Prior
    features: int
    bins: int = 100
    layers: int = 2
    width: int = 64
    heads: int = 4
    most: int = 64
    standardise: bool = False
    rate: float = 2e-3

    def __post_init__(self) -> None:
        for name, low in (
            ("features", 1),
            ("bins", 4),
            ("layers", 1),
            ("width", 4),
            ("heads", 1),
            ("most", LEAST),
        ):
            check.integer(name, getattr(self, name), low)
        if self.width % self.heads:
            raise ArgumentError(f"width must be a multiple of heads; got {self.width!r} and {self.heads!r}.")
        check.number("rate", self.rate, 0.0, 1.0, open_low=True)

    def _batch(self, draw: np.random.Generator, tokens_a_step: int) -> tuple[Array, Array, Array]:
        # short sets are more frequent: the first decisions matter most
        n = round(float(np.exp(draw.uniform(np.log(LEAST), np.log(self.most)))))
        x, y = self.prior(draw, max(16, tokens_a_step // (n + ASKED)), n + ASKED)
        if x.shape[:2] != y.shape or x.shape[-1] > self.features:
            raise ArgumentError(
                f"prior must return x (b, n, d) with d at most features={self.features}, and y (b, n); got "
                f"{x.shape} and {y.shape}."
            )
        if self.standardise:
            origin, unit = scaling(y[:, :n])
            y = (y - origin) / unit
        shown, asked = tokens(x[:, :n], y[:, :n], x[:, n:], self.features)
        return shown, asked, y[:, n:].astype(np.float32)

    def fit(self, steps: int, key: Key, tokens_a_step: int = 4000, log: bool = False) -> FittedPFN:
        """Train on ``steps`` batches of the prior's draws, of about ``tokens_a_step`` points each."""
        from foretune.numeric.curves.train_pfn import initial, learn

        check.integer("steps", steps, 1)
        probe = key.fold("edges").generator()
        u = np.concatenate([self._batch(probe, tokens_a_step)[2].ravel() for _ in range(40)])
        edges = np.quantile(u, np.linspace(0.0, 1.0, self.bins + 1)[1:-1])
        edges[0], edges[-1] = np.quantile(u, [0.002, 0.998])
        edges = np.maximum.accumulate(edges) + 1e-6 * np.arange(edges.size)
        draw = key.fold("tasks").generator()
        start = initial(
            key.fold("weights").generator(),
            self.features + 2,
            self.bins,
            self.layers,
            self.width,
            4 * self.width,
        )
        weights, loss = learn(
            start, edges, lambda: self._batch(draw, tokens_a_step), steps, self.rate, log, self.heads
        )
        facts = {
            "features": self.features, "layers": self.layers, "width": self.width, "heads": self.heads,
            "bins": self.bins, "most": self.most, "standardise": self.standardise, "steps": steps,
            "loss": round(loss, 4),
        }  # fmt: skip
        return FittedPFN(weights, edges, facts)


@final
@dataclass(frozen=True, eq=False)
class FittedPFN:
    """A trained network: weights by name, the bins' inner edges, the facts of its training."""

    weights: Mapping[str, Array]
    edges: Array
    facts: Mapping[str, Any]

    @property
    def features(self) -> int:
        """Columns at most."""
        return int(self.facts["features"])

    def predict(self, x: ArrayLike, y: ArrayLike, at: ArrayLike) -> Binned:
        """Predict outcomes at rows ``at`` from points seen.

        Args:
            x: (n, d) rows; y: (n,) finite outcomes.
            at: (m, d) rows.

        Returns:
            The distributions of m outcomes, in the unit of y.
        """
        rows, asked = np.asarray(x, dtype=float), np.asarray(at, dtype=float)
        values = np.asarray(y, dtype=float)
        if rows.ndim != 2 or values.shape != rows.shape[:1] or asked.shape[1:] != rows.shape[1:]:
            raise ArgumentError(
                f"x must be (n, d), y (n,) and at (m, d); got {rows.shape}, {values.shape} and {asked.shape}."
            )
        if rows.shape[1] > self.features:
            raise ArgumentError(f"x must have at most {self.features} columns; got {rows.shape[1]}.")
        if not (np.isfinite(rows).all() and np.isfinite(values).all() and np.isfinite(asked).all()):
            raise ArgumentError("x, y and at must be finite: fill or drop what is missing.")
        origin, unit = 0.0, 1.0
        if self.facts["standardise"]:
            if len(values) < LEAST:
                raise ArgumentError(f"y must hold at least {LEAST} values; got {len(values)}.")
            a, b = scaling(values[None])
            origin, unit = float(a[0, 0]), float(b[0, 0])
        shown, queries = tokens(rows[None], (values[None] - origin) / unit, asked[None], self.features)
        network = Pfn(self.weights, self.edges, self.facts)
        mass = np.exp(network.log_mass(shown, queries)[0].astype(float))
        return Binned(mass / mass.sum(axis=-1, keepdims=True), self.edges, origin, unit)

    def save(self, path: Path, **facts: Any) -> None:
        """Store the network in half precision, with further facts."""
        arrays: dict[str, Any] = {k: v.astype(np.float16) for k, v in self.weights.items()}
        arrays |= {"facts": json.dumps({**self.facts, **facts}), "edges": self.edges.astype(np.float32)}
        np.savez_compressed(path, **arrays)


def load(path: Path) -> FittedPFN:
    """Read what :meth:`FittedPFN.save` wrote."""
    with np.load(path) as file:
        weights = {k: file[k].astype(np.float32) for k in file.files if k not in ("facts", "edges")}
        return FittedPFN(weights, file["edges"].astype(float), json.loads(str(file["facts"])))


@cache
def stored() -> FittedPFN:
    """Load the network of losses over hyperparameters that comes with the package.

    >>> stored().facts["standardise"]
    True
    """
    return load(WEIGHTS)
