"""Display of a run while it trains."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from vanillagan.batch import Batch
from vanillagan.callback import Callback
from vanillagan.errors import MissingExtraError, require
from vanillagan.results import StepResult
from vanillagan.trainer import GANTrainer
from vanillagan.validation import check_number

__all__ = ["ConsoleLog", "Progress", "ProgressBar"]

SHORTEST_BAR = 4
"""Columns that the losses must leave for the bar itself."""


class ProgressBar(Callback):
    """Progress bar with both losses, images per second and remaining time. Needs tqdm.

    The losses are read from the device twice a second, not at each step. On a terminal that is too
    narrow they are abbreviated. Warnings are printed above the bar. tqdm comes with the extra
    `progress`.

    Raises:
        MissingExtraError: tqdm is not installed.
    """

    main_process_only = True

    def __init__(self) -> None:
        self._tqdm = require("tqdm.auto", extra="progress", user="ProgressBar").tqdm
        self._bar: Any = None
        self._images = 0
        self._refreshed = 0.0
        self._restore_warnings: Callable[[], None] = lambda: None

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Draw the bar, and let warnings be printed above it."""
        self._bar = self._tqdm(
            initial=trainer.progress.step,
            total=trainer.progress.total_steps,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
            "[{elapsed}<{remaining}{postfix}]",
            dynamic_ncols=True,
        )
        self._images = 0
        self._refreshed = time.perf_counter()
        self._restore_warnings = self._print_warnings_above()

    def on_epoch_start(self, trainer: GANTrainer) -> None:
        """Show the epoch."""
        self._bar.set_description(f"Epoch {_epoch(trainer)}", refresh=False)

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """Count the images."""
        self._images += len(batch.samples)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Advance the bar, and read the losses twice a second."""
        if self._bar is None:
            return
        elapsed = time.perf_counter() - self._refreshed
        if elapsed >= 0.5 or trainer.progress.at_last_step:
            d, g = float(result.discriminator.loss), float(result.generator.loss)
            speed = f"{self._images / elapsed:,.0f}"
            self._set_postfix(
                f"D loss {d:.3f}, G loss {g:.3f}, {speed} images/s",
                f"D {d:.2f}, G {g:.2f}, {speed} img/s",
                f"D {d:.2f}, G {g:.2f}",
            )
            self._images = 0
            self._refreshed = time.perf_counter()
        self._bar.update(1)

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Leave the bar as it stands."""
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._restore_warnings()
            self._bar.close()
            self._bar = None

    def _set_postfix(self, *texts: str) -> None:
        """Show the first text that fits in the line, or the last one."""
        for text in texts:
            self._bar.set_postfix_str(text, refresh=False)
            line = self._bar.format_dict
            # without a known width the bar has 10 columns
            needed = len(self._bar.format_meter(**(line | {"ncols": None}))) - 10 + SHORTEST_BAR
            if line["ncols"] is None or needed <= line["ncols"]:
                break

    def _print_warnings_above(self) -> Callable[[], None]:
        """Clear the bar while a warning is printed; return a function that ends this."""
        before = warnings.showwarning

        def show(*arguments: Any, **options: Any) -> None:
            with self._tqdm.external_write_mode(file=sys.stderr):
                before(*arguments, **options)

        def restore() -> None:
            if warnings.showwarning is show:  # nobody else has replaced it since
                warnings.showwarning = before

        warnings.showwarning = show
        return restore


class ConsoleLog(Callback):
    """Print the reference implementation's line, for output that is not a terminal.

    [Epoch 3/20] [Batch 12/938] [D loss: 0.52] [G loss: 1.10]

    The newest metrics of the history follow, except those of a group such as "health/".

    Args:
        seconds: Least time between two lines, at least 0. Only these steps synchronize with the
            device. The last step of a run is always printed.
    """

    main_process_only = True
    priority = 3

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = check_number("seconds", seconds, minimum=0)
        self._printed_at = 0.0
        self._metrics = ""

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Print a line if one is due."""
        now = time.monotonic()
        if now - self._printed_at < self.seconds and not trainer.progress.at_last_step:
            return
        self._printed_at = now
        self._metrics = _metrics(trainer)
        progress = trainer.progress
        of_batches = f"/{progress.steps_per_epoch}" if progress.steps_per_epoch else ""
        print(
            f"[Epoch {_epoch(trainer)}] [Batch {progress.step_in_epoch}{of_batches}] "
            f"[D loss: {float(result.discriminator.loss):.2f}] "
            f"[G loss: {float(result.generator.loss):.2f}]{self._metrics}",
            flush=True,
        )

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Print metrics that were recorded after the last line."""
        if _metrics(trainer) != self._metrics:
            print(f"[Step {trainer.progress.step}]{_metrics(trainer)}", flush=True)


def Progress() -> ProgressBar | ConsoleLog:  # noqa: N802  (used like the classes it chooses from)
    """Return a `ProgressBar` on a terminal if tqdm is installed, else a `ConsoleLog`.

    Not to be confused with `trainer.progress`, the steps and epochs done.
    """
    if sys.stderr.isatty():
        try:
            return ProgressBar()
        except MissingExtraError:
            pass
    return ConsoleLog()


def _metrics(trainer: GANTrainer) -> str:
    """Return the newest metrics, without those of a group such as "health/"."""
    newest = {name: points[-1] for name, points in trainer.history.metrics.items()}
    return "".join(f" [{name}: {v:.4g}]" for name, (_, v) in newest.items() if "/" not in name)


def _epoch(trainer: GANTrainer) -> str:
    """Return the current epoch, counted from 1, and their number as far as it is known."""
    progress = trainer.progress
    return f"{progress.epoch + 1}" + (f"/{progress.max_epochs}" if progress.max_epochs else "")
