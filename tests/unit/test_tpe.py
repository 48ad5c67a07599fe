"""TPE and the kernel densities below it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.numeric.kde import Columns, mixture, normal_mass
from foretune.search import make
from foretune.search.distinct import signature
from foretune.search.ranking import lateness, standing, thinned
from foretune.search.rows import described, unseen
from foretune.search.settled import settled
from foretune.search.tpe import TPE
from foretune.space import Choice, Float, Int, Space
from foretune.testing.samplers import CONDITIONAL, FLOATS, MIXED, Walk, loss_of
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

COLUMNS = Columns((0, 3, 0), (0.0, 0.0, 0.0))


def rows(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.random((n, 3))
    found[:, 1] = (np.floor(found[:, 1] * 3) + 0.5) / 3
    found[found[:, 1] > 0.6, 2] = np.nan  # the last column is inactive under the last category
    return found


@pytest.mark.parametrize("rule", ["neighbour", "scott"])
def test_density_integrates_to_one(rule: str) -> None:
    """A density's mean over uniform rows of an active pattern is 1 (n = 40,000, 5 standard errors)."""
    fitted = mixture(Columns((0, 3), (0.0, 0.0)), rows(12)[:, :2], np.ones(12), rule=rule)
    value = np.exp(fitted.log_density(np.random.default_rng(1).random((40_000, 2))))
    assert abs(value.mean() - 1.0) < 5 * value.std() / 200


def test_density_equals_a_loop() -> None:
    """The product of matrices gives what the definition gives, inactive columns included."""
    fitted, at = mixture(COLUMNS, rows(9), np.linspace(0.5, 1.5, 9)), rows(20, 1)
    total = np.full(20, fitted.weight[-1])
    for i, c in enumerate(fitted.centre):
        kernel = np.ones(20)
        for k, j in enumerate((0, 2)):
            s = fitted.width[i, k]
            mass = normal_mass(np.array(-c[j] / s), np.array((1 - c[j]) / s))
            value = np.exp(-0.5 * ((at[:, j] - c[j]) / s) ** 2) / (s * np.sqrt(2 * np.pi) * mass)
            kernel *= np.where(np.isnan(at[:, j]) | np.isnan(c[j]), 1.0, value)
        own = np.abs(at[:, 1] - c[1]) < 1e-9
        kernel *= np.where(own, 3 * (1 - fitted.spill[0]) + fitted.spill[0], fitted.spill[0])
        total += fitted.weight[i] * kernel
    np.testing.assert_allclose(fitted.log_density(at), np.log(total), atol=1e-5)


def test_draws_follow_the_density() -> None:
    """Of 20,000 draws the share in a box is the density's integral over it (5 standard errors)."""
    fitted = mixture(Columns((0,), (0.0,)), np.array([[0.0], [0.3]]), np.ones(2))
    drawn, which = fitted.draw(20_000, np.random.default_rng(2))
    share = float((drawn < 0.2).mean())
    grid = (np.arange(2000) + 0.5)[:, None] / 10_000
    assert abs(share - np.exp(fitted.log_density(grid)).mean() * 0.2) < 5 * 0.5 / np.sqrt(20_000)
    assert set(which.tolist()) == {0, 1, 2}


def test_likeness_is_one_for_the_same_row_only() -> None:
    """A row is wholly like itself, less like others, and not at all like one with other columns active."""
    some = rows(8)
    like = mixture(COLUMNS, some, np.ones(8)).likeness(some, some)
    np.testing.assert_allclose(np.diag(like), 1.0)
    assert (like - np.eye(8)).max() < 1.0
    assert like[np.isnan(some[:, 2])][:, ~np.isnan(some[:, 2])].max() == 0.0


def test_thinning_keeps_the_weight() -> None:
    """What is left of many bad trials stands for all of them, and holds the best half as they are."""
    kept, weight = thinned(np.arange(1000)[::-1].copy(), 64)
    assert weight.sum() == pytest.approx(1000)
    assert len(set(kept.tolist())) == 64
    assert kept[:32].tolist() == list(range(999, 967, -1))
    assert (weight[:32] == 1.0).all()


def test_settled_is_read_once_and_equals_a_fresh_fold() -> None:
    """The growing table gives, after each event, what a new history of the same events gives."""
    problem = Problem(FLOATS, key=Key.of(1))
    walk = Walk(make("random"), problem)
    for t in range(24):
        walk.start(walk.ask()[0])
        if t % 3 == 2:
            walk.end(t - 1)
        if t % 7 == 6:
            walk.promote()
        live, fresh = settled(walk.history), settled(History(problem, walk.events))
        for field in dataclasses.fields(live):
            np.testing.assert_array_equal(getattr(live, field.name), getattr(fresh, field.name))


def test_standing_compares_at_the_step_that_enough_have_reached() -> None:
    """Trials that came further rank first; a low loss of a short run does not outrank them; failures come last."""
    problem = Problem(FLOATS, key=Key.of(2))
    walk = Walk(make("random"), problem, failing=0, partial=0)
    for t in range(24):
        number = walk.start(walk.ask()[0])
        step, loss = (9, 1.0 - 0.01 * t) if t < 12 else (1, 0.0)
        walk.log(Event("report", number, 1.0, {"step": step, "values": {"loss": loss}}))
        ends = "fail" if t == 3 else "complete" if t < 12 else "pause"
        walk.log(Event(ends, number, 1.0, {"reason": "so it is"}))
    order, count = standing(problem, walk.history, settled(walk.history), 24)
    assert count == 11
    assert order[:3].tolist() == [11, 10, 9]
    assert order[-1] == 3


