"""The recipes that are measured: those of examples/mnist.py, and the library's defaults."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

from vanillagan import Callback, Discriminator, GANTrainer, Generator

RECIPES = ("default", "source", "clean", "conv")


def make_trainer(recipe: str, seed: int, callbacks: list[Callback]) -> GANTrainer:
    """A trainer for MNIST, the weights drawn from the seed too."""
    torch.manual_seed(seed)
    if recipe == "default":
        return GANTrainer(Generator(), Discriminator(), seed=seed, callbacks=callbacks)
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "mnist.py"))
    options = example["parse_options"](["--recipe", recipe, "--seed", str(seed)])
    trainer: GANTrainer = example["make_trainer"](options, callbacks)
    return trainer
