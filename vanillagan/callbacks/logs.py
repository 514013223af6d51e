"""Logs of losses and logits for other programs."""

from __future__ import annotations

import csv
import io
import os
import warnings
from contextlib import suppress
from typing import Any, TextIO

from vanillagan.callback import Callback
from vanillagan.errors import require, stacklevel_of_user
from vanillagan.results import StepResult
from vanillagan.runtime import atomic_file
from vanillagan.runtime.atomic_file import warn_if_it_fails
from vanillagan.trainer import GANTrainer
from vanillagan.validation import check_integer, check_path

__all__ = ["CSVLog", "TensorBoardLog"]


class CSVLog(Callback):
    """Write losses, penalty, mean logits, learning rates and metrics to a CSV file.

    The penalty is empty in steps without one. A metric has a column, which is added when it is
    first recorded; one that is recorded between two rows, as at the end of an epoch, has a row of
    its own. `pandas.read_csv(path)` reads the file.

    After a resume the file is continued; rows of steps after the checkpoint are removed, and those
    that a power failure has damaged. A new run replaces the file. Rows that cannot be written, as
    on a full disk, are a warning.

    Args:
        path: File to write; missing folders are created.
        every_n_steps: Steps between two rows, at least 1. Only these steps synchronize with the
            device.
    """

    main_process_only = True
    # before `Checkpoint`: a run that is resumed from a checkpoint has the row of its step
    priority = 2

    def __init__(self, path: str | os.PathLike[str], *, every_n_steps: int = 100) -> None:
        self.path = check_path("path", path, file=True)
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self._metrics = NewMetrics({})

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Open the file, with the rows of the steps that are done."""
        step = trainer.progress.step
        rows = [row for row in self._rows() if int(row["step"]) <= step] if step else []
        self._columns = list(rows[0]) if rows else []
        # those recorded after the last row and before the checkpoint are still to be written
        self._metrics = NewMetrics(
            {name: sum(bool(row[name]) for row in rows) for name in self._columns}
        )
        self._open(rows, ["step", "epoch", *SCALARS])

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Write a row if one is due."""
        step = trainer.progress.step
        if self._file is not None and step % self.every_n_steps == 0:
            rows = self._metrics.read(trainer)
            rows.setdefault(step, {}).update(_scalars(trainer, result))
            self._write(trainer, rows)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Write new metrics."""
        if self._file is not None:
            self._write(trainer, self._metrics.read(trainer))

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Close the file."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Write new metrics and close the file."""
        if self._file is not None:
            self._write(trainer, self._metrics.read(trainer))
            warn_if_it_fails(self._file.close, self.path)
            self._file = None

    def _write(self, trainer: GANTrainer, rows: dict[int, dict[str, float]]) -> None:
        # the epoch of an earlier step is not known
        epochs = {trainer.progress.step: {"epoch": trainer.progress.epoch}}
        complete = [{"step": step, **epochs.get(step, {}), **rows[step]} for step in sorted(rows)]
        warn_if_it_fails(lambda: self._append(complete), self.path)

    def _append(self, rows: list[dict[str, Any]]) -> None:
        names = [name for row in rows for name in row]
        # a metric that is recorded for the first time, or a file that someone has moved away
        if not set(names) <= set(self._columns) or not self.path.exists():
            self._open(self._rows(), names)
        csv.DictWriter(self._file, self._columns).writerows(rows)  # type: ignore[arg-type]
        self._file.flush()  # type: ignore[union-attr]

    def _open(self, rows: list[dict[str, str]], names: list[str]) -> None:
        """Replace the file by one with the rows given and columns of more names, and open it."""
        columns = list(dict.fromkeys([*self._columns, *names]))
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, columns)
        writer.writeheader()
        writer.writerows(rows)
        atomic_file.write(self.path, table.getvalue().encode())
        replaced, self._columns = self._file, columns
        self._file = self.path.open("a", newline="", encoding="utf-8")
        if replaced is not None:
            replaced.close()

    def _rows(self) -> list[dict[str, str]]:
        """Return the rows that are whole: a power failure may leave half of one, or NUL bytes."""
        if not self.path.exists():
            return []
        *lines, cut_off = self.path.read_bytes().decode(errors="replace").split("\n")
        columns = next(csv.reader(lines[:1]), [])
        rows = []
        for line in lines[1:]:
            with suppress(ValueError, KeyError, csv.Error):
                row = dict(zip(columns, next(csv.reader([line]), []), strict=True))
                int(row["step"]), [float(value) for value in row.values() if value]
                rows.append(row)
        left_out = len(lines[1:]) - len(rows) + bool(cut_off)
        if left_out:
            message = f"{self.path}: left out {left_out} lines that cannot be read"
            warnings.warn(message, stacklevel=stacklevel_of_user())
        return rows


