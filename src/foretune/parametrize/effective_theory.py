"""Pre-norm transformers at initialization: sizes of the stream and of tangent kernels, and widths' exponents.

Forward, with G_st the Gram matrix of normalised positions (mean product over the n features of the stream), W of
variance C / fan_in, r the weight of a residual branch and p the attention of one head:

    K <- K + r^2 C_value C_out E[p G p^T]       attention; logits scale * q . k of queries and keys drawn from G
    K <- K + r^2 C_down E[phi(u_s) phi(u_t)]    MLP; u Gaussian with covariance C_up G
    G = K_st / sqrt(K_ss K_tt)

Backward, H_st being the product of the output's gradients at positions s and t:

    H <- H + r^2 (C_down C_up E[phi'(u_s) phi'(u_t)]) H_st / sqrt(K_ss K_tt)       and likewise for attention

The tangent kernel of a group of weights is the sum over positions of H_st (read through the layer above) times the
Gram matrix of what the layer reads.

Width. A group's share of the first change of the outputs is its rate times the sum over its weights of (dz/dw)^2
under SGD, and of |dz/dw| under Adam, whose first step is a sign. With m the fan-in and k the fan-out over their
values at the base width, shares of order 1 at all widths ask for

    role                        init std    lr (SGD)   lr (Adam)        eps (Adam)
    input, embedding, vector    1           1          k^(-1/2)         k^(-1/2)
    hidden                      m^(-1/2)    1/m        m^(-1) k^(-1/2)  k^(-1/2)
    output                      m^(-1/2)    1/m        1/m              1

    tied output head            shares the embedding's line; multiplied by m^(-1/2)

This is the kernel regime: outputs change at once, features by m^(-1/2). It has no tag ``feature-learning``.

Longer than most files here: forward and backward recursions share their Gaussian means; the exponents follow from both.

Source: Effective Theory of Transformers at Initialization | forward-backward propagation at initialization, and what
    is asked of rates: tangent kernels of order one for each group of parameters, under SGD and AdamW

Differs:
    1. The work's tables of exponents could not be read; those above follow from its demand by counting powers.
       Weight decay is left alone.
    2. Expectations over a head's attention are means over draws of its queries and keys; the work expands around
       uniform attention.
    3. Gains and biases of norms and layers are not in the predicted kernels. Norms are taken without mean
       subtraction at large width, where means vanish.

One file of over 400 lines, for prediction, measurement and rule speak of the same groups of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base.check import integer, number, one_of
from foretune.base.codec import Json
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.parametrize.parametrization import Family, Parametrization, Scaling
from foretune.parametrize.roles import TensorRole
from foretune.space.domain import Choice, Float
from foretune.space.space import Space

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ACTIVATIONS", "GROUPS", "SPACE", "EffectiveTheory", "HookReport", "InitStats", "TransformerConfig",
    "compare_hooks", "init_stats", "width_rules",
]  # fmt: skip

__entry__ = "EffectiveTheory"

ACTIVATIONS = ("gelu", "relu", "tanh")
GROUPS = ("token", "position", "query", "key", "value", "out", "up", "down", "head")

Array = NDArray[np.float64]

SPACE = Space(
    {
        **{f"variance.{group}": Float(0.1, 4.0, log=True) for group in GROUPS},
        **{f"lr.{group}": Float(1e-5, 1e-1, log=True) for group in GROUPS},
        "residual": Float(0.1, 1.0),
        "width": Choice((64, 128, 256, 512, 1024, 2048, 4096)),
        "optimizer": Choice(("sgd", "adamw")),
    }
)

# Terms of the Hermite expansion and nodes of its quadrature. Against 60 and 200, at variances of up to 4: within 3e-5
# for GELU, 2e-3 for tanh, whose slope is the steepest; at variance 1 within 1e-6.
_TERMS, _NODES = 40, 160


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """A pre-norm transformer, as far as its initial values are concerned.

    Args:
        width: n, of the stream.
        blocks: each attention, then an MLP.
        heads: of size width / heads.
        ratio: width of the MLP over that of the stream.
        activation: of the MLP.
        variances: group -> C; weights of a layer have variance C / fan_in, tables of token and position C. Missing
            groups count 1; ``position`` 0 is a model without such a table.
        residual: r, on each branch.
        scale: on q . k; None is 1 / sqrt(size of a head).
        causal: whether positions see only what comes before them, and themselves.
    """

    width: int
    blocks: int
    heads: int
    ratio: float = 4.0
    activation: str = "gelu"
    variances: Mapping[str, float] | None = None
    residual: float = 1.0
    scale: float | None = None
    causal: bool = True

    def __post_init__(self) -> None:
        integer("width", self.width, 1), integer("blocks", self.blocks, 1), integer("heads", self.heads, 1)
        if self.width % self.heads:
            raise ArgumentError(f"heads must divide width; got {self.heads} and {self.width}.")
        number("ratio", self.ratio, 0.0, open_low=True), number("residual", self.residual, 0.0)
        one_of("activation", self.activation, ACTIVATIONS)
        for group, value in (self.variances or {}).items():
            one_of("variances", group, GROUPS)
            number(f"variances[{group!r}]", value, 0.0)
        if self.variance("token") + self.variance("position") == 0:
            raise ArgumentError(
                "variances of token and position must not both be 0: the stream would be empty."
            )

    def variance(self, group: str) -> float:
        """Return C of a group."""
        return float((self.variances or {}).get(group, 1.0))


@dataclass(frozen=True)
class InitStats:
    """What the theory says of a transformer at initialization.

    Args:
        stream: mean squares of the stream before the first block and after each half of a block (attention,
            MLP, attention, ...), averaged over positions and sequences.
        kernel: group -> tangent kernel of one output (one logit at one position) with itself, averaged.
        gradient: mean over positions of the squared gradient of such an output at the stream, at the same places.
    """

    stream: tuple[float, ...]
    kernel: Mapping[str, float]
    gradient: tuple[float, ...]

    def blocks(self) -> tuple[float, ...]:
        """Return the mean squares before the first block and after each."""
        return self.stream[::2]


@dataclass(frozen=True)
class HookReport:
    """Measured over predicted.

    Args:
        stream: mean square of the stream before the first block and after each.
        kernel: by group, for the groups that were asked for.
        predicted: what the theory says.
    """

    stream: tuple[float, ...]
    kernel: Mapping[str, float]
    predicted: InitStats

    def gap(self) -> float:
        """Return the largest distance of a ratio of the stream from 1."""
        return max(abs(r - 1) for r in self.stream)

    def table(self) -> tuple[dict[str, Json], ...]:
        """Return rows for display."""
        sizes = zip(self.stream, self.predicted.blocks(), strict=True)
        streams: list[dict[str, Json]] = [
            {"what": f"stream {i}", "predicted": p, "measured over predicted": r}
            for i, (r, p) in enumerate(sizes)
        ]
        kernels: list[dict[str, Json]] = [
            {"what": f"kernel of {g}", "predicted": self.predicted.kernel[g], "measured over predicted": r}
            for g, r in self.kernel.items()
        ]
        return (*streams, *kernels)


@lru_cache(maxsize=64)
def _hermite(activation: str, variance: float, slope: bool) -> tuple[float, ...]:
    """Return the coefficients a_k of phi (or of its derivative) at variance C in orthonormal Hermite polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    x, weights = math.sqrt(variance) * nodes, weights / math.sqrt(2 * math.pi)
    if activation == "tanh":
        values = 1 / np.cosh(x) ** 2 if slope else np.tanh(x)
    else:
        normal = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        values = normal + x * density if slope else x * normal
    found, previous, current = [], np.zeros_like(nodes), np.ones_like(nodes)
    for k in range(_TERMS):
        found.append(float((weights * values * current).sum()))
        previous, current = current, (nodes * current - math.sqrt(k) * previous) / math.sqrt(k + 1)
    return tuple(found)


