"""What the published laws recommend for one run, side by side, with what speaks against each.

The laws disagree, because their recipes do: this module hides none of it. Each piece of advice carries its
source, its recipe, how far the run lies beyond the runs behind it (decades), and warnings.
With a run that was tuned, each law also says where that run's values go: then only its exponents count,
which travel better between recipes than its constant.

Longer than most files here: all laws are asked the same questions, and their advice is checked side by side.

Source: Predictable Scale: Part I -- Optimal Hyperparameter Scaling Law in Large Language Model Pretraining
Source: DeepSeek LLM: Scaling Open-Source Language Models with Longtermism
Source: MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies
Source: Resolving Discrepancies in Compute-Optimal Scaling of Language Models
Source: Scaling Optimal LR Across Token Horizons
Source: Power Lines: Scaling Laws for Weight Decay and Batch Size in LLM Pre-training
Source: How Does Critical Batch Size Scale in Pre-training?
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from foretune.base import check
from foretune.base.errors import ArgumentError, did_you_mean
from foretune.laws.constants import published
from foretune.laws.fit import make
from foretune.laws.hyper.counting import COUNTS, Counting
from foretune.laws.hyper.power_lines import timescale
from foretune.laws.hyper.rules import QUANTITIES, Rule, rules
from foretune.laws.hyper.run_loss import RunLoss, run_losses
from foretune.laws.hyper.step_law import step_law

__all__ = ["Advice", "Recommendation", "Run", "recommend", "to_json"]

UNITS = {"learning rate": "1", "batch": "tokens", "weight decay": "1", "critical batch": "tokens"}
TUNED = {
    "learning rate": "lr",
    "batch": "batch",
    "weight decay": "weight_decay",
    "critical batch": "critical_batch",
}
OPTIMIZERS = ("adamw", "adam", "scion", "muon", "sgd", "other")
PARAMETRIZATIONS = ("standard", "mup")
SCHEDULES = ("cosine", "linear", "constant", "wsd", "multi-step", "other")
FAR = 2.0  # factor beyond which a batch or a ratio D / N counts as another one


@dataclass(frozen=True)
class Run:
    """The run that is planned.

    Attributes:
        model: its parameters, with their convention and shape.
        tokens: D.
        batch: tokens a step, where it is fixed.
        lr: peak learning rate, where it is fixed.
        loss: expected final loss, nats per token; left out, a published law estimates it.
        optimizer: ``"adamw"``, ``"adam"``, ``"scion"``, ``"muon"``, ``"sgd"``, ``"other"``.
        parametrization: ``"standard"`` or ``"mup"``.
        schedule: of the learning rate; None where it is open.
    """

    model: Counting
    tokens: float
    batch: float | None = None
    lr: float | None = None
    loss: float | None = None
    optimizer: str = "adamw"
    parametrization: str = "standard"
    schedule: str | None = None

    def __post_init__(self) -> None:
        check.number("tokens", self.tokens, 0.0, open_low=True)
        for name in ("batch", "lr", "loss"):
            if getattr(self, name) is not None:
                check.number(name, getattr(self, name), 0.0, open_low=True)
        check.one_of("optimizer", self.optimizer, OPTIMIZERS)
        check.one_of("parametrization", self.parametrization, PARAMETRIZATIONS)
        if self.schedule is not None:
            check.one_of("schedule", self.schedule, SCHEDULES)

    @property
    def expected_loss(self) -> float:
        """The loss given, or that of the Chinchilla law (Besiroglu 2024)."""
        if self.loss is not None:
            return self.loss
        t = published("chinchilla", "Besiroglu 2024")[0].theta
        n = self.model.of("in")
        return float(t["E"] + t["A"] * n ** -t["alpha"] + t["B"] * self.tokens ** -t["beta"])


@dataclass(frozen=True)
class Advice:
    """What one law says.

    Attributes:
        quantity: learning rate, batch, weight decay or critical batch.
        value: the number.
        unit: ``"1"`` or ``"tokens"``.
        basis: ``"published"`` (constants of the source) or ``"tuned"`` (your run, scaled by the law's exponents).
        law: name of the law; empty where only exponents are published.
        who: author and year.
        source: title of the work.
        where: place in it.
        recipe: what was trained.
        counts: how the source counts.
        caveat: what to know before using it.
        inputs: what the law was given.
        reach: input -> decades beyond the runs behind it; inputs whose range is not known are absent.
        warnings: what speaks against it here.
    """

    quantity: str
    value: float
    unit: str
    basis: str
    law: str
    who: str
    source: str
    where: str
    recipe: str
    counts: str
    caveat: str
    inputs: Mapping[str, float]
    reach: Mapping[str, float]
    warnings: tuple[str, ...]

    @property
    def max_reach(self) -> float:
        """The farthest reach, in decades."""
        return max(self.reach.values(), default=0.0)


@dataclass(frozen=True)
class Recommendation:
    """All advice for one run, and the loss that published laws expect of it."""

    run: Run
    advice: tuple[Advice, ...]
    assumptions: tuple[str, ...]
    tuned: Mapping[str, float] = field(default_factory=dict)

    def of(self, quantity: str, basis: str | None = None) -> tuple[Advice, ...]:
        """Advice on one quantity."""
        check.one_of("quantity", quantity, QUANTITIES)
        return tuple(a for a in self.advice if a.quantity == quantity and basis in (None, a.basis))

    @property
    def losses(self) -> tuple[RunLoss, ...]:
        """The loss that published laws expect of the run, each in its own tokens."""
        return run_losses(self.run.model, self.run.tokens, self.run.batch)

    def span(self, quantity: str, basis: str = "published") -> tuple[float, float] | None:
        """Smallest and largest advice of the run's own parametrization; None where there is none."""
        own = [
            a.value
            for a in self.of(quantity, basis)
            if not any(w.startswith("recipe: mup") for w in a.warnings)
        ]
        return (min(own), max(own)) if own else None


def recommend(
    params: float,
    tokens: float,
    *,
    embeddings: str = "out",
    batch: float | None = None,
    lr: float | None = None,
    loss: float | None = None,
    vocab: float = 0.0,
    width: float | None = None,
    layers: float | None = None,
    context: float | None = None,
    tied: bool = False,
    optimizer: str = "adamw",
    parametrization: str = "standard",
    schedule: str | None = None,
    tuned: Mapping[str, float] | None = None,
) -> Recommendation:
    """Apply every published law that fits the run.

    Args:
        params: N, counted as ``embeddings`` says: ``"out"`` without, ``"in"`` with them and the head,
            ``"head"`` with the head alone.
        tokens: D.
        batch: tokens a step, where it is fixed; lr: peak learning rate, where it is fixed.
        loss: expected final loss in nats per token, for the laws that need one.
        vocab: vocabulary; width, layers, context: shape of the model; tied: head tied to the embedding.
        optimizer: see ``Run``; parametrization and schedule likewise.
        tuned: a run whose values are known to be best: ``params`` and ``tokens``, and of ``lr``, ``batch``,
            ``weight_decay`` and ``critical_batch`` those that are known; counted as ``params`` is.

    >>> found = recommend(1e9, 1e11)
    >>> [f"{a.value:.3g} ({a.who})" for a in found.of("learning rate")][:2]
    ['0.00163 (Li 2025 (Step Law))', '0.000355 (Bjorck 2024)']
    """
    check.one_of("embeddings", embeddings, COUNTS)
    model = Counting(params, embeddings, vocab, width, layers, context, tied)
    run = Run(model, tokens, batch, lr, loss, optimizer, parametrization, schedule)
    known = _tuned(tuned)
    advice = [a for rule in rules() for a in _apply(rule, run, known)]
    order = {q: i for i, q in enumerate(QUANTITIES)}
    advice.sort(key=lambda a: (order[a.quantity], a.basis != "tuned"))
    assumed = _assumptions(run)
    if "weight_decay" in known and not _complete(run, known):
        assumed.append("the tuned weight decay is not scaled: that needs lr and batch of both runs")
    return Recommendation(run, tuple(advice), tuple(assumed), known)


def _tuned(given: Mapping[str, float] | None) -> dict[str, float]:
    if not given:
        return {}
    names = ("params", "tokens", *TUNED.values())
    for name in given:
        if name not in names:
            raise ArgumentError(
                f"tuned has no {name!r}.{did_you_mean(str(name), names)} It may hold {', '.join(names)}."
            )
    known = {k: check.number(f"tuned {k}", v, 0.0, open_low=True) for k, v in given.items()}
    missing = [k for k in ("params", "tokens") if k not in known]
    if missing or len(known) < 3:
        raise ArgumentError(
            f"tuned needs params, tokens and at least one of {', '.join(TUNED.values())}; "
            f"got {', '.join(known) or 'nothing'}."
        )
    return known


def _assumptions(run: Run) -> list[str]:
    said = list(run.model.assumed)
    if run.loss is None:
        said.append(
            f"no loss given: {run.expected_loss:.3f} nats per token assumed (Chinchilla law, Besiroglu 2024)"
        )
    if run.lr is None or run.batch is None:
        lr, batch = _lr_and_batch(run)
        parts = [f"{lr:.3g} as learning rate"] * (run.lr is None) + [f"{batch:.3g} tokens as batch"] * (
            run.batch is None
        )
        said.append(f"for weight decay, {' and '.join(parts)} assumed (Step Law)")
    return said


def _complete(run: Run, known: Mapping[str, float]) -> bool:
    """Whether learning rate and batch of both runs are known."""
    return "lr" in known and "batch" in known and run.lr is not None and run.batch is not None


def _lr_and_batch(run: Run) -> tuple[float, float]:
    lr, batch = step_law(run.model.of("out"), run.tokens)
    return run.lr or lr, run.batch or batch


def _apply(rule: Rule, run: Run, known: Mapping[str, float]) -> list[Advice]:
    """Advice of one rule: by its constants, and from the tuned run."""
    entry, found = rule.entry, []
    warnings, reach = _warnings(rule, run), {}
    if entry is not None:
        inputs, given = _inputs(rule, run), set(entry.ranges)
        reach = {k: _beyond(inputs[k], *entry.ranges[k]) for k in given if k in inputs}
        if rule.compute:
            reach["C"] = _beyond(inputs["C"], rule.compute[0], rule.compute[1])
        warnings += [
            f"range: {k} = {inputs[k]:.3g} lies {far:.1f} decades beyond the runs behind it"
            for k, far in sorted(reach.items())
            if far > 0.05
        ]
        value = _value(rule, run)
        found.append(
            _advice(rule, value, "published", inputs, reach, [*warnings, *_about_batch(rule, run, value)])
        )
    name = TUNED[rule.quantity]
    if name in known and known[name] > 0:
        small = replace(
            run, model=replace(run.model, params=known["params"], width=None, layers=None), tokens=known["tokens"],
            loss=None, lr=known.get("lr"), batch=known.get("batch"),
        )  # fmt: skip
        if entry is None:
            ratio = math.prod((run.tokens / small.tokens) ** p for k, p in rule.exponents.items() if k == "D")
        else:
            ratio = _value(rule, replace(run, loss=None)) / _value(rule, small)
        complete = _complete(run, known)
        foreign = rule.quantity == "learning rate" and rule.parametrization != run.parametrization
        # The ratio of weight decays needs both learning rates and batches; a rate's exponents are those of
        # its parametrization.
        if not foreign and (complete or rule.quantity != "weight decay"):
            place = {"N": run.model.params, "D": run.tokens}
            own = [w for w in warnings if not w.startswith("recipe: mup")]
            found.append(_advice(rule, known[name] * ratio, "tuned", place, reach, own))
    return found


def _inputs(rule: Rule, run: Run) -> dict[str, float]:
    n, d = run.model.of(rule.count), run.tokens
    if rule.law == "timescale":
        return {"tpp": d / n}
    if rule.flops:
        exact = run.model.context is not None
        return {"C": run.model.compute(d, rule.flops if exact else "6N")}
    theta = rule.entry.theta if rule.entry is not None else {}
    names = {"N": n, "D": d, "L": run.expected_loss}
    exponent = {"N": "a", "D": "b", "L": "g"}
    return {k: v for k, v in names.items() if theta.get(exponent[k], 0.0) != 0.0 or k in _ranges(rule)}


def _ranges(rule: Rule) -> Mapping[str, tuple[float, float]]:
    return rule.entry.ranges if rule.entry is not None else {}


def _value(rule: Rule, run: Run) -> float:
    """Evaluate a rule's law."""
    assert rule.entry is not None
    theta = {k: np.array(v) for k, v in rule.entry.theta.items()}
    law, n, d = make(rule.law), run.model.of(rule.count), run.tokens
    if rule.law == "timescale":
        tau = float(law.mean(theta, {"tpp": np.array([d / n])})[0])
        lr, batch = _lr_and_batch(run)
        return timescale(batch, lr, tau, d)  # lambda and tau change places
    if rule.flops:
        n = _inputs(rule, run)["C"] / (6.0 * d)
    x = {"N": n, "D": d, "L": run.expected_loss}
    return float(law.mean(theta, {k: np.array([x[k]]) for k in law.inputs})[0])


def _warnings(rule: Rule, run: Run) -> list[str]:
    said = []
    if rule.optimizer != run.optimizer:
        said.append(f"recipe: {rule.optimizer}, not {run.optimizer}")
    if rule.parametrization != run.parametrization:
        about = (
            "a base learning rate, not a peak one"
            if rule.quantity == "learning rate"
            else "its learning rates differ"
        )
        said.append(f"recipe: {rule.parametrization}, not {run.parametrization} parametrization ({about})")
    if run.schedule is not None and rule.schedule and rule.schedule != run.schedule:
        said.append(f"recipe: {rule.schedule} schedule, not {run.schedule}")
    if isinstance(rule.batch, float | int) and run.batch is not None and _apart(run.batch, rule.batch):
        said.append(f"recipe: batch of {rule.batch:.3g} tokens, not {run.batch:.3g}")
    if rule.tokens_per_param:
        tpp = run.tokens / run.model.of(rule.count)
        if _apart(tpp, rule.tokens_per_param) and rule.law != "critical_batch":
            far = abs(math.log10(tpp / rule.tokens_per_param))
            said.append(
                f"range: D / N = {tpp:.3g} lies {far:.1f} decades from the {rule.tokens_per_param:g} "
                "of the runs behind it"
            )
    if rule.law in ("critical_batch", "batch_size") and rule.entry is not None and rule.entry.theta["g"]:
        said.append("recipe: a loss of another tokenizer and text")
    if rule.law == "timescale" and (run.lr is None or run.batch is None):
        said.append("inputs: learning rate or batch assumed; give yours")
    if rule.flops and run.model.context is None:
        said.append("inputs: C = 6 N D, without attention; give the context and the shape")
    return said


def _about_batch(rule: Rule, run: Run, value: float) -> list[str]:
    """What a fixed batch means beside the best and the critical one."""
    if run.batch is None or rule.quantity not in ("batch", "critical batch"):
        return []
    factor = run.batch / value
    if rule.quantity == "critical batch":
        return [f"your batch is {factor:.2g} times this"] if factor > 1.0 else []
    return [f"your batch is {factor:.2g} times this"] if _apart(run.batch, value) else []


def _apart(one: float, other: float) -> bool:
    return abs(math.log(one / other)) > math.log(FAR)


def _beyond(value: float, low: float, high: float) -> float:
    return max(math.log10(value / high), math.log10(low / value), 0.0)


def _advice(
    rule: Rule,
    value: float,
    basis: str,
    inputs: Mapping[str, float],
    reach: Mapping[str, float],
    warnings: list[str],
) -> Advice:
    entry = rule.entry
    return Advice(
        quantity=rule.quantity,
        value=value,
        unit=UNITS[rule.quantity],
        basis=basis,
        law=rule.law,
        who=rule.who,
        source=entry.source if entry else rule.source,
        where=entry.where if entry else rule.where,
        recipe=entry.recipe if entry else rule.recipe,
        counts=entry.counts if entry else "",
        caveat=entry.caveat if entry else rule.caveat,
        inputs=dict(inputs),
        reach=dict(reach),
        warnings=tuple(warnings),
    )


def to_json(found: Recommendation) -> dict[str, Any]:
    """Write a recommendation as JSON values; the contract is that of ``foretune recommend --json``."""
    run, model = found.run, found.run.model
    spans = {q: found.span(q) for q in QUANTITIES}
    return {
        "params": model.params,
        "embeddings": model.count,
        "params_out": model.of("out"),
        "params_in": model.of("in"),
        "tokens": run.tokens,
        "tokens_per_param": run.tokens / model.params,
        "compute": model.compute(run.tokens),
        "batch": run.batch,
        "lr": run.lr,
        "optimizer": run.optimizer,
        "parametrization": run.parametrization,
        "schedule": run.schedule,
        "tuned": dict(found.tuned),
        "assumptions": list(found.assumptions),
        "spans": {q: None if s is None else list(s) for q, s in spans.items()},
        "recommendations": [
            {
                "quantity": a.quantity,
                "value": a.value,
                "unit": a.unit,
                "basis": a.basis,
                "who": a.who,
                "law": a.law or None,
                "source": a.source,
                "where": a.where,
                "recipe": a.recipe,
                "counts": a.counts,
                "caveat": a.caveat,
                "inputs": dict(a.inputs),
                "reach": dict(a.reach),
                "max_reach": a.max_reach,
                "warnings": list(a.warnings),
            }
            for a in found.advice
        ],
        "losses": [{**asdict(e), "max_reach": e.max_reach} for e in found.losses],
    }
