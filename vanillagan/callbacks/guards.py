"""Callbacks that protect a run: from divergence, from large gradients, from Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType
from typing import Any

from torch.nn.utils import clip_grad_norm_

from vanillagan.callback import Callback
from vanillagan.callbacks.checkpointing import Checkpoint
from vanillagan.errors import DivergenceError
from vanillagan.player import Player
from vanillagan.results import StepResult
from vanillagan.trainer import GANTrainer
from vanillagan.validation import check_integer, check_number

__all__ = ["GradientClip", "NaNGuard", "StopOnSignal"]


class NaNGuard(Callback):
    """End a run with a `DivergenceError` if a loss has become NaN or infinite.

    The error names the last good checkpoint if there is a `Checkpoint` callback. In a distributed
    run all ranks end if the loss of one is not finite.

    Args:
        every_n_steps: Steps between two checks, at least 1. Only a check synchronizes with the
            device. The last step of a run is always checked.
    """

    def __init__(self, *, every_n_steps: int = 100) -> None:
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Check the losses if a check is due."""
        progress = trainer.progress
        if progress.step % self.every_n_steps and not progress.at_last_step:
            return
        losses = {
            "generator": float(result.generator.loss),
            "discriminator": float(result.discriminator.loss),
        }
        bad = [
            f"the {name}'s loss is {loss}"
            for name, loss in losses.items()
            if not math.isfinite(loss)
        ]
        if trainer.distributed.any(bool(bad)):
            kept = [c.latest for c in trainer.callbacks if isinstance(c, Checkpoint)]
            raise DivergenceError(
                f"{bad[0] if bad else 'a loss on another rank is not finite'} at step "
                f"{progress.step}; the last good checkpoint: "
                f"{kept[0] if kept and kept[0] else 'none'}. "
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

        self._handlers = {number: signal.signal(number, stop) for number in self.SIGNALS}

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Restore the handlers from before `fit`."""
        self._restore_handlers()

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Restore the handlers from before `fit`."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
