"""The signed-rank test against enumeration and SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from foretune.numeric import signed_rank as module
from foretune.numeric.signed_rank import signed_rank


@pytest.mark.parametrize("n", [4, 7, 10])
def test_ties_and_zeros_are_counted_exactly(n: int) -> None:
    """The p-value is the share of all sign patterns of the differences that reach the rank sum."""
    rng = np.random.default_rng(n)
    for _ in range(10):
        g = rng.integers(-3, 5, n).astype(float)
        g[0] = 1.0
        r, moved = stats.rankdata(np.abs(g)), g != 0.0
        reached = r[g > 0].sum() - 1e-9
        hits = [np.dot(s, r[moved]) >= reached for s in itertools.product((0, 1), repeat=int(moved.sum()))]
        assert signed_rank(g) == pytest.approx(np.mean(hits))


def test_agrees_with_scipy_without_ties() -> None:
    """With 30 distinct differences it is SciPy's exact p-value."""
    g = np.random.default_rng(0).standard_normal(30) + 0.3
    assert signed_rank(g) == pytest.approx(stats.wilcoxon(g, alternative="greater", method="exact").pvalue)


def test_the_normal_limit_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 100 differences the normal p-value is within 0.005 of the exact one."""
    g = np.random.default_rng(1).standard_normal(100) + 0.1
    exact = signed_rank(g)
    monkeypatch.setattr(module, "EXACT", 10)
    assert signed_rank(g) != exact
    assert signed_rank(g) == pytest.approx(exact, abs=0.005)
