"""Boosted quantiles, their conformal correction, and the sampler that draws from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.quantile_boost import Questions, boost, conformal
from foretune.search import make
from foretune.search.cqr import CQR
from foretune.testing.samplers import CONDITIONAL, MIXED, Walk
from foretune.trial.event import Event
from foretune.trial.problem import Problem

LEVELS = np.array([0.1, 0.5, 0.9])


def noisy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3))
    x[:, 2] = (np.floor(x[:, 2] * 3) + 0.5) / 3
    x[x[:, 2] < 0.3, 1] = np.nan
    scale = 0.1 + x[:, 0]
    return x, np.sin(4 * x[:, 0]) + (x[:, 2] > 0.6) + scale * rng.standard_t(3, n) * 0.3


def pinball(q: np.ndarray, y: np.ndarray) -> float:
    gap = y[:, None] - q
    return float(np.maximum(LEVELS * gap, (LEVELS - 1) * gap).mean())


def test_questions_tell_rows_apart() -> None:
    """Each category has its question, inactive rows have theirs, and equal columns ask nothing."""
    x = np.array([[0.2, np.nan, 0.5], [0.8, 0.4, 0.5]])
    answers = Questions.of(x, (0, 0, 2)).ask(x)
    assert answers.shape[1] == 1 + 1 + 2
    assert (answers[0] != answers[1]).sum() == 2


def test_boosting_beats_constant_quantiles() -> None:
    """On 1,000 new rows the pinball loss is at least 20 % below that of the data's own quantiles."""
    x, y = noisy(300, 0)
    at, truth = noisy(1000, 1)
    model = boost(x, y, (0, 0, 3), LEVELS)
    assert pinball(model.predict(at), truth) < 0.8 * pinball(np.quantile(y, LEVELS)[None], truth)


def test_quantiles_do_not_cross() -> None:
    """Predictions rise with the level everywhere."""
    x, y = noisy(60, 2)
    assert (np.diff(boost(x, y, (0, 0, 3), LEVELS).predict(noisy(500, 3)[0]), axis=1) >= 0).all()


def test_conformal_intervals_cover() -> None:
    """Corrected 80 % intervals cover 80 % (mean of 20 fits, 200 new rows each): within 4 points, where raw ones do not.

    The standard error of the mean is about one point (fits vary by 5), so that the false alarm rate is below 1e-3.
    """
    raw, corrected = [], []
    for seed in range(20):
        x, y = noisy(100, 10 + seed)
        at, truth = noisy(200, 100 + seed)
        model = boost(x[:60], y[:60], (0, 0, 3), LEVELS, trees=25)
        for found, m in ((raw, model), (corrected, conformal(model, x[60:], y[60:]))):
            q = m.predict(at)
            found.append(((q[:, 0] <= truth) & (truth <= q[:, 2])).mean())
    assert abs(np.mean(corrected) - 0.8) < 0.04
    assert np.mean(raw) < 0.76


def test_without_columns_or_differences_quantiles_are_the_data_s() -> None:
    """No column to ask about: the quantiles of the data."""
    y = np.arange(11.0)
    model = boost(np.full((11, 1), 0.5), y, (0,), LEVELS)
    np.testing.assert_allclose(model.predict(np.array([[0.5]])), [[1.0, 5.0, 9.0]])


@pytest.mark.parametrize("space", [MIXED, CONDITIONAL], ids=["mixed", "conditional"])
def test_the_sampler_learns(space: Any) -> None:
    """The median of trials 15 to 30 lies below that of the first 10 (fixed keys)."""
    walk = Walk(CQR(trees=30, candidates=200), Problem(space, key=Key.of(1)), failing=0, partial=0).go(30)
    losses = walk.history.losses[:, 0]
    assert np.median(losses[15:]) < 0.7 * np.median(losses[:10])
    assert "quantile" in walk.proposals[-1].reason


def test_the_latest_report_counts_at_whatever_step() -> None:
    """A config that stopped early counts by its last loss: of two halves of a column the lower one is searched."""
    walk = Walk(CQR(initial=16, trees=30, candidates=200), Problem(MIXED, key=Key.of(2)))
    for t in range(20):
        number = walk.start(walk.ask()[0])
        loss = float(walk.history[number].config["layers"] > 2)
        walk.log(Event("report", number, 1.0, {"step": 1, "values": {"loss": 5.0 - loss}}))
        walk.log(Event("report", number, 1.0, {"step": 2 + t % 3, "values": {"loss": loss}}))
        walk.log(Event("pause", number, 1.0, {"reason": "waits for a promotion"}))
    found = walk.ask(8)
    assert sum(p.config["layers"] <= 2 for p in found) >= 7


@pytest.mark.parametrize(("options", "word"), [({"held": 0.0}, "held"), ({"quantiles": 0}, "quantiles")])
def test_wrong_hyperparameters_are_refused(options: dict[str, Any], word: str) -> None:
    """Each hyperparameter out of range gives an error that names it."""
    with pytest.raises(ArgumentError, match=word):
        make("cqr", **options)
