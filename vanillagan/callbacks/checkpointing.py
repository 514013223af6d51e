"""Checkpoints during training, and resuming from them."""

from __future__ import annotations

import difflib
import os
import re
import warnings
import weakref
from pathlib import Path
from typing import Any, Literal

from vanillagan import checkpoint
from vanillagan.callback import Callback
from vanillagan.callbacks.metric_log import MetricLog
from vanillagan.divergence import find_divergence
from vanillagan.errors import CheckpointError, stacklevel_of_user
from vanillagan.results import StepResult
from vanillagan.runtime.atomic_file import warn_if_it_fails
from vanillagan.trainer import GANTrainer
from vanillagan.validation import (
    check_choice,
    check_every,
    check_integer,
    check_path,
    check_state,
    check_type,
)

__all__ = ["BestCheckpoint", "Checkpoint"]

FILE_NAME = re.compile(r"step-([0-9]{8,})\.pt")
"""Names of the files; from step 100,000,000 on there are nine digits."""


class Checkpoint(Callback):
    """Save `<folder>/step-<steps done>.pt` regularly and at the end of `fit`; keep the newest.

    With `StopOnSignal`, Ctrl-C ends `fit` and so saves the run. A run that has diverged, in weights
    or any other part of its state, is not saved, so that the last good checkpoint stays. If a
    checkpoint cannot be written, as on a full disk, the first and the last of a run raise the
    error; training continues with a warning after the others.

    Only files of this run are counted and deleted: those that it saved and, after `resume`, those
    in `folder` up to the step that it resumed from. Any other run, also one that continues a
    checkpoint by `GANTrainer.load`, keeps what it finds in `folder`, but replaces files of the same
    name.

    Args:
        folder: Folder of the checkpoints; created if it is missing.
        every_n_steps: Steps between two checkpoints, at least 1.
        every_n_epochs: Epochs between two checkpoints, at least 1; not together with
            `every_n_steps`. With neither, only the end of `fit` is saved.
        keep: Number of checkpoints to keep, at least 1.

    Raises:
        ValueError: An argument is out of range, or both intervals are given.

    Example::

        checkpoint = Checkpoint("runs/digits", every_n_epochs=5)
        trainer = GANTrainer(generator, discriminator, callbacks=[checkpoint, StopOnSignal()])
        checkpoint.resume(trainer)
        trainer.fit(data, max_epochs=100)
    """

    # after `BestCheckpoint`, whose state it saves
    priority = 3

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        keep: int = 3,
    ) -> None:
        if every_n_steps is not None or every_n_epochs is not None:
            check_every(every_n_steps, every_n_epochs)
        self.folder = check_path("folder", folder)
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.keep = check_integer("keep", keep, minimum=1)
        self._steps: set[int] = set()  # of the files of this run, the same on all ranks
        self._trainer: weakref.ref[GANTrainer] | None = None  # that saved them

    @property
    def latest(self) -> Path | None:
        """Newest checkpoint of this run in the folder; None if there is none."""
        existing = [path for path in map(self._path, sorted(self._steps)) if path.is_file()]
        return existing[-1] if existing else None

    def resume(self, trainer: GANTrainer) -> Path | None:
        """Load the newest intact checkpoint in the folder, the same one on all ranks.

        The newest is the one that was written last: another run may have left later steps. Damaged
        files are skipped with a warning. In a distributed run all ranks call it, and rank 0 reads
        the folder.

        Args:
            trainer: A trainer with the same networks, optimizers and callbacks as the saved one.

        Returns:
            The file, or None if the folder has no intact checkpoint; the trainer is then unchanged.

        Raises:
            CheckpointError: The checkpoint is intact, but does not fit the trainer.
        """
        newest, steps = trainer.distributed.on_rank_0(self._find_newest)
        if newest is None:
            return None
        path = self._path(newest)
        trainer.load(path)
        self._trainer = weakref.ref(trainer)
        self._steps = {step for step in steps if step <= newest}
        if trainer.distributed.rank == 0:
            print(f"resumed from {path}", flush=True)
        return path

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Forget files of other runs and of later steps; delete those that a kill left."""
        self._serve(trainer)
        self._steps = {step for step in self._steps if step <= trainer.progress.step}
        self._delete_old(trainer)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Save if a checkpoint by steps is due."""
        if self.every_n_steps is not None and trainer.progress.step % self.every_n_steps == 0:
            self._save(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Save if a checkpoint by epochs is due."""
        if self.every_n_epochs is not None and trainer.progress.epoch % self.every_n_epochs == 0:
            self._save(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Save the last step, unless it is saved already."""
        if trainer.progress.step not in self._steps:
            self._save(trainer, is_last=True)

    def _serve(self, trainer: GANTrainer) -> None:
        """Forget the files of another trainer's run."""
        if self._trainer is None or self._trainer() is not trainer:
            self._trainer, self._steps = weakref.ref(trainer), set()

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def _find_newest(self) -> tuple[int | None, list[int]]:
        """Return the step of the intact file that was written last, and the steps of all files."""
        files = (path for path in self.folder.glob("step-*.pt") if path.is_file())
        matches = ((path, FILE_NAME.fullmatch(path.name)) for path in files)
        found = sorted((path.stat().st_mtime_ns, int(match[1])) for path, match in matches if match)
        steps = [step for _, step in found]
        for step in reversed(steps):
            try:
                checkpoint.read(self._path(step))
            # warned of for each file
            except (CheckpointError, OSError) as error:  # noqa: PERF203
                warnings.warn(
                    f"skipping {self._path(step)}: {error}", stacklevel=stacklevel_of_user()
                )
            else:
                return step, steps
        return None, steps

    def _save(self, trainer: GANTrainer, *, is_last: bool = False) -> None:
        self._serve(trainer)
        step = trainer.progress.step
        fault = find_divergence(trainer.state_objects())
        if trainer.distributed.any(fault is not None):
            warnings.warn(
                f"no checkpoint at step {step}: {fault or 'another rank has diverged'}; the last "
                f"good one is {self.latest or 'none'}",
                stacklevel=stacklevel_of_user(),
            )
            return
        path, must_succeed = self._path(step), is_last or not self._steps
        if warn_if_it_fails(lambda: trainer.save(path), path, must_succeed=must_succeed):
            self._steps.add(step)
            self._delete_old(trainer)

    def _delete_old(self, trainer: GANTrainer) -> None:
        """Delete the files of this run beyond `keep`."""
        for old in sorted(self._steps)[: -self.keep]:
            self._steps.remove(old)
            if trainer.distributed.rank == 0:
                self._path(old).unlink(missing_ok=True)


class BestCheckpoint(Callback):
    """Save a checkpoint whenever a metric in the history is better than ever before in the run.

    If it cannot be written, the first raises the error; training continues after the others.

    Args:
        path: File to write, replaced at each improvement.
        monitor: Name in `trainer.history.metrics`, recorded on every rank, as `MetricLog` does.
        mode: "min" if smaller values are better, "max" if larger ones are. NaN is never best.

    Attributes:
        best_value: Best value so far; None before the first.
        best_step: Steps done when it was measured; None before the first.

    Raises:
        ValueError: `mode` is neither "min" nor "max".
        TypeError: `monitor` is not a string.
    """

    priority = 2

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        monitor: str,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        check_type("monitor", monitor, str, "the name of a metric")
        self.path = check_path("path", path, file=True)
        self.monitor = monitor
        self.mode = check_choice("mode", mode, ("min", "max"))
        self.best_value: float | None = None
        self.best_step: int | None = None

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Forget the run before if a new one begins; warn if `monitor` seems misspelt."""
        if trainer.progress.step == 0:
            self.best_value = self.best_step = None
        names = [name for c in trainer.callbacks if isinstance(c, MetricLog) for name in c.metrics]
        name = self.monitor.split(".")[0]  # "name.field" for metrics of several values
        close = difflib.get_close_matches(name, names, n=1)
        if close and not {name, self.monitor} & {*names, *trainer.history.metrics}:
            warnings.warn(
                f"`monitor` is {self.monitor!r}, which no MetricLog records (did you mean "
                f"{close[0]!r}?)",
                stacklevel=stacklevel_of_user(),
            )

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Save if the newest value is the best."""
        self._save_if_best(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Save if the newest value is the best."""
        self._save_if_best(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Save if the newest value is the best; warn if there never was one."""
        self._save_if_best(trainer)
        if trainer.history.last_metric(self.monitor) is None:
            warnings.warn(
                f"no best checkpoint: `monitor` is {self.monitor!r}, but the history has the "
                f"metrics {sorted(trainer.history.metrics)}",
                stacklevel=stacklevel_of_user(),
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and its step."""
        return {"best_value": self.best_value, "best_step": self.best_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        check_state("state", state, {"best_value": (float, None), "best_step": (int, None)})
        value, step = state["best_value"], state["best_step"]
        if value != value or (value is None) != (step is None):
            raise ValueError(f"`best_value` must be a number that has a step, got {state}")
        self.best_value, self.best_step = value, step

    def _save_if_best(self, trainer: GANTrainer) -> None:
        newest = trainer.history.last_metric(self.monitor)
        if newest is None or not self._is_better(newest[1]):
            return
        is_first = self.best_step is None
        with checkpoint.rollback_on_error(self):
            self.best_step, self.best_value = newest
            warn_if_it_fails(lambda: trainer.save(self.path), self.path, must_succeed=is_first)

    def _is_better(self, value: float) -> bool:
        if self.best_value is None:
            return value == value
        return value < self.best_value if self.mode == "min" else value > self.best_value
