"""Warnings about data and networks that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from vanillagan import Discriminator, GANTrainer, Generator
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


def test_unconditional_generators_ignore_labels(make_trainer, points):
    make_trainer().fit(TensorDataset(points, torch.full((200,), 7)), max_steps=1)
