"""Results of training steps, and the history of a run."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vanillagan.errors import require
from vanillagan.validation import check_state

__all__ = ["DiscriminatorStep", "GeneratorStep", "History", "StepResult"]


class GeneratorStep(NamedTuple):
    """Result of a generator step. Tensors are detached and not yet synchronized with the host.

    Attributes:
        loss: Adversarial loss, a scalar.
        fake: Fake samples that the loss was computed on, shape (N, *sample_shape).
    """

    loss: Tensor
    fake: Tensor


class DiscriminatorStep(NamedTuple):
    """Result of a discriminator step. Tensors are detached and not yet synchronized with the host.

    Attributes:
        loss: Adversarial loss without penalties, a scalar.
        penalty: Sum of the penalties added to the loss, a scalar; None if none was due.
        real_logits: Outputs for the real samples, shape (N,).
        fake_logits: Outputs for the fake samples, shape (N,).
    """

    loss: Tensor
    penalty: Tensor | None
    real_logits: Tensor
    fake_logits: Tensor


class StepResult(NamedTuple):
    """Result of a training step.

    Attributes:
        generator: The generator's step.
        discriminator: The discriminator's step, the last one if there are several.
    """

    generator: GeneratorStep
    discriminator: DiscriminatorStep


class History:
    """Losses of every step, and metrics that callbacks record.

    Losses are read from the device in blocks of 256 steps, so that a step does not synchronize with
    it. `len(history)` is the number of steps.
    """

    BLOCK = 256

    def __init__(self) -> None:
        self._losses = {"generator": array("f"), "discriminator": array("f")}
        self._pending: list[Tensor] = []
        self._metrics: dict[str, list[tuple[int, float]]] = {}

    def append(self, result: StepResult) -> None:
        """Add the losses of a step."""
        self._pending += [result.generator.loss, result.discriminator.loss]
        if len(self._pending) >= 2 * self.BLOCK:
            self._read()

    @property
    def generator_loss(self) -> list[float]:
        """Generator loss of each step."""
        return self._read()["generator"].tolist()

    @property
    def discriminator_loss(self) -> list[float]:
        """Discriminator loss of each step, without penalties."""
        return self._read()["discriminator"].tolist()

    def last_loss(self, player: str) -> float:
        """Return the newest loss of "generator" or "discriminator"."""
        return self._read()[player][-1]

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add named values, measured after `step` steps, to `metrics`."""
        for name, value in values.items():
            self._metrics.setdefault(name, []).append((step, float(value)))

    def last_metric(self, name: str) -> tuple[int, float] | None:
        """Return the newest (step, value) of a metric, without copying `metrics`; None if none."""
        points = self._metrics.get(name)
        return points[-1] if points else None

    @property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Recorded values by name, as (step, value) pairs; a copy."""
        return {name: list(points) for name, points in self._metrics.items()}

    def rows(self) -> list[dict[str, float]]:
        """Return a row of each step, with the metrics recorded after it: `pandas.DataFrame(rows)`.

        A row has the keys "step", "generator_loss", "discriminator_loss" and the names of metrics.
        """
        losses = zip(self.generator_loss, self.discriminator_loss, strict=True)
        rows: dict[int, dict[str, float]] = {
            step: {"step": step, "generator_loss": g, "discriminator_loss": d}
            for step, (g, d) in enumerate(losses, start=1)
        }
        for name, points in self._metrics.items():
            for step, value in points:
                rows.setdefault(step, {"step": step})[name] = value
        return [rows[step] for step in sorted(rows)]

    def plot(self) -> Any:
        """Plot the losses and each metric over the steps. Needs matplotlib (extra `examples`).

        Returns:
            The axes, as of pandas: `history.plot()[0].figure.savefig("losses.png")`.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        require("matplotlib", extra="examples", user="History.plot")
        from matplotlib import pyplot

        panels = [
            {
                f"{player} loss": list(enumerate(self._read()[player], start=1))
                for player in self._losses
            }
        ]
        panels += [{name: points} for name, points in self._metrics.items()]
        _, axes = pyplot.subplots(
            len(panels),
            figsize=(8, 3 * len(panels)),
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for panel, axis in zip(panels, axes.flat, strict=True):
            for name, points in panel.items():
                axis.plot([step for step, _ in points], [value for _, value in points], label=name)
            axis.legend()
        axes[-1, 0].set_xlabel("step")
        return axes[:, 0]

    def __repr__(self) -> str:
        if not len(self):
            return "History(0 steps)"
        losses = (f"{player} loss {self.last_loss(player):.3f}" for player in self._losses)
        return f"History({len(self):,} steps, last {', '.join(losses)})"

    def __len__(self) -> int:
        return len(self._losses["generator"]) + len(self._pending) // 2

    def _read(self) -> dict[str, array[float]]:
        if self._pending:
            losses = torch.stack(self._pending).tolist()
            self._losses["generator"].extend(losses[0::2])
            self._losses["discriminator"].extend(losses[1::2])
            self._pending.clear()
        return self._losses

    def state_dict(self) -> dict[str, Any]:
        """Return the losses and the recorded values, as tensors."""
        with torch.device("cpu"):  # whatever `torch.set_default_device` has set
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
        """Restore what `state_dict` returned."""
        points = {"steps": torch.empty(0).long(), "values": torch.empty(0).double()}
        check_state("history", state, self.state_dict() | {"metrics": {str: points}})
        is_negative = any((points["steps"] < 0).any() for points in state["metrics"].values())
        if is_negative or len({len(state[name]) for name in self._losses}) > 1:
            raise ValueError("both players must have as many losses, and no step be negative")
        self._pending.clear()
        for name, losses in self._losses.items():
            losses[:] = array("f", state[name].tolist())
        self._metrics = {
            name: list(zip(points["steps"].tolist(), points["values"].tolist(), strict=True))
            for name, points in state["metrics"].items()
        }
