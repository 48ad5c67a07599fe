"""Improvement under noise: draws known at their rows, exact gradients, and what repeats are worth."""

from __future__ import annotations

import numpy as np
import pytest

from foretune.numeric.acquisition import log_ei, log_noisy_ei
from foretune.numeric.draws import Draws, draws
from foretune.numeric.kernel import Columns
from foretune.numeric.surrogate import Surrogate, surrogate

COLUMNS = Columns((0, 0, 3, 0), (3,))


def noisy(n: int = 30, sd: float = 0.3) -> Surrogate:
    """A surrogate of a function of two columns with noise; a choice, and a column that is at times inactive."""
    rng = np.random.default_rng(0)
    x = rng.random((n, 4))
    x[::4, 3] = np.nan
    y = np.sin(5 * x[:, 0]) + x[:, 1] + sd * rng.standard_normal(n)
    return surrogate(COLUMNS, x, y, ("none",))


def drawn(fitted: Surrogate, awaited: int = 2) -> Draws:
    """Sixteen draws, known also at awaited rows."""
    rng = np.random.default_rng(1)
    return draws(fitted, rng.random((awaited, 4)), rng.standard_normal((16, len(fitted.x) + awaited)))


def test_a_draw_is_known_at_its_rows() -> None:
    """Each draw's mean at the data and at what is awaited is its value there, with next to no variance."""
    fitted = noisy()
    found = drawn(fitted)
    rows = np.concatenate([fitted.x, np.random.default_rng(1).random((2, 4))])
    means, variance = found.predict(rows)
    assert found.values.shape == (16, 32)
    np.testing.assert_allclose(means.T, found.values, atol=1e-3)
    assert variance.max() < 1e-5
    assert found.values.std(axis=0).min() > 1e-3


def test_the_gradient_is_that_of_the_value() -> None:
    """Against central differences, in each column that has a gradient; zero in the choice."""
    found = drawn(noisy())
    best = found.values.min(axis=1)
    x = np.random.default_rng(2).random((6, 4))

    def evaluate(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return found.gradients(rows, lambda m, v: log_noisy_ei(m, v, best))

    _, gradient = evaluate(x)
    for j in (0, 1, 3):
        step = np.zeros(4)
        step[j] = 1e-6
        slope = (evaluate(x + step)[0] - evaluate(x - step)[0]) / 2e-6
        np.testing.assert_allclose(gradient[:, j], slope, rtol=1e-4, atol=1e-5)
    assert np.abs(gradient).max() > 1e-2
    assert not gradient[:, 2].any()


def test_one_certain_draw_gives_expected_improvement() -> None:
    """With equal means and bests, the average over draws is log EI itself, and so are its derivatives."""
    mean, variance = np.array([0.3, -0.2, 2.0]), np.array([0.5, 0.1, 0.01])
    value, by_mean, by_variance = log_noisy_ei(np.repeat(mean[:, None], 8, axis=1), variance, np.full(8, 0.1))
    np.testing.assert_allclose(value, log_ei(mean, variance, 0.1), rtol=1e-12)
    for step, by in (((1e-6, 0.0), by_mean.sum(axis=1)), ((0.0, 1e-6), by_variance)):
        up = log_ei(mean + step[0], variance + step[1], 0.1)
        down = log_ei(mean - step[0], variance - step[1], 0.1)
        np.testing.assert_allclose(by, (up - down) / 2e-6, rtol=1e-3)


@pytest.mark.parametrize("sd", [0.3, 0.6])
def test_repeating_the_incumbent_is_worth_next_to_nothing(sd: float) -> None:
    """Plain EI over the best mean would sample it again and again; draws with incumbents of their own do not."""
    fitted = noisy(40, sd)
    found = drawn(fitted, 0)
    best = found.values.min(axis=1)
    mean, variance = fitted.predict(fitted.x)
    at = int(np.argmin(mean))
    there = log_noisy_ei(*found.predict(fitted.x[[at]]), best)[0][0]
    elsewhere = log_noisy_ei(*found.predict(np.random.default_rng(3).random((200, 4))), best)[0].max()
    plain = log_ei(mean[[at]], variance[[at]], float(mean[at]))[0]
    assert there < plain - 2.0
    assert there < elsewhere - 2.0
