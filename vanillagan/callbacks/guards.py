"""Callbacks that protect a run: from divergence, from large gradients, from Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

from torch.nn.utils import clip_grad_norm_

from vanillagan.batch import Batch
from vanillagan.callback import Callback
from vanillagan.callbacks.checkpointing import Checkpoint
from vanillagan.divergence import find_divergence
from vanillagan.errors import DivergenceError
from vanillagan.player import Player
from vanillagan.results import StepResult
from vanillagan.trainer import GANTrainer
from vanillagan.validation import check_integer, check_number

__all__ = ["GradientClip", "NaNGuard", "StopOnSignal"]


class NaNGuard(Callback):
    """End a run with a `DivergenceError` if a value is NaN, infinite or above 1e18.

    Data, losses, gradients and the whole state are checked, so also for gradients after which Adam
    cannot move. The error names the value, the step, and the last good checkpoint if there is a
    `Checkpoint` callback. In a distributed run all ranks end together.

    Args:
        every_n_steps: Steps between two checks, at least 1. Only a check synchronizes with the
            device. The last step of a run is always checked.
    """

    def __init__(self, *, every_n_steps: int = 100) -> None:
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)
        self._batch: Batch | None = None  # of the current step

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """Keep the batch until the end of the step."""
        self._batch = batch

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Check the step and the state of the run if a check is due."""
        progress, batch, self._batch = trainer.progress, self._batch, None
        if progress.step % self.every_n_steps and not progress.at_last_step:
            return
        step = {
            "the data": batch and batch.samples,
            "the labels": batch and batch.labels,
            "the generator's loss": result.generator.loss,
            "the discriminator's loss": result.discriminator.loss,
            "the discriminator's penalty": result.discriminator.penalty,
        }
        fault = find_divergence(trainer.state_objects(), step)
        if trainer.distributed.any(fault is not None):
            kept = [c.latest for c in trainer.callbacks if isinstance(c, Checkpoint)]
            raise DivergenceError(
                f"{fault or 'another rank has diverged'} at step {progress.step}; the last good "
                f"checkpoint: {kept[0] if kept and kept[0] else 'none'}. "
                "A lower learning rate, R1 or GradientClip may help"
            )


class GradientClip(Callback):
    """Scale a player's gradient down to a maximum norm before each optimizer step.

    Args:
        max_norm: Largest L2 norm over all of a player's parameters, above 0.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = check_number("max_norm", max_norm, minimum=0, exclude_minimum=True)

    def on_before_optimizer_step(self, trainer: GANTrainer, player: Player) -> None:
        """Clip the gradient of the player that is about to be updated."""
        clip_grad_norm_(player.parameters, self.max_norm)


class StopOnSignal(Callback):
    """End `fit` after the current step on Ctrl-C or SIGTERM, so that the run can be saved.

    `trainer.stop_reason` then names the signal. If a step or the saving after it takes longer than
    a second, a further signal acts as if this callback were not there. `fit` must run in the main
    thread.
    """

    # signals are handled until `Checkpoint` has saved the end of the run
    priority = 4
    PATIENCE = 1.0
    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._handlers: dict[signal.Signals, Any] = {}

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Install the signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "`StopOnSignal` needs `fit` to run in the main thread, where Python handles "
                "signals: leave it out, and call `trainer.stop(reason)` from the other thread"
            )
        first = 0.0

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal first
            if trainer.stop_reason is None:
                first = time.monotonic()
                trainer.stop(signal.Signals(number).name)
            elif time.monotonic() - first > self.PATIENCE:
                self._restore_handlers()
                signal.raise_signal(number)

        for number in self.SIGNALS:
            self._handlers[number] = signal.signal(number, stop)

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Restore the handlers from before `fit`."""
        self._restore_handlers()

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Restore the handlers from before `fit`."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            # None: it was not set by Python, and cannot be set again
            signal.signal(number, handler or signal.SIG_DFL)
        self._handlers = {}
