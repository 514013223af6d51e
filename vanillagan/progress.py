"""How far a run is, and the losses and other values it has seen."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vanillagan.hooks import StepResult

__all__ = ["History", "Progress"]


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: Training steps done.
        epoch: Epochs done, which is also the index of the one under way.
        batch: Steps done in the epoch under way.
        steps_per_epoch: Steps of an epoch, None where the data doesn't tell.
        epochs: Epochs at which `fit` ends, None where it ends by steps.
        steps: Steps at which `fit` ends, None where it ends by epochs.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    steps_per_epoch: int | None = None
    epochs: int | None = None
    steps: int | None = None

    @property
    def total_steps(self) -> int | None:
        """The steps at which `fit` ends, None where the data doesn't tell."""
        by_epochs = None
        if self.epochs is not None and self.steps_per_epoch is not None:
            remaining = (self.epochs - self.epoch) * self.steps_per_epoch - self.batch
            by_epochs = self.step + max(remaining, 0)
        totals = [total for total in (self.steps, by_epochs) if total is not None]
        return min(totals) if totals else None

    @property
    def is_complete(self) -> bool:
        """Whether the run has reached its epochs or steps."""
        return (self.epochs is not None and self.epoch >= self.epochs) or (
            self.steps is not None and self.step >= self.steps
        )

    @property
    def at_last_step(self) -> bool:
        """Whether the step just done was the last of `fit`, as far as the data tells."""
        return self.step == self.total_steps

    @property
    def at_epoch_end(self) -> bool:
        """Whether the step just done was the last of its epoch, as far as the data tells."""
        return self.batch == self.steps_per_epoch

    def count_step(self) -> None:
        """Counts a step as done."""
        self.step += 1
        self.batch += 1

    def count_epoch(self) -> None:
        """Counts the epoch under way as done."""
        self.epoch += 1
        self.batch = 0

    def state_dict(self) -> dict[str, Any]:
        """What is done so far; where to end is said to `fit` each time."""
        return {"step": self.step, "epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.step, self.epoch, self.batch = state["step"], state["epoch"], state["batch"]


class History:
    """The losses of every step, read from the device in blocks, so that no step waits for it.

    Beside them it keeps named values, which callbacks record now and then: metrics, say.
    `len(history)` is the number of steps.
    """

    BLOCK = 256

    def __init__(self) -> None:
        self._losses = {"discriminator": array("f"), "generator": array("f")}
        self._pending: list[Tensor] = []
        self._metrics: dict[str, list[tuple[int, float]]] = {}

    def append(self, result: StepResult) -> None:
        """Keeps the two losses of a step."""
        self._pending += [result.discriminator_loss, result.generator_loss]
        if len(self._pending) >= 2 * self.BLOCK:
            self._read()

    @property
    def discriminator_loss(self) -> list[float]:
        """D's loss at each step, without penalties."""
        return self._read()["discriminator"].tolist()

    @property
    def generator_loss(self) -> list[float]:
        """G's loss at each step."""
        return self._read()["generator"].tolist()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps named values that were seen after `step` steps."""
        for name, value in values.items():
            self._metrics.setdefault(name, []).append((step, float(value)))

    @property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """The recorded values by name, each with the steps done when it was seen; a copy."""
        return {name: list(points) for name, points in self._metrics.items()}

    def last(self, player: str) -> float:
        """The loss of "generator" or "discriminator" at the last step."""
        return self._read()[player][-1]

    def __len__(self) -> int:
        return len(self._losses["generator"]) + len(self._pending) // 2

    def _read(self) -> dict[str, array[float]]:
        if self._pending:
            losses = torch.stack(self._pending).tolist()
            self._losses["discriminator"].extend(losses[0::2])
            self._losses["generator"].extend(losses[1::2])
            self._pending.clear()
        return self._losses

    def state_dict(self) -> dict[str, Any]:
        """The losses and the recorded values, as tensors."""
        losses = {name: torch.tensor(losses.tolist()) for name, losses in self._read().items()}
        metrics = {
            name: {
                "steps": torch.tensor([step for step, _ in points], dtype=torch.int64),
                "values": torch.tensor([value for _, value in points], dtype=torch.float64),
            }
            for name, points in self._metrics.items()
        }
        return losses | {"metrics": metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self._pending.clear()
        for name, losses in self._losses.items():
            losses[:] = array("f", state[name].tolist())
        self._metrics = {
            name: list(zip(points["steps"].tolist(), points["values"].tolist(), strict=True))
            for name, points in state["metrics"].items()
        }
