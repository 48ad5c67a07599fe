"""Architecture-aware scaling: initial values by in-degree, learning rates by the paths of the network's graph.

A network is a directed acyclic graph: vertices are pre-activations, edges are layers (weights times the
activated values of their source) or skips (the values as they are), and what flows into a vertex is summed.

    initial variance   C / fan_in for hidden vertices, C / fan_in^2 into the output,  C = 2 / d_in(target)
    learning rate      c (sum over paths L_p^3)^(-1/2) / q

with d_in the in-degree of the vertex that a layer flows into, L_p the number of ReLUs on path p from input to
output, q the size of the kernels (1 for matrices), and c common to all networks: tuned on a small one, it is
carried by :func:`transfer_lr`.

Why this is no rule of :func:`foretune.parametrize.apply.plan`: a rule sees a tensor's role and its ratios to a
base width and depth. In-degrees and the sum over paths belong to the graph, which roles do not tell, and the
learning rate here is one number for a whole network, independent of its width.

Known limits: on small networks (claims/theory_rules.py) chains follow the power of depth, but networks of several paths
bear larger rates than the sum over paths allows. Check a transferred rate against larger ones where paths are many.

Longer than most files here: the graph, its paths and the two rules read off it are one definition, and useless apart.

Source: Principled Architecture-aware Scaling of Hyperparameters | equations 2, 4 (as derived in appendix A,
    equation 12), 8 and 9

Differs:
    1. Equation 4 as printed takes the in-degree of the edge's source; appendix A derives that of its target,
       which alone keeps the norm. The target's is used.
    2. A layer that reads the input gets C = 1 / d_in: no ReLU precedes it. The work treats the input as
       activated and symmetric, which halves its variance.
    3. Skips count in d_in, as in the work. What flows through them is not scaled, so that the norm grows there.
    4. Kernels of several sizes in one network: the largest counts. The work has one size.
    5. The sum over paths is accumulated by moments along the graph; paths are never listed.

One file of some 400 lines, for reading a model's graph is of use to this rule alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from foretune.base.check import integer, name, number, one_of
from foretune.base.errors import ArgumentError, ArgumentTypeError, unknown_name
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.numeric.stats import spearman
from foretune.space.domain import Choice, Float, Int
from foretune.space.space import Space

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "SPACE", "TOPOLOGIES", "Edge", "Graph", "Reranking", "graph_of", "initialise", "lr_factor", "rerank", "topology",
    "transfer_lr",
]  # fmt: skip

TOPOLOGIES = ("chain", "residual", "dense")

SPACE = Space(
    {
        "lr": Float(1e-4, 1.0, log=True),
        "depth": Int(2, 6),
        "kernel": Choice((1, 3, 5, 7)),
        "topology": Choice(TOPOLOGIES),
    }
)

# What torch modules and functions do to the graph, by class or function name.
_ACTIVATIONS = ("relu", "gelu", "silu", "leakyrelu", "leaky_relu", "elu", "relu6", "hardtanh", "tanh")
_PASSES = (
    "flatten", "identity", "dropout", "dropout1d", "dropout2d", "batchnorm1d", "batchnorm2d", "layernorm", "groupnorm",
    "rmsnorm", "maxpool1d", "maxpool2d", "avgpool1d", "avgpool2d", "adaptiveavgpool1d", "adaptiveavgpool2d",
    "adaptive_avg_pool2d", "avg_pool2d", "max_pool2d", "view", "reshape", "contiguous", "squeeze", "unflatten", "mean",
)  # fmt: skip
_SUMS = ("add", "iadd", "add_")


@dataclass(frozen=True, slots=True)
class Edge:
    """One layer or skip.

    Args:
        source, target: names of vertices.
        kind: ``layer`` (weights) or ``skip`` (values pass as they are).
        fan_in: inputs that one output of the layer sums over, the kernel's included; 1 for a skip.
        kernel: size of the kernel along one dimension; 1 for a matrix.
        relu: whether the source's values are activated before the edge.
        module: path of the layer in a torch model, "" where there is none.
    """

    source: str
    target: str
    kind: str = "layer"
    fan_in: int = 1
    kernel: int = 1
    relu: bool = True
    module: str = ""

    def __post_init__(self) -> None:
        name("source", self.source), name("target", self.target)
        one_of("kind", self.kind, ("layer", "skip"))
        integer("fan_in", self.fan_in, 1), integer("kernel", self.kernel, 1)
        if self.source == self.target:
            raise ArgumentError(f"an edge must join two vertices; got {self.source!r} twice.")


@dataclass(frozen=True)
class Graph:
    """The connections of a network.

    Args:
        edges: in any order.
        source, sink: the vertices of the input and of the output.

    Raises:
        ArgumentError: a circle, or no path from ``source`` to ``sink``.

    >>> Graph((Edge("x", "h", fan_in=8, relu=False), Edge("h", "y", fan_in=32)), "x", "y").depths()
    (1, 1, 1, 1)
    """

    edges: tuple[Edge, ...]
    source: str = "input"
    sink: str = "output"

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))
        for edge in self.edges:
            if not isinstance(edge, Edge):
                raise ArgumentTypeError(f"edges must be Edge values; got {edge!r}.")
        if self.depths()[0] == 0:
            raise ArgumentError(
                f"the graph has no path from {self.source!r} to {self.sink!r}; its vertices are "
                f"{', '.join(sorted({v for e in self.edges for v in (e.source, e.target)})) or 'none'}."
            )

    def order(self) -> tuple[str, ...]:
        """Return the vertices so that each edge points forward."""
        left = dict.fromkeys(v for e in self.edges for v in (e.source, e.target))
        waits = {v: self.in_degree(v) for v in left}
        ready, found = [v for v in left if waits[v] == 0], []
        while ready:
            vertex = ready.pop()
            found.append(vertex)
            for edge in self.edges:
                if edge.source == vertex:
                    waits[edge.target] -= 1
                    if waits[edge.target] == 0:
                        ready.append(edge.target)
        if len(found) < len(left):
            loop = ", ".join(sorted(set(left) - set(found)))
            raise ArgumentError(
                f"the graph must have no circles; these vertices lie in or behind one: {loop}."
            )
        return tuple(found)

    def in_degree(self, vertex: str) -> int:
        """Count the edges into a vertex."""
        return sum(e.target == vertex for e in self.edges)

    def depths(self) -> tuple[int, int, int, int]:
        """Return the sums over paths of L_p to the powers 0 (the number of paths), 1, 2 and 3, exactly."""
        none = (0, 0, 0, 0)
        sums = {self.source: (1, 0, 0, 0)}
        for vertex in self.order():
            n, a, b, c = sums.get(vertex, none)
            if n == 0:
                continue
            on = (n, a + n, b + 2 * a + n, c + 3 * b + 3 * a + n)  # each path one ReLU longer
            for edge in self.edges:
                if edge.source == vertex:
                    more, old = (on if edge.relu else (n, a, b, c)), sums.get(edge.target, none)
                    sums[edge.target] = (
                        old[0] + more[0], old[1] + more[1], old[2] + more[2], old[3] + more[3]
                    )  # fmt: skip
        return sums.get(self.sink, none)

    @property
    def kernel(self) -> int:
        """The largest kernel of its layers."""
        return max((e.kernel for e in self.edges if e.kind == "layer"), default=1)

    def init_stds(self) -> dict[Edge, float]:
        """Return the standard deviation of the initial weights of each layer."""
        found = {}
        for edge in self.edges:
            if edge.kind == "layer":
                fan = edge.fan_in**2 if edge.target == self.sink else edge.fan_in
                gain = 2.0 if edge.relu else 1.0
                found[edge] = math.sqrt(gain / (self.in_degree(edge.target) * fan))
        return found


@dataclass(frozen=True)
class Reranking:
    """How a table of networks changes when each is trained as its graph asks.

    Args:
        order: names, best first, by the new scores.
        moves: name -> places gained (negative: lost).
        correlation: Spearman's, of the scores of all networks.
        top_correlation: the same among the best ``top`` by the old scores; nan for fewer than two.
        gain: mean new score less mean old score.
    """

    order: tuple[str, ...]
    moves: Mapping[str, int]
    correlation: float
    top_correlation: float
    gain: float


def topology(kind: str, depth: int, width: int, *, inputs: int, kernel: int = 1) -> Graph:
    """Make a graph of ``depth`` hidden vertices.

    Args:
        kind: ``chain``; ``residual``, a skip beside each hidden layer; ``dense``, each hidden vertex reads
            all hidden ones before it.
        depth: hidden vertices, 1 or more.
        width: of each, in units or channels.
        inputs: units or channels of the input.
        kernel: of hidden layers, along one of two dimensions; 1 makes matrices.

    >>> topology("dense", 3, 64, inputs=10).depths()[0]
    2
    """
    one_of("kind", kind, TOPOLOGIES)
    depth, width = integer("depth", depth, 1), integer("width", width, 1)
    inputs, kernel = integer("inputs", inputs, 1), integer("kernel", kernel, 1)
    area = kernel**2
    edges = [Edge("input", "h1", fan_in=inputs * area, kernel=kernel, relu=False)]
    for i in range(2, depth + 1):
        readers = range(1, i) if kind == "dense" else (i - 1,)
        edges += [Edge(f"h{j}", f"h{i}", fan_in=width * area, kernel=kernel) for j in readers]
        if kind == "residual":
            edges.append(Edge(f"h{i - 1}", f"h{i}", "skip", relu=False))
    return Graph((*edges, Edge(f"h{depth}", "output", fan_in=width)))


def lr_factor(graph: Graph) -> float:
    """Return (sum over paths L_p^3)^(-1/2) / q, to which the largest good learning rate is proportional.

    Raises:
        ArgumentError: no path has an activation.

    >>> lr_factor(topology("chain", 4, 64, inputs=10))
    0.125
    """
    cubes = graph.depths()[3]
    if cubes == 0:
        raise ArgumentError(
            "the graph has no activation on any path; the rule speaks of networks with ReLUs."
        )
    return 1 / (math.sqrt(cubes) * graph.kernel)


def transfer_lr(lr_base: float, base_graph: Graph, target_graph: Graph) -> float:
    """Carry the largest good learning rate of SGD from one network to another.

    Args:
        lr_base: as found on the base network, initialised by :meth:`Graph.init_stds`.
        base_graph, target_graph: of the network that was tuned, and of the one to train.

    >>> base, target = (topology("chain", d, 64, inputs=10) for d in (1, 4))
    >>> transfer_lr(0.8, base, target)
    0.1
    """
    lr_base = number("lr_base", lr_base, 0.0, open_low=True)
    return lr_base * lr_factor(target_graph) / lr_factor(base_graph)


def rerank(before: Mapping[str, float], after: Mapping[str, float], top: int | None = None) -> Reranking:
    """Compare a table of scores under one learning rate for all with that under each network's own.

    Args:
        before, after: name -> score (larger is better), of the same networks.
        top: of the best by ``before`` to look at alone; None takes a fifth, two at least.

    >>> rerank({"a": 0.9, "b": 0.8, "c": 0.7}, {"a": 0.9, "b": 0.95, "c": 0.8}).order
    ('b', 'a', 'c')
    """
    if set(before) != set(after) or not before:
        odd = sorted(set(before) ^ set(after))
        raise ArgumentError(
            f"before and after must score the same networks, one at least; they differ in {odd}."
        )
    for label, table in (("before", before), ("after", after)):
        for key, value in table.items():
            number(f"{label}[{key!r}]", value)
    old, new = _ranked(before), _ranked(after)
    size = max(2, len(old) // 5) if top is None else integer("top", top, 1)
    head = old[:size]
    names = list(before)

    def rank(some: Sequence[str]) -> float:
        return spearman([before[n] for n in some], [after[n] for n in some]) if len(some) > 1 else math.nan

    gain = math.fsum(after[n] - before[n] for n in names) / len(names)
    return Reranking(
        tuple(new), {n: old.index(n) - new.index(n) for n in names}, rank(names), rank(head), gain
    )


def _ranked(table: Mapping[str, float]) -> list[str]:
    return sorted(table, key=lambda n: (-table[n], n))


def graph_of(model: nn.Module) -> Graph:
    """Read the graph of a torch model off its symbolic trace.

    Args:
        model: linear layers, convolutions, activations, sums, and what passes values on (norms, pooling,
            dropout, reshaping); one input, one output.

    Raises:
        ArgumentError: it cannot be traced, or does something else: describe it by :class:`Graph` instead.
    """
    fx = require("torch.fx", "Reading a model's graph")
    try:
        traced = fx.symbolic_trace(model)
    except Exception as error:
        raise ArgumentError(
            f"the model cannot be traced ({error}): describe it by a Graph of edges."
        ) from error
    modules = dict(traced.named_modules())
    edges: list[Edge] = []
    values: dict[Any, tuple[str, bool]] = {}  # node -> (vertex, whether activated)
    sink = ""
    for node in traced.graph.nodes:
        sources = [values[a] for a in node.all_input_nodes if a in values]
        if node.op == "placeholder":
            if values:
                raise ArgumentError("the model has several inputs: describe it by a Graph of edges.")
            values[node] = ("input", False)
            continue
        if node.op == "output":
            sink = sources[0][0] if len(sources) == 1 else ""
            continue
        if not sources:
            continue  # what does not come from the input is no vertex; reading it is answered below
        module = modules.get(node.target) if node.op == "call_module" else None
        what = (type(module).__name__ if module is not None else _called(node)).lower()
        if module is not None and hasattr(module, "weight") and what in ("linear", "conv1d", "conv2d"):
            vertex, relu = sources[0]
            size = getattr(module, "kernel_size", (1,))
            edges.append(
                Edge(
                    vertex,
                    node.name,
                    "layer",
                    int(module.weight[0].numel()),
                    max(size),
                    relu,
                    str(node.target),
                )
            )
            values[node] = (node.name, False)
        elif what in _ACTIVATIONS and len(sources) == 1:
            values[node] = (sources[0][0], True)
        elif what in _PASSES and len(sources) == 1:
            values[node] = sources[0]
        elif what in _SUMS and len(sources) == 2:
            edges += [Edge(v, node.name, "skip", relu=relu) for v, relu in sources]
            values[node] = (node.name, False)
        else:
            raise ArgumentError(
                f"the model does {what!r} at {node.name!r}, which is unknown: describe it by a Graph."
            )
    if not sink:
        raise ArgumentError("the model must put out one tensor: describe it by a Graph of edges.")
    return Graph(tuple(_contracted(edges, sink)), "input", sink)


def _called(node: Any) -> str:
    return str(node.target if node.op == "call_method" else getattr(node.target, "__name__", node.target))


def _contracted(edges: Iterable[Edge], sink: str) -> list[Edge]:
    """Let layers flow into the sum that alone reads them: the sum is the vertex."""
    found = list(edges)
    for skip in [e for e in found if e.kind == "skip" and not e.relu]:
        lone = sum(e.source == skip.source for e in found) == 1 and skip.source != sink
        if lone and any(e.target == skip.source for e in found):
            found.remove(skip)
            found = [replace(e, target=skip.target) if e.target == skip.source else e for e in found]
    return found


def initialise(model: nn.Module, key: Key, graph: Graph | None = None) -> Graph:
    """Draw normal initial weights of a model's layers by in-degree, and set their biases to 0, in place.

    Args:
        model: its layers are those that the graph's edges name.
        key: randomness; each layer's values depend on it and on the layer's path alone.
        graph: None reads it off the model.

    Returns:
        The graph.
    """
    torch = require("torch", "Initialisation")
    graph = graph_of(model) if graph is None else graph
    modules = dict(model.named_modules())
    with torch.no_grad():
        for edge, std in graph.init_stds().items():
            if not edge.module or edge.module not in modules:
                raise unknown_name(
                    "layer", edge.module, [n for n, m in modules.items() if n and hasattr(m, "weight")]
                )
            layer = modules[edge.module]
            generator = torch.Generator().manual_seed(key.fold("init", edge.module).integer(2**63))
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * std)
            if layer.bias is not None:
                layer.bias.zero_()
    return graph
