"""BOSS: later trials inherit weights and a teacher from the best earlier ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foretune as ft
from foretune.base.errors import ArgumentError, StudyError
from foretune.numeric.distillation import kd_loss
from foretune.schedule.boss import Boss, pool


class Number:
    """A model of one number."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value = state["value"]


def train(config, run):
    """Move the model's number towards x, from where it starts; a teacher pulls it to its own number."""
    model = Number()
    if run.weights is not None:
        model.load_state_dict(run.weights["model"])
    pull = 0.0 if run.teacher is None else config["w"] * (run.teacher["model"]["value"] - model.value)
    run.track(model=model)
    for step in range(run.start, run.until):
        model.value += 0.1 * (config["x"] - model.value) + pull
        run.report(step + 1, loss=(model.value - 0.8) ** 2)


SPACE = {"x": ft.Float(0.0, 1.0), "w": ft.Float(0.0, 0.5)}


def tuned(scheduler, space=SPACE, **options):
    """Tune the toy for twelve trials."""
    return ft.tune(
        train,
        space,
        sampler="random",
        scheduler=scheduler,
        steps=3,
        budget="12 trials",
        seed=4,
        keep="all",
        **options,
    )


def test_later_trials_inherit_from_two_good_ones():
    """After the warm-up each plan names two different trials among the best five of those that were complete."""
    result = tuned(Boss(top=5, warmup=6))
    losses = result.history.losses[:, 0]
    for trial in result.history:
        named = (trial.plan.weights_from, trial.plan.teacher)
        if trial.number < 6:
            assert named == (None, None)
        else:
            best = np.argsort(losses[: trial.number])[:5]
            assert named[0] != named[1]
            assert set(named) <= set(best.tolist())
    action = Boss(top=5, warmup=6).next(
        ft.Study(ft.Space(SPACE)).problem, result.history, result.history.problem.key
    )
    assert f"taught by trial {action.plan.teacher}" in action.reason


def test_weights_reach_the_training_function():
    """A trial that starts from another's weights ends where three further steps from there lead."""
    result = tuned(Boss(top=2, warmup=2))
    ends = {t.number: None for t in result.history}
    for t in result.history:
        value = 0.0 if t.plan.weights_from is None else ends[t.plan.weights_from]
        pull = 0.0 if t.plan.teacher is None else t.config["w"] * (ends[t.plan.teacher] - value)
        for _ in range(3):
            value += 0.1 * (t.config["x"] - value) + pull
        ends[t.number] = value
        assert t.values["loss"] == pytest.approx((value - 0.8) ** 2, rel=1e-12)


def test_no_weight_and_fresh_weights_are_plain_search():
    """With a distillation weight of 0 and no inherited weights the study is the plain one, number for number."""
    space = {**SPACE, "w": ft.Constant(0.0)}
    plain, boss = tuned("full", space), tuned(Boss(top=3, warmup=3, inherit=False), space)
    assert [t.config for t in plain.history] == [t.config for t in boss.history]
    assert np.array_equal(plain.history.losses, boss.history.losses)
    assert any(t.plan.teacher is not None for t in boss.history)


def test_a_checkpoint_that_is_gone_is_named():
    """Without keep='all' the first trial that is to inherit fails with the remedy."""
    result = ft.tune(
        train,
        SPACE,
        sampler="random",
        scheduler=Boss(top=3, warmup=3),
        steps=3,
        budget="6 trials",
        keep="resumable",
    )
    failures = [t.failure for t in result.history if t.failure]
    assert failures
    assert all(StudyError.__name__ in f and "keep='all'" in f for f in failures)


def test_the_pool_leaves_failed_trials_out():
    """Only complete trials with a finite loss can be inherited from, best first."""

    def sometimes(config):
        if config["x"] > 0.7:
            raise RuntimeError("no")
        return config["x"] if config["x"] > 0.2 else float("nan")

    history = ft.tune(sometimes, {"x": ft.Float(0, 1)}, sampler="random", budget="30 trials", seed=1).history
    found = pool(history, 100)
    losses = [history.loss(n) for n in found]
    assert 0 < len(found) < 30
    assert np.isfinite(losses).all()
    assert losses == sorted(losses)


def test_the_loss_mixes_labels_and_teacher():
    """Weight 0 is the cross entropy bit for bit; the rest is worked out by hand; no gradient to the teacher."""
    student = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.5, 0.2]], requires_grad=True)
    teacher = torch.tensor([[0.3, 1.0, 0.1], [2.0, -0.5, 0.0]], requires_grad=True)
    target = torch.tensor([1, 2])
    ce = torch.nn.functional.cross_entropy(student, target)
    assert torch.equal(kd_loss(student, target, teacher, 0.0), ce)
    assert torch.equal(kd_loss(student, target, None, 0.7), ce)
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    kl = 4 * (p * (p.log() - q.log())).sum(-1).mean()
    mixed = kd_loss(student, target, teacher, 0.3, 2.0)
    assert mixed.item() == pytest.approx((0.7 * ce + 0.3 * kl).item(), rel=1e-5)
    mse = kd_loss(student, target, teacher, 1.0, kind="mse")
    assert mse.item() == pytest.approx(((student - teacher) ** 2).mean().item(), rel=1e-5)
    (mixed + mse).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Boss(top=1), "top must be"),
        (lambda: Boss(warmup=1), "warmup must be"),
        (lambda: kd_loss(None, None, None, 1.5), "weight must be"),
        (lambda: kd_loss(None, None, None, 0.5, 0.0), "temperature must be"),
        (lambda: kd_loss(None, None, None, 0.5, kind="kld"), "Did you mean 'kl'"),
    ],
)
def test_wrong_arguments_are_named(call, words):
    """A number out of range is refused with the argument's name."""
    with pytest.raises(ArgumentError, match=words):
        call()


def test_a_command_is_told_the_folders() -> None:
    """Placeholders name the checkpoints to start from and to learn from; empty where there are none."""
    from foretune.execute.executor import Job
    from foretune.execute.template import values_of

    told = values_of(Job(3, {"x": 0.5}, weights="/w", teacher="/t"))
    assert (told["weights"], told["teacher"], told["x"]) == ("/w", "/t", 0.5)
    assert values_of(Job(3, {}))["teacher"] == ""
