"""Logs of losses and logits for other programs."""

from __future__ import annotations

import csv
import os
from typing import Any, TextIO

from vanillagan.callback import Callback
from vanillagan.errors import require
from vanillagan.results import StepResult
from vanillagan.trainer import GANTrainer
from vanillagan.validation import check_integer, check_path

__all__ = ["CSVLog", "TensorBoardLog"]


class CSVLog(Callback):
    """Write losses and mean logits to a CSV file.

    After a resume the file is continued; rows of steps after the checkpoint are removed. A new run
    replaces the file.

    Args:
        path: File to write; missing folders are created.
        every_n_steps: Steps between two rows, at least 1. Only these steps synchronize with the
            device.
    """

    main_process_only = True
    COLUMNS = ("step", "epoch", "discriminator_loss", "generator_loss", "real_logit", "fake_logit")

    def __init__(self, path: str | os.PathLike[str], *, every_n_steps: int = 100) -> None:
        self.path = check_path("path", path)
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)
        self._file: TextIO | None = None

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Open the file, with the rows of the steps that are done."""
        rows: list[list[str]] = []
        if trainer.progress.step > 0 and self.path.exists():
            with self.path.open(newline="") as file:
                rows = [row for row in list(csv.reader(file))[1:] if row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", newline="")
        writer = csv.writer(self._file)
        writer.writerow(self.COLUMNS)
        writer.writerows(row for row in rows if int(row[0]) <= trainer.progress.step)
        self._file.flush()

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Write a row if one is due."""
        if self._file is not None and trainer.progress.step % self.every_n_steps == 0:
            row = (trainer.progress.step, trainer.progress.epoch, *_scalars(result).values())
            csv.writer(self._file).writerow(row)
            self._file.flush()

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Close the file."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardLog(Callback):
    """Write losses, mean logits and metrics for TensorBoard. Needs the extra `tensorboard`.

    Args:
        folder: Folder of the run's event files.
        every_n_steps: Steps between two points, at least 1. Only these steps synchronize with the
            device.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    main_process_only = True
    priority = 3

    def __init__(self, folder: str | os.PathLike[str], *, every_n_steps: int = 100) -> None:
        self.folder = check_path("folder", folder)
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)
        require("tensorboard", extra="tensorboard", user="TensorBoardLog")
        self._writer: Any = None
        self._written: dict[str, int] = {}

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Open the event file; points of steps that are not done are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        step = trainer.progress.step
        self._writer = SummaryWriter(self.folder, purge_step=step + 1 if step else None)
        self._written = {name: len(points) for name, points in trainer.history.metrics.items()}

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Write a point if one is due, and new metrics."""
        if self._writer is not None and trainer.progress.step % self.every_n_steps == 0:
            for name, value in _scalars(result).items():
                self._writer.add_scalar(name, value, trainer.progress.step)
            self._write_metrics(trainer)

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Close the event file."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Write new metrics and close the event file."""
        if self._writer is not None:
            self._write_metrics(trainer)
            self._writer.close()
            self._writer = None

    def _write_metrics(self, trainer: GANTrainer) -> None:
        for name, points in trainer.history.metrics.items():
            for step, value in points[self._written.get(name, 0) :]:
                self._writer.add_scalar(name, value, step)
            self._written[name] = len(points)


def _scalars(result: StepResult) -> dict[str, float]:
    """Read the step's losses and mean logits from the device."""
    return {
        "discriminator_loss": float(result.discriminator.loss),
        "generator_loss": float(result.generator.loss),
        "real_logit": float(result.discriminator.real_logits.mean()),
        "fake_logit": float(result.discriminator.fake_logits.mean()),
    }
