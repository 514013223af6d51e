"""Small trainers."""

from __future__ import annotations

from typing import Any

import torch

from vanillagan import Discriminator, GANTrainer, Generator


def make_trainer(
    *callbacks: Any,
    shape: tuple[int, ...] = (2,),
    num_classes: int = 0,
    hidden: tuple[int, ...] = (16, 16),
    weights: int = 0,
    **options: Any,
) -> GANTrainer:
    """Return a trainer of small MLPs on the CPU; the same arguments give the same weights.

    Args:
        callbacks: Callbacks, in place of the option of this name.
        shape: Shape of a sample.
        num_classes: Number of classes, 0 for none.
        hidden: Widths of the generator.
        weights: Seed of the weights.
        options: Other arguments of `GANTrainer`.
    """
    torch.manual_seed(weights)
    if callbacks:
        options["callbacks"] = callbacks
    return GANTrainer(
        Generator(8, shape, hidden=hidden, num_classes=num_classes),
        Discriminator(shape, hidden=(16,), num_classes=num_classes),
        **({"device": "cpu"} | options),
    )
