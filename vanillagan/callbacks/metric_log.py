"""Metrics of generated samples during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vanillagan.callback import Callback
from vanillagan.results import StepResult
from vanillagan.runtime.rng import isolated_rng
from vanillagan.trainer import GANTrainer
from vanillagan.validation import (
    check_every,
    check_function,
    check_integer,
    check_seed,
    check_state,
    check_type,
    shown,
)

__all__ = ["MetricLog"]


class MetricLog(Callback):
    """Evaluate generated samples regularly and record the values in `trainer.history.metrics`.

    Samples are those of `trainer.sample`, so with the EMA weights if there are any, and always from
    the same latents. A conditional generator draws its classes in turn. Training does not change,
    not even by metrics that draw random numbers. The last step of a run is always evaluated, unless
    the run was stopped before its end.

    A value is recorded under the metric's name. A metric that returns several values records
    "name.field" for each field of a NamedTuple or key of a mapping, and "name.0", "name.1", ... for
    a tuple. `BestCheckpoint(monitor=...)` keeps the best run by any of them.

    In a distributed run rank 0 evaluates, and all ranks record the values.

    Args:
        metrics: Functions of samples (n, *sample_shape), by name. Each returns a number, or a
            tuple, NamedTuple or mapping of numbers:
            `lambda fake: frechet_distance(real, extract_features(extractor, fake))`. For metrics of
            torchmetrics see `vanillagan.metrics.from_torchmetrics`.
        num_samples: Number of samples to draw, at least 1.
        every_n_steps: Steps between two evaluations, at least 1.
        every_n_epochs: Epochs between two evaluations, at least 1; instead of `every_n_steps`.
        seed: Seed of the latents, in [0, 2**63 - 1].

    Raises:
        ValueError, TypeError: An argument is invalid.
    """

    priority = 1

    def __init__(
        self,
        metrics: Mapping[str, Callable[[Tensor], Any]],
        *,
        num_samples: int = 10_000,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        seed: int = 0,
    ) -> None:
        check_type("metrics", metrics, Mapping, "a mapping of names to functions of samples")
        if not metrics:
            raise ValueError("`metrics` must have at least one metric, got {}")
        for name, metric in metrics.items():
            check_type("metrics", name, str, "a mapping with strings as names")
            if hasattr(metric, "update") and hasattr(metric, "compute"):
                raise TypeError(
                    f"`metrics[{name!r}]` must be a function of samples, got {shown(metric)} (wrap "
                    "it in `vanillagan.metrics.from_torchmetrics`)"
                )
            check_function(f"metrics[{name!r}]", metric, "a function of samples")
        check_every(every_n_steps, every_n_epochs)
        self.metrics = dict(metrics)
        self.num_samples = check_integer("num_samples", num_samples, minimum=1)
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.seed = check_seed(seed)
        self._last_step = 0

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Forget the run before if a new one begins."""
        if trainer.progress.step == 0:
            self._last_step = 0

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Evaluate if an evaluation by steps is due, or at the last step of the run."""
        progress = trainer.progress
        is_due = self.every_n_steps is not None and progress.step % self.every_n_steps == 0
        if is_due or progress.at_last_step:
            self._record(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Evaluate if an evaluation by epochs is due."""
        if self.every_n_epochs is not None and trainer.progress.epoch % self.every_n_epochs == 0:
            self._record(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Evaluate the last step of a run whose length was not known before."""
        if trainer.progress.is_complete:
            self._record(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the step that was evaluated last."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        check_state("state", state, {"last_step": int})
        self._last_step = state["last_step"]

    def _record(self, trainer: GANTrainer) -> None:
        if trainer.progress.step == self._last_step:
            return
        values = trainer.distributed.on_rank_0(lambda: self._evaluate(trainer))
        self._last_step = trainer.progress.step
        trainer.history.record(self._last_step, values)

    @torch.no_grad()
    def _evaluate(self, trainer: GANTrainer) -> dict[str, float]:
        labels = trainer.sample_labels(self.num_samples)
        fake = trainer.sample(self.num_samples, labels=labels, seed=self.seed)
        values: dict[str, float] = {}
        with isolated_rng(self.seed):
            for name, metric in self.metrics.items():
                values |= _named(name, metric(fake))
        return values


def _named(name: str, value: Any) -> dict[str, float]:
    """Return the values of a metric as numbers by name."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif isinstance(value, tuple | list):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        return {f"{name}.{key}": _number(name, item) for key, item in value.items()}
    return {name: _number(name, value)}


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`metrics[{name!r}]` must return numbers, or a tuple or mapping of them, "
            f"got {shown(value)}"
        ) from error
