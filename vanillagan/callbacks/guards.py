"""What keeps a run from harm."""

from __future__ import annotations

import math
import signal
import time
from types import FrameType
from typing import Any

from torch.nn.utils import clip_grad_norm_

from vanillagan.callbacks.checkpoints import Checkpoint
from vanillagan.errors import DivergenceError, check_integer, check_number
from vanillagan.hooks import Callback, Player, StepResult
from vanillagan.trainer import GANTrainer

__all__ = ["GradientClip", "NaNGuard", "StopOnSignal"]


class NaNGuard(Callback):
    """Ends a run whose losses have become NaN or infinite with a `DivergenceError`.

    The error names the last good checkpoint, if there is a `Checkpoint` callback. Of several
    processes, all end where the loss of one is bad.

    Args:
        every: Steps between two looks, at least 1. The device is waited for at those steps alone.
    """

    def __init__(self, *, every: int = 100) -> None:
        self.every = check_integer("every", every, minimum=1)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Looks at the losses, if it is time."""
        if trainer.progress.step % self.every == 0 or trainer.progress.at_last_step:
            self._look(trainer, result)

    def _look(self, trainer: GANTrainer, result: StepResult) -> None:
        losses = {player: float(getattr(result, f"{player}_loss")) for player in trainer.players}
        bad = [f"the {p}'s loss is {loss}" for p, loss in losses.items() if not math.isfinite(loss)]
        if trainer.processes.any(bool(bad)):
            kept = [c.latest for c in trainer.callbacks if isinstance(c, Checkpoint)]
            raise DivergenceError(
                f"{bad[0] if bad else 'a loss of another process is not finite'} at step "
                f"{trainer.progress.step}; the last good checkpoint: "
                f"{kept[0] if kept and kept[0] else 'none'}. "
                "A lower learning rate, R1 or GradientClip may help"
            )


class GradientClip(Callback):
    """Scales a player's gradient down where its norm is above a bound.

    Args:
        max_norm: The largest L2 norm over all of a player's weights, above 0.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = check_number("max_norm", max_norm, minimum=0, exclude_minimum=True)

    def on_before_optimizer_step(self, trainer: GANTrainer, player: Player) -> None:
        """Clips the gradient of the player that is about to step."""
        clip_grad_norm_(player.parameters, self.max_norm)


class StopOnSignal(Callback):
    """Ends `fit` after the step under way on Ctrl-C or SIGTERM, so that the run can be saved whole.

    `trainer.stop_reason` then names the signal. If the step under way takes longer than a second, a
    further signal acts as if this callback weren't there. `fit` must run in the main thread.
    """

    PATIENCE = 1.0
    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Begins to listen."""
        first = 0.0

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal first
            if trainer.stop_reason is None:
                first = time.monotonic()
                trainer.stop(signal.Signals(number).name)
            elif time.monotonic() - first > self.PATIENCE:
                self._restore()
                signal.raise_signal(number)

        self._before = {number: signal.signal(number, stop) for number in self.SIGNALS}

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Listens no more."""
        self._restore()

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Listens no more."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
