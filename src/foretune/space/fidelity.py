"""Fidelity: how far a trial can be trained, and the rungs on the way."""

from __future__ import annotations

from dataclasses import dataclass

from foretune.base import check
from foretune.base.errors import ArgumentError

__all__ = ["Fidelity"]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The resource axis of a study: positions from ``low`` (the first judgement) to ``high`` (full).

    Args:
        high: the last step of a complete trial.
        low: the least step at which trials may be compared.
        unit: what a step is: "steps", "epochs", "tokens", "samples".

    >>> Fidelity(81).rungs(eta=3)
    (1, 3, 9, 27, 81)
    """

    high: float = 1
    low: float = 1
    unit: str = "steps"

    def __post_init__(self) -> None:
        check.number("steps.high", self.high, 0, open_low=True)
        check.number("steps.low", self.low, 0, open_low=True)
        check.name("steps.unit", self.unit)
        if self.low > self.high:
            raise ArgumentError(f"steps.low must not exceed steps.high; got {self.low!r} > {self.high!r}.")

    def rungs(self, eta: float = 3, low: float | None = None) -> tuple[float, ...]:
        """Return the geometric ladder of steps that ends at ``high``, from about ``low`` upwards.

        Rungs are whole numbers where ``high`` is; each is ``high / eta**k``, rounded.
        """
        check.number("eta", eta, 1, open_low=True)
        floor = self.low if low is None else low
        found: list[float] = [self.high]
        k = 1
        while self.high / eta**k >= floor * (1 - 1e-9):
            step = self.high / eta**k
            step = float(max(1, round(step))) if float(self.high).is_integer() else step
            if step < found[-1]:  # rounding may repeat a rung where eta is small
                found.append(int(step) if float(step).is_integer() else step)
            k += 1
        return tuple(reversed(found))
