"""Players, optimizer factories and learning rate schedules."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.states import differences, snapshot
from tests.helpers.trainers import make_trainer
from vanillagan import EMA, Callback, Discriminator, GANTrainer, Generator, StepResult
from vanillagan.player import Player, adam, cosine_decay, linear_decay


class Rates(Callback):
    """Records the learning rates of each step; stops the run after `stop_at` steps."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.generator: list[float] = []
        self.discriminator: list[float] = []
        self.stop_at = stop_at

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        self.generator.append(trainer.g.optimizer.param_groups[0]["lr"])
        self.discriminator.append(trainer.d.optimizer.param_groups[0]["lr"])
        if trainer.progress.step == self.stop_at:
            trainer.stop("a test")


def trainer_with(rates: Rates, **options: Any) -> GANTrainer:
    """Return a trainer whose learning rates are 1 and 2 times 0.01 before the schedule."""
    return make_trainer(
        rates, generator_optimizer=adam(0.01), discriminator_optimizer=adam(0.02), **options
    )


# -- players ---------------------------------------------------------------------------------------


def test_a_player_has_frozen_parameters_too():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    network.register_parameter("count", nn.Parameter(torch.tensor(1), requires_grad=False))
    player = Player("generator", network)
    assert [id(weight) for weight in player.parameters] == [
        id(weight) for layer in network for weight in layer.parameters()
    ]
    assert player.optimizer.param_groups[0]["params"] == list(player.parameters)
    assert player.dtype == torch.float32


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_weights_are_trained_while_they_require_gradients(points, name):
    class Thaw(Callback):
        """Let the first layer train from step 2 on, and freeze it again at step 4."""

        def on_step_start(self, trainer, batch):
            seen.append(weight.detach().clone())
            weight.requires_grad_(trainer.progress.step in (2, 3))

    seen: list[Tensor] = []
    network = Generator(8, (2,), hidden=(4,)) if name == "generator" else Discriminator((2,))
    weight = next(network.parameters()).requires_grad_(False)
    networks = {
        "generator": Generator(8, (2,)),
        "discriminator": Discriminator((2,)),
        name: network,
    }
    trainer = GANTrainer(**networks, callbacks=[Thaw()], ema=EMA(0.9), device="cpu")
    trainer.fit(points, max_steps=6, batch_size=8)
    seen.append(weight.detach())
    changed = [not torch.equal(*pair) for pair in pairwise(seen)]
    assert changed == [False, False, True, True, False, False]
    assert weight.grad is None


def test_a_player_is_frozen_for_a_while():
    network = nn.Linear(2, 1)
    player = Player("discriminator", network)
    network.bias.requires_grad_(False)  # by the user, after the player was created
    with player.frozen():
        assert not any(weight.requires_grad for weight in network.parameters())
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


def test_learning_rates_are_scaled_in_each_group():
    network = nn.Linear(2, 1)
    player = Player(
        "generator",
        network,
        lambda weights: torch.optim.SGD(
            [{"params": [network.weight], "lr": 0.5}, {"params": [network.bias], "lr": 0.1}]
        ),
    )
    for factor in (0.5, 0.2):
        player.scale_learning_rates(factor)
        rates = [group["lr"] for group in player.optimizer.param_groups]
        assert rates == [0.5 * factor, 0.1 * factor]


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1),
        lambda weights: list(weights),
        "adam",
    ],
    ids=["an-optimizer", "no-optimizer", "a-name"],
)
def test_an_optimizer_must_be_a_factory(optimizer):
    with pytest.raises(TypeError, match="`generator_optimizer` must be a function that creates"):
        Player("generator", nn.Linear(1, 1), optimizer)


