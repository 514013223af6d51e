"""NaN, infinite and huge values in each place: found within one interval, never saved as good."""

from __future__ import annotations

import itertools
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.faults.figures import Figures
from vanillagan import (
    EMA,
    R1,
    Batch,
    BCEAdversarialLoss,
    Discriminator,
    GANTrainer,
    Generator,
    checkpoint,
)
from vanillagan.callbacks import Checkpoint, NaNGuard
from vanillagan.errors import DivergenceError
from vanillagan.player import Player

__all__ = ["numbers"]

STEP, STEPS = 5, 14
"""Step of the fault, and steps of a run."""

VALUES = (math.nan, math.inf, -math.inf, 1e20, 1e38)
PLACES = ("data", "loss", "gradient", "weight", "statistics", "momentum", "second moment", "EMA")
PLAYERS = ("generator", "discriminator")
ONE_PLAYER = ("data", "statistics", "EMA")


def rmsprop(parameters: Any) -> torch.optim.Optimizer:
    """Return an optimizer that has no first moment at first."""
    return torch.optim.RMSprop(parameters, lr=1e-3, momentum=0.5)


CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"update_order": "discriminator_first", "discriminator_steps": 2, "penalties": [R1(0.5)]},
    {"generator_optimizer": rmsprop, "discriminator_optimizer": rmsprop},
)


def numbers(long: bool) -> Figures:
    """Spoil one value of a run in each place, for each player, value, setting and interval."""
    figures = Figures()
    cases = itertools.product(CONFIGURATIONS, PLACES, PLAYERS, VALUES, (1, 3))
    cases = [case for case in cases if not (case[1] in ONE_PLAYER and case[2] == PLAYERS[1])]
    # 7 divides none of the counts, so that each value of each kind is among them
    for case in cases if long else cases[::7]:
        figures.tried += 1
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _try(figures, Path(folder), *case)
    return figures


def _try(
    figures: Figures,
    folder: Path,
    options: dict[str, Any],
    place: str,
    player: str,
    value: float,
    every: int,
) -> None:
    case = f"{value} in {place} of the {player}, {options}, every {every} steps"
    saved = Checkpoint(folder, every_n_steps=1)
    trainer = make(Faulty, options, [saved, NaNGuard(every_n_steps=every)])
    trainer.fault = place, player, value
    try:
        trainer.fit(points(), max_steps=STEPS, batch_size=8)
        # huge data need not harm a run, and are forgotten before the next check
        if place != "data" or not math.isfinite(value) or every == 1:
            figures.fail(f"not found: {case}")
    except DivergenceError as error:
        late = trainer.progress.step - STEP
        if late >= every or f"at step {trainer.progress.step}; the last good" not in str(error):
            figures.fail(f"{late} steps late, {error}: {case}")
        # the data or loss of one step may have been spoiled, and not yet what is saved
        if str(saved.latest) not in str(error) or int(saved.latest.stem[5:]) < STEP - 1:
            figures.fail(f"{error}, but the last good one is {saved.latest}: {case}", lost=True)
    for path in folder.glob("*.pt"):
        states = checkpoint.read(path)["states"]
        states.pop("history")
        if not all(bool((tensor.abs() < 1e19).all()) for tensor in tensors_of(states)):
            figures.fail(f"{path.name} is saved as good: {case}", lost=True)
    resumed = make(GANTrainer, options, [Checkpoint(folder), NaNGuard(every_n_steps=1)])
    try:
        resumed.load(saved.latest)
        resumed.fit(points(), max_steps=resumed.progress.step + 2, batch_size=8)
    except (DivergenceError, TypeError) as error:  # or there is no file
        figures.fail(f"{saved.latest} cannot be resumed, {error}: {case}", lost=True)


class Faulty(GANTrainer):
    """A trainer one of whose values is spoiled in a step."""

    fault: tuple[str, str, float]

    def is_at(self, place: str, player: str | None = None) -> bool:
        """Return True if the value in this place is to be spoiled now."""
        is_place = self.fault[0] == place and player in (None, self.fault[1])
        return is_place and self.progress.step == STEP - 1

    def prepare_batch(self, batch: Any) -> Batch:
        """Spoil the data after the checks, as if it were on a GPU."""
        prepared = super().prepare_batch(batch)
        if self.is_at("data"):
            prepared.samples[0, 0] = self.fault[2]
        return prepared

    def on_before_optimizer_step(self, player: Player) -> None:
        """Spoil a gradient."""
        if self.is_at("gradient", player.name):
            spoil(player.parameters[0].grad, self.fault[2])

    def on_step_start(self, batch: Batch) -> None:
        """Spoil a loss."""
        self.loss = SpoiledLoss()
        self.loss.factors = {n: self.fault[2] if self.is_at("loss", n) else 1.0 for n in PLAYERS}

    def on_step_end(self, result: Any) -> None:
        """Spoil a part of the state."""
        place, name, value = self.fault
        if self.progress.step != STEP:
            return
        player = self.g if name == "generator" else self.d
        state = player.optimizer.state[player.parameters[0]]
        if place == "weight":
            spoil(player.parameters[0], value)
        elif place == "statistics":
            spoil(self.generator.layers[1][1].running_var, value)
        elif place == "momentum":
            spoil(state.get("exp_avg", state.get("momentum_buffer")), value)
        elif place == "second moment":
            spoil(state.get("exp_avg_sq", state.get("square_avg")), value)
        elif place == "EMA":
            spoil(next(self.ema.network.parameters()), value)


class SpoiledLoss(BCEAdversarialLoss):
    """A loss that is scaled by a factor for each player."""

    factors: dict[str, float]

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the scaled loss."""
        return super().generator(fake_logits, real_logits) * self.factors["generator"]

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the scaled loss."""
        return super().discriminator(real_logits, fake_logits) * self.factors["discriminator"]


def make(cls: Any, options: dict[str, Any], callbacks: list[Any]) -> Any:
    """Return a trainer of small networks with an average."""
    torch.manual_seed(0)
    networks = Generator(4, (2,), hidden=(8, 8)), Discriminator((2,), hidden=(8,))
    return cls(*networks, ema=EMA(0.9), callbacks=callbacks, device="cpu", **options)


def points() -> Tensor:
    """Return the data."""
    return torch.rand(160, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1


def spoil(tensor: Tensor, value: float) -> None:
    """Replace one value."""
    tensor.data.view(-1)[-1] = value


def tensors_of(value: Any) -> list[Tensor]:
    """Return all tensors in a state."""
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_of(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_of(item)]
    return [value] if isinstance(value, Tensor) else []
