"""Train the prior-fitted network and store it: ``python -m foretune.numeric.curves.train_pfn``.

The defaults made the stored network: one core (OMP_NUM_THREADS=1), about ten minutes. All randomness comes from
one key, so that the same command on the same machine gives the same file; its facts (steps, seed, loss, command)
are stored in it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretune.base.key import Key
from foretune.base.lazy import require
from foretune.numeric.curves.pfn import LEAST, MOST, TAIL, WEIGHTS, scaling, tokens
from foretune.numeric.curves.prior import sample

__all__ = ["batch", "initial", "learn", "main", "train"]

Array = NDArray[Any]

ASKED = 8  # later steps asked of each curve
_RATE = 2e-3  # peak learning rate
LAYERS, WIDTH, HEADS, INNER, BINS = 3, 64, 4, 192, 100


def designs(b: int, n: int, draw: np.random.Generator) -> Array:
    """Draw steps (b, n + ASKED) in (0, 1]: n seen ones, then later ones, the last of them 1.

    A third each: equal steps (epochs), geometric ones (sizes), random ones.
    """
    kind = draw.integers(3, size=(b, 1))
    i = np.arange(1, n + 1)[None]
    epochs = np.exp(draw.uniform(np.log(n + 1.0), np.log(20.0 * n), (b, 1)))
    cut = np.where(kind == 0, n / epochs, np.exp(draw.uniform(np.log(0.03), np.log(0.9), (b, 1))))
    decades = draw.uniform(0.5, 3.0, (b, 1))
    grid = cut * 10.0 ** (-decades * (n - i) / max(n - 1, 1))
    free = cut * 10.0 ** (-decades * np.sort(draw.random((b, n)), axis=1)[:, ::-1])
    free[:, -1:] = cut
    known = np.where(kind == 0, cut * i / n, np.where(kind == 1, grid, free))
    share = np.sort(draw.random((b, ASKED)), axis=1)
    share[:, -1] = 1.0
    even = cut + (1.0 - cut) * share
    later = np.where(draw.random((b, 1)) < 0.5, even, cut ** (1.0 - share))
    return np.asarray(np.concatenate([known, np.minimum(later, 1.0)], axis=1))


def batch(b: int, n: int, draw: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draw curves: features of seen (b, n, 4) and asked tokens (b, ASKED, 4), and outcomes u (b, ASKED)."""
    t = designs(b, n, draw)
    y = sample(t, draw)
    origin, unit = scaling(y[:, :n])
    u = np.arcsinh((y - origin) / unit)
    context, asked = tokens(t[:, :n], u[:, :n], t[:, n:])
    return context, asked, u[:, n:].astype(np.float32)


def lengths(draw: np.random.Generator) -> int:
    """Draw how many points of each curve of a batch are seen: short ones are more frequent."""
    return round(float(np.exp(draw.uniform(np.log(LEAST), np.log(MOST)))))


def initial(
    draw: np.random.Generator, features: int = 4, bins: int = BINS,
    layers: int = LAYERS, width: int = WIDTH, inner: int = INNER,
) -> dict[str, Array]:  # fmt: skip
    """Draw initial weights: normal with variance 1 / inputs (the last layers of a block smaller)."""

    def dense(rows: int, columns: int, gain: float = 1.0) -> Array:
        scaled = gain * draw.standard_normal((rows, columns)) / np.sqrt(rows)
        return np.asarray(scaled, dtype=np.float32)

    def zeros(size: int) -> Array:
        return np.zeros(size, dtype=np.float32)

    w = {
        "in.w": dense(features, width),
        "in.b": zeros(width),
        "embed.w": dense(width, width),
        "embed.b": zeros(width),
    }
    w["seen"] = dense(1, width)[0]
    less = 1.0 / np.sqrt(2.0 * layers)
    for i in range(layers):
        for name, rows, columns, gain in (
            ("q", width, width, 1.0), ("kv", width, 2 * width, 1.0), ("o", width, width, less),
            ("up", width, inner, 1.4), ("down", inner, width, less),
        ):  # fmt: skip
            w[f"{i}.{name}.w"], w[f"{i}.{name}.b"] = dense(rows, columns, gain), zeros(columns)
        for name in ("norm1", "norm2"):
            w[f"{i}.{name}.g"], w[f"{i}.{name}.b"] = 1.0 + zeros(width), zeros(width)
    w["out.norm.g"], w["out.norm.b"] = 1.0 + zeros(width), zeros(width)
    w["out.w"], w["out.b"] = dense(width, bins, 0.1), zeros(bins)
    return w