class TensorBoardLog(Callback):
    """Write losses, penalty, mean logits, learning rates and metrics for TensorBoard.

    Needs the extra `tensorboard`.

    Args:
        folder: Folder of the run's event files.
        every_n_steps: Steps between two points, at least 1. Only these steps synchronize with the
            device.
        images_every_n_steps: Steps between two grids of 64 generated images, always from the same
            latents, at least 1; None writes none. Samples must be images of 1 or 3 channels.

    Attributes:
        writer: The `SummaryWriter` during `fit`, to write more; else None.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    main_process_only = True
    priority = 2

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_n_steps: int = 100,
        images_every_n_steps: int | None = None,
    ) -> None:
        self.folder = check_path("folder", folder)
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)
        if images_every_n_steps is not None:
            check_integer("images_every_n_steps", images_every_n_steps, minimum=1)
        self.images_every_n_steps = images_every_n_steps
        require("tensorboard", extra="tensorboard", user="TensorBoardLog")
        self.writer: Any = None
        self._metrics = NewMetrics({})

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Open the event file; points of steps that are not done are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        step = trainer.progress.step
        self.writer = SummaryWriter(self.folder, purge_step=step + 1 if step else None)
        metrics = trainer.history.metrics
        self._metrics = NewMetrics({name: len(points) for name, points in metrics.items()})

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Write a point if one is due, and new metrics; write images if they are due."""
        step = trainer.progress.step
        if self.writer is None:
            return
        if step % self.every_n_steps == 0:
            for name, value in _scalars(trainer, result).items():
                self.writer.add_scalar(name, value, step)
            self._write_metrics(trainer)
        if self.images_every_n_steps is not None and step % self.images_every_n_steps == 0:
            labels = trainer.sample_labels(NUM_IMAGES)
            images = trainer.sample(NUM_IMAGES, labels=labels, seed=0)
            if images.dim() != 4 or images.shape[1] not in (1, 3):
                raise ValueError(
                    "`images_every_n_steps` must be None for samples that are not images of 1 or 3 "
                    f"channels, got samples of shape {tuple(images.shape[1:])}"
                )
            self.writer.add_images("samples", (images.float().clamp(-1, 1) + 1) / 2, step)

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Close the event file."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Write new metrics and close the event file."""
        if self.writer is not None:
            self._write_metrics(trainer)
            self.writer.close()
            self.writer = None

    def _write_metrics(self, trainer: GANTrainer) -> None:
        for step, values in self._metrics.read(trainer).items():
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)


NUM_IMAGES = 64
"""Number of images that `TensorBoardLog` writes at once."""

SCALARS = (
    "discriminator_loss",
    "generator_loss",
    "real_logit",
    "fake_logit",
    "penalty",
    "generator_lr",
    "discriminator_lr",
)
"""Names of the values of a step."""


class NewMetrics:
    """Reader of the metrics in a history, after the first `read` values of each name."""

    def __init__(self, read: dict[str, int]) -> None:
        self._read = dict(read)

    def read(self, trainer: GANTrainer) -> dict[int, dict[str, float]]:
        """Return the new values by step and name."""
        rows: dict[int, dict[str, float]] = {}
        for name, points in trainer.history.metrics.items():
            for step, value in points[self._read.get(name, 0) :]:
                rows.setdefault(step, {})[name] = value
            self._read[name] = len(points)
        return rows


def _scalars(trainer: GANTrainer, result: StepResult) -> dict[str, float]:
    """Read the step's losses, mean logits and penalty from the device, and the learning rates."""
    _, penalty, real_logits, fake_logits = result.discriminator
    values: tuple[Any, ...] = (
        result.discriminator.loss,
        result.generator.loss,
        real_logits.mean(),
        fake_logits.mean(),
        penalty,
        *(player.optimizer.param_groups[0]["lr"] for player in trainer.players),
    )
    named = zip(SCALARS, values, strict=True)
    return {name: float(value) for name, value in named if value is not None}
