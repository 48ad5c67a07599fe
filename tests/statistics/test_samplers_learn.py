"""Samplers that claim to learn do better than random draws: sign tests over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

import numpy as np
import pytest

from foretune.base.key import Key
from foretune.search import make, names
from foretune.search.sampler import Sampler
from foretune.space.domain import Choice, Float, Int
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.testing.samplers import Walk
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem

FLAT = Space({f"x{j}": Float(0.0, 1.0) for j in range(3)})
MIXED = Space(
    {
        "lr": Float(1e-5, 1.0, log=True),
        "layers": Int(1, 9),
        "opt": Choice(("sgd", "adam", "lion")),
        "momentum": Float(0.0, 1.0),
    },
    when={"momentum": {"opt": ["sgd"]}},
)


def bowl(space: Space, config: Mapping[str, Any]) -> float:
    row = space.encode([config])[0]
    return float(np.nansum((row - 0.23) ** 2))


def best(sampler: Sampler[Any], space: Space, trials: int, seed: int) -> float:
    problem = Problem(space, (Goal("loss"),), Fidelity(9), Key.of(seed), budget_trials=trials)
    walk = Walk(sampler, problem, failing=0, partial=0, objective=bowl).go(trials)
    return min(bowl(space, t.config) for t in walk.history)


def alarm(n: int, k: int) -> float:
    """The chance that fair coins show at least k heads in n throws."""
    return sum(comb(n, i) for i in range(k, n + 1)) / 2**n


def learners(cost: str) -> list[str]:
    """Names of the samplers that claim to learn by themselves, by whether they model or breed."""
    found = []
    for name in names():
        fields = getattr(type(make(name)), "__dataclass_fields__", {})
        wraps = "inner" in fields  # what it wraps is tested itself
        if "learns" in make(name).tags and not wraps and ("population" in fields) == (cost == "breeds"):
            found.append(name)
    return found


LOOKS = ((25, 7, 7), (60, 11, 10))  # trials, seeds n, wins k that suffice


def wins(name: str, space: Space, trials: int, n: int) -> int:
    """In how many of n seeds a sampler's best is below random search's."""
    return sum(
        best(make(name), space, trials, s) < best(make("random"), space, trials, 100 + s) for s in range(n)
    )


@pytest.mark.parametrize("name", learners("models"))
@pytest.mark.parametrize("space", [FLAT, MIXED], ids=["bowl", "conditional"])
def test_models_beat_random_soon(name: str, space: Space) -> None:
    """A model's best is below random's after 25 trials in k = 7 of n = 7 seeds, or after 60 in k = 10 of n = 11.

    False-alarm rate of a sampler no better than random: at most 0.008 + 0.006.
    """
    assert any(wins(name, space, trials, n) >= k for trials, n, k in LOOKS)
    assert sum(alarm(n, k) for _, n, k in LOOKS) < 0.015


@pytest.mark.parametrize("name", learners("breeds"))
def test_populations_beat_random(name: str) -> None:
    """After 200 trials evolution's best is below random's in k = 8 of n = 8 seeds (false alarms: 0.004)."""
    n = k = 8
    wins = sum(best(make(name), FLAT, 200, s) < best(make("random"), FLAT, 200, 100 + s) for s in range(n))
    assert wins >= k
    assert alarm(n, k) < 0.01


def test_random_does_not_beat_itself() -> None:
    """The sign test is fair: of n = 40 pairs of random searches 9 to 31 are won (false alarms: 0.0003)."""
    wins = sum(best(make("random"), FLAT, 20, s) < best(make("random"), FLAT, 20, 100 + s) for s in range(40))
    assert 9 <= wins <= 31
    assert 2 * alarm(40, 32) < 0.0005


def test_gp_looks_past_noise() -> None:
    """With noise of a tenth of the range, what the GP holds best is near the optimum: k = 5 of n = 6 seeds.

    Near: the median true loss of the last five proposals is below the 10 % quantile of random draws.
    Random proposals would do so with probability 0.009 in one seed: false-alarm rate below 1e-9.
    """
    quantile = float(np.quantile([bowl(FLAT, c) for c in FLAT.sample(2000, Key.of(1))], 0.1))
    hits = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)

        def noisy(space: Space, config: Mapping[str, Any], rng: np.random.Generator = rng) -> float:
            return bowl(space, config) + 0.1 * float(rng.standard_normal())

        problem = Problem(FLAT, (Goal("loss"),), Fidelity(9), Key.of(seed))
        walk = Walk(make("gp"), problem, failing=0, partial=0, objective=noisy).go(30)
        late = [bowl(FLAT, t.config) for t in walk.history[25:]]
        hits += float(np.median(late)) < quantile
    assert hits >= 5
