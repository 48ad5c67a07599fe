"""Samplers that know something beforehand: user priors and earlier studies."""

from __future__ import annotations

import json
from typing import Any

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from foretune.search.differential_evolution import DifferentialEvolution
from foretune.search.earlier import Earlier, carried
from foretune.search.fixed import Fixed
from foretune.search.regularized_evolution import RegularizedEvolution
from foretune.search.sampler import Sampler
from foretune.search.user_prior import UserPrior, beliefs
from foretune.search.warm_start import WarmStart
from foretune.study.description import describe, rebuild
from foretune.study.earlier import earlier
from foretune.testing.samplers import SMALL, SamplerSuite, Walk
from foretune.trial.history import History
from foretune.trial.problem import Problem

SPACE = ft.Space(
    {"lr": ft.Float(1e-4, 1e-1, log=True), "wd": ft.Float(0, 1), "opt": ft.Choice(("sgd", "adam"))}
)
EVOLUTION = RegularizedEvolution(population=8, sample=4)


def loss(config: Any) -> float:
    import math

    return abs(math.log10(config["lr"]) + 2.0) + float(config["wd"]) + (config["opt"] == "sgd")


class TestWarmAroundFolds(SamplerSuite):
    """The public suite over a warm start, with data, around a sampler with a state."""

    @pytest.fixture
    def sampler(self) -> Sampler[Any]:
        rows = tuple(
            ({"x": 0.137 * i * i % 1.0, "lr": 10 ** -(1.1 + 0.37 * i)}, 0.1 * i, 1.0) for i in range(6)
        )
        more = tuple(
            (
                {"layers": 1 + i % 4, "a": 1, "b": "x", "only": 3, "blocks": 2, "mix": (0.2, 0.3, 0.5)},
                0.3,
                1.0,
            )
            for i in range(3)
        )
        return WarmStart((Earlier("old", rows + more),), first=0, inner=DifferentialEvolution(population=8))

    def test_a_small_space_is_used_up(self, sampler: Sampler[Any]) -> None:
        """A config that was tried in an earlier study counts as tried: the five others come first."""
        walk = Walk(sampler, Problem(SMALL, steps=ft.Fidelity(9)), failing=0)
        for _ in range(5):
            walk.end(walk.start(walk.ask()[0]))
        found = {(t.config["a"], t.config["b"]) for t in walk.history}
        assert len(found) == 5
        assert (1, "x") not in found


def test_a_right_prior_pays_at_once() -> None:
    """With a prior near the optimum, ten trials find what random search does not: n = 10 seeds, 9 at least."""
    prior = {"lr": 1e-2, "wd": (0.05, "high"), "opt": "adam"}
    wins = 0
    for seed in range(10):
        found = ft.tune(loss, SPACE, sampler=UserPrior(prior, inner="random"), budget=10, seed=seed)
        wins += found.best.value < ft.tune(loss, SPACE, sampler="random", budget=10, seed=seed).best.value
    assert found.history[0].config == {"lr": pytest.approx(1e-2), "wd": pytest.approx(0.05), "opt": "adam"}
    assert "the mode of the prior" in found.history[0].origin.reason
    assert wins >= 9


def test_a_wrong_prior_is_left() -> None:
    """After forty trials that show a prior to be wrong, the trust in it has fallen, unlike that in a right one."""
    problem = Problem(SPACE, budget_trials=80)
    trust = []
    for where in (0.95, 0.05):
        sampler = UserPrior({"wd": (where, "high")}, inner="random", beta=20)
        walk = Walk(sampler, problem, failing=0, partial=0, objective=lambda s, c: float(c["wd"])).go(40)
        trust.append(sampler.probability(problem, walk.history)[1])
    assert trust[0] < 0.6
    assert trust[1] > 0.9


def test_belief_decays_with_the_trials() -> None:
    """The probability of a draw from the prior is one at first, a half after a tenth of the budget."""
    problem = Problem(SPACE, budget_trials=100)
    sampler = UserPrior({"wd": 0.0}, inner="random")
    assert sampler.probability(problem, History(problem))[0] == 1.0
    walk = Walk(sampler, problem, failing=0, partial=0, objective=lambda s, c: float(c["wd"])).go(10)
    p, trust = sampler.probability(problem, walk.history)
    assert p == pytest.approx(0.5 * trust)


def test_priors_are_densities() -> None:
    """Each prior integrates to one over the unit interval, and its draws follow it."""
    import numpy as np

    said = beliefs(SPACE, {"lr": 1e-4, "wd": (0.9, 0.3), "opt": {"adam": 3, "sgd": 1}}, "medium")
    grid = (np.arange(20000) + 0.5) / 20000
    for belief in said:
        assert belief.density(grid).mean() == pytest.approx(1.0, abs=1e-3)
        draws = np.array([belief.draw(u) for u in grid[::10]])
        expected = (grid * belief.density(grid)).mean()
        assert draws.mean() == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({"lrr": 1.0}, "Did you mean 'lr'"),
        ({"lr": 7.0}, "lr must be"),
        ({"opt": {"adamw": 1}}, "no value 'adamw'"),
        ({"opt": {"adam": 0}}, "no value a weight"),
        ({"lr": (0.01, "very")}, "confidence"),
    ],
)
def test_wrong_priors_are_refused(prior: dict[str, Any], words: str) -> None:
    """A prior of what the space lacks stops the study before it begins."""
    with pytest.raises(ArgumentError, match=words):
        ft.tune(loss, SPACE, sampler=UserPrior(prior, inner="random"), budget=3)


