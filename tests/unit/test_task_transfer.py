"""Transfer between tasks: what earlier tasks know is used, and dropped where it misleads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import foretune as ft
from foretune.base.key import Key
from foretune.numeric.ridge import ridge
from foretune.search import make
from foretune.search.earlier import Earlier
from foretune.search.quantile_transfer import QuantileTransfer
from foretune.search.ranking_transfer import RankingTransfer, ranking_weights
from foretune.search.sampler import Sampler
from foretune.search.transferring import normal_scores, rows_of
from foretune.testing.samplers import SamplerSuite
from foretune.trial.problem import Problem

SPACE = ft.Space({"x": ft.Float(0, 1), "y": ft.Float(0, 1), "opt": ft.Choice(("a", "b", "c"))})


def task(centre: float, scale: float = 1.0) -> Any:
    """A bowl around (centre, centre) with "b" best; ``scale`` stretches the losses."""

    def loss(config: Any) -> float:
        bowl = (config["x"] - centre) ** 2 + (config["y"] - centre) ** 2
        return scale * (float(bowl) + {"a": 0.3, "b": 0.0, "c": 0.5}[config["opt"]])

    return loss


def source(name: str, centre: float, scale: float = 1.0) -> Earlier:
    rows = SPACE.sample(60, Key.of(hash(centre) % 1000))
    return Earlier(name, tuple((c, task(centre, scale)(c), 1.0) for c in rows))


NEAR = (source("one", 0.68, 100.0), source("two", 0.72, 1e-3))


@pytest.mark.parametrize("cls", [QuantileTransfer, RankingTransfer])
def test_earlier_tasks_of_any_scale_give_a_head_start(cls: Any) -> None:
    """With two similar tasks whose losses differ by five orders, five trials beat random's five: n = 6 seeds, all."""
    for seed in range(6):
        found = ft.tune(task(0.7), SPACE, sampler=cls(NEAR), budget=5, seed=seed)
        assert found.best.value < ft.tune(task(0.7), SPACE, sampler="random", budget=5, seed=seed).best.value
        assert found.best.value < 0.05
    assert "one" in found.history[0].origin.reason


@pytest.mark.parametrize("cls", [QuantileTransfer, RankingTransfer])
def test_misleading_tasks_are_overcome(cls: Any) -> None:
    """With sources whose optimum lies in the other corner, thirty trials still come near the true one."""
    wrong = (source("one", 0.05), source("two", 0.1))
    found = ft.tune(task(0.9), SPACE, sampler=cls(wrong), budget=30, seed=1)
    assert found.best.value < 0.05


def test_proposals_say_how_much_sources_weigh() -> None:
    """The reason of a ranking proposal names the weights, of the quantile one the number of tasks."""
    ranking = ft.tune(task(0.7), SPACE, sampler=RankingTransfer(NEAR), budget=6)
    assert "weights" in ranking.history[5].origin.reason
    quantile = ft.tune(task(0.7), SPACE, sampler=QuantileTransfer(NEAR), budget=8)
    assert "quantiles of 2 tasks" in quantile.history[7].origin.reason


def test_weights_go_to_who_ranks_well() -> None:
    """A model that orders all pairs rightly gets the weight; one that inverts them gets none."""
    y = np.linspace(0.0, 1.0, 12)
    means = np.stack([y, -y, np.zeros(12)])
    weights = ranking_weights(means, np.full((3, 12), 0.05), y, np.random.default_rng(0))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] > 0.95
    assert weights[1] == 0.0


def test_scores_are_ranks() -> None:
    """Normal scores depend on ranks alone, are symmetric, and failures rank last."""
    y = np.array([3.0, 1.0, 2.0])
    assert normal_scores(np.exp(5 * y)).tolist() == normal_scores(y).tolist()
    assert normal_scores(y).sum() == pytest.approx(0.0)
    rows = tuple(({"x": 0.1 * i, "y": 0.5, "opt": "a"}, None if i == 2 else float(i), 1.0) for i in range(5))
    _, z = rows_of(Earlier("f", rows), Problem(SPACE))
    assert z[2] == z.max()


def test_ridge_finds_mean_and_scatter() -> None:
    """On a sine with growing noise the mean is near the truth, and the scatter is larger where the noise is."""
    rng = np.random.default_rng(0)
    x = rng.random((600, 1))
    noise = 0.05 + 0.4 * x[:, 0]
    y = np.sin(6 * x[:, 0]) + noise * rng.standard_normal(600)
    fitted = ridge(x, y, np.random.default_rng(1))
    at = np.array([[0.1], [0.5], [0.9]])
    mean, sd = fitted.predict(at)
    assert mean == pytest.approx(np.sin(6 * at[:, 0]), abs=0.15)
    assert sd[0] < sd[2]


def test_tune_puts_sources_where_they_belong() -> None:
    """warm_from goes into the sampler's own sources where it has such."""
    old = ft.tune(task(0.68), SPACE, sampler="random", budget=20)
    found = ft.tune(task(0.7), SPACE, sampler="ranking_transfer", budget=4, warm_from=[old, old])
    assert [s.name for s in found.study.sampler.sources] == ["study", "study#2"]


def test_sources_are_read_by_a_public_name() -> None:
    """What ``ft.earlier`` reads is what ``warm_from`` would: the proposals are the same."""
    old = ft.tune(task(0.68), SPACE, sampler="random", budget=20)
    ready = make("ranking_transfer", sources=[ft.earlier(old)])
    found, same = (
        ft.tune(task(0.7), SPACE, sampler=sampler, budget=4, **more)
        for sampler, more in ((ready, {}), ("ranking_transfer", {"warm_from": old}))
    )
    assert [t.config for t in found.history] == [t.config for t in same.history]
    assert found.study.sampler == same.study.sampler


def test_sources_that_say_nothing_leave_it_to_the_inner_sampler() -> None:
    """With too few results, or all alike, the inner sampler proposes."""
    silent = Earlier("silent", tuple(({"x": 0.1 * i, "y": 0.5, "opt": "a"}, 1.0, 1.0) for i in range(9)))
    for cls in (QuantileTransfer, RankingTransfer):
        found = ft.tune(task(0.7), SPACE, sampler=cls((silent,), inner="random"), budget=3)
        assert {t.origin.reason for t in found.history} == {"a uniform draw"}


@pytest.mark.slow
class TestWithSources(SamplerSuite):
    """The public suite over samplers that have sources: two tasks over the parameters of its spaces."""

    @pytest.fixture(params=[QuantileTransfer, RankingTransfer], ids=lambda c: c.__name__)
    def sampler(self, request: pytest.FixtureRequest) -> Sampler[Any]:
        rng = np.random.default_rng(3)
        rows = [
            (
                {
                    "x": float(rng.random()), "lr": float(10 ** -rng.uniform(1, 4)), "layers": 1 + i % 4,
                    "a": 1 + i % 3, "b": "xy"[i % 2], "only": 3, "blocks": 1 + i % 3, "mix": (0.2, 0.3, 0.5),
                },
                float(rng.random()),
            )
            for i in range(12)
        ]  # fmt: skip
        return request.param(
            (Earlier("one", tuple(rows[:6])), Earlier("two", tuple(rows[6:]))), inner="random"
        )