def logits(w: dict[str, Any], context: Any, asked: Any, heads: int = HEADS) -> Any:
    """Run the network in torch: the twin of ``Pfn.log_mass``, before the softmax."""
    torch = require("torch", "Training the prior-fitted network")
    functional = torch.nn.functional
    width = w["in.w"].shape[1]

    def norm(x: Any, name: str) -> Any:
        return functional.layer_norm(x, (width,), w[f"{name}.g"], w[f"{name}.b"])

    def split(x: Any) -> Any:
        return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    n = context.shape[1]
    x = torch.cat([context, asked], dim=1)
    x = functional.relu(x @ w["in.w"] + w["in.b"]) @ w["embed.w"] + w["embed.b"]
    x = torch.cat([x[:, :n] + w["seen"], x[:, n:]], dim=1)
    for i in range(sum(name.endswith(".q.w") for name in w)):
        h = norm(x, f"{i}.norm1")
        q = split(h @ w[f"{i}.q.w"] + w[f"{i}.q.b"])
        k, v = (split(p) for p in (h[:, :n] @ w[f"{i}.kv.w"] + w[f"{i}.kv.b"]).chunk(2, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + mixed @ w[f"{i}.o.w"] + w[f"{i}.o.b"]
        h = norm(x, f"{i}.norm2")
        x = x + functional.relu(h @ w[f"{i}.up.w"] + w[f"{i}.up.b"]) @ w[f"{i}.down.w"] + w[f"{i}.down.b"]
    return norm(x[:, n:], "out.norm") @ w["out.w"] + w["out.b"]


def edges_of(key: Key) -> Array:
    """Return inner edges of bins that hold equal shares of the prior's outcomes, but for the outer two."""
    draw = key.generator()
    u = np.concatenate([batch(256, lengths(draw), draw)[2].ravel() for _ in range(100)])
    q = np.quantile(u, np.linspace(0.0, 1.0, BINS + 1)[1:-1])
    q[0], q[-1] = np.quantile(u, [0.002, 0.998])
    return np.asarray(q)


def densities(edges: Any, u: Any, torch: Any) -> tuple[Any, Any]:
    """Return the bin of each outcome, and its log density within it."""
    k = torch.searchsorted(edges, u.contiguous())
    width = torch.log(edges[1:] - edges[:-1])
    inside = -width[(k - 1).clamp(0, len(width) - 1)]
    tail = -float(np.log(TAIL))
    left, right = tail + (u - edges[0]) / TAIL, tail + (edges[-1] - u) / TAIL
    return k, torch.where(k == 0, left, torch.where(k == len(edges), right, inside))


def learn(
    start: dict[str, Array],
    edges: Array,
    batches: Callable[[], tuple[Array, Array, Array]],
    steps: int,
    rate: float = _RATE,
    log: bool = True,
    heads: int = HEADS,
) -> tuple[dict[str, Array], float]:
    """Fit weights to draws of a prior by AdamW; return them and the mean loss of the last tenth (nats of u).

    Args:
        start: initial weights.
        edges: inner edges of the bins.
        batches: draws features of seen and asked tokens, and outcomes u.
        steps: of the optimizer.
        rate: peak learning rate; it warms up over 200 steps (a tenth of a short training), then falls as a cosine.
        log: whether to print the loss on the way.
        heads: of the attention.
    """
    torch = require("torch", "Training the prior-fitted network")
    w = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
    optimizer = torch.optim.AdamW(list(w.values()), lr=rate, betas=(0.9, 0.98), weight_decay=1e-4)
    bins = torch.tensor(edges, dtype=torch.float32)
    mean = {k: v.detach().clone() for k, v in w.items()}
    recent: list[float] = []
    began = time.perf_counter()
    for step in range(steps):
        warm = min((step + 1) / min(200.0, max(1.0, steps / 10)), 1.0)
        lr = rate * warm * 0.5 * (1.0 + float(np.cos(np.pi * step / steps))) + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = lr
        context, asked, u = (torch.from_numpy(a) for a in batches())
        k, inside = densities(bins, u, torch)
        score = torch.log_softmax(logits(w, context, asked, heads), dim=-1).gather(-1, k[..., None])[..., 0]
        loss = -(score + inside).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(w.values()), 1.0)
        optimizer.step()
        recent.append(float(loss.detach()))
        if step >= steps * 0.9:  # the mean of the last weights generalises a little better
            share = 1.0 / (step - int(np.ceil(steps * 0.9)) + 1)
            for name, value in w.items():
                mean[name] += share * (value.detach() - mean[name])
        if log and (step + 1) % 200 == 0:
            seconds = time.perf_counter() - began
            print(f"step {step + 1}: loss {np.mean(recent[-200:]):.4f}, {seconds:.0f} s", flush=True)
    final = float(np.mean(recent[-max(1, steps // 10) :]))
    return {k: v.numpy() for k, v in mean.items()}, final


def train(
    steps: int, seed: int, tokens_a_step: int = 6000, log: bool = True, edges: Array | None = None
) -> tuple[dict[str, Array], Array, float]:
    """Train; return the weights, the bins' edges, and the mean loss of the last tenth (nats of u).

    Args:
        steps: of the optimizer. seed: of everything.
        tokens_a_step: about so many tokens make a batch.
        log: whether to print the loss on the way.
        edges: the bins; found from the prior if None.
    """
    key = Key.of(seed)
    edges = edges_of(key.fold("edges")) if edges is None else edges
    draw = key.fold("curves").generator()

    def batches() -> tuple[Array, Array, Array]:
        n = lengths(draw)
        return batch(max(32, tokens_a_step // (n + ASKED)), n, draw)

    weights, loss = learn(initial(key.fold("weights").generator()), edges, batches, steps, _RATE, log)
    return weights, edges, loss


def main() -> None:
    """Read the command line, train, store."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    weights, edges, loss = train(arguments.steps, arguments.seed)
    facts = {
        "layers": LAYERS, "width": WIDTH, "heads": HEADS, "inner": INNER, "bins": BINS,
        "steps": arguments.steps, "seed": arguments.seed, "loss": round(loss, 4),
        "command": f"python -m foretune.numeric.curves.train_pfn --steps {arguments.steps} --seed {arguments.seed}",
    }  # fmt: skip
    arrays: dict[str, Any] = {k: v.astype(np.float16) for k, v in weights.items()}
    arrays |= {"facts": json.dumps(facts), "edges": edges.astype(np.float32)}
    np.savez_compressed(arguments.out, **arrays)
    print(json.dumps(facts), f"{arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
