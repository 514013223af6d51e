"""Sizes, figures, the table of results, and results.json, for all parts."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

import vanillagan
from vanillagan import GANTrainer
from vanillagan.errors import require
from vanillagan.player import Player


class Sizes(NamedTuple):
    """Number of training steps of each part, and number of samples."""

    proofs: int = 1_500
    figure1: int = 2_000
    mnist: int = 15_000
    numbers: int = 200_000
    images: int = 10_000


QUICK = Sizes(proofs=20, figure1=20, mnist=20, numbers=10_000, images=100)


class Paper:
    """A run: its options, its table, and what parts share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.plt = require("matplotlib.pyplot", extra="examples", user="examples/paper.py")
        self.tqdm = require("tqdm.auto", extra="examples", user="examples/paper.py").tqdm
        self.options = options
        self.sizes = QUICK if options.quick else Sizes()
        self.table: list[tuple[str, str, str]] = []
        self.shared: dict[str, Any] = {}

    def compare(self, name: str, expected: str, found: str) -> None:
        """Add a row to the table: the value of the paper or its theory, and the value found."""
        self.table.append((name, expected, found))

    def draw(self, name: str, figure: Any) -> None:
        """Save a figure."""
        figure.savefig(self.options.out / f"{name}.png", dpi=120)
        self.plt.close(figure)

    def print_table(self) -> None:
        print(f"\n{'':46}{'paper or theory':>18}{'found':>26}")
        for name, expected, found in self.table:
            print(f"{name:46}{expected:>18}{found:>26}")


def read_results(path: Path) -> dict[str, Any]:
    """Read results.json of an earlier run, if there is one."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: move it, or choose another --out") from error


def add_results(path: Path, name: str, found: dict[str, Any]) -> None:
    """Write the results of a part into results.json, and keep those of the other parts."""
    path.write_text(json.dumps(read_results(path) | {name: found}, indent=2) + "\n")


def describe_run(options: argparse.Namespace, started: float) -> dict[str, Any]:
    """Return the conditions of a part."""
    return {
        "command": sys.argv,
        "quick": options.quick,
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vanillagan": vanillagan.__version__,
    }


def describe_training(
    trainer: GANTrainer, *, steps: int, batch_size: int, started: float
) -> dict[str, Any]:
    """Return the settings of a training run, for results.json."""
    sampler, shape = trainer.latent_sampler, trainer.latent_sampler(1, torch.Generator()).shape[1:]
    return {
        "generator": str(trainer.generator),
        "discriminator": str(trainer.discriminator),
        "generator_optimizer": _describe_optimizer(trainer.g),
        "discriminator_optimizer": _describe_optimizer(trainer.d),
        "lr_schedule": trainer.lr_schedule and _name(trainer.lr_schedule),
        "latents": f"{_name(sampler)}({', '.join(map(str, shape))})",
        "loss": str(trainer.loss),
        "penalties": [str(penalty) for penalty in trainer.penalties],
        "EMA": trainer.ema and trainer.ema.decay,
        "update_order": trainer.update_order,
        "discriminator_steps": trainer.discriminator_steps,
        "steps": steps,
        "batch_size": batch_size,
        "seconds": round(time.monotonic() - started),
    }


def _name(function: Any) -> str:
    """Return the name of the function that made this one."""
    return function.__qualname__.partition(".")[0]


def _describe_optimizer(player: Player) -> dict[str, Any]:
    (group,), (lr,) = player.optimizer.param_groups, player.learning_rates
    return {"kind": type(player.optimizer).__name__, "lr": lr, "betas": group["betas"]}
