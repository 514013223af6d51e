"""Checkpoints at regular times."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from vanillagan.errors import check_integer, check_interval
from vanillagan.hooks import Callback, StepResult
from vanillagan.trainer import GANTrainer

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves a checkpoint `<folder>/step-<steps done>.pt` at regular times, and keeps the last ones.

    A run whose weights have become NaN or infinite is not saved, so that the last good checkpoint
    stays.

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
        self._saved: list[str] = []

    @property
    def latest(self) -> Path | None:
        """The last checkpoint that was saved, None before the first."""
        return self.folder / self._saved[-1] if self._saved else None

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Saves, if it is time by steps."""
        if self.every_steps is not None and trainer.progress.step % self.every_steps == 0:
            self._save(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Saves, if it is time by epochs."""
        if self.every_epochs is not None and trainer.progress.epoch % self.every_epochs == 0:
            self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The names of the files kept, the newest last."""
        return {"saved": self._saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self._saved = list(state["saved"])

    def _save(self, trainer: GANTrainer) -> None:
        if not _is_finite(trainer):
            warnings.warn(
                f"no checkpoint at step {trainer.progress.step}: weights are NaN or infinite; the "
                f"last good one is {self.latest or 'none'}",
                stacklevel=2,
            )
            return
        name = f"step-{trainer.progress.step:08d}.pt"
        before = self._saved
        self._saved = [*(saved for saved in before if saved != name), name][-self.keep :]
        try:
            trainer.save(self.folder / name)
        except BaseException:
            self._saved = before
            raise
        if trainer.processes.rank == 0:
            for old in set(before) - set(self._saved):
                (self.folder / old).unlink(missing_ok=True)


def _is_finite(trainer: GANTrainer) -> bool:
    sums = [weight.detach().sum() for p in trainer.players.values() for weight in p.parameters]
    return bool(torch.stack(sums).isfinite().all())
