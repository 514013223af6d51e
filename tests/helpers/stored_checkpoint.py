"""The checkpoint that is kept in tests/data, and what is known of it.

Run as a script, `python -m tests.helpers.stored_checkpoint`, this writes the files of the current
format. Files of earlier formats stay as they are: all later versions must load them.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import TensorDataset

from tests.helpers.scripts import ROOT
from vanillagan import EMA, R1, Discriminator, GANTrainer, Generator
from vanillagan.callbacks import LRSchedule
from vanillagan.checkpoint import VERSION

FOLDER = ROOT / "tests" / "data"
STEPS = 7
"""Steps at which the checkpoint was saved: the second step of the second epoch."""


def make_stored_trainer(*, weights: int = 0) -> GANTrainer:
    """Return a trainer as the one that was saved; small, but with every kind of state."""
    torch.manual_seed(weights)
    return GANTrainer(
        Generator(3, (2,), hidden=(4, 4), num_classes=3),
        Discriminator((2,), hidden=(4,), num_classes=3),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.9),
        device="cpu",
        callbacks=[LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")],
    )


def fit(trainer: GANTrainer, steps: int) -> None:
    """Train until `steps` steps are done, on points whose values need no random generator."""
    numbers = torch.arange(40)
    points = torch.stack([(numbers / 20 - 1), (numbers % 7) / 3 - 1], dim=1)
    trainer.fit(TensorDataset(points, numbers % 3), max_steps=steps, batch_size=8)


def describe(trainer: GANTrainer) -> dict[str, Any]:
    """Return numbers that depend on the state, to compare with the stored ones."""
    assert trainer.ema is not None
    labels = torch.arange(6) % 3
    return {
        "step": trainer.progress.step,
        "epoch": trainer.progress.epoch,
        "learning_rate": trainer.g.optimizer.param_groups[0]["lr"],
        "generator_loss": trainer.history.generator_loss,
        "discriminator_loss": trainer.history.discriminator_loss,
        "metrics": trainer.history.metrics,
        "samples": trainer.sample(6, labels=labels, seed=0).tolist(),
        "weights": [weight.sum().item() for weight in trainer.g.parameters],
    }


def write() -> None:
    """Write the checkpoint and the numbers of it, as saved and after seven more steps."""
    FOLDER.mkdir(exist_ok=True)
    trainer = make_stored_trainer()
    fit(trainer, STEPS)
    trainer.history.record(STEPS, {"distance": 0.25})
    trainer.save(FOLDER / f"checkpoint-v{VERSION}.pt")
    numbers = {"saved": describe(trainer)}
    fit(trainer, 2 * STEPS)
    numbers["resumed"] = describe(trainer)
    (FOLDER / f"checkpoint-v{VERSION}.json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
