"""Warnings about data and networks that do not fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vanillagan import BCEAdversarialLoss, Discriminator, GANTrainer, Generator, HingeLoss
from vanillagan.data import ByteImages

IMAGES = torch.zeros(4, 1, 1, 2, dtype=torch.uint8)


@pytest.mark.parametrize("make", [ByteImages, lambda x, y: TensorDataset(x / 255, y)])
def test_classes_without_samples_bring_a_warning(make):
    trainer = GANTrainer(
        Generator(4, (1, 1, 2), num_classes=4), Discriminator((1, 1, 2), num_classes=4)
    )
    message = "`data` has no samples of 2 of the generator's 4 classes, which .*: 1, 3"
    with pytest.warns(UserWarning, match=message) as seen:
        trainer.fit(make(IMAGES, torch.tensor([0, 2, 0, 2])), max_steps=1)
    assert [warning.filename for warning in seen] == [__file__]


def test_bytes_of_masks_bring_a_warning(make_trainer):
    masks = (torch.arange(8) % 2).view(2, 1, 2, 2).byte()
    with pytest.warns(UserWarning, match="as images of bytes 0 and 1 do: scale them"):
        make_trainer(shape=(1, 2, 2)).fit(masks, max_steps=1)


def test_unconditional_generators_ignore_labels(make_trainer, points):
    make_trainer().fit(TensorDataset(points, torch.full((200,), 7)), max_steps=1)


class Ending(nn.Module):
    """Network whose last operation is a function."""

    def __init__(self, inputs: int, outputs: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def messages(
    data: Any,
    *,
    generator: Callable[[Tensor], Tensor] = torch.clone,
    discriminator: Callable[[Tensor], Tensor] = torch.clone,
    outputs: int = 1,
    **options: Any,
) -> list[str]:
    """Return the warnings of three steps, all of which name this file."""
    trainer = GANTrainer(
        Ending(8, 2, generator),
        Ending(2, outputs, discriminator),
        latent_sampler=lambda n, rng: torch.randn(n, 8, generator=rng),
        device="cpu",
        **options,
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainer.fit(data, max_steps=3, batch_size=8)
    assert {warning.filename for warning in seen} <= {__file__}
    return [str(warning.message) for warning in seen]


@pytest.mark.parametrize(
    "function",
    [torch.sigmoid, lambda x: x.squeeze(1).sigmoid(), lambda x: x.sigmoid().clamp(0.01, 0.99)],
)
def test_probabilities_for_a_loss_of_logits_bring_a_warning(points, function):
    for loss in (BCEAdversarialLoss(), HingeLoss()):
        (message,) = messages(points, discriminator=function, loss=loss)
        assert "`discriminator` returns probabilities (it ends in a sigmoid)" in message
        assert "pass `loss=BCEAdversarialLoss(from_logits=False)`" in message
    loss = BCEAdversarialLoss(from_logits=False)
    assert messages(points, discriminator=function, loss=loss) == []


@pytest.mark.parametrize("function", [torch.clone, nn.Softmax(1), nn.LogSoftmax(1)])
def test_outputs_of_two_classes_bring_a_warning(points, function):
    (message,) = messages(points, discriminator=function, outputs=2)
    assert "returns 2 values for each sample, and each is taken as a logit" in message


@pytest.mark.parametrize(
    "function", [torch.clone, torch.tanh, lambda x: x.sigmoid().logit(), lambda x: x.flatten(0)]
)
def test_logits_bring_no_warning(points, function):
    assert messages(points, discriminator=function) == []
    assert messages(points, discriminator=torch.clone, outputs=4) == []


@pytest.mark.parametrize("generator", [torch.tanh, nn.Tanh(), lambda x: x.tanh().view(-1, 2)])
def test_half_of_the_range_of_a_tanh_brings_a_warning(points, generator):
    (message,) = messages(points.abs(), generator=generator)
    assert "the generator's Tanh reaches [-1, 1]: scale the data by `2 * samples - 1`" in message
    (message,) = messages(points * 3, generator=generator)
    assert "the generator's Tanh only reaches [-1, 1]: scale the data, or" in message
    assert messages(points, generator=generator) == []
    assert messages(points.abs()) == []


@pytest.mark.parametrize("channels", [2, 5])
def test_pairs_of_samples_bring_a_warning(points, channels):
    images = points.view(-1, 2, 1, 1)
    second = torch.zeros(len(images), channels, 1, 1)
    trainer = GANTrainer(Generator(8, (2, 1, 1)), Discriminator((2, 1, 1)), device="cpu")
    with pytest.warns(UserWarning, match="only the first of each pair is used") as seen:
        trainer.fit(TensorDataset(images, second), max_steps=3)
    assert [warning.filename for warning in seen] == [__file__]


@pytest.mark.parametrize("labels", [torch.zeros(200), torch.zeros(200, 4), torch.arange(200)])
def test_unused_labels_bring_no_warning(points, labels):
    assert messages(TensorDataset(points, labels)) == []
