"""Program evolution: a population on the front of error against operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.pareto import best, crowding, front, ranks
from foretune.search.programs.program import OPERATIONS, Instruction, Program
from foretune.search.programs.tune import tuned, worst

__all__ = ["ProgramEvolver", "mutated", "random_program"]

Array = NDArray[np.float64]

NODES = 65  # points of the search; Chebyshev's, dense at the ends, where errors of formulas peak
TINY = 1e-9  # a target this small beside its largest value counts as 0
DENSE = 4097  # points on which the programs that are returned are measured


def _argument(rng: np.random.Generator, results: int, constants: list[float]) -> int:
    """Draw what an instruction reads: the input, an earlier result, or a constant of its own."""
    if rng.random() < 0.4:
        constants.append(float(rng.standard_normal()))
        return -len(constants)
    return int(rng.integers(results + 1))


def random_program(ops: Sequence[str], operations: int, rng: np.random.Generator) -> Program:
    """Draw a program of so many instructions, of which some may be useless (they are left out)."""
    constants: list[float] = []
    code: list[Instruction] = []
    for i in range(operations):
        op = ops[int(rng.integers(len(ops)))]
        code.append(Instruction(op, _argument(rng, i, constants), _argument(rng, i, constants)))
    return Program(tuple(code), tuple(constants)).pruned()


def mutated(program: Program, ops: Sequence[str], most: int, rng: np.random.Generator) -> Program:
    """Insert, remove or change one instruction, or nudge one constant; at most ``most`` operations remain."""
    code, constants = list(program.code), list(program.constants)
    kind = rng.choice(["insert", "remove", "op", "argument", "constant"], p=[0.35, 0.15, 0.15, 0.25, 0.1])
    if not code or (kind == "insert" and len(code) < most):
        at = int(rng.integers(len(code) + 1))
        op = ops[int(rng.integers(len(ops)))]
        a = (
            at if rng.random() < 0.5 else _argument(rng, at, constants)
        )  # often it takes up the result before it
        new = [a, _argument(rng, at, constants)]
        rng.shuffle(new)
        # what read the result before it may read the new one
        for i in range(at, len(code)):
            old = code[i]
            shifted = [j + 1 if j > at else at + 1 if j == at and rng.random() < 0.8 else j for j in old[1:]]
            code[i] = Instruction(old.op, shifted[0], shifted[1])
        code.insert(at, Instruction(op, new[0], new[1]))
        if at < len(program.code) and not any(at + 1 in c[1:] for c in code[at + 1 :]):
            late = code[at + 1]
            code[at + 1] = (
                Instruction(late.op, at + 1, late.b)
                if rng.random() < 0.5
                else Instruction(late.op, late.a, at + 1)
            )
    elif kind == "remove":
        at = int(rng.integers(len(code)))
        gone = code.pop(at)
        into = gone.a if rng.random() < 0.5 or OPERATIONS[gone.op].arity == 1 else gone.b
        for i in range(at, len(code)):
            moved = [into if j == at + 1 else j - 1 if j > at + 1 else j for j in code[i][1:]]
            code[i] = Instruction(code[i].op, moved[0], moved[1])
    elif kind == "op":
        at = int(rng.integers(len(code)))
        code[at] = code[at]._replace(op=ops[int(rng.integers(len(ops)))])
        if rng.random() < 0.3:
            code[at] = Instruction(code[at].op, code[at].b, code[at].a)
    elif kind == "constant" and constants:
        i = int(rng.integers(len(constants)))
        constants[i] = float(
            constants[i] * np.exp(0.5 * rng.standard_normal()) * (-1 if rng.random() < 0.1 else 1)
        )
    else:
        at = int(rng.integers(len(code)))
        read = _argument(rng, at, constants)
        code[at] = code[at]._replace(a=read) if rng.random() < 0.5 else code[at]._replace(b=read)
    return Program(tuple(code), tuple(constants)).pruned()


@final
@dataclass(frozen=True)
class ProgramEvolver:
    """Evolves straight-line programs that approximate a function, by largest error and number of operations.

    A population on two goals: survivors are whole Pareto fronts, of the last the loneliest; parents win
    binary tournaments. A child is one mutation (more, with probability 1/2, 1/4, ...) of its parent, and its
    constants are tuned before it is measured. Programs that compute the same are kept once. Search
    starts from random programs of one to three operations.

    Args:
        target: vectorised function of one number; it must be finite on [low, high].
        low: start of the interval.
        high: its end.
        ops: names in ``OPERATIONS``.
        most: operations at most.
        population: survivors.
        tuning: steps of constant tuning for each child.
        relative: whether errors are measured in units of the target's value (which must not vanish).

    Raises:
        ArgumentError: an argument makes no sense, or the target is not finite, or zero with ``relative``.

    Source: AutoNumerics-Zero: Automated Discovery of State-of-the-Art Mathematical Functions

    Differs:
        1. One process and a fixed count of programs, where the paper distributes the search.
        2. Constants are tuned by weighted Gauss-Newton steps with exact derivatives, the paper's by CMA-ES.
        3. Errors over real numbers only; no rounding errors of a data type and no measured speed.
        4. Mutation alone; the shares of its kinds are assumed.

    >>> import numpy as np
    >>> found = ProgramEvolver(np.exp2, 0.0, 1.0, most=2, population=20).run(200, Key.of(0))
    >>> [p.operations for p in found][-1] <= 2 and found[-1].error < 0.05
    True
    """

    target: Callable[[Array], Any]
    low: float
    high: float
    ops: tuple[str, ...] = ("add", "sub", "mul", "div")
    most: int = 8
    population: int = 100
    tuning: int = 20
    relative: bool = True

    def __post_init__(self) -> None:
        check.number("low", self.low)
        check.number("high", self.high, self.low, open_low=True)
        if isinstance(self.ops, str) or not self.ops:
            raise ArgumentError(f"ops must name operations ({', '.join(OPERATIONS)}); got {self.ops!r}.")
        object.__setattr__(self, "ops", tuple(check.one_of("ops", op, tuple(OPERATIONS)) for op in self.ops))
        check.integer("most", self.most, 1)
        check.integer("population", self.population, 4)
        check.integer("tuning", self.tuning, 0)

    def points(self, n: int) -> tuple[Array, Array, Array]:
        """Return n Chebyshev points, the target there, and what errors are measured in: (n,) each."""
        u = 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / (n - 1))
        x = self.low + (self.high - self.low) * u
        y = np.broadcast_to(np.asarray(self.target(x), dtype=float), x.shape)
        if not np.isfinite(y).all():
            raise ArgumentError(f"target must be finite on [{self.low:g}, {self.high:g}]; it is not.")
        size = np.abs(y)
        if self.relative and (size.min() < TINY * size.max() or np.ptp(np.sign(y)) > 0):
            raise ArgumentError(
                "target is 0 somewhere, where a relative error has no meaning: pass relative=False."
            )
        return x, y, np.abs(y) if self.relative else np.ones(n)

    def run(self, programs: int, key: Key) -> list[Program]:
        """Evolve until so many programs have been measured.

        Returns:
            the Pareto front, by number of operations; errors are those on 4,097 points.
        """
        data = self.points(NODES)
        rng = key.generator()
        alive: list[Program] = []
        begun = min(self.population, check.integer("programs", programs, 1))
        for _ in range(begun):
            alive.append(
                tuned(
                    random_program(self.ops, int(rng.integers(1, min(3, self.most) + 1)), rng),
                    *data,
                    self.tuning,
                )
            )
        alive = self._survivors(alive)
        measured = begun
        while measured < programs:
            goals = self._goals(alive)
            rank = ranks(goals)
            lonely = crowding(goals, rank)
            children = []
            for _ in range(min(self.population, programs - measured)):
                i, j = rng.integers(len(alive), size=2)
                child = alive[i if (rank[i], -lonely[i]) <= (rank[j], -lonely[j]) else j]
                child = mutated(child, self.ops, self.most, rng)
                while rng.random() < 0.5:
                    child = mutated(child, self.ops, self.most, rng)
                children.append(tuned(child, *data, self.tuning))
            measured += len(children)
            alive = self._survivors(alive + children)
        return self.front(alive)

    def random(self, programs: int, key: Key) -> list[Program]:
        """Draw so many random programs, tune their constants alike, and return the front: what evolution must beat."""
        data = self.points(NODES)
        rng = key.generator()
        kept: list[Program] = []
        for _ in range(check.integer("programs", programs, 1)):
            drawn = random_program(self.ops, int(rng.integers(1, self.most + 1)), rng)
            kept.append(tuned(drawn, *data, self.tuning))
            if len(kept) >= 2 * self.population:
                kept = self._survivors(kept)
        return self.front(kept)

    def front(self, programs: Sequence[Program]) -> list[Program]:
        """Measure programs on the dense points and return those that no other beats on both goals, shortest first."""
        data = self.points(DENSE)
        seen = [replace(p, error=worst(p, *data)) for p in programs]
        seen = [p for p, keep in zip(seen, front(self._goals(seen)), strict=True) if keep] if seen else []
        shortest: dict[int, Program] = {}
        for p in seen:
            shortest.setdefault(p.operations, p)
        return [shortest[n] for n in sorted(shortest)]

    @staticmethod
    def _goals(programs: Sequence[Program]) -> Array:
        """Return (n, 2): log of the error, so that crowding spreads over its decades, and operations."""
        return np.array(
            [
                [math.log10(max(p.error, 1e-300)) if p.error < math.inf else math.inf, p.operations]
                for p in programs
            ]
        )

    def _survivors(self, programs: Sequence[Program]) -> list[Program]:
        """Keep the best, of equal ones the first."""
        different: dict[Any, Program] = {}
        for p in programs:
            if p.error < math.inf:
                different.setdefault((p.operations, float(f"{p.error:.6e}")), p)
        unique = list(different.values()) or [Program((), (), math.inf)]
        return [unique[i] for i in best(self._goals(unique), self.population)]
