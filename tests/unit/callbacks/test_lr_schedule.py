"""LRSchedule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from tests.helpers.callbacks import STEPS, train
from tests.helpers.trainers import make_trainer as make_trainer_of
from vanillagan import Callback
from vanillagan.callbacks import LRSchedule
from vanillagan.player import linear_decay

make_trainer = partial(make_trainer_of, shape=(1, 4, 4))


class Rates(Callback):
    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {"generator": [], "discriminator": []}

    def on_before_optimizer_step(self, trainer, player):
        self.seen[player.name].append(player.optimizer.param_groups[0]["lr"])


def rates_by_hand(make: Callable[..., Any], steps: int, every: int) -> list[float]:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=2e-4, betas=(0.5, 0.999))
    scheduler = make(optimizer)
    rates = []
    for step in range(1, steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return rates


def warm_up_then_decay(optimizer: Any) -> Any:
    return lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=3),
            lr_scheduler.ExponentialLR(optimizer, gamma=0.8),
        ],
        milestones=[3],
    )


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    "make",
    [
        partial(lr_scheduler.StepLR, step_size=2, gamma=0.1),
        partial(lr_scheduler.ExponentialLR, gamma=0.9),
        partial(lr_scheduler.CosineAnnealingLR, T_max=8),
        partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=3),
        partial(lr_scheduler.OneCycleLR, max_lr=1e-2, total_steps=13),
        partial(lr_scheduler.LambdaLR, lr_lambda=lambda step: 1 / (1 + step)),
        partial(lr_scheduler.MultiStepLR, milestones=[1, 3]),
        warm_up_then_decay,
    ],
    ids=lambda make: getattr(make, "func", make).__name__,
)
def test_rates_equal_the_scheduler_run_by_hand(make, interval):
    rates = Rates()
    train(make_trainer(LRSchedule(make, interval=interval), rates), 3)
    expected = rates_by_hand(make, 12, every=1 if interval == "step" else STEPS)
    assert rates.seen == {"generator": expected, "discriminator": expected}
    assert len(set(expected)) > 1


def test_a_plateau_is_of_the_players_own_loss():
    class Rising:
        """The generator's loss grows, the discriminator's falls."""

        needs_real = False

        def __init__(self) -> None:
            self.steps = 0

        def discriminator(self, real_logits, fake_logits):
            return (fake_logits - real_logits).mean() * 0 - self.steps

        def generator(self, fake_logits, real_logits=None):
            self.steps += 1
            return fake_logits.mean() * 0 + self.steps

    rates = Rates()
    plateau = partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0)
    schedule = LRSchedule(plateau, interval="step")
    train(make_trainer(schedule, rates, loss=Rising()))
    assert rates.seen["generator"] == [2e-4, 2e-4, 1e-4, 5e-5]
    assert rates.seen["discriminator"] == [2e-4] * 4


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_schedule_may_be_for_one_player(player):
    rates = Rates()
    schedule = LRSchedule(
        partial(lr_scheduler.ExponentialLR, gamma=0.5), player=player, interval="step"
    )
    train(make_trainer(schedule, rates))
    other = "discriminator" if player == "generator" else "generator"
    assert rates.seen[player] == [2e-4, 1e-4, 5e-5, 2.5e-5]
    assert rates.seen[other] == [2e-4] * 4


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0.5,), {}, TypeError, "`scheduler` must be a function that creates a scheduler"),
        ((lr_scheduler.StepLR,), {"player": "both players"}, ValueError, "`player` must be one of"),
        ((lr_scheduler.StepLR,), {"interval": "batch"}, ValueError, "`interval` must be one of"),
    ],
)
def test_a_bad_argument_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        LRSchedule(*arguments, **options)


def test_a_function_must_create_a_scheduler():
    trainer = make_trainer(LRSchedule(lambda optimizer: 0.5))
    with pytest.raises(TypeError, match=r"`scheduler` must create a scheduler, got 0\.5"):
        train(trainer)
    assert trainer.progress.step == 0


def test_it_is_refused_with_a_schedule_of_the_trainer():
    schedule = LRSchedule(partial(lr_scheduler.StepLR, step_size=1))
    trainer = make_trainer(schedule, lr_schedule=linear_decay())
    with pytest.raises(ValueError, match="`lr_schedule` of the trainer must be None"):
        train(trainer)
    assert trainer.progress.step == 0


def halving(**options: Any) -> LRSchedule:
    return LRSchedule(partial(lr_scheduler.ExponentialLR, gamma=0.5), **options)


def test_a_loop_of_ones_own_has_a_schedule_by_steps(points):
    trainer = make_trainer_of(halving(interval="step"))
    for batch in points[:32].split(8):
        trainer.train_step(batch)
    assert trainer.g.optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 / 16)


def test_a_schedule_by_epochs_in_a_loop_of_ones_own_brings_a_warning(points):
    trainer = make_trainer_of(halving())
    message = "`LRSchedule` has no effect in a loop of your own"
    with pytest.warns(UserWarning, match=message) as seen:
        trainer.train_step(points[:8])
    trainer.train_step(points[8:16])
    assert [warning.filename for warning in seen] == [__file__]


def test_a_schedule_serves_the_trainer_that_steps(points):
    schedule = halving(interval="step")
    first = train(make_trainer(schedule))
    rate = first.g.optimizer.param_groups[0]["lr"]
    second = make_trainer_of(schedule)
    second.train_step(points[:8])
    assert first.g.optimizer.param_groups[0]["lr"] == rate
    assert second.g.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_other_arguments_of_a_scheduler_on_resume_bring_a_warning(tmp_path):
    def schedule(t_max: int) -> LRSchedule:
        return LRSchedule(partial(lr_scheduler.CosineAnnealingLR, T_max=t_max))

    train(make_trainer(schedule(4))).save(tmp_path / "run.pt")
    message = "`LRSchedule` goes on with T_max=4 of the checkpoint, not with T_max=9"
    trainer = make_trainer(schedule(9))
    trainer.load(tmp_path / "run.pt")
    with pytest.warns(UserWarning, match=message):
        train(trainer, 2)
    trainer = make_trainer(schedule(4))
    trainer.load(tmp_path / "run.pt")
    train(trainer, 2)
    # the remedy of the message
    trainer = make_trainer(anew := schedule(9))
    trainer.load(tmp_path / "run.pt")
    anew.load_state_dict({})
    train(trainer, 2)
    assert anew.state_dict()["generator"]["T_max"] == 9
