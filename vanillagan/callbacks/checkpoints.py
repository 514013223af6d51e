"""Checkpoints at regular times."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from vanillagan.errors import check_integer, check_interval
from vanillagan.hooks import Callback, StepResult
from vanillagan.trainer import GANTrainer

__all__ = ["Checkpoint"]

FILE_NAME = re.compile(r"step-([0-9]{8,})\.pt")
"""Names of the files; from step 100,000,000 on there are nine digits."""


class Checkpoint(Callback):
    """Saves a checkpoint `<folder>/step-<steps done>.pt` at regular times, and keeps the last ones.

    A run whose weights have become NaN or infinite is not saved, so that the last good checkpoint
    stays.

    Only files of this run are counted and deleted: those that it has saved and, after a resume,
    those in `folder` of the step that it resumed from and of earlier steps. A new run doesn't
    delete what it finds in `folder`, but replaces files of the same name. Which files there are is
    read from the folder; checkpoints hold nothing of it.

    Args:
        folder: Where to; it is made if it is missing.
        every_steps: Steps between two checkpoints, at least 1.
        every_epochs: Epochs between two checkpoints, at least 1. Either this or `every_steps`.
        keep: How many of the last ones stay, at least 1.

    Raises:
        ValueError: Neither or both of `every_steps` and `every_epochs` are given.
    """

    order = 2

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_steps: int | None = None,
        every_epochs: int | None = None,
        keep: int = 3,
    ) -> None:
        check_interval(every_steps, every_epochs)
        self.folder = Path(folder)
        self.every_steps = every_steps
        self.every_epochs = every_epochs
        self.keep = check_integer("keep", keep, minimum=1)
        self._resumed_at: int | None = None
        self._saved: set[int] = set()

    @property
    def latest(self) -> Path | None:
        """Newest checkpoint of this run in the folder, None before the first."""
        files = self._files()
        return files[-1] if files else None

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Note where this run begins or was resumed: earlier files in the folder belong to it."""
        step = trainer.progress.step
        self._resumed_at = step if self._resumed_at is None else min(step, self._resumed_at)
        # a trainer that went back to an earlier checkpoint has later files of its past
        self._saved = {saved for saved in self._saved if saved <= step}

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Saves, if it is time by steps."""
        if self.every_steps is not None and trainer.progress.step % self.every_steps == 0:
            self._save(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Saves, if it is time by epochs."""
        if self.every_epochs is not None and trainer.progress.epoch % self.every_epochs == 0:
            self._save(trainer)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Forget the run before; older versions' states list files to delete, and are ignored."""
        self._resumed_at = None
        self._saved = set()

    def _files(self) -> list[Path]:
        """This run's checkpoints in the folder, sorted by step."""
        found: dict[int, Path] = {}
        for path in self.folder.glob("step-*.pt"):
            match = FILE_NAME.fullmatch(path.name)
            if match and path.is_file():
                found[int(match[1])] = path
        first = self._resumed_at or 0
        return [found[step] for step in sorted(found) if step <= first or step in self._saved]

    def _save(self, trainer: GANTrainer) -> None:
        if not _is_finite(trainer):
            warnings.warn(
                f"no checkpoint at step {trainer.progress.step}: weights are NaN or infinite; the "
                f"last good one is {self.latest or 'none'}",
                stacklevel=2,
            )
            return
        trainer.save(self.folder / f"step-{trainer.progress.step:08d}.pt")
        self._saved.add(trainer.progress.step)
        if trainer.processes.rank == 0:
            for old in self._files()[: -self.keep]:
                old.unlink(missing_ok=True)


def _is_finite(trainer: GANTrainer) -> bool:
    sums = [weight.detach().sum() for p in trainer.players.values() for weight in p.parameters]
    return bool(torch.stack(sums).isfinite().all())