def test_several_goals_rank_by_fronts() -> None:
    """With two goals the good trials are those that nothing dominates."""
    problem = Problem(FLOATS, (Goal("a"), Goal("b")), key=Key.of(3))
    walk = Walk(make("random"), problem)
    for t in range(12):
        number = walk.start(walk.ask()[0])
        values = {"a": float(t % 4), "b": 3.0 - t % 4} if t < 4 else {"a": 9.0 + t, "b": 9.0 + t}
        walk.log(Event("report", number, 1.0, {"step": 1, "values": values}))
        walk.log(Event("complete", number, 1.0, {"reason": "done"}))
    order, _ = standing(problem, walk.history, settled(walk.history), 4)
    assert set(order[:4].tolist()) == {0, 1, 2, 3}
    walk.sampler = TPE()
    assert walk.ask(2)[1].reason


def test_learning_beats_the_first_design() -> None:
    """On a smooth mixed loss the median of trials 30 to 50 lies below half that of the first 10 (fixed keys)."""
    for space in (MIXED, CONDITIONAL):
        walk = Walk(TPE(), Problem(space, key=Key.of(4)), failing=0, partial=0).go(50)
        losses = walk.history.losses[:, 0]
        assert np.median(losses[30:]) < 0.5 * np.median(losses[:10])


def test_nothing_is_tried_twice_in_a_discrete_space() -> None:
    """In a space of 400 configs, 120 trials are 120 configs, though the good density is narrow by then."""
    space = Space({"a": Int(1, 20), "b": Choice(tuple(range(20)))})
    walk = Walk(TPE(), Problem(space, key=Key.of(5)), failing=0, partial=0).go(120)
    assert len({signature(t.config) for t in walk.history}) == 120


def test_lost_trials_are_forgotten() -> None:
    """Of the latest trials each pending one counts fully; what many others have overtaken hardly counts.

    How many are many, the trials that settled say: 8 workers whose trials take different times overtake each other.
    """
    order = np.arange(92)
    assert lateness(order, np.arange(92, 100), 100).tolist() == [1.0] * 8
    gone = np.append(np.arange(20, 40), 139)
    weight = lateness(np.setdiff1d(np.arange(139), gone), gone, 140)
    assert weight[-1] == 1.0
    assert weight[:20].max() < 1e-4
    shuffled = np.concatenate([k + np.random.default_rng(k).permutation(8) for k in range(0, 96, 8)])
    assert lateness(shuffled, np.array([96, 98, 99, 102]), 103).min() > 0.2
    assert lateness(order, np.array([92, 94, 95, 98]), 99).min() < 0.01
    assert lateness(order, np.array([92, 99]), 100)[0] < 1e-3
    assert lateness(np.zeros(0, dtype=int), np.arange(3), 3).tolist() == [1.0] * 3


def test_pending_trials_push_proposals_away() -> None:
    """With 8 trials pending where it would propose, proposals lie farther off than without them (mean of 12)."""
    problem = Problem(FLOATS, key=Key.of(6))
    walk = Walk(TPE(), problem, failing=0, partial=0).go(40)
    best = walk.history.units[int(np.argmin(walk.history.losses[:, 0]))]

    def distance(w: Walk) -> float:
        found = [w.sampler.ask(problem, None, w.history, 1, Key.of(100 + i))[0] for i in range(12)]
        return float(np.abs(problem.space.encode(p.config for p in found) - best).max(axis=1).mean())

    free = distance(walk)
    for i in range(8):
        near = np.clip(best + 0.01 * np.array([i - 4, (i % 3) - 1]), 0, 1)
        config: dict[str, Any] = problem.space.decode(near[None])[0]
        walk.start(dataclasses.replace(walk.proposals[0], config=config))
    assert distance(walk) > free


def test_unseen_knows_inactive_columns() -> None:
    """A conditional row is new unless a known row has the same active values."""
    enc, _ = described(CONDITIONAL)
    known = CONDITIONAL.encode(CONDITIONAL.sample(30, Key.of(7)))
    assert not any(unseen(enc.snap(row[None])[0], known) for row in known)
    assert unseen(enc.snap(np.full((1, 6), 0.123))[0], known)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"gamma": 0.0}, "gamma"),
        ({"initial": 1}, "initial"),
        ({"most": 2}, "most"),
        ({"candidates": 0}, "candidates"),
    ],
)
def test_wrong_hyperparameters_are_refused(options: dict[str, Any], word: str) -> None:
    """Each hyperparameter out of range gives an error that names it."""
    with pytest.raises(ArgumentError, match=word):
        make("tpe", **options)


def test_a_wide_space_is_survived() -> None:
    """200 columns: proposals are legal and distinct."""
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(200)})
    walk = Walk(TPE(), Problem(space, key=Key.of(8)), failing=0, partial=0, objective=loss_of).go(14)
    assert len({signature(t.config) for t in walk.history}) == 14