def test_adam_has_the_settings_of_dcgan():
    optimizer = adam()([nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.Adam
    assert {name: optimizer.defaults[name] for name in ("lr", "betas", "eps", "fused")} == {
        "lr": 2e-4,
        "betas": (0.5, 0.999),
        "eps": 1e-8,
        "fused": True,
    }


def test_adam_takes_whole_numbers():
    optimizer = adam(1, betas=[0, 0.99])([nn.Parameter(torch.zeros(1))])
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (1.0, (0.0, 0.99))


# -- schedules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "done", "factor"),
    [
        (0.5, 0.0, 1),
        (0.5, 0.5, 1),
        (0.5, 0.6, 0.8),
        (0.5, 1.0, 0),
        (0.0, 0.0, 1),
        (0.0, 0.25, 0.75),
        (0.9, 0.95, 0.5),
    ],
)
def test_linear_decay_has_its_values(start, done, factor):
    assert linear_decay(start)(done) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(
    ("done", "factor"), [(0, 1), (1 / 4, (2 + 2**0.5) / 4), (1 / 3, 3 / 4), (1 / 2, 1 / 2), (1, 0)]
)
def test_cosine_decay_has_its_values(done, factor):
    assert cosine_decay()(done) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(
    ("start", "error"), [(1.0, ValueError), (-0.1, ValueError), ("0", TypeError)]
)
def test_an_invalid_start_is_named(start, error):
    with pytest.raises(error, match=r"`start` must be a finite number in \[0, 1\)"):
        linear_decay(start)


@pytest.mark.parametrize("limit", [{"max_steps": 8}, {"max_epochs": 2}], ids=str)
def test_a_schedule_scales_both_learning_rates(points, limit):
    rates = Rates()
    trainer = trainer_with(rates, lr_schedule=linear_decay(0.5))
    trainer.fit(points[:64], batch_size=16, **limit)
    factors = [1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]
    assert rates.generator == pytest.approx([0.01 * factor for factor in factors])
    assert rates.discriminator == pytest.approx([0.02 * factor for factor in factors])


class Batches:
    """An iterable of batches without a length."""

    def __init__(self, batches: tuple[Tensor, ...]) -> None:
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_without_known_length_epochs_are_counted(points):
    rates = Rates()
    trainer = trainer_with(rates, lr_schedule=lambda done: 1 - done)
    trainer.fit(Batches(points.split(100)), max_epochs=2)
    assert rates.generator == pytest.approx([0.01, 0.01, 0.005, 0.005])


def test_a_longer_run_stretches_the_schedule(points):
    rates = Rates()
    trainer = trainer_with(rates, lr_schedule=lambda done: 1 - done)
    trainer.fit(points, max_steps=4, batch_size=16)
    trainer.fit(points, max_steps=8, batch_size=16)
    first, second = [1, 3 / 4, 2 / 4, 1 / 4], [4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert rates.generator == pytest.approx([0.01 * factor for factor in first + second])


@pytest.mark.parametrize("schedule", [linear_decay(0.25), cosine_decay()], ids=["linear", "cosine"])
def test_a_resumed_schedule_equals_one_run(points, tmp_path: Path, schedule):
    whole = trainer_with(Rates(), lr_schedule=schedule)
    whole.fit(points, max_steps=10, batch_size=16)

    first = trainer_with(Rates(stop_at=5), lr_schedule=schedule)
    first.fit(points, max_steps=10, batch_size=16)
    assert first.progress.step == 5
    first.save(tmp_path / "run.pt")

    second = trainer_with(Rates(), lr_schedule=schedule, weights=1)
    second.load(tmp_path / "run.pt")
    second.fit(points, max_steps=10, batch_size=16)
    assert differences(snapshot(second), snapshot(whole)) == []


def test_a_loop_of_ones_own_needs_a_limit(points):
    rates = Rates()
    trainer = trainer_with(rates, lr_schedule=linear_decay(0.0))
    with pytest.warns(UserWarning, match=r"`lr_schedule` has no effect .*progress.max_steps"):
        trainer.train_step(points[:16])
    trainer.progress.max_steps = 4
    for _ in range(3):
        trainer.train_step(points[:16])
    assert rates.generator == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_an_optimizer_that_needs_a_closure_is_refused():
    with pytest.raises(TypeError, match=r"`generator_optimizer` .* no closure, got LBFGS"):
        Player("generator", nn.Linear(2, 1), torch.optim.LBFGS)


def test_an_optimizer_of_other_weights_is_refused():
    mine, other = nn.Linear(2, 1), nn.Linear(2, 1)
    for weights in (other.parameters(), [*mine.parameters(), other.weight]):
        with pytest.raises(ValueError, match="`discriminator_optimizer` must train weights of the"):
            Player("discriminator", mine, lambda _, w=weights: torch.optim.SGD(w, lr=0.1))


def test_an_optimizer_may_train_a_part_of_the_weights():
    network = nn.Linear(2, 1)
    player = Player("generator", network, lambda _: torch.optim.SGD([network.bias], lr=0.1))
    assert len(player.parameters) == 2
