"""Better or lucky: finalists, test seeds, corrected winners, comparisons."""

from __future__ import annotations

import math
from typing import Any

import pytest

import foretune as ft
from foretune.base.errors import ArgumentError, StudyError
from foretune.study.finalists import raced
from foretune.study.replicated import Replicated

SPACE = ft.Space({"x": ft.Float(0, 1), "y": ft.Float(0, 1)})
SEEDS: dict[str, list[int]] = {}


def true(config: Any) -> float:
    return float(5 * (config["x"] - 0.3) ** 2 + 5 * (config["y"] - 0.6) ** 2)


def noisy(config: Any, run: Any) -> float:
    """The same bowl under noise of 0.3, half of it common to all configs of a seed."""
    shared = run.key.generator().standard_normal()
    own = run.key.fold(int(1e6 * config["x"])).generator().standard_normal()
    return true(config) + 0.3 * math.sqrt(0.5) * float(shared + own)


@pytest.fixture(scope="module")
def result() -> Any:
    return ft.tune(noisy, SPACE, sampler="random", budget="40 trials", seed=3)


def test_the_winner_is_corrected(result: Any) -> None:
    """The best observed value is too good; the corrected one lies above it, with an interval around it."""
    found = result.corrected
    assert found.winner == result.best.number
    assert found.winner_value > found.winner_observed == result.best.value
    assert found.low < found.value < found.high
    assert 0.1 < found.noise < 0.6
    assert "corrected for selection" in str(found)


def test_without_noise_nothing_is_corrected_away() -> None:
    """On a deterministic function the best stays the best, worth what it was observed to be."""
    found = ft.tune(true, SPACE, sampler="random", budget="30 trials").corrected
    assert found.number == found.winner
    assert found.value == pytest.approx(found.winner_observed, abs=0.01)


@pytest.mark.parametrize("trials", [1, 5])
def test_few_results_are_left_as_they_are(trials: int) -> None:
    """With too few results to tell noise from signal the value is the observed one, and says so."""
    found = ft.tune(true, SPACE, sampler="random", budget=trials).corrected
    assert found.value == found.winner_observed
    assert "not corrected" in found.how
    assert "nan" not in str(found)


def test_a_race_finds_the_noise_and_a_winner(result: Any) -> None:
    """Finalists are run on up to eight seeds; the noise of one run is measured; the search is left as it was."""
    before = result.study.history.version
    found = result.finalists(noisy, k=4, seeds=8)
    assert result.study.history.version == before
    assert len(found.rows) == 4
    assert 8 <= found.runs <= 32
    assert 0.15 < found.noise < 0.5
    assert found.low < found.value < found.high
    assert sum(r.best for r in found.rows) == pytest.approx(1.0)
    assert "Winner trial" in str(found)
    assert result.noise.dof == found.dof
    paired = result.compare(found.rows[0].number, found.rows[1].number)
    assert paired.paired
    assert paired.probability >= 0.5
    assert not paired.caveats


def test_a_race_goes_on_where_it_was(result: Any) -> None:
    """Asked again, nothing is trained twice; asked for more seeds, only these are trained."""
    first = result.finalists(noisy, k=2, seeds=4, least=4)
    again = result.finalists(None, k=2, seeds=4, least=4, executor=_Refusing())
    assert again == first


class _Refusing:
    slots = 1

    def submit(self, job: Any) -> None:
        raise AssertionError("nothing is to be trained")

    def poll(self, timeout: float, reply: Any) -> list[Any]:
        return []

    def close(self) -> None:
        pass


def test_test_seeds_are_no_tuning_seeds() -> None:
    """All finalists run on the same seeds, each seed new; no trial of the search has had one of them."""
    used: list[tuple[str, int]] = []

    def train(config: Any, run: Any) -> float:
        used.append((stage, run.seed))
        return noisy(config, run)

    stage = "search"
    result = ft.tune(train, SPACE, sampler="random", budget="12 trials")
    stage = "race"
    result.finalists(train, k=3, seeds=3, least=3)
    tuning, test = ([s for w, s in used if w == stage] for stage in ("search", "race"))
    assert len(set(tuning)) == 12
    assert sorted(test.count(s) for s in set(test)) == [3, 3, 3]
    assert not set(tuning) & set(test)


def test_several_tuning_seeds_a_trial() -> None:
    """With seeds=4 each trial is the mean of four runs, on the same seeds for all, with its standard error."""
    used: list[int] = []

    def train(config: Any, run: Any) -> float:
        used.append(run.seed)
        return noisy(config, run)

    result = ft.tune(train, SPACE, sampler="random", budget="5 trials", seeds=4)
    assert len(used) == 20
    assert len(set(used)) == 4
    errors = [t.reports[-1].sem["loss"] for t in result.history]
    assert all(0.0 < e < 0.5 for e in errors)
    assert "reported" in result.noise.how
    assert math.isinf(result.compare(0, 1).dof)


def test_replicated_reports_the_mean() -> None:
    """The mean and the standard error of the mean are those of the runs."""
    from foretune.execute.executor import Job
    from foretune.study.run import Run

    told: list[Any] = []
    values = iter([1.0, 2.0, 6.0])
    Replicated(lambda c, run: next(values), 3)({}, Run(Job(0, {}), lambda r: told.append(r) or "go"))
    assert told[0].values == {"loss": 3.0}
    assert told[0].sem["loss"] == pytest.approx(math.sqrt(7.0 / 3.0))


