"""Short runs on images, and callbacks that tests add to them."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vanillagan import Callback, GANTrainer

BATCH = 8
STEPS = 4
"""Steps in an epoch of `train`."""


def images() -> Tensor:
    """Return the images of an epoch."""
    rng = torch.Generator().manual_seed(1)
    return torch.rand(BATCH * STEPS, 1, 4, 4, generator=rng) * 2 - 1


def train(trainer: GANTrainer, epochs: int = 1, **limits: int) -> GANTrainer:
    """Train on `images` and return the trainer."""
    trainer.fit(images(), batch_size=BATCH, **(limits or {"max_epochs": epochs}))
    return trainer


class At(Callback):
    """Call `action(trainer)` after the step number `step`."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_step_end(self, trainer, result):
        if trainer.progress.step == self.step:
            self.action(trainer)


class FailOnce(At):
    """Raise `RuntimeError("failed")` after step 2."""

    def __init__(self) -> None:
        super().__init__(2, self.fail)

    def fail(self, trainer: Any) -> None:
        self.step = 0
        raise RuntimeError("failed")


class Record(Callback):
    """Record a metric after each step: the given values in turn, or else the generator's loss."""

    priority = 1

    def __init__(self, *values: float, name: str = "m") -> None:
        self.values = values
        self.name = name

    def on_step_end(self, trainer, result):
        step = trainer.progress.step
        value = self.values[step - 1] if self.values else float(result.generator.loss)
        trainer.history.record(step, {self.name: value})


class GlobalDraws(Callback):
    """Keep what the global random generators draw after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, float]] = []

    def on_step_end(self, trainer, result):
        self.seen.append((float(torch.rand(1)), float(np.random.rand()), random.random()))


class SendSignal(Callback):
    """Send signals to this process in the middle of a step."""

    def __init__(self, number: signal.Signals, *, step: int, times: int = 1) -> None:
        self.number, self.step, self.times = number, step, times

    def on_step_start(self, trainer, batch):
        if trainer.progress.step == self.step - 1:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


def poison(player: str) -> Any:
    """Return an action for `At` that makes weights of the generator or discriminator NaN."""

    def action(trainer: Any) -> None:
        getattr(trainer, player).layers[0][0].weight.data.fill_(float("nan"))

    return action
