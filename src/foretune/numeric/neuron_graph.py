"""A fixed-length description of a network's weights that does not depend on the order of its hidden neurons.

Neurons are nodes, weights are edges. Fixed random inputs are passed up the graph, each neuron sending on what
it takes in, rectified:

    a_l = W_l h_(l-1) + b_l,    h_l = max(a_l, 0),    h_0 uniform on [0, 1]

What neurons of a layer take in (size, variation over inputs, variation over neurons, how many are active or
dead) and the layer's own statistics (sizes of weights and biases, tails, how even rows and columns are) do not
depend on their order; mean and deviation over the layers are given, and the first and the last layer alone.

Source: Improving Hyperparameter Optimization with Checkpointed Model Weights

Differs:
    1. The graph network is not trained: messages are the network's own, on inputs that are no data. With tens
       of runs there is little to train it on. What is learned is the map above (``deep_kernel.py``).
    2. Layers are matrices (out, ...), in a row, with rectifiers between them; convolutions are summed over
       their kernel. Skip connections, attention heads and normalisation have no edges of their own.
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

__all__ = ["LENGTH", "describe", "layers_of"]

Array = NDArray[np.float64]
Layer = tuple[Array, Array]

STATISTICS = 12  # numbers a layer
LENGTH = 4 * STATISTICS  # numbers that describe a network
_TINY = 1e-12


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
def _inputs(probes: int, width: int) -> Array:
    return Key.of(0).fold("neuron_graph", width).generator().random((probes, width))


def describe(weights: Sequence[Any], *, probes: int = 64) -> Array:
    """Describe a network's weights.

    Args:
        weights: arrays (or CPU tensors) of the layers in order; see :func:`layers_of`.
        probes: random inputs that are passed through.

    Returns:
        ``LENGTH`` numbers, the same for any order of the neurons of hidden layers.

    >>> w = [np.arange(6.0).reshape(3, 2), np.zeros(3), np.ones((1, 3))]
    >>> other = [w[0][[2, 0, 1]], w[1], w[2]]
    >>> bool(np.allclose(describe(w), describe(other)))
    True
    """
    check.integer("probes", probes, 2)
    layers = layers_of(weights)
    state = _inputs(probes, layers[0][0].shape[1])
    rows = []
    for i, (weight, bias) in enumerate(layers):
        taken = state @ _fit(weight, state.shape[1]).T + bias
        rows.append(np.concatenate([_statistics(weight, bias), _messages(taken)]))
        state = taken if i + 1 == len(layers) else np.clip(taken, 0.0, 1e6)
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


def _messages(taken: Array) -> Array:
    """Describe what neurons take in, (probes, neurons): log sizes and variations, shares of the active and dead."""
    over_inputs, active = taken.std(0), taken > 0.0
    return np.array([
        np.log(np.abs(taken).mean() + 1e-6),
        np.log(over_inputs.mean() + 1e-6),
        np.log(over_inputs.std() + 1e-6),
        np.log(taken.mean(0).std() + 1e-6),
        float(active.mean()),
        float((~active.any(0)).mean()),
    ])  # fmt: skip


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