def test_maximised_goals_keep_their_sign() -> None:
    """For a goal to maximise, the corrected value and the race's are in the goal's own sign."""

    def train(config: Any, run: Any) -> float:
        return 10.0 - noisy(config, run)

    result = ft.tune(train, SPACE, goal="max score", sampler="random", budget="30 trials")
    assert result.corrected.winner_value < result.corrected.winner_observed == result.best.value
    found = result.finalists(train, k=3, seeds=3)
    assert 9.0 < found.value < 10.5
    assert found.rows[0].mean == max(r.mean for r in found.rows if not r.out)


def test_a_finalist_that_fails_drops_out() -> None:
    """A config that fails on a test seed leaves the race with the reason; the others go on."""

    def train(config: Any, run: Any) -> float:
        if racing and config == best:
            raise RuntimeError("out of luck")
        return noisy(config, run)

    racing, best = False, None
    result = ft.tune(train, SPACE, sampler="random", budget="20 trials")
    racing, best = True, result.history[result.corrected.number].config
    found = result.finalists(train, k=3, seeds=4)
    failed = [r for r in found.rows if r.config == best]
    assert [("failed" in r.out, r.best) for r in failed] == [(True, 0.0)]
    assert found.winner.config != best


def test_where_all_finalists_fail_the_reason_is_told() -> None:
    """If no finalist ends its runs the error names the failure."""
    result = ft.tune(true, SPACE, sampler="random", budget="9 trials")

    def train(config: Any) -> float:
        raise RuntimeError("no data today")

    with pytest.raises(StudyError, match="no data today"):
        result.finalists(train, k=2, seeds=3)


def test_a_deterministic_function_needs_few_seeds() -> None:
    """Without noise the race ends after the least number of rounds, with one config left."""
    result = ft.tune(true, SPACE, sampler="random", budget="15 trials")
    found = result.finalists(true, k=4, seeds=10)
    assert found.runs == 12
    assert found.noise < 1e-12
    assert [bool(r.out) for r in found.rows] == [False, True, True, True]
    assert found.optimism == pytest.approx(0.0)


def test_replicates_in_a_study_measure_the_noise() -> None:
    """The same config queued five times gives four degrees of freedom, and no model is needed."""
    study = ft.Study(SPACE, sampler="random", budget="6 trials")
    for _ in range(5):
        study.add({"x": 0.3, "y": 0.6})
    result = study.run(noisy)
    assert (result.noise.dof, result.noise.configs) == (4, 1)
    assert result.noise.low < result.noise.sd < result.noise.high
    assert raced(study) is None


def test_comparing_says_what_is_missing(result: Any) -> None:
    """A config with itself, one without a result, and unknown noise give errors that name the remedy."""
    with pytest.raises(ArgumentError, match="same config"):
        result.compare(0, dict(result.history[0].config))
    with pytest.raises(StudyError, match="no complete result"):
        result.compare(0, {"x": 0.123, "y": 0.5})
    with pytest.raises(StudyError, match="race finalists"):
        ft.tune(true, SPACE, sampler="random", budget="3 trials").compare(0, 1)
    with pytest.raises(StudyError, match="no complete result yet"):
        ft.tune(true, SPACE, sampler="random", budget="0 trials").finalists(true)


def two(config: Any, run: Any) -> dict[str, float]:
    """Two goals with their optima at opposite ends, under noise."""
    noise = run.key.generator().standard_normal(2)
    return {"loss": config["x"] + 0.02 * float(noise[0]), "speed": 10 * config["x"] + 0.2 * float(noise[1])}


@pytest.fixture(scope="module")
def both() -> Any:
    goals = ["min loss", "max speed"]
    return ft.tune(two, SPACE, goal=goals, sampler="random", budget="20 trials", seed=3)


def test_another_goal_can_judge(both: Any) -> None:
    """Comparisons and finalists go by the goal that is named, the first unless one is; the words say which."""
    by_loss, by_speed = (
        sorted(both.history, key=lambda t: s * t.values[m])[0].number for m, s in (("loss", 1), ("speed", -1))
    )
    first, other = both.finalists(two, k=2, seeds=3), both.finalists(two, k=2, seeds=3, goal="speed")
    assert (first.winner.number, first.metric) == (by_loss, "loss")
    assert (other.winner.number, other.metric) == (by_speed, "speed")
    assert "Judged by loss alone, one of 2 goals." in str(first)
    assert "Judged by speed alone, one of 2 goals." in str(other)
    assert 8 < other.value < 11
    assert 0 < other.noise < 1
    assert both.compare(by_loss, by_speed).probability > 0.95
    assert both.compare(by_loss, by_speed, goal="max speed").probability < 0.05
    assert "judged by speed alone" in str(both.compare(by_loss, by_speed, goal="speed"))
    assert "judged by loss alone" in str(both.corrected)


def test_a_goal_that_the_study_lacks_is_refused(both: Any) -> None:
    """The goals that there are are named, and the nearest."""
    for call in (lambda: both.compare(0, 1, goal="sped"), lambda: both.finalists(two, goal="max sped")):
        with pytest.raises(
            ArgumentError, match=r"one of the study's own \(loss, speed\).*Did you mean 'speed'"
        ):
            call()


def test_with_one_goal_nothing_is_said(result: Any) -> None:
    """Where there is one goal, no word is lost on it."""
    assert "judged" not in str(result.compare(0, 1))
    assert "judged" not in str(result.corrected)
