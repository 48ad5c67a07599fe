"""Distillation: a loss that mixes the labels with what a teacher says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foretune.base import check
from foretune.base.lazy import require

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any

__all__ = ["kd_loss"]


def kd_loss(
    student: Tensor,
    target: Tensor,
    teacher: Tensor | None,
    weight: float,
    temperature: float = 1.0,
    kind: str = "kl",
) -> Tensor:
    """Return (1 - w) cross entropy(target, student) + w distance(teacher, student).

    The distance is T^2 KL(softmax(teacher / T) || softmax(student / T)) for ``"kl"``, and the mean squared
    difference of the logits for ``"mse"``. With ``weight`` 0 or without a teacher it is the cross entropy
    itself, bit for bit.

    Args:
        student: (n, classes) logits.
        target: (n,) class numbers.
        teacher: (n, classes) logits; no gradient flows into them. None: no teacher.
        weight: w in [0, 1].
        temperature: T > 0; for ``"kl"``.
        kind: ``"kl"`` or ``"mse"``.

    Raises:
        ArgumentError: a number out of range, or an unknown kind.

    Source: Bayesian Optimization Meets Self-Distillation
    Source: Distilling the Knowledge in a Neural Network | the T^2 that keeps gradients' size

    Differs:
        1. The first paper's released code has the squared difference of logits (``"mse"``) alone.
    """
    check.number("weight", weight, 0.0, 1.0)
    check.number("temperature", temperature, 0.0, open_low=True)
    check.one_of("kind", kind, ("kl", "mse"))
    f = require("torch.nn.functional", "Distillation")
    plain: Tensor = f.cross_entropy(student, target)
    if teacher is None or weight == 0.0:
        return plain
    fixed = teacher.detach()
    if kind == "mse":
        distance = f.mse_loss(student, fixed)
    else:
        said = f.log_softmax(student / temperature, dim=-1)
        wanted = f.log_softmax(fixed / temperature, dim=-1)
        distance = temperature**2 * f.kl_div(said, wanted, reduction="batchmean", log_target=True)
    result: Tensor = (1.0 - weight) * plain + weight * distance
    return result
