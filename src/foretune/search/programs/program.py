"""Straight-line programs: a list of operations on the input, constants, and earlier results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.base.errors import ArgumentError

__all__ = ["OPERATIONS", "Instruction", "Operation", "Program"]

Array = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Operation:
    """An operation of one or two arguments, with its partial derivatives.

    Attributes:
        symbol: how it is written between its arguments, or before a single one.
        arity: number of arguments, 1 or 2.
        value: vectorised; of the arguments.
        slopes: the derivative by each argument; of the arguments and the result.
    """

    symbol: str
    arity: int
    value: Callable[..., Any]
    slopes: Callable[..., tuple[Any, ...]]


# Whatever these give that is not finite disqualifies the program, so that no branch guards them.
OPERATIONS: Mapping[str, Operation] = {
    "add": Operation("+", 2, np.add, lambda a, b, r: (1.0, 1.0)),
    "sub": Operation("-", 2, np.subtract, lambda a, b, r: (1.0, -1.0)),
    "mul": Operation("*", 2, np.multiply, lambda a, b, r: (b, a)),
    "div": Operation("/", 2, np.divide, lambda a, b, r: (1.0 / b, -r / b)),
    "sqrt": Operation("sqrt", 1, np.sqrt, lambda a, r: (0.5 / r,)),
}


class Instruction(NamedTuple):
    """One operation.

    Attributes:
        op: its name in ``OPERATIONS``.
        a, b: its arguments: 0 is the input; -1, -2, ... constants; 1, 2, ... results of earlier
            instructions. An operation of one argument ignores ``b``.
    """

    op: str
    a: int
    b: int


@final
@dataclass(frozen=True)
class Program:
    """A straight-line program of one input. Call it on numbers or arrays.

    Attributes:
        code: the instructions, in order; without any, the program gives back its input.
        constants: the constants.
        error: the largest error that a search has found for it; NaN if nobody has looked.

    Raises:
        ArgumentError: an instruction reads what does not exist.

    >>> half = Program((Instruction("mul", 0, -1), Instruction("add", 1, 0)), (0.5,))
    >>> half(2.0), half.operations, half.source()
    (3.0, 2, '(x * 0.5) + x')
    """

    code: tuple[Instruction, ...] = ()
    constants: tuple[float, ...] = ()
    error: float = float("nan")

    def __post_init__(self) -> None:
        for i, (op, *arguments) in enumerate(self.code):
            if op not in OPERATIONS:
                raise ArgumentError(
                    f"code[{i}]: there is no operation {op!r}; known: {', '.join(OPERATIONS)}."
                )
            for at in arguments[: OPERATIONS[op].arity]:
                if not -len(self.constants) <= at <= i:
                    raise ArgumentError(
                        f"code[{i}] reads {at}; it may read 0 (the input), 1 to {i} (earlier results) and -1 to "
                        f"-{len(self.constants)} (constants)."
                    )

    @property
    def operations(self) -> int:
        """Number of operations; constants cost nothing."""
        return len(self.code)

    def __call__(self, x: ArrayLike) -> Any:
        """Run the program on numbers of any shape."""
        at = np.asarray(x)
        with np.errstate(all="ignore"):
            found = self._run(at if at.dtype.kind == "f" else at.astype(float))[-1]
        found = np.broadcast_to(found, at.shape)
        return found.copy() if at.ndim else found[()].item()

    def _run(self, x: Any) -> list[Any]:
        """Return the input and all results; constants take the input's precision."""
        values: list[Any] = [x]
        known = [x.dtype.type(c) for c in self.constants]
        for op, a, b in self.code:
            does = OPERATIONS[op]
            first = values[a] if a >= 0 else known[-a - 1]
            if does.arity == 1:
                values.append(does.value(first))
            else:
                values.append(does.value(first, values[b] if b >= 0 else known[-b - 1]))
        return values

    def gradient(self, x: Array) -> tuple[Array, Array]:
        """Return the values and their derivatives by the constants, in one pass forwards and one back.

        Args:
            x: (n,).

        Returns:
            (n,) and (n, constants).
        """
        with np.errstate(all="ignore"):
            values = self._run(x)
            slopes: list[Any] = [0.0] * len(values)
            slopes[-1] = np.ones(len(x))
            jacobian = np.zeros((len(x), len(self.constants)))
            for i in range(len(self.code), 0, -1):
                op, a, b = self.code[i - 1]
                does = OPERATIONS[op]
                arguments = (a, b)[: does.arity]
                given = [values[j] if j >= 0 else self.constants[-j - 1] for j in arguments]
                for j, slope in zip(arguments, does.slopes(*given, values[i]), strict=True):
                    passed = slopes[i] * slope
                    if j > 0:
                        slopes[j] = slopes[j] + passed
                    elif j < 0:
                        jacobian[:, -j - 1] += passed
        return np.broadcast_to(values[-1], x.shape), jacobian

    def pruned(self) -> Program:
        """Leave out what the result does not depend on: instructions, and constants that nobody reads."""
        needed, reads = {len(self.code)}, set()
        for i in range(len(self.code), 0, -1):
            if i in needed:
                op, *arguments = self.code[i - 1]
                reads |= {j for j in arguments[: OPERATIONS[op].arity] if j < 0}
                needed |= {j for j in arguments[: OPERATIONS[op].arity] if j > 0}
        place = {0: 0, **{old: new for new, old in enumerate(sorted(needed - {0}), start=1)}}
        place |= {old: -new for new, old in enumerate(sorted(reads, reverse=True), start=1)}
        code = tuple(
            Instruction(op, place[a], place[b] if OPERATIONS[op].arity == 2 else 0)
            for i, (op, a, b) in enumerate(self.code, start=1)
            if i in needed
        )
        kept = tuple(self.constants[-j - 1] for j in sorted(reads, reverse=True))
        return Program(code, kept, self.error)

    def source(self, name: str = "x") -> str:
        """Write the program as one expression; shared results are written out each time."""
        words: list[str] = [name]
        for op, a, b in self.code:
            does = OPERATIONS[op]
            bare = [repr(float(self.constants[-j - 1])) if j < 0 else words[j] for j in (a, b)]
            first, second = (f"({w})" if j > 0 else w for j, w in zip((a, b), bare, strict=True))
            words.append(
                f"{does.symbol}({bare[0]})" if does.arity == 1 else f"{first} {does.symbol} {second}"
            )
        return words[-1]
