"""Search in the latent space of an autoencoder that is ordered by the loss: decode near its centre."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from foretune.base import check
from foretune.base.key import Key
from foretune.numeric.pgvae import PGVAE, FittedPGVAE
from foretune.numeric.warp import warp
from foretune.search.distinct import pick
from foretune.search.encoding import encoding
from foretune.search.improvement import shown, unskewed
from foretune.search.observations import observe
from foretune.search.random import draws
from foretune.search.sampler import Proposal, Sampler
from foretune.trial.history import History
from foretune.trial.problem import Problem

__all__ = ["PGVAESearch"]

__entry__ = "PGVAESearch"

Array = NDArray[np.float64]

BATCH = 32  # designs decoded at once; the numbers do not depend on what was refused


@functools.lru_cache(maxsize=32)
def _fitted(options: PGVAE, width: int, x_bytes: bytes, y_bytes: bytes, key: Key) -> FittedPGVAE:
    y = np.frombuffer(y_bytes)
    return options.fit(np.frombuffer(x_bytes).reshape(len(y), width), y, key)


@final
@dataclass(frozen=True)
class PGVAESearch(Sampler[None]):
    """Fits a property-ordered autoencoder each ``population`` trials and decodes proposals near its centre.

    For sets of finished trials in which good configs are rare and far from the others: add these to the study,
    then ask. It needs torch. A round's model sees all trials that settled before the round began; until the first
    round is full, configs are drawn uniformly. Inactive parameters are read as the middle of their range; choices and
    ints are snapped after decoding. Of a trial that ran part of the way, its last loss counts.

    Args:
        population: proposals a round.
        latent: coordinates of the latent space.
        order: weight of the property order.
        kl: weight of the divergence from the prior.
        training_steps: updates a round.

    Source: Robust Model-Based Optimization for Challenging Fitness Landscapes

    Differs:
        1. Losses are warped to little skew before they order the latent space.
        2. A twentieth of the proposals are uniform draws: an autoencoder knows nothing of where nothing was tried.
    """

    tags: ClassVar[frozenset[str]] = frozenset({"conditional", "mixed", "simplex"})

    population: int = 25
    latent: int = 2
    order: float = 1.0
    kl: float = 0.01
    training_steps: int = 400

    def __post_init__(self) -> None:
        check.integer("population", self.population, 2)
        check.integer("latent", self.latent, 1)
        check.number("order", self.order, 0.0, open_low=True)
        check.number("kl", self.kl, 0.0)
        check.integer("training_steps", self.training_steps, 1)

    def ask(self, problem: Problem, state: None, history: History, n: int, key: Key) -> list[Proposal]:
        space = problem.space
        data = observe(problem, history)
        last = {
            int(i): row for row, i in enumerate(data.number)
        }  # the last row of each trial is its latest step
        # in the order in which trials settled, so that the rows of a full round never change
        rounds = [last[i] for i in dict.fromkeys(data.number.tolist()) if i not in set(history.pending)]
        rows = rounds[: len(rounds) // self.population * self.population]
        if not rows or space.width == 0 or np.ptp(data.loss[rows]) == 0.0:
            first = pick(history, draws(space, key), n)
            return [Proposal(c, note or "a uniform draw for the first round") for c, note in first]
        x, loss = history.units[data.number[rows]], data.loss[rows]
        x = np.where(np.isnan(x), 0.5, x)
        y = -warp(unskewed(loss), loss)(loss)
        options = PGVAE(self.latent, self.order, self.kl, samples=BATCH, steps=self.training_steps)
        fitted = _fitted(options, space.width, x.tobytes(), y.tobytes(), problem.key.fold("pgvae", len(rows)))
        enc, uniform = encoding(space), draws(space, key.fold("uniform"))
        mark: set[int] = set()

        def stream() -> Iterator[Mapping[str, Any]]:
            batch, coin = 0, key.fold("coin").generator()
            while True:
                found = np.clip(fitted.propose(BATCH, key.fold("batch", batch)), 0.0, 1.0)
                order = coin.permutation(BATCH)
                for row in enc.snap(found[order]):
                    if coin.random() < 0.05:
                        yield next(uniform)
                        continue
                    config = space.decode(row[None])[0]
                    mark.add(id(config))
                    kept.append(config)
                    yield config
                batch += 1

        kept: list[Mapping[str, Any]] = []  # so that an id names one config only
        chosen = pick(history, stream(), n)
        return [Proposal(c, note or self._reason(space, fitted, enc, c, id(c) in mark)) for c, note in chosen]

    @staticmethod
    def _reason(space: Any, fitted: FittedPGVAE, enc: Any, config: Mapping[str, Any], decoded: bool) -> str:
        row = space.encode([config])
        if not decoded:
            return f"a uniform draw, one of twenty; {shown(space, row[0])}"
        z, _ = fitted.encode(np.where(np.isnan(row), 0.5, row))
        where = float(np.linalg.norm(z[0]))
        word = f"decoded near the centre of a latent space of {len(fitted.x)} trials (radius {where:.2g})"
        return f"{word}; {shown(space, row[0])}"
