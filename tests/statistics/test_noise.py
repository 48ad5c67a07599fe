"""The statistics behind "better or lucky" hold: bias of corrected winners, error rates of races and comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretune.numeric.kernel import Columns
from foretune.numeric.replicates import chi_square_quantile, detectable, pooled, shrunk, two_way_residual
from foretune.numeric.smoothed import smoothed
from foretune.numeric.stats import student_cdf, student_quantile
from foretune.study.finalists import _dropped


def optimism(seed: int, n: int, d: int = 3) -> tuple[float, float, float]:
    """Return by how many sigma the best of n noisy results of a quadratic flatters: observed, corrected, picked."""
    rng = np.random.default_rng(seed)
    centre, x = rng.uniform(0.25, 0.75, d), rng.random((n, d))
    truth = 10.0 * ((x - centre) ** 2).sum(axis=1)
    y = truth + rng.standard_normal(n)
    model = smoothed(Columns((0,) * d, ()), x, y)
    assert model is not None
    w, pick = int(np.argmin(y)), int(np.argmin(model.mean))
    at = model.rows.tolist().index(w)
    return truth[w] - y[w], truth[w] - model.mean[at], truth[model.rows[pick]] - model.mean[pick]


def test_corrected_winners_are_not_too_good() -> None:
    """Best of 60 random results, n = 12 studies: observed > 1.2 sigma too good, corrected < 0.6 (false alarm
    below 0.1 %)."""
    found = np.array([optimism(s, 60) for s in range(12)]).mean(axis=0)
    assert found[0] > 1.2
    assert abs(found[1]) < 0.6
    assert abs(found[2]) < 0.6


@pytest.mark.slow
def test_optimism_at_200_trials() -> None:
    """Best of 200, n = 30 studies: observed about 2 sigma too good, corrected and picked at most 0.3 (false alarm
    below 0.1 %)."""
    found = np.array([optimism(s, 200) for s in range(30)]).mean(axis=0)
    assert found[0] > 1.7
    assert abs(found[1]) <= 0.3
    assert abs(found[2]) <= 0.3


def test_a_race_seldom_drops_the_best() -> None:
    """Five equal configs, ten rounds, looked at after each from the third: n = 300 races; the first one, as good
    as any, is dropped in at most 24, where a rate of 5 % would give 15 (false alarm 1 %)."""
    rng = np.random.default_rng(5)
    dropped = 0
    for _ in range(300):
        y = rng.standard_normal(10) + rng.standard_normal((5, 10))
        out: dict[int, str] = {}
        for r in range(10):
            left = [i for i in range(5) if i not in out]
            values = {i: dict(enumerate(y[i, : r + 1])) for i in left}
            out |= _dropped(values, left, r + 1, 3, 0.05 / 8)
        dropped += 0 in out
    assert dropped <= 24


def test_a_race_drops_what_is_worse() -> None:
    """A config worse by three sigma among five: n = 100 races; it is out after ten rounds in at least 95."""
    rng = np.random.default_rng(6)
    out = 0
    for _ in range(100):
        y = rng.standard_normal((5, 10)) + np.array([0, 0, 0, 0, 3.0])[:, None]
        values = {i: dict(enumerate(y[i])) for i in range(5)}
        out += 4 in _dropped(values, list(range(5)), 10, 3, 0.05 / 8)
    assert out >= 95


def test_detectable_differences_are_detected() -> None:
    """A true difference of the stated size is found at the stated rate: n = 2,000, 0.80 +- 0.04 (4.5 standard
    errors)."""
    rng = np.random.default_rng(7)
    n, hits = 6, 0
    dof = 2 * (n - 1)
    sem = math.sqrt(2.0 / n)
    size = detectable(sem, dof)
    bound = student_quantile(0.975, dof)
    for _ in range(2000):
        a, b = rng.standard_normal(n), size + rng.standard_normal(n)
        sd, _ = pooled([a, b])
        t = (b.mean() - a.mean()) / (sd * math.sqrt(2.0 / n))
        hits += abs(t) > bound
    assert abs(hits / 2000 - 0.8) < 0.04


def test_probabilities_of_better_are_calibrated() -> None:
    """Of equal configs with four results each, P(A better) < 0.1 in a tenth of n = 2,000 cases (+- 3.6 standard
    errors)."""
    rng = np.random.default_rng(8)
    low = 0
    for _ in range(2000):
        a, b = rng.standard_normal(4), rng.standard_normal(4)
        sd, dof = pooled([a, b])
        low += student_cdf((b.mean() - a.mean()) / (sd * math.sqrt(0.5)), dof) < 0.1
    assert 150 <= low <= 250


def test_shrinking_beats_the_raw_means() -> None:
    """Five true values of spread 1 under noise of spread 1, n = 400: the best of the shrunk ones is biased by
    less than a third of the raw bias, and the mean squared error falls."""
    rng = np.random.default_rng(9)
    raw, kept, errors = [], [], []
    for _ in range(400):
        truth = rng.standard_normal(5)
        y = truth + rng.standard_normal(5)
        worth, _ = shrunk(y, np.ones(5))
        w = int(np.argmin(y))
        raw.append(truth[w] - y[w])
        kept.append(truth[w] - worth[w])
        errors.append(((y - truth) ** 2).mean() - ((worth - truth) ** 2).mean())
    assert abs(np.mean(kept)) < np.mean(raw) / 3
    assert np.mean(errors) > 0


def test_two_way_residuals_leave_seeds_out() -> None:
    """What all configs of a seed share does not enter: n = 200 tables, variance 0.25 +- 4 standard errors."""
    rng = np.random.default_rng(10)
    found = []
    for _ in range(200):
        table = 5.0 * rng.standard_normal(6) + rng.standard_normal((4, 1)) + 0.5 * rng.standard_normal((4, 6))
        sd, dof = two_way_residual(table)
        assert dof == 15
        found.append(sd**2)
    assert abs(np.mean(found) - 0.25) < 4 * 0.25 * math.sqrt(2.0 / (15 * 200))


def test_chi_square_quantiles_are_near_the_exact_ones() -> None:
    """Quantiles of chi-square agree with SciPy's, from one degree of freedom on."""
    stats = pytest.importorskip("scipy.stats")
    for dof in (1, 2, 5, 50, 2000):
        for p in (0.025, 0.5, 0.975):
            assert chi_square_quantile(p, dof) == pytest.approx(stats.chi2.ppf(p, dof), rel=1e-9)
