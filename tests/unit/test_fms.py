"""Neuron graphs, the deep-kernel process, and Forecasting Model Search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from foretune.base.errors import ArgumentError, ArgumentTypeError
from foretune.base.key import Key
from foretune.numeric.deep_kernel import HIDDEN, OUT, _Evidence, fit_deep
from foretune.numeric.kernel import Columns
from foretune.numeric.neuron_graph import LENGTH, describe, layers_of
from foretune.search import make
from foretune.search.fms import FMS
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.testing.samplers import Walk
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.problem import Problem
from foretune.trial.trial import Trial


def network(seed: int = 0) -> list[np.ndarray]:
    """A 5-8-6-3 network with biases."""
    rng = Key.of(seed).generator()
    return [
        rng.standard_normal((8, 5)), rng.standard_normal(8), rng.standard_normal((6, 8)), rng.standard_normal(6),
        rng.standard_normal((3, 6)), rng.standard_normal(3),
    ]  # fmt: skip


def test_hidden_neurons_have_no_order() -> None:
    """Permuting the neurons of both hidden layers changes the description by less than 1e-9."""
    w, rng = network(), Key.of(1).generator()
    p, q = rng.permutation(8), rng.permutation(6)
    other = [w[0][p], w[1][p], w[2][q][:, p], w[3][q], w[4][:, q], w[5]]
    for probes in (2, 64):
        gap = np.abs(describe(w, probes=probes) - describe(other, probes=probes)).max()
        assert gap < 1e-9


def test_inputs_and_outputs_have_an_order() -> None:
    """Permuting inputs, or one layer's rows alone, is another network: its description differs."""
    w = network()
    assert np.abs(describe(w) - describe([w[0][:, ::-1], *w[1:]])).max() > 1e-3
    assert np.abs(describe(w) - describe([w[0][::-1], w[1][::-1], *w[2:]])).max() > 1e-3


def test_networks_of_other_shapes_are_described_alike() -> None:
    """Depth, width and convolutions do not change the description's length; exploded weights stay finite."""
    rng = Key.of(2).generator()
    convolution = [rng.standard_normal((4, 3, 2, 2)), rng.standard_normal((2, 4 * 9))]
    exploded = [np.full((3, 2), np.inf), np.array([[np.nan, 1.0, 2.0]])]
    for weights in (network(), network()[:2], convolution, exploded):
        found = describe(weights)
        assert found.shape == (LENGTH,)
        assert np.isfinite(found).all()
    assert len(layers_of(network())) == 3


def test_no_matrix_is_an_error() -> None:
    """Weights without a matrix are refused with a word on what is wanted."""
    with pytest.raises(ArgumentError, match="at least one matrix"):
        describe([np.zeros(3)])


def data(n: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = Key.of(3).generator()
    x, c = rng.random((n, 2)), rng.standard_normal((n, 4))
    c[3] = np.nan
    y = np.sin(3 * x[:, 0]) + 0.7 * np.nan_to_num(c[:, 0])
    return x, c, (y - y.mean()) / y.std()


def test_gradients_of_the_deep_kernel_are_exact() -> None:
    """All parameters' gradients, those of the learned map included, agree with central differences."""
    x, c, y = data(12)
    evidence = _Evidence(Columns((0, 0)), x, np.nan_to_num(c), y, "matern52")
    size = 5 + 4 + HIDDEN * 4 + HIDDEN + OUT * HIDDEN
    values = 0.4 * Key.of(4).generator().standard_normal(size)
    _, gradient = evidence(values)
    steps = 1e-5 * np.eye(size)
    found = np.array([(evidence(values + h)[0] - evidence(values - h)[0]) / 2e-5 for h in steps])
    np.testing.assert_allclose(gradient, found, rtol=1e-5, atol=1e-6)


def test_features_explain_what_configs_cannot() -> None:
    """On held-out points a process with features predicts far better than one that sees configs only."""
    x, c, y = data(40)
    fitted = fit_deep(Columns((0, 0)), x[:30], c[:30], y[:30], Key.of(5).generator())
    with_features = np.corrcoef(fitted.predict(x[30:], c[30:])[0], y[30:])[0, 1]
    without = np.corrcoef(fitted.predict(x[30:])[0], y[30:])[0, 1]
    assert with_features > 0.9
    assert without < 0.9


def test_without_features_it_is_an_ordinary_process() -> None:
    """When no observation has features, predictions follow the data; believing a prediction leaves it there."""
    x, c, _ = data()
    y = np.sin(3 * x[:, 0])
    fitted = fit_deep(Columns((0, 0)), x, np.full_like(c, np.nan), y, Key.of(6).generator())
    assert np.abs(fitted.predict(x)[0] - y).max() < 0.4
    spot = np.array([[0.5, 0.5]])
    mean, variance = fitted.predict(spot)
    after, less = fitted.believe(spot).predict(spot)
    assert after[0] == pytest.approx(mean[0], abs=1e-6)
    assert less[0] < variance[0]


SPACE = Space({"x": Float(0, 1), "y": Float(0, 1)})
PROBLEM = Problem(SPACE, (Goal("loss"),), Fidelity(9), Key.of(0))


def weights_of(trial: Trial) -> Mapping[float, Sequence[Any]] | None:
    """Checkpoints at step 1 whose size tells how the trial will end; every seventh trial has none."""
    if trial.number % 7 == 6 or not trial.reports:
        return None
    size = 0.1 + (trial.config["x"] - 0.3) ** 2 + (trial.config["y"] - 0.3) ** 2
    return {1.0: [size * np.ones((4, 3)), np.zeros(4), size * np.ones((1, 4))]}


@pytest.mark.parametrize("acquisition", ["ei", "ucb"])
def test_the_sampler_comes_near_the_optimum(acquisition: str) -> None:
    """With checkpoints of some trials, after 18 trials on a 2-d bowl the best loss is below 0.01."""
    sampler = FMS(weights_of, initial=5, acquisition=acquisition)
    walk = Walk(sampler, PROBLEM, failing=0, partial=0).go(18)
    assert np.nanmin(walk.history.losses[:, 0]) < 0.01


def test_unfinished_trials_are_ranked_by_what_they_promise() -> None:
    """Of two trials that stand at step 1, the one whose checkpoint and config are good is promised the lower loss."""
    sampler = FMS(weights_of, initial=5)
    walk = Walk(sampler, PROBLEM, failing=0, partial=0).go(14)
    for place in (0.32, 0.9):
        number = len(walk.history)
        config = {"x": place, "y": place}
        walk.log(
            Event("start", number, 0.0, {"config": config, "plan": [9], "by": "t", "why": "t", "reason": "t"})
        )
        walk.log(Event("report", number, 1.0, {"step": 1, "values": {"loss": 0.5 + (place - 0.3) ** 2}}))
    good, bad = 14, 15
    found = {p.number: p for p in sampler.promises(PROBLEM, walk.history)}
    assert set(found) == {good, bad}
    assert found[good].loss < found[bad].loss
    assert found[good].low < found[good].loss < found[good].high
    assert all(p.gain >= 0.0 for p in found.values())


def test_nothing_is_promised_without_data() -> None:
    """Without three trials that have a loss nothing is promised."""
    assert FMS().promises(PROBLEM, Walk(FMS(), PROBLEM).history) == []


def test_wrong_arguments_are_named() -> None:
    """A wrong hyperparameter gives an error that says what is accepted."""
    with pytest.raises(ArgumentTypeError, match="function from a trial"):
        FMS(weights="somewhere")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="ucb"):
        make("fms", acquisition="pi")
