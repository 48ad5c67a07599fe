"""A fixed-length description of a network's weights that does not depend on the order of its hidden neurons.

Neurons are nodes, weights are edges. Each round, a neuron takes in what its neighbours hold, along weights and
along their absolute values, from below and from above:

    h_l <- tanh([h_l, W_l h_(l-1), |W_l| h_(l-1) / sqrt(n), W_(l+1)' h_(l+1), |W_(l+1)|' h_(l+1) / sqrt(n)] R + r)

Then mean and deviation over the neurons of a layer are taken, and with the layer's own statistics (sizes of weights
and biases, tails, how even the rows are) averaged over the layers; the first and the last layer also speak alone.

Source: Improving Hyperparameter Optimization with Checkpointed Model Weights

Differs:
    1. R and r are fixed random numbers (a graph network that is not trained): with tens of runs there is
       little to train it on. What is learned is the map above (``deep_kernel.py``).
    2. Layers are matrices (out, ...), in a row; convolutions are flattened over their kernel. Skip connections,
       attention heads and normalisation have no edges of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key

__all__ = ["describe", "layers_of", "length"]

Array = NDArray[np.float64]
Layer = tuple[Array, Array]

STATISTICS = 6
_TINY = 1e-12


def length(size: int) -> int:
    """Return how many numbers :func:`describe` gives."""
    return 4 * (2 * size + STATISTICS)


def layers_of(weights: Sequence[Any]) -> list[Layer]:
    """Sort arrays into layers: each array of two or more axes is a weight, a vector as long as its output is its bias.

    Args:
        weights: arrays or CPU tensors in the order of the layers. Axes beyond the second are summed up in the
            columns of the matrix. A NaN is read as 0, an infinity as a million: such networks exist.

    Raises:
        ArgumentError: there is no matrix.
    """
    found: list[Layer] = []
    for one in weights:
        detached = one.detach().numpy() if hasattr(one, "detach") else one
        array = np.nan_to_num(np.asarray(detached, dtype=float), posinf=1e6, neginf=-1e6)
        if array.ndim >= 2:
            flat = array.reshape(len(array), -1)
            found.append((flat, np.zeros(len(flat))))
        elif array.ndim == 1 and found and len(array) == len(found[-1][0]):
            found[-1] = (found[-1][0], array)
    if not found:
        raise ArgumentError("weights must hold at least one matrix (out, in); got none.")
    return found


@cache
def _mixing(size: int, rounds: int) -> tuple[tuple[Array, Array], ...]:
    draw = Key.of(0).fold("neuron_graph", size).generator()
    scale = 1.0 / np.sqrt(5 * size)
    return tuple(
        (scale * draw.standard_normal((5 * size, size)), 0.3 * draw.standard_normal(size))
        for _ in range(rounds)
    )


def _ends(n: int, size: int) -> Array:
    """Return fixed random states for inputs or outputs: these have places of their own."""
    return 0.5 * Key.of(0).fold("neuron_graph", "ends", n).generator().standard_normal((n, size))


def describe(weights: Sequence[Any], *, size: int = 8, rounds: int = 2) -> Array:
    """Describe a network's weights.

    Args:
        weights: arrays (or CPU tensors) of the layers in order; see :func:`layers_of`.
        size: numbers that a neuron holds.
        rounds: how often neighbours are taken in.

    Returns:
        ``length(size)`` numbers, the same for any order of the neurons of hidden layers.

    >>> w = [np.arange(6.0).reshape(3, 2), np.zeros(3), np.ones((1, 3))]
    >>> other = [w[0][[2, 0, 1]], w[1], w[2]]
    >>> bool(np.allclose(describe(w), describe(other)))
    True
    """
    check.integer("size", size, 1)
    check.integer("rounds", rounds, 0)
    layers = layers_of(weights)
    widths = [layers[0][0].shape[1], *(len(w) for w, _ in layers)]
    edges = [_fit(w, widths[i]) for i, (w, _) in enumerate(layers)]
    states = [_ends(widths[0], size)]
    for _, bias in layers[:-1]:
        states.append(np.concatenate([bias[:, None], np.ones((len(bias), size - 1))], axis=1))
    states.append(_ends(widths[-1], size))
    states[-1] = states[-1] + layers[-1][1][:, None]
    for matrix, offset in _mixing(size, rounds):
        states = [
            np.tanh(np.concatenate(_taken_in(states, edges, i), axis=1) @ matrix + offset)
            for i in range(len(states))
        ]
    rows = []
    for (weight, bias), state in zip(layers, states[1:], strict=True):
        rows.append(np.concatenate([state.mean(0), state.std(0), _statistics(weight, bias)]))
    table = np.array(rows)
    return np.concatenate([table.mean(0), table.std(0), table[0], table[-1]])


def _fit(weight: Array, below: int) -> Array:
    """Sum a flattened convolution over its kernel, so that it has one column for each neuron below."""
    out, columns = weight.shape
    if columns == below:
        return weight
    if columns % below == 0:
        folded: Array = weight.reshape(out, below, -1).sum(-1)
        return folded
    return np.broadcast_to(
        weight.mean(1, keepdims=True), (out, below)
    )  # layers that do not follow each other


def _taken_in(states: list[Array], edges: list[Array], i: int) -> list[Array]:
    own = states[i]
    none = np.zeros_like(own)
    parts = [own, none, none, none, none]
    if i > 0:
        w = edges[i - 1]
        parts[1:3] = [w @ states[i - 1], np.abs(w) @ states[i - 1] / np.sqrt(w.shape[1])]
    if i < len(edges):
        w = edges[i]
        parts[3:5] = [w.T @ states[i + 1], np.abs(w).T @ states[i + 1] / np.sqrt(w.shape[0])]
    return parts


def _statistics(weight: Array, bias: Array) -> Array:
    """Return statistics of a layer: log sizes, tail weight, and how uneven its rows and columns are."""
    square = weight**2
    mean = float(square.mean())
    return np.array([
        0.5 * np.log(mean * weight.shape[1] + _TINY),
        np.log(np.abs(bias).mean() + 1e-3),
        np.log(np.abs(weight).max() * np.sqrt(weight.shape[1]) + 1e-3),
        min(float((square**2).mean()) / (mean**2 + _TINY), 50.0),
        float(np.log(square.sum(1) + _TINY).std()),
        float(np.log(square.sum(0) + _TINY).std()),
    ])  # fmt: skip