def test_a_warm_start_goes_on_from_the_best(tmp_path: Any) -> None:
    """The best earlier config is trained first; evolution breeds from earlier trials, named in the reasons."""
    store = str(tmp_path / "old.db")
    old = ft.tune(loss, SPACE, sampler="random", budget=30, store=store, name="old")
    new = ft.tune(loss, SPACE, sampler=EVOLUTION, budget=8, warm_from=f"{store}:old")
    assert new.history[0].config == old.best.config
    assert "number 1 of the earlier studies" in new.history[0].origin.reason
    reasons = [t.origin.reason for t in new.history][1:]
    assert all(r.startswith("a mutation of trial") for r in reasons)
    assert any(r.endswith(" of old") for r in reasons)


def test_a_warm_started_study_needs_its_source_no_more(tmp_path: Any) -> None:
    """What was learnt from stands in the log: with the old store gone, the new study goes on the same."""
    (tmp_path / "gone").mkdir()
    store, own = str(tmp_path / "gone" / "old.db"), str(tmp_path / "new.db")
    ft.tune(loss, SPACE, sampler="random", budget=12, store=store)
    whole = ft.tune(loss, SPACE, sampler=EVOLUTION, budget=10, warm_from=store)
    ft.tune(loss, SPACE, sampler=EVOLUTION, budget=5, warm_from=store, store=own)
    for path in (tmp_path / "gone").iterdir():
        path.unlink()
    again = ft.tune(loss, None, budget=10, store=own)
    assert [t.config for t in again.history] == [t.config for t in whole.history]


def test_results_are_carried_by_shared_parameters() -> None:
    """Missing parameters take their default or are drawn; what lies out of range, or is unknown, goes."""
    source = Earlier(
        "old",
        (({"lr": 0.01, "wd": 0.5, "extra": 1}, 0.3), ({"lr": 0.5, "wd": 0.5}, 0.2), ({"lr": 0.02}, None)),
    )
    found = carried(source, SPACE)
    assert [(k.config["lr"], k.loss) for k in found] == [(0.01, 0.3), (0.02, None)]
    assert {"wd", "opt"} <= set(found[1].config)
    assert carried(source, SPACE) == found
    with pytest.raises(ArgumentError, match="none of the parameters"):
        carried(source, ft.Space({"depth": ft.Int(1, 3)}))


def test_what_cannot_be_learnt_from_is_refused(tmp_path: Any) -> None:
    """Another goal, another type, a missing store or study: each is named."""
    old = ft.tune(loss, SPACE, sampler="random", budget=3, store=str(tmp_path / "o.db"))
    with pytest.raises(ArgumentError, match="would not compare"):
        ft.tune(lambda c: 1.0, SPACE, goal="max accuracy", budget=3, warm_from=old)
    with pytest.raises(ArgumentTypeError, match="earlier study"):
        earlier(3)
    with pytest.raises(UnknownNameError, match="Did you mean 'study'"):
        earlier(str(tmp_path / "o.db") + ":studi")
    with pytest.raises(ArgumentTypeError, match="sources must be"):
        WarmStart("o.db")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="must be \\(config, loss\\)"):
        Earlier("old", ((1, 2),))  # type: ignore[arg-type]


def test_warm_starts_and_priors_are_rebuilt_from_the_log() -> None:
    """What a study's first event says of them makes equal ones, failures of earlier trials included."""
    source = Earlier("old", (({"lr": 0.01, "wd": 0.5}, 0.3), ({"lr": 0.02}, None)))
    sampler = UserPrior(
        {"lr": (0.01, "high"), "opt": {"adam": 2}}, inner=WarmStart((source,), inner="random")
    )
    said = json.loads(json.dumps(describe("foretune.search", sampler)))
    assert rebuild("foretune.search", "sampler", said) == sampler


def test_tune_holds_parameters_and_keeps_holding_them(tmp_path: Any) -> None:
    """fixed= wraps the sampler; a resumed study goes on holding, and may hold more."""
    store = str(tmp_path / "f.db")
    ft.tune(loss, SPACE, sampler="random", budget=3, store=store, fixed={"wd": 0.5})
    ft.tune(loss, None, budget=6, store=store)
    last = ft.tune(loss, None, budget=9, store=store, fixed={"opt": "adam"})
    assert {t.config["wd"] for t in last.history} == {0.5}
    assert {t.config["opt"] for t in last.history[6:]} == {"adam"}
    assert isinstance(last.study.sampler, Fixed)
