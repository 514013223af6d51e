"""Gradient accumulation: a step on parts of a batch is the step on the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vanillagan import (
    EMA,
    R1,
    BCEAdversarialLoss,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    GradientPenalty,
    RelativisticLoss,
    linear_decay,
)
from vanillagan.callbacks import GradientClip
from vanillagan.results import GeneratorStep


def sgd(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.1)


class Recording(Callback):
    """Keeps results, and counts optimizer steps."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.updates = 0

    def on_before_optimizer_step(self, trainer, player):
        self.updates += 1

    def on_step_end(self, trainer, result):
        self.results.append(result)


def trained(
    *, samples: int = 50, kind: type[GANTrainer] = GANTrainer, classes: int = 0, **options: Any
) -> tuple[GANTrainer, Recording]:
    """Return a trainer after two epochs of batches of 20 samples, so that parts are uneven."""
    torch.manual_seed(0)
    recording = Recording()
    trainer = kind(
        Generator(3, (2,), hidden=(8,), num_classes=classes).double(),
        Discriminator((2,), hidden=(8,), num_classes=classes).double(),
        device="cpu",
        **{"generator_optimizer": sgd, "discriminator_optimizer": sgd}
        | options
        | {"callbacks": [*options.get("callbacks", []), recording]},
    )
    rng = torch.Generator().manual_seed(1)
    points = torch.rand(samples, 2, dtype=torch.float64, generator=rng) * 2 - 1
    data = (points, torch.arange(samples) % classes) if classes else points
    if classes:
        data = torch.utils.data.TensorDataset(*data)
    trainer.fit(data, max_epochs=2, batch_size=20)
    return trainer, recording


def assert_close(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def states(trainer: GANTrainer) -> dict[str, Any]:
    names = ("generator", "discriminator", "ema")
    objects = trainer.state_objects()
    return {name: objects[name].state_dict() for name in names if name in objects}


class Smoothed(GANTrainer):
    """A subclass with a step of its own, which knows nothing of accumulation."""

    def generator_step(self, batch):
        with self.d.frozen():
            fake = self.generate(batch)
            loss = self.loss.generator(self.discriminate(fake)) + 0.1 * fake.square().mean()
            self.update(self.g, loss)
        return GeneratorStep(loss.detach(), fake.detach())


@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"discriminator_steps": 2},
        {"penalties": [R1(0.5, every=4)], "loss": RelativisticLoss()},
        {"callbacks": [GradientClip(0.05)], "ema": True, "lr_schedule": linear_decay(0.5)},
        {"kind": Smoothed},
        {"classes": 3},
    ],
    ids=["plain", "k = 2", "lazy R1", "clip, EMA, schedule", "subclass", "classes"],
)
@pytest.mark.parametrize("update_order", ["generator_first", "discriminator_first"])
def test_a_step_in_parts_equals_the_step(parts, options, update_order):
    def run(accumulate: int) -> tuple[GANTrainer, Recording]:
        mine = options | ({"ema": EMA(0.9)} if "ema" in options else {})
        mine |= {"callbacks": [GradientClip(0.05)]} if "callbacks" in options else {}
        return trained(update_order=update_order, accumulate=accumulate, **mine)

    (whole, seen), (split, seen_split) = run(1), run(parts)
    assert_close(states(split), states(whole))
    assert split.progress.state_dict() == whole.progress.state_dict()
    assert seen_split.updates == seen.updates
    assert torch.equal(split.rng.latents.get_state(), whole.rng.latents.get_state())
    for of_parts, of_whole in zip(seen_split.results, seen.results, strict=True):
        for player in ("generator", "discriminator"):
            first, second = getattr(of_parts, player)._asdict(), getattr(of_whole, player)._asdict()
            assert_close(
                {name: value for name, value in first.items() if value is not None},
                {name: value for name, value in second.items() if value is not None},
            )


def test_each_part_is_run_by_itself():
    sizes = []

    class Watched(GANTrainer):
        def discriminate(self, samples, labels=None):
            sizes.append(len(samples))
            return super().discriminate(samples, labels)

    trained(kind=Watched, samples=20, accumulate=3)
    # the generator's step, and the discriminator's on real and fake samples
    assert sizes == 2 * [7, 7, 6, 14, 14, 12]


def test_a_penalty_with_random_points_may_be_accumulated():
    trainer, recording = trained(accumulate=4, penalties=[GradientPenalty(10)])
    assert all(result.discriminator.penalty.dim() == 0 for result in recording.results)
    assert trainer.progress.step == len(recording.results)


def test_a_last_batch_of_fewer_samples_than_parts_is_dropped():
    trainer, _ = trained(accumulate=11, samples=50)
    assert trainer.progress.step == 2 * 2


def test_a_batch_of_fewer_samples_than_parts_is_refused():
    torch.manual_seed(0)
    trainer = GANTrainer(Generator(3, (2,)), Discriminator((2,)), accumulate=4, device="cpu")
    before = torch.nn.utils.parameters_to_vector(trainer.generator.parameters()).clone()
    with pytest.raises(ValueError, match=r"at least 8 samples .*`accumulate`.* got 7"):
        trainer.train_step(torch.rand(7, 2) * 2 - 1)
    after = torch.nn.utils.parameters_to_vector(trainer.generator.parameters())
    assert torch.equal(before, after)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_accumulate_must_be_a_positive_integer(value, error):
    with pytest.raises(error, match=r"`accumulate` must be"):
        GANTrainer(Generator(3, (2,)), Discriminator((2,)), accumulate=value, device="cpu")


def test_two_updates_in_a_step_cannot_be_accumulated():
    class Twice(GANTrainer):
        def generator_step(self, batch):
            super().generator_step(batch)
            return super().generator_step(batch)

    with pytest.raises(ValueError, match=r"`accumulate` must be 1 .* `update` for the generator"):
        trained(kind=Twice, accumulate=2)
    trained(kind=Twice)


def test_an_error_in_a_part_leaves_no_part_behind():
    class Failing(BCEAdversarialLoss):
        fails = True

        def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
            if self.fails:
                raise RuntimeError("mine")
            return super().generator(fake_logits, real_logits)

    loss = Failing()
    torch.manual_seed(0)
    trainer = GANTrainer(
        Generator(3, (2,)), Discriminator((2,)), loss=loss, accumulate=2, device="cpu"
    )
    batch = trainer.prepare_batch(torch.rand(8, 2) * 2 - 1)
    with pytest.raises(RuntimeError, match="mine"):
        trainer.train_step(batch)
    loss.fails = False
    assert len(trainer.generator_step(batch).fake) == 8
    assert trainer.g.optimizer.state


def test_latents_of_another_number_than_the_part_s_are_new():
    drawn = []

    class Doubled(GANTrainer):
        def generate(self, batch):
            drawn.append(self.draw_latents(type(batch)(batch.samples.repeat(2, 1))))
            return super().generate(batch)

    trained(kind=Doubled, accumulate=2)
    assert {len(latents) for latents in drawn} <= {20, 10}
    assert len({tuple(latents.flatten().tolist()) for latents in drawn}) == len(drawn)
