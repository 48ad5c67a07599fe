"""Hierarchical bandit: an upper one chooses which parameter to move, one for each parameter its value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.bandit import UNPULLED, ucb
from foretune.numeric.stats import tamed
from foretune.search.distinct import pick, signature, taken
from foretune.search.encoding import Encoding, encoding
from foretune.search.random import draws
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["HierMab"]

__entry__ = "HierMab"

Array = NDArray[np.float64]

TRIES = 64  # draws within the cells of the best arms, before configs are drawn uniformly


def arms_of(enc: Encoding, values: int) -> list[int]:
    """Return how many arms each column has: one a value of a choice or small int, else ``values`` parts."""
    return [k if k and (enc.levels[j] or k <= values) else values for j, k in enumerate(enc.steps.tolist())]


def cells_of(enc: Encoding, rows: Array, values: int) -> NDArray[np.intp]:
    """Return the arm of each column in each row of the unit cube, (n, d); -1 where inactive."""
    found = np.full(rows.shape, -1, dtype=int)
    for j, k in enumerate(arms_of(enc, values)):
        active = ~np.isnan(rows[:, j])
        if not enc.levels[j] and k != enc.steps[j]:
            found[active, j] = np.minimum((rows[active, j] * k).astype(int), k - 1)
        else:
            found[active, j] = enc.cells(rows[active], j)
    return found


def _word(bound: float) -> str:
    return "never pulled before" if bound >= UNPULLED else f"bound {bound:.3g}"


@final
@dataclass(frozen=True)
class HierMab(Sampler[None]):
    """Moves one parameter of the previous trial: the parameter and its value are chosen by two levels of UCB.

        choose the arm with the largest  Q(a) + alpha sqrt(ln t / N(a))

    The upper bandit's arms are the parameters; Q is the mean reward of the trials in which the parameter was
    the one that moved. Each parameter has a bandit over its values; Q is the mean reward of the trials that had
    the value, whether it was moved to it then or before. The reward is the loss, mapped to [0, 1] by the range of
    finite losses so far; failed trials have 0. The first trial is the space's default. The cost of an ask
    grows linearly with the number of trials.

    Args:
        high, low: alpha of the upper bandit and of the lower ones.
        values: arms of a number with more values than that: parts of its range.
        discount: g in (0, 1]: a result counts g^k after k later ones, for rewards that drift.
        repeat: whether a config may be tried again: right where results are noisy or drift.

    Source: AutoRAG-HP: Automatic Online Hyper-Parameter Tuning for Retrieval-Augmented Generation | Section 3.2

    Differs:
        1. Rewards are scaled to [0, 1]; the paper's are of that size by their definition.
        2. Unless ``repeat``, a move to a config that was tried is passed over, as its result is known: the best
           value of the next parameter comes next, then second-best values. A number's arm is the centre of
           its part first, then any point of it.
        3. Pending trials count as pulls, without a reward.
        4. A trial that repeats the one before counts as a pull of each parameter, in equal shares.
        5. Discounting is not in the paper.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex"})

    high: float = 1.0
    low: float = 1.0
    values: int = 5
    discount: float = 1.0
    repeat: bool = False

    def __post_init__(self) -> None:
        check.number("high", self.high, 0.0)
        check.number("low", self.low, 0.0)
        check.integer("values", self.values, 2)
        check.flag("repeat", self.repeat)
        check.number("discount", self.discount, 0.0, 1.0, open_low=True)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        space = problem.space
        found: list[Proposal] = []
        if not len(history):
            start = pick(history, [space.default()], 1)
            found = [Proposal(c, note or "the default, to move from") for c, note in start]
        enc = encoding(space)
        tried = set() if self.repeat else {signature(t.config) for t in history}
        for i in range(len(found), n):
            said: list[tuple[Mapping[str, Any], str]] = []
            mine = [p.config for p in found]
            rows = np.concatenate([history.units, space.encode(mine)])
            stream = self._stream(problem, history, enc, rows, tried, said, key.fold("arm", i))
            if self.repeat:
                hard = taken(history) | {signature(c) for c in mine}
                chosen = [
                    (c, "") for c in (next((c for c in stream if signature(c) not in hard), None),) if c
                ]
            else:
                chosen = pick(history, stream, 1, mine)
            if not chosen:
                break
            why = {id(c): reason for c, reason in said}
            found += [Proposal(c, note or why.get(id(c), "a uniform draw")) for c, note in chosen]
        return found

    def _pulls(
        self, history: History, enc: Encoding, rows: Array
    ) -> tuple[NDArray[np.intp], Array, Array, Array]:
        """Return cells, the share of each column in the move, rewards (NaN: pending) and weights of all rows."""
        cells = cells_of(enc, rows, self.values)
        active = cells >= 0
        moved = np.zeros(cells.shape)
        moved[1:] = (cells[1:] != cells[:-1]) & active[1:] & active[:-1]
        moved[1:] = np.where(moved[1:].any(1, keepdims=True), moved[1:], active[1:])
        moved /= np.maximum(moved.sum(1, keepdims=True), 1.0)
        loss = np.full(len(rows), np.nan)
        loss[: len(history)] = tamed(history.losses[:, 0])
        finite = loss[np.isfinite(loss)]
        reward = np.zeros(len(rows))
        if finite.size and np.ptp(finite) > 0:
            reward = np.where(np.isfinite(loss), (finite.max() - loss) / np.ptp(finite), 0.0)
        reward[np.isnan(loss)] = np.nan
        age = np.zeros(len(rows))
        order = list(dict.fromkeys(reversed(history.settled)))
        age[order] = np.arange(len(order))
        return cells, moved, reward, self.discount**age

    def _stream(
        self, problem: Problem, history: History, enc: Encoding, rows: Array, tried: set[Any],
        said: list[tuple[Mapping[str, Any], str]], key: Key,
    ) -> Iterator[Mapping[str, Any]]:  # fmt: skip
        """Yield configs one move away from the last row, by falling confidence bounds; then others."""
        space, rng = problem.space, key.generator()
        names = [n for n, d in space.items() for _ in range(d.width)]
        cells, moved, reward, weight = self._pulls(history, enc, rows)
        known = ~np.isnan(reward)
        gain, arms = np.where(known, reward, 0.0) * weight, arms_of(enc, self.values)
        here = rows[-1]
        movable = [j for j, k in enumerate(arms) if k > 1 and not math.isnan(here[j])]

        def bounds(share: Array, alpha: float) -> Array:
            """Return the upper confidence bound of each column, from its share in each trial."""
            return ucb(gain @ share, (weight * known) @ share, weight @ share, alpha, rng)

        def config_of(j: int, cell: int, anywhere: bool) -> Mapping[str, Any]:
            row = np.where(np.isnan(here), rng.random(len(here)), here)
            inside = rng.random() if anywhere else 0.5
            if enc.levels[j] or arms[j] != enc.steps[j]:
                row[j] = (cell + inside) / arms[j]
            else:
                row[j] = enc.places[j][0][cell]
            return space.decode(row[None])[0]

        upper = bounds(moved[:, movable], self.high) if movable else np.zeros(0)
        ranked = [movable[i] for i in np.argsort(-upper, kind="stable")]
        moves = []  # (place of the value among its parameter's, place of the parameter, ...)
        for place, j in enumerate(ranked):
            lower = bounds((cells[:, [j]] == np.arange(arms[j])).astype(float), self.low)
            order = np.argsort(-lower, kind="stable").tolist()
            moves += [(at, place, j, c, float(lower[c])) for at, c in enumerate(order)]
        moves.sort(key=lambda m: m[:2])
        most = np.sort(-upper)
        for anywhere in (False, True):
            for _, place, j, cell, b in moves if not anywhere else moves[:1] * TRIES + moves * 2:
                config = config_of(j, cell, anywhere)
                if signature(config) not in tried:
                    value = config.get(names[j])
                    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
                    said.append(
                        (config, f"{names[j]} is moved ({_word(-most[place])}) to {shown} ({_word(b)})")
                    )
                    yield config
        yield from draws(space, key.fold("more"))