def _dual(activation: str, variance: float, slope: bool, gram: Array) -> Array:
    """Return E[phi(u) phi(v)], u and v of variance C and correlation ``gram``."""
    rho = np.clip(gram, -1.0, 1.0)
    if activation == "relu":
        angle = np.arccos(rho)
        if slope:
            return np.asarray((math.pi - angle) / (2 * math.pi))
        return np.asarray(variance * (np.sin(angle) + (math.pi - angle) * rho) / (2 * math.pi))
    powers = np.array([a * a for a in _hermite(activation, variance, slope)])
    return np.asarray(np.polynomial.polynomial.polyval(rho, powers))


def _attention(
    config: TransformerConfig, gram: Array, draws: int, rng: np.random.Generator
) -> tuple[Array, ...]:
    """Draw heads: queries, keys (draws, T, d) and attention (draws, T, T)."""
    size, length = config.width // config.heads, len(gram)
    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    q, k = (
        math.sqrt(config.variance(group)) * (root @ rng.standard_normal((draws, length, size)))
        for group in ("query", "key")
    )
    scale = size**-0.5 if config.scale is None else config.scale
    logits = scale * q @ k.transpose(0, 2, 1)
    if config.causal:
        logits = np.where(np.tri(length, dtype=bool), logits, -np.inf)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return q, k, p / p.sum(-1, keepdims=True)


