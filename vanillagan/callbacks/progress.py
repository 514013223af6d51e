"""What a person watches while training runs."""

from __future__ import annotations

import time
from typing import Any

from vanillagan.data import Batch
from vanillagan.errors import check_number, require
from vanillagan.hooks import Callback, StepResult
from vanillagan.trainer import GANTrainer

__all__ = ["ConsoleLog", "ProgressBar"]


class ProgressBar(Callback):
    """A bar with both losses, images a second and the time left. Needs the extra `progress`.

    The losses are read from the device twice a second, not at each step.

    Raises:
        MissingExtraError: tqdm is not installed.
    """

    main_process_only = True

    def __init__(self) -> None:
        self._tqdm = require("tqdm.auto", extra="progress", user="ProgressBar").tqdm
        self._bar: Any = None
        self._images = 0
        self._refreshed = 0.0

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Draws the bar."""
        self._bar = self._tqdm(
            initial=trainer.progress.step,
            total=trainer.progress.total_steps,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
            "[{elapsed}<{remaining}{postfix}]",
            dynamic_ncols=True,
        )
        self._images = 0
        self._refreshed = time.perf_counter()

    def on_epoch_start(self, trainer: GANTrainer) -> None:
        """Names the epoch."""
        self._bar.set_description(f"Epoch {_epoch(trainer)}", refresh=False)

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """Counts the images."""
        self._images += len(batch.samples)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Moves the bar, and twice a second reads the losses."""
        if self._bar is None:
            return
        elapsed = time.perf_counter() - self._refreshed
        if elapsed >= 0.5 or trainer.progress.at_last_step:
            self._bar.set_postfix_str(
                f"D loss {float(result.discriminator_loss):.3f}, "
                f"G loss {float(result.generator_loss):.3f}, "
                f"{self._images / elapsed:,.0f} images/s",
                refresh=False,
            )
            self._images = 0
            self._refreshed = time.perf_counter()
        self._bar.update(1)

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Leaves the bar as it stands."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ConsoleLog(Callback):
    """The source's line, for output that is no terminal.

    [Epoch 3/20] [Batch 12/938] [D loss: 0.52] [G loss: 1.10]

    The newest metrics of the history follow, those of `HealthMonitor` left out.

    Args:
        seconds: A line is printed, and the losses read, not more often than this.
    """

    main_process_only = True
    order = 3

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = check_number("seconds", seconds, minimum=0)
        self._printed = 0.0
        self._metrics = ""

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Prints the line, if it is time, or the run's last one."""
        now = time.monotonic()
        if now - self._printed < self.seconds and not trainer.progress.at_last_step:
            return
        self._printed = now
        self._metrics = _metrics(trainer)
        progress = trainer.progress
        of_batches = f"/{progress.steps_per_epoch}" if progress.steps_per_epoch else ""
        print(
            f"[Epoch {_epoch(trainer)}] [Batch {progress.batch}{of_batches}] "
            f"[D loss: {float(result.discriminator_loss):.2f}] "
            f"[G loss: {float(result.generator_loss):.2f}]{self._metrics}",
            flush=True,
        )

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Prints metrics that came after the last line."""
        if _metrics(trainer) != self._metrics:
            print(f"[Step {trainer.progress.step}]{_metrics(trainer)}", flush=True)


def _metrics(trainer: GANTrainer) -> str:
    """The newest metrics, without those of a group such as "health/"."""
    newest = {name: points[-1] for name, points in trainer.history.metrics.items()}
    return "".join(f" [{name}: {v:.4g}]" for name, (_, v) in newest.items() if "/" not in name)


def _epoch(trainer: GANTrainer) -> str:
    """The epoch under way, counted from 1, and how many there will be, as far as is known."""
    progress = trainer.progress
    return f"{progress.epoch + 1}" + (f"/{progress.epochs}" if progress.epochs else "")
