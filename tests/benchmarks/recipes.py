"""Recipes to measure: those of examples/mnist.py, and the library's defaults."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.helpers.scripts import load_example
from vanillagan import Callback, Discriminator, GANTrainer, Generator

RECIPES = ("default", "reference", "stable", "conditional", "conv")


def make_trainer(recipe: str, seed: int, callbacks: Sequence[Callback] = ()) -> GANTrainer:
    """Return a trainer for MNIST; the seed also determines the weights."""
    torch.manual_seed(seed)
    if recipe == "default":
        return GANTrainer(Generator(), Discriminator(), seed=seed, callbacks=callbacks)
    example = load_example("mnist")
    options = example["parse_options"](["--recipe", recipe, "--seed", str(seed)])
    trainer: GANTrainer = example["make_trainer"](options, callbacks)
    return trainer