@dataclass
class _Half:
    """What one half of a block saw on its way forward."""

    kind: str
    diagonal: Array  # K_ss before it
    gram: Array
    heads: tuple[Array, ...] = ()


def init_stats(
    config: TransformerConfig, tokens: ArrayLike, *, draws: int = 64, key: Key | None = None
) -> InitStats:
    """Predict sizes at initialization.

    Args:
        config: of the transformer.
        tokens: whole numbers (T,) or (sequences, T): equal tokens share a row of the table. T up to 64 or so.
        draws: of heads, per block and sequence, for the expectation over attention.
        key: of these draws.

    >>> stats = init_stats(TransformerConfig(64, 2, 4, variances={"position": 0}), [[0, 1, 2, 3]])
    >>> stats.stream[0], round(stats.kernel["head"])
    (1.0, 64)
    """
    rows = np.atleast_2d(np.asarray(tokens))
    if rows.ndim != 2 or rows.size == 0 or not np.issubdtype(rows.dtype, np.integer):
        raise ArgumentError("tokens must be whole numbers of shape (T,) or (sequences, T), not empty.")
    draws = integer("draws", draws, 1)
    key = Key.of(0) if key is None else key
    found = [_sequence(config, row, draws, key.fold("sequence", i).generator()) for i, row in enumerate(rows)]
    return InitStats(
        tuple(float(v) for v in np.mean([f[0] for f in found], axis=0)),
        {g: float(np.mean([f[1][g] for f in found])) for g in GROUPS},
        tuple(float(v) for v in np.mean([f[2] for f in found], axis=0)),
    )


def _sequence(
    config: TransformerConfig, tokens: Array, draws: int, rng: np.random.Generator
) -> tuple[list[float], dict[str, float], list[float]]:
    C, r2, n = config.variance, config.residual**2, config.width
    same, length = (tokens[:, None] == tokens[None, :]).astype(float), len(tokens)
    K = C("token") * same + C("position") * np.eye(length)
    stream, halves = [float(np.diag(K).mean())], []
    for i in range(2 * config.blocks):
        diagonal = np.diag(K).copy()
        G = K / np.sqrt(np.outer(diagonal, diagonal))
        if i % 2 == 0:
            heads = _attention(config, G, draws, rng)
            mixed = np.mean(heads[2] @ G @ heads[2].transpose(0, 2, 1), axis=0)
            halves.append(_Half("attention", diagonal, G, heads))
            K = K + r2 * C("value") * C("out") * mixed
        else:
            halves.append(_Half("mlp", diagonal, G))
            K = K + r2 * C("down") * _dual(config.activation, C("up"), False, G)
        stream.append(float(np.diag(K).mean()))
    # One logit at one position, averaged over positions; a product of gradients over the stream's n features.
    H = np.diag(C("head") / (length * np.diag(K)))
    kernel, gradient = dict.fromkeys(GROUPS, 0.0), [float(np.trace(H))]
    kernel["head"] = float(n)
    for half in reversed(halves):
        root = np.sqrt(np.outer(half.diagonal, half.diagonal))
        G = half.gram
        if half.kind == "mlp":
            hidden = config.ratio * n
            read = _dual(config.activation, C("up"), False, G)
            back = C("down") * _dual(config.activation, C("up"), True, G) * H * r2
            kernel["down"] += float((r2 * H * read).sum()) * hidden
            kernel["up"] += float((back * G).sum()) * n
            H = H + C("up") * back / root
        else:
            to_q, to_k, to_v, mixed = _backward(config, G, H, half.heads)
            kernel["out"] += r2 * C("value") * float((H * mixed).sum()) * n
            through = np.zeros_like(H)
            for group, part in (("query", to_q), ("key", to_k), ("value", to_v)):
                kernel[group] += r2 * float((part * G).sum()) * n
                through += C(group) * part
            H = H + r2 * through / root
        gradient.append(float(np.trace(H)))
    kernel["token"], kernel["position"] = float((H * same).sum()), float(np.trace(H))
    return stream, kernel, gradient[::-1]


