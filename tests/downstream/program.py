"""A program as a user writes it: type checkers read it against the installed package, and it runs.

It subclasses the trainer and writes a callback, a loss, a penalty and a batch format of its own.
`mypy --strict` and `pyright` in strict mode accept all of it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import assert_type, override

from vanillagan import (
    EMA,
    R1,
    R2,
    Batch,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    StepResult,
    linear_decay,
    load_discriminator,
    load_generator,
    optimal_discriminator,
    recipes,
)
from vanillagan.callbacks import Checkpoint, MetricLog
from vanillagan.data import normal_latents
from vanillagan.losses import AdversarialLoss
from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.penalties import Critic, Penalty
from vanillagan.player import Player
from vanillagan.results import GeneratorStep, History


class CountSteps(Callback):
    """A callback that stops the run and keeps a state."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.steps = 0

    @override
    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        assert_type(result.generator.loss, Tensor)
        assert_type(result.discriminator.penalty, Tensor | None)
        self.steps += 1
        if self.steps == self.limit:
            trainer.stop("enough")

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


@dataclass(frozen=True)
class LogisticLoss:
    """A loss of one's own needs no base class."""

    needs_real = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return nn.functional.softplus(fake_logits).mean() - real_logits.sigmoid().log().mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return nn.functional.softplus(-fake_logits).mean()


class SmallLogits:
    """A penalty of one's own needs no base class either."""

    every = 2

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return 0.01 * (critic(real).square().mean() + critic(fake).square().mean())


class MyTrainer(GANTrainer):
    """A trainer with a step, a batch format and a hook of its own."""

    largest_loss = 0.0

    @override
    def unpack_batch(self, batch: Any) -> Batch:
        return Batch(batch["points"]) if isinstance(batch, dict) else super().unpack_batch(batch)

    @override
    def generator_step(self, batch: Batch) -> GeneratorStep:
        fake = self.generate(batch)
        with self.d.frozen():
            loss = self.loss.generator(self.discriminate(fake, batch.labels))
            self.update(self.g, loss + 0.1 * (fake.mean() - batch.samples.mean()).square())
        return GeneratorStep(loss.detach(), fake.detach())

    @override
    def on_before_optimizer_step(self, player: Player) -> None:
        super().on_before_optimizer_step(player)
        nn.utils.clip_grad_norm_(player.parameters, 10.0)

    @override
    def on_step_end(self, result: StepResult) -> None:
        super().on_step_end(result)
        self.largest_loss = max(self.largest_loss, float(result.generator.loss))


def spread(samples: Tensor) -> float:
    return float(samples.std())


def main(folder: Path) -> None:
    """Train, save, load and sample."""
    loss: AdversarialLoss = LogisticLoss()
    penalties: list[Penalty] = [R1(0.5, every=4), SmallLogits()]
    counter = CountSteps(6)
    trainer = MyTrainer(
        Generator(4, (2,), hidden=(8,)),
        Discriminator((2,), hidden=(8,)),
        loss=loss,
        penalties=penalties,
        lr_schedule=linear_decay(0.5),
        ema=EMA(0.9),
        device="cpu",
        callbacks=[counter, MetricLog({"spread": spread}, num_samples=10, every_n_steps=2)],
    )
    points = torch.rand(64, 2) * 2 - 1
    history = trainer.fit([{"points": part} for part in (points[:32], points[32:])], max_epochs=3)
    assert_type(history, History)
    assert counter.steps == len(history) == 6
    assert trainer.largest_loss > 0

    trainer.save(folder / "run.pt")
    assert assert_type(load_generator(folder / "run.pt"), GeneratorBase).sample(3).shape == (3, 2)
    assert_type(load_discriminator(folder / "run.pt"), DiscriminatorBase)

    networks = nn.Linear(4, 2), nn.Linear(2, 1)
    plain = GANTrainer(
        *networks, penalties=[R1(1.0), R2(1.0)], latent_sampler=normal_latents(4), device="cpu"
    )
    plain.save(folder / "plain.pt")
    network = nn.Linear(4, 2)
    assert assert_type(load_generator(folder / "plain.pt", network=network), nn.Linear) is network

    checkpoint = Checkpoint(folder / "checkpoints", every_n_epochs=1)
    stable = GANTrainer(
        Generator(4, (2,)), Discriminator((2,)), **recipes.stable(), callbacks=[checkpoint]
    )
    resumed = checkpoint.resume(stable)
    assert assert_type(resumed, Path | None) is None
    stable.fit(points, max_epochs=1, batch_size=16)

    assert assert_type(optimal_discriminator(3.0, 1.0), float) == 0.75


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
