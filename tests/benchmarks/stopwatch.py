"""Evaluations during a training run that are not counted as training time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from vanillagan import Callback, GANTrainer, StepResult


class Stopwatch(Callback):
    """Call a function after some steps, with the seconds of training so far.

    Args:
        steps: Numbers of steps after which to call it.
        evaluate: Called with the trainer and the seconds of training, without its own.
    """

    priority = 8

    def __init__(
        self, steps: Collection[int], evaluate: Callable[[GANTrainer, float], None]
    ) -> None:
        self.steps = steps
        self.evaluate = evaluate
        self.started = 0.0

    def on_fit_start(self, trainer: GANTrainer) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        if trainer.progress.step in self.steps:
            paused = time.perf_counter()
            self.evaluate(trainer, paused - self.started)
            self.started += time.perf_counter() - paused
