"""Losses and scores, written where other programs read them."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, TextIO

from vanillagan.errors import check_integer, require
from vanillagan.hooks import Callback, StepResult
from vanillagan.trainer import GANTrainer

__all__ = ["CSVLog", "TensorBoardLog"]


class CSVLog(Callback):
    """Writes a table of losses and mean scores, a row each `every` steps.

    After a resume, rows of steps that the checkpoint doesn't know are cut off, and the table goes
    on. A new run writes a new table.

    Args:
        path: The file.
        every: Steps between two rows, at least 1. The device is waited for at those steps alone.
    """

    main_process_only = True
    COLUMNS = ("step", "epoch", "discriminator_loss", "generator_loss", "real_score", "fake_score")

    def __init__(self, path: str | os.PathLike[str], *, every: int = 100) -> None:
        self.path = Path(path)
        self.every = check_integer("every", every, minimum=1)
        self._file: TextIO | None = None

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Opens the table, cut off after the steps that have been done."""
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
        """Writes a row, if it is time."""
        if self._file is not None and trainer.progress.step % self.every == 0:
            row = (trainer.progress.step, trainer.progress.epoch, *_scalars(result).values())
            csv.writer(self._file).writerow(row)
            self._file.flush()

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Closes the table."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Closes the table."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardLog(Callback):
    """Writes losses, mean scores and metrics for TensorBoard. Needs the extra `tensorboard`.

    Args:
        folder: The folder of the run's events.
        every: Steps between two points, at least 1. The device is waited for at those steps alone.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    main_process_only = True
    order = 3

    def __init__(self, folder: str | os.PathLike[str], *, every: int = 100) -> None:
        self.folder = Path(folder)
        self.every = check_integer("every", every, minimum=1)
        require("tensorboard", extra="tensorboard", user="TensorBoardLog")
        self._writer: Any = None
        self._written: dict[str, int] = {}

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Opens the events, without points of steps that have not been done."""
        from torch.utils.tensorboard import SummaryWriter

        step = trainer.progress.step
        self._writer = SummaryWriter(self.folder, purge_step=step + 1 if step else None)
        self._written = {name: len(points) for name, points in trainer.history.metrics.items()}

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Writes a point, if it is time."""
        if self._writer is not None and trainer.progress.step % self.every == 0:
            for name, value in _scalars(result).items():
                self._writer.add_scalar(name, value, trainer.progress.step)
            self._write_metrics(trainer)

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Closes the events."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Closes the events."""
        if self._writer is not None:
            self._write_metrics(trainer)
            self._writer.close()
            self._writer = None

    def _write_metrics(self, trainer: GANTrainer) -> None:
        """Writes the points of the history's metrics that are new."""
        for name, points in trainer.history.metrics.items():
            for step, value in points[self._written.get(name, 0) :]:
                self._writer.add_scalar(name, value, step)
            self._written[name] = len(points)


def _scalars(result: StepResult) -> dict[str, float]:
    """The step's losses and mean scores, read from the device."""
    return {
        "discriminator_loss": float(result.discriminator_loss),
        "generator_loss": float(result.generator_loss),
        "real_score": float(result.real_scores.mean()),
        "fake_score": float(result.fake_scores.mean()),
    }
