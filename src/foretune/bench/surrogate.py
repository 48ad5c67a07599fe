"""A forest that turns a table of sampled configs into a task over the whole space, the same for all contestants.

The published tables of continuous spaces are samples: 1,000 to 5,000 configs of each task. Racing on the rows alone
(a finite list of candidates) would ask contestants for what they cannot do, to propose out of a list, and looking up
the nearest row makes plateaus as wide as a cell. So a forest of extremely randomised trees is fitted to all rows, with
one row a leaf and no resampling:

    f(x) = mean over trees of the loss of the row in whose leaf x lies

It equals the table at its rows, lies between its values elsewhere, and so has a known minimum, the table's least
value. What follows from it being a forest: it is piecewise constant at a fine scale, it has no gradient, and methods
that model with trees may find it a little more like themselves than real losses are.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base.lazy import require

__all__ = ["TREES", "Forest"]

Array = NDArray[np.float64]

TREES = 100
SEED = 20  # of the splits: fixed, so that a task is the same for everybody


@final
class Forest:
    """Interpolates rows of several columns of values.

    Args:
        rows: (n, d) places in the unit cube, no two equal.
        values: (n, k).
        trees: how many.
    """

    def __init__(self, rows: Array, values: Array, trees: int = TREES) -> None:
        ensemble = require("sklearn.ensemble", "A race on sampled tables")
        model = ensemble.ExtraTreesRegressor(
            n_estimators=trees, min_samples_leaf=1, max_features=1.0, bootstrap=False, random_state=SEED
        )
        model.fit(rows, values if values.shape[1] > 1 else values[:, 0])
        parts = [t.tree_ for t in model.estimators_]
        nodes = max(p.node_count for p in parts)

        def table(of: Any, fill: float, kind: type) -> NDArray[Any]:
            out = np.full((trees, nodes), fill, dtype=kind)
            for i, p in enumerate(parts):
                out[i, : p.node_count] = of(p)
            return out

        self._feature = table(lambda p: p.feature, -2, np.int64)
        self._cut = table(lambda p: p.threshold, 0.0, np.float64)
        self._left = table(lambda p: p.children_left, -1, np.int64)
        self._right = table(lambda p: p.children_right, -1, np.int64)
        self._value = np.zeros((trees, nodes, values.shape[1]))
        for i, p in enumerate(parts):
            self._value[i, : p.node_count] = p.value[:, :, 0]
        self._trees = np.arange(trees)

    def __call__(self, row: Array) -> Array:
        """Return the values (k,) at one place (d,)."""
        x = np.asarray(row, dtype=np.float32).astype(float)  # the trees were grown in single precision
        at = np.zeros(len(self._trees), dtype=np.int64)
        while True:
            feature = self._feature[self._trees, at]
            inside = feature >= 0
            if not inside.any():
                return np.asarray(self._value[self._trees, at].mean(axis=0), dtype=float)
            left = x[np.where(inside, feature, 0)] <= self._cut[self._trees, at]
            step = np.where(left, self._left[self._trees, at], self._right[self._trees, at])
            at = np.where(inside, step, at)
