"""Instabilities of large transformers, read off small ones: what to record, when it is a warning, what helps.

    proxy                 recorded                                warns when                         remedy
    attention logits      max |q·k * scale| over a batch          the power law in size crosses      qk-norm
                                                                  a threshold before the target
    output logits         log Z = logsumexp of the logits         it drifts down by more than a      z-loss
                                                                  limit over the run
    gradients             rms of a tensor's gradient              the power law falls to Adam's eps  smaller eps
    LR sensitivity        final loss at several learning rates    it grows with the size             warm-up, qk-norm,
                                                                                                     z-loss, muP

    LR sensitivity = mean over log lr in [a, b] of  min(final loss(lr), initial loss) - best final loss

All are pure functions of recorded numbers; :class:`StabilityMonitor` records them without hooks.

Longer than most files here: the proxies of the table are one check, with one list of remedies.

Source: Small-scale proxies for large-scale Transformer training instabilities | the four proxies, LR sensitivity,
    extrapolation of logits and gradients over sizes; 1e-4 as the coefficient of the z-loss

Differs:
    1. The mean over learning rates is a trapezoid in log lr, so that uneven grids weigh evenly.
    2. Extrapolations are straight lines in both logarithms with Student's t interval. What counts as too large is
       the caller's (``threshold``, ``limit``): the defaults are assumptions, not the work's constants.
    3. qk-norm has no gains unless given some.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.base.check import number
from foretune.base.codec import Json, to_json
from foretune.base.errors import ArgumentError
from foretune.base.lazy import require
from foretune.numeric.stats import student_quantile

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "REMEDIES",
    "Crossing",
    "Finding",
    "Sensitivity",
    "StabilityMonitor",
    "diagnose",
    "drift",
    "extrapolate",
    "lr_sensitivity",
    "qk_norm",
    "z_loss",
]

REMEDIES: Mapping[str, str] = {
    "attention logits": "normalise queries and keys (qk_norm), or lower the learning rate",
    "output logits": "add a z-loss (z_loss(logits), coefficient 1e-4)",
    "gradients": "lower Adam's eps, or use an update without one (Adam-atan2)",
    "LR sensitivity": "longer warm-up; qk_norm; z_loss; muP or weight decay independent of the learning rate",
}

# A softmax of scores this large is one-hot in any floating-point format: an assumption for the default.
_LOGITS = 1e4
# Nats by which log Z may sink over a run: an assumption for the default.
_SINK = 5.0


@dataclass(frozen=True, slots=True)
class Crossing:
    """A power law through values at several sizes, and where it meets a threshold.

    Args:
        slope, low, high: of log value against log size, with its interval.
        at: size at which the law reaches the threshold; infinite when it never does.
        at_low, at_high: sizes at which the ends of the prediction's interval do.
        value, value_low, value_high: prediction at the target size; NaN without one.
        reach: target over the largest size; 1 without one.
        n: values.
    """

    slope: float
    low: float
    high: float
    at: float
    at_low: float
    at_high: float
    value: float
    value_low: float
    value_high: float
    reach: float
    n: int


def extrapolate(
    sizes: Sequence[float],
    values: Sequence[float],
    threshold: float,
    *,
    target: float | None = None,
    level: float = 0.9,
) -> Crossing:
    """Fit log2 value = a + slope * log2 size, and say where it crosses a threshold.

    Args:
        sizes, values: three or more pairs, positive, at two or more different sizes.
        threshold: of the value; from below when the largest size lies below it, else from above.
        target: a size to predict at.
        level: probability of intervals.

    Raises:
        ArgumentError: too few pairs, or values that have no logarithm.

    >>> round(extrapolate([1, 2, 4, 8], [10, 20.1, 39.9, 80], 1000).at)
    100
    """
    threshold, level = number("threshold", threshold, 0.0, open_low=True), number("level", level, 0.0, 1.0)
    x, y = np.log2(_positive("sizes", sizes)), np.log2(_positive("values", values))
    if len(x) != len(y) or len(x) < 3 or np.ptp(x) == 0:
        raise ArgumentError(
            f"sizes and values must be three or more pairs at different sizes; got {len(x)} and {len(y)}."
        )
    centre, u = float(x.mean()), x - x.mean()
    weight = float((u * u).sum())
    slope, middle = float((u * y).sum()) / weight, float(y.mean())
    dof = len(x) - 2
    spread = math.sqrt(float(((y - middle - slope * u) ** 2).sum()) / dof)
    t = student_quantile((1 + level) / 2, dof)

    def at(octaves: Any) -> tuple[Any, Any, Any]:
        mean = middle + slope * (octaves - centre)
        half = t * spread * np.sqrt(1 / len(x) + (octaves - centre) ** 2 / weight)
        return mean, mean - half, mean + half

    goal, last = math.log2(threshold), float(x.max())
    rising = at(last)[0] < goal
    grid = np.linspace(last, last + 40, 4001)  # to 2^40 times the largest size
    crossings = []
    for line in at(grid):
        over = np.flatnonzero(line >= goal if rising else line <= goal)
        crossings.append(float(2 ** grid[over[0]]) if len(over) else math.inf)
    half = t * spread / math.sqrt(weight)
    found = at(math.log2(number("target", target, 0.0, open_low=True))) if target is not None else None
    value, low, high = (float(2.0**v) for v in found) if found is not None else (math.nan,) * 3
    return Crossing(
        slope, slope - half, slope + half, crossings[0], min(crossings), max(crossings), value, low, high,
        1.0 if target is None else target / 2**last, len(x),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """LR sensitivity of one model.

    Args:
        value: in nats (the unit of the loss); 0 when all learning rates are as good as the best.
        best_lr, best_loss: the least mean loss, and where.
        n: runs.
    """

    value: float
    best_lr: float
    best_loss: float
    n: int


def lr_sensitivity(losses: Mapping[float, float | Sequence[float]], initial_loss: float) -> Sensitivity:
    """Return how much worse than the best a learning rate drawn from the range is on average.

    Args:
        losses: learning rate -> final loss, or several seeds' losses; NaN or infinity: diverged, which counts
            as the initial loss.
        initial_loss: before the first step: nothing is worse than not training.

    Raises:
        ArgumentError: fewer than two learning rates, or none with a finite loss.

    >>> lr_sensitivity({1e-3: 2.0, 1e-2: 2.0, 1e-1: math.nan}, initial_loss=4.0).value
    0.5
    """
    initial = number("initial_loss", initial_loss)
    rates = sorted(number("losses: learning rate", r, 0.0, open_low=True) for r in losses)
    if len(rates) < 2:
        raise ArgumentError(f"losses must hold two or more learning rates; got {len(rates)}.")
    runs = [np.atleast_1d(np.asarray(losses[r], dtype=float)) for r in rates]
    means = np.array([np.where(np.isfinite(v), np.minimum(v, initial), initial).mean() for v in runs])
    best = int(np.argmin(means))
    if not any(np.isfinite(v).any() for v in runs):
        raise ArgumentError("losses: no run ended with a finite loss; try smaller learning rates.")
    x = np.log(rates)
    area = float((np.diff(x) * (means[1:] + means[:-1]) / 2).sum())
    value = area / float(x[-1] - x[0]) - float(means[best])
    return Sensitivity(value, rates[best], float(means[best]), sum(len(v) for v in runs))


def drift(steps: Sequence[float], values: Sequence[float], level: float = 0.9) -> tuple[float, float, float]:
    """Return the change of a linear trend over the recorded steps, with its interval.

    Raises:
        ArgumentError: fewer than three records.

    >>> [round(v, 6) for v in drift([0, 10, 20, 30], [1.0, 0.0, -1.0, -2.0])]
    [-3.0, -3.0, -3.0]
    """
    x, y = np.asarray(steps, float), np.asarray(values, float)
    kept = np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) < 3 or np.ptp(x) == 0:
        raise ArgumentError(f"a drift needs three or more records at different steps; got {len(x)}.")
    u = x - x.mean()
    weight, span = float((u * u).sum()), float(np.ptp(x))
    slope = float((u * y).sum()) / weight
    spread = math.sqrt(float(((y - y.mean() - slope * u) ** 2).sum()) / (len(x) - 2) / weight)
    half = student_quantile((1 + level) / 2, len(x) - 2) * spread
    return slope * span, (slope - half) * span, (slope + half) * span


@dataclass
class StabilityMonitor:
    """Records the proxies during training; give it what the loop has at hand.

    >>> monitor = StabilityMonitor()
    >>> monitor.record(0, max_attention_logit=3.0, log_z=5.5)
    >>> monitor.column("log_z")
    ([0], [5.5])
    """

    rows: list[dict[str, float]] = field(default_factory=list)

    def record(self, step: int, **values: float) -> None:
        """Keep numbers of one step under their names."""
        self.rows.append({"step": step, **{k: float(v) for k, v in values.items()}})

    def observe(
        self,
        step: int,
        *,
        attention_logits: Iterable[Tensor] | None = None,
        logits: Tensor | None = None,
        model: nn.Module | None = None,
    ) -> None:
        """Measure and keep: the largest absolute attention logit, the mean log Z, the least gradient rms.

        Args:
            step: of training.
            attention_logits: scores before the softmax, one tensor a layer; minus infinity (a mask) is left
                out.
            logits: of the output, classes last.
            model: after the backward pass; tensors without a gradient are left out.
        """
        torch = require("torch", "The stability monitor")
        values: dict[str, float] = {}
        with torch.no_grad():
            if attention_logits is not None:
                kept = [a[torch.isfinite(a)] for a in attention_logits]
                sizes = [float(a.abs().max()) for a in kept if a.numel()]
                if not sizes:
                    raise ArgumentError(
                        f"attention_logits holds no finite score at step {step} ({len(kept)} tensors): give the "
                        "scores before the softmax, one tensor a layer."
                    )
                values["max_attention_logit"] = max(sizes)
            if logits is not None:
                values["log_z"] = float(torch.logsumexp(logits.float(), -1).mean())
            if model is not None:
                rms = [
                    float(p.grad.float().square().mean().sqrt())
                    for p in model.parameters()
                    if p.grad is not None
                ]
                if rms:
                    values["min_grad_rms"] = min(rms)
        self.record(step, **values)

    def column(self, name: str) -> tuple[list[float], list[float]]:
        """Return steps and values of one quantity."""
        kept = [r for r in self.rows if name in r]
        return [r["step"] for r in kept], [r[name] for r in kept]

    def worst(self) -> dict[str, float]:
        """Return the largest attention logit, the least log Z and the least gradient rms recorded."""
        found = {}
        for name, pick in (("max_attention_logit", max), ("log_z", min), ("min_grad_rms", min)):
            values = [v for v in self.column(name)[1] if math.isfinite(v)]
            if values:
                found[name] = pick(values)
        return found


@dataclass(frozen=True, slots=True)
class Finding:
    """What one proxy says.

    Args:
        proxy: a key of ``REMEDIES``.
        fires: whether it warns.
        reason: in a sentence with its numbers.
        remedy: what helps, empty when it does not warn.
    """

    proxy: str
    fires: bool
    reason: str
    remedy: str

    def to_json(self) -> dict[str, Json]:
        """Encode."""
        return to_json(self)


def diagnose(
    *,
    attention: Mapping[float, float] | None = None,
    gradients: Mapping[float, float] | None = None,
    sensitivity: Mapping[float, Sensitivity] | None = None,
    log_z: tuple[Sequence[float], Sequence[float]] | None = None,
    target: float | None = None,
    threshold: float = _LOGITS,
    eps: float = 1e-8,
    limit: float = _SINK,
    level: float = 0.9,
) -> tuple[Finding, ...]:
    """Say which proxies warn, and what helps.

    Args:
        attention: size -> largest attention logit of a run at that size.
        gradients: size -> least gradient rms.
        sensitivity: size -> LR sensitivity.
        log_z: steps and mean log Z of one run.
        target: the size that one means to train; without it, 16 times the largest.
        threshold: attention logits that are too large.
        eps: Adam's.
        limit: nats by which log Z may sink over the run.
        level: probability of intervals.
    """
    found = []
    for proxy, given, goal, what in (
        ("attention logits", attention, threshold, "the largest attention logit"),
        ("gradients", gradients, eps, "the least gradient rms"),
    ):
        if given is None:
            continue
        order = sorted(given)
        aim = 16 * order[-1] if target is None else target
        c = extrapolate(order, [given[s] for s in order], goal, target=aim, level=level)
        over = given[order[-1]] >= goal if proxy == "attention logits" else given[order[-1]] <= goal
        fires = over or c.at <= aim
        reason = (
            f"{what} goes as size^{c.slope:+.2f} ({100 * level:g} % interval {c.low:+.2f} to {c.high:+.2f}) and is "
            f"{c.value:.3g} ({c.value_low:.3g} to {c.value_high:.3g}) at size {aim:g}, a reach of {c.reach:.3g}; "
            + (f"it meets {goal:g} at size {c.at:.3g}" if math.isfinite(c.at) else f"it never meets {goal:g}")
        )
        found.append(_finding(proxy, fires, reason))
    if log_z is not None:
        change, low, high = drift(*log_z, level)
        reason = (
            f"log Z changes by {change:+.2f} nats over the run ({low:+.2f} to {high:+.2f}; limit -{limit:g})"
        )
        found.append(_finding("output logits", high < -limit, reason))
    if sensitivity is not None:
        order = sorted(sensitivity)
        values = [sensitivity[s].value for s in order]
        listed = ", ".join(f"{s:g}: {v:.3g}" for s, v in zip(order, values, strict=True))
        grows, note = False, "at one size alone it says nothing of growth"
        if len(order) > 2 and min(values) > 0:
            c = extrapolate(order, values, max(values) * 2, level=level)
            grows, note = c.low > 0, f"it goes as size^{c.slope:+.2f} ({c.low:+.2f} to {c.high:+.2f})"
        elif len(order) > 1:
            grows, note = values[-1] > 2 * values[0], "from the smallest to the largest size"
        found.append(_finding("LR sensitivity", grows, f"LR sensitivity by size is {listed}; {note}"))
    return tuple(found)


def _finding(proxy: str, fires: bool, reason: str) -> Finding:
    return Finding(proxy, fires, f"{reason}.", REMEDIES[proxy] if fires else "")


def _positive(name: str, values: Sequence[float]) -> Any:
    found = np.asarray(list(values), dtype=float)
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise ArgumentError(f"{name} must be positive finite numbers; got {list(values)!r}.")
    return found


def qk_norm(
    q: Tensor, k: Tensor, gains: tuple[Tensor, Tensor] | None = None, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Layer-normalise queries and keys over the last dimension, so that |q·k| is at most its length.

    Args:
        q, k: (..., size of a head).
        gains: of queries and of keys, (size,) each, to be multiplied with.
        eps: added to the variance.
    """
    functional = require("torch", "qk_norm").nn.functional
    size = (q.shape[-1],)
    one, two = gains if gains is not None else (None, None)
    return functional.layer_norm(q, size, one, eps=eps), functional.layer_norm(k, size, two, eps=eps)


def z_loss(logits: Tensor, coefficient: float = 1e-4) -> Tensor:
    """Return coefficient * mean of (log Z)^2, to be added to the loss: it holds logits where they have no gradient.

    Args:
        logits: (..., classes).
        coefficient: 1e-4 in the works that use it.
    """
    torch = require("torch", "z_loss")
    loss: Tensor = coefficient * torch.logsumexp(logits, -1).square().mean()
    return loss