def _backward(config: TransformerConfig, G: Array, H: Array, heads: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the products of gradients at queries, keys and values, summed over heads, and E[p G p^T].

    Values and what follows them are drawn apart from queries and keys, so that the gradient at logit (t, s) is
    p_ts (v_s - sum_u p_tu v_u) . g_t with products of v and g that are known on average.
    """
    q, k, p = heads
    size = config.width // config.heads
    scale = size**-0.5 if config.scale is None else config.scale
    to_v = config.variance("out") * np.mean(p.transpose(0, 2, 1) @ H @ p, axis=0)
    mixed = np.mean(p @ G @ p.transpose(0, 2, 1), axis=0)
    gain = config.variance("value") * config.variance("out") * scale**2
    to_q, to_k = np.zeros_like(H), np.zeros_like(H)
    for queries, keys, weights in zip(q, k, p, strict=True):
        # softmax's derivative: P_t = diag(p_t) - p_t p_t^T
        P = weights[:, :, None] * np.eye(len(G)) - weights[:, :, None] * weights[:, None, :]
        PG = P @ G
        M = np.einsum("tab,ubc->tuac", PG, P, optimize=True)
        to_q += H * np.einsum("tuac,ac->tu", M, keys @ keys.T, optimize=True)
        to_k += np.einsum("tuac,tu->ac", M, H * (queries @ queries.T), optimize=True)
    return gain * to_q / len(q), gain * to_k / len(q), to_v, mixed


def compare_hooks(
    model: nn.Module,
    batch: Any,
    config: TransformerConfig,
    *,
    blocks: str = "blocks",
    groups: Mapping[str, str] | None = None,
    outputs: int = 8,
    draws: int = 64,
    key: Key | None = None,
) -> HookReport:
    """Measure a transformer at initialization against :func:`init_stats`.

    Args:
        model: maps tokens (sequences, T) to logits (sequences, T, vocabulary).
        batch: tokens.
        config: of the model, initial variances included.
        blocks: path of the list of blocks; each maps a stream to a stream.
        groups: name pattern -> group, of weights whose tangent kernels are measured; None measures the stream alone.
        outputs: logits whose kernels are averaged.
        draws, key: as in :func:`init_stats`; the key also picks the logits.
    """
    torch = require("torch", "Comparing a model with the theory")
    key = Key.of(0) if key is None else key
    outputs = integer("outputs", outputs, 1)
    named = dict(model.named_modules())
    if blocks not in named or len(list(named[blocks].children())) != config.blocks:
        raise ArgumentError(
            f"blocks must be the path of a list of {config.blocks} blocks; got {blocks!r}. Lists there: "
            f"{', '.join(n for n, m in named.items() if isinstance(m, (torch.nn.ModuleList, torch.nn.Sequential)))}."
        )
    sizes: list[float] = []

    def hook(first: bool) -> Callable[..., None]:
        def read(module: nn.Module, inputs: Any, output: Any) -> None:
            values = ([inputs[0]] if first else []) + [output[0] if isinstance(output, tuple) else output]
            sizes.extend(float(v.detach().double().square().mean()) for v in values)

        return read

    handles = [m.register_forward_hook(hook(i == 0)) for i, m in enumerate(named[blocks].children())]
    try:
        with torch.enable_grad():
            logits = model(batch)
    finally:
        for handle in handles:
            handle.remove()
    stats = init_stats(config, batch.detach().cpu().numpy(), draws=draws, key=key)
    measured = _kernels(model, logits, dict(groups or {}), outputs, key)
    return HookReport(
        tuple(s / p for s, p in zip(sizes, stats.blocks(), strict=True)),
        {g: v / stats.kernel[g] for g, v in measured.items()},
        stats,
    )


def _kernels(
    model: nn.Module, logits: Any, groups: Mapping[str, str], outputs: int, key: Key
) -> dict[str, float]:
    torch = require("torch", "Comparing a model with the theory")
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    members: dict[str, list[Any]] = {}
    for pattern, group in groups.items():
        one_of("groups", group, GROUPS)
        hits = [p for n, p in named.items() if fnmatchcase(n, pattern)]
        if not hits:
            raise ArgumentError(f"groups: the pattern {pattern!r} matches no trainable parameter.")
        members.setdefault(group, []).extend(hits)
    if not members:
        return {}
    flat, rng = logits.flatten(), key.fold("outputs").generator()
    totals = dict.fromkeys(members, 0.0)
    every = [p for some in members.values() for p in some]
    for i in rng.choice(len(flat), size=min(outputs, len(flat)), replace=False):
        found = iter(torch.autograd.grad(flat[int(i)], every, retain_graph=True))
        for group, some in members.items():
            totals[group] += sum(float(next(found).double().square().sum()) for _ in some)
    return {g: v / min(outputs, len(flat)) for g, v in totals.items()}


def width_rules(optimizer: str = "adamw") -> dict[str, dict[str, float]]:
    """Return the exponents of the width for each group: ``init`` (standard deviation) and ``lr``.

    Args:
        optimizer: ``sgd`` or ``adamw``.

    All sizes are taken to grow together: fan-in and fan-out of hidden groups, fan-out of tables, fan-in of the head.

    >>> width_rules("adamw")["query"], width_rules("sgd")["token"]
    ({'init': -0.5, 'lr': -1.5}, {'init': 0.0, 'lr': 0.0})
    """
    adam = one_of("optimizer", optimizer, ("sgd", "adamw")) == "adamw"
    found = {}
    for group in GROUPS:
        if group in ("token", "position"):
            found[group] = {"init": 0.0, "lr": -0.5 if adam else 0.0}
        elif group == "head":
            found[group] = {"init": -0.5, "lr": -1.0}
        else:
            found[group] = {"init": -0.5, "lr": -1.5 if adam else -1.0}
    return found


@final
@dataclass(frozen=True)
class EffectiveTheory(Parametrization):
    """Tangent kernels of order one for each group, at all widths: the kernel regime, for SGD and for Adam."""

    tags: ClassVar[frozenset[str]] = frozenset()

    def scaling(self, tensor: TensorRole, family: Family) -> Scaling:
        m, k = tensor.fan_in_ratio, tensor.fan_out_ratio
        adam = family.name == "adam"
        if tensor.role == "fixed":
            return Scaling(1.0, 1.0, 1.0, 1.0, 1.0, "does not grow")
        if tensor.role == "output" and tensor.tied_to is not None:
            return Scaling(1.0, m**-0.5, 1.0, 1.0, 1.0, "a tied head: multiplier m^(-1/2)")
        if tensor.role == "output":
            init, lr, eps = m**-0.5, 1 / m, 1.0
        elif tensor.role == "hidden":
            init, lr, eps = m**-0.5, 1 / (m * k**0.5) if adam else 1 / m, k**-0.5
        else:
            init, lr, eps = 1.0, k**-0.5 if adam else 1.0, k**-0.5
        reason = f"a share of order 1 of the outputs' first change under {'Adam' if adam else 'SGD'}"
        return Scaling(init, 1.0, lr, 1.0, eps if family.eps else 1.0, reason)
