"""Recipes to measure: those of examples/mnist.py, the library's defaults, and `stable` in bf16."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.helpers.scripts import load_example
from vanillagan import Callback, Discriminator, GANTrainer, Generator, recipes

RECIPES = ("default", "reference", "stable", "stable-bf16", "conditional", "conv")


def make_trainer(recipe: str, seed: int, callbacks: Sequence[Callback] = ()) -> GANTrainer:
    """Return a trainer for MNIST; the seed also determines the weights."""
    torch.manual_seed(seed)
    if recipe == "default":
        return GANTrainer(Generator(), Discriminator(), seed=seed, callbacks=callbacks)
    if recipe == "stable-bf16":
        stable, networks = recipes.stable(), (Generator(), Discriminator())
        return GANTrainer(*networks, **stable, precision="bf16", seed=seed, callbacks=callbacks)
    example = load_example("mnist")
    options = example["parse_options"](["--recipe", recipe, "--seed", str(seed)])
    trainer: GANTrainer = example["make_trainer"](options, callbacks)
    return trainer
