"""Metrics of the samples, seen while training goes on."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from vanillagan.errors import check_choice, check_integer, check_interval, check_seed
from vanillagan.hooks import Callback, StepResult
from vanillagan.runtime import isolated_rng
from vanillagan.sampling import classes_in_turn
from vanillagan.sources import Order, open_source
from vanillagan.trainer import GANTrainer

__all__ = ["MetricLog"]

Transform: TypeAlias = Callable[[Tensor], Tensor]

BATCH = 500
"""So many samples at once go to a metric that is updated by batches."""


class MetricLog(Callback):
    """Evaluates samples at regular times, keeps the values in the history, and the best of them.

    Samples are what `trainer.sample` draws, so with the EMA weights where there are any, always
    from the same noise; a conditional generator makes its classes in turn. Training is not changed
    by it, not even by metrics that draw random numbers. The last step of a run is always evaluated;
    one that was stopped before its end is not.

    The values are in `trainer.history.metrics`, under the metric's name; where it gives several,
    under "name.field" for the fields of a NamedTuple or a mapping and "name.0", "name.1" for those
    of a tuple.

    Of several processes the first one evaluates, and all know the values.

    Args:
        metrics: By name, functions of samples (n, *sample_shape) that give a number, a NamedTuple
            or a mapping of numbers: `lambda fake: frechet_distance(features(fake), real)`. Or any
            metric of torchmetrics that has `update(images, real=...)`, `compute()` and `reset()`.
        samples: How many samples are drawn, at least 1.
        every_steps: Steps between two evaluations, at least 1.
        every_epochs: Epochs between two evaluations, at least 1. Either this or `every_steps`.
        real: For metrics that are updated, and only then, the data: what `GANTrainer.fit` takes,
            iterators left out. They get all of it, as `trainer.unpack_batch` gives it, once if they
            keep it over a reset (`reset_real_features=False`).
        transform: Turns a batch of samples, fakes or reals, into what the metrics expect:
            `lambda x: (x.expand(-1, 3, -1, -1) + 1) / 2`.
        best: The value whose best is kept.
        mode: Whether the best is the smallest ("min") or the largest ("max"). NaN is never best.
            The functions of `vanillagan.metrics` never give it: samples that are not finite are an
            error there, which ends the run.
        checkpoint: Where to save the run whenever `best` improves. Its callbacks are all done with
            the step by then, but for a `Checkpoint`, which comes later.
        seed: Which noise, in [0, 2**63 - 1].

    Attributes:
        best_value: The best value so far, or None.
        best_step: The steps done when it was seen, or None.

    Raises:
        ValueError, TypeError: An argument is wrong, or two of them don't go together.
    """

    order = 1

    def __init__(
        self,
        metrics: Mapping[str, Any],
        *,
        samples: int = 10_000,
        every_steps: int | None = None,
        every_epochs: int | None = None,
        real: Any = None,
        transform: Transform | None = None,
        best: str | None = None,
        mode: Literal["min", "max"] = "min",
        checkpoint: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.metrics = _check_metrics(metrics)
        self._updated = {name for name, metric in self.metrics.items() if _is_updated(metric)}
        if self._updated and real is None:
            raise ValueError(
                f"`real` must be given for {sorted(self._updated)} of `metrics`, which are updated "
                "with real samples, got None"
            )
        if real is not None and not self._updated:
            raise ValueError(
                "`real` must be None for `metrics` that are all functions of samples, which don't "
                f"get it, got {type(real).__name__}"
            )
        self.samples = check_integer("samples", samples, minimum=1)
        check_interval(every_steps, every_epochs)
        self.every_steps = every_steps
        self.every_epochs = every_epochs
        self.seed = check_seed(seed)
        if transform is not None and not callable(transform):
            raise TypeError(f"`transform` must be a function of samples, got {transform!r:.80}")
        self.transform: Transform = transform or (lambda images: images)
        if best is not None and not any(_is_of(best, name) for name in self.metrics):
            raise ValueError(f"`best` must be a value of {sorted(self.metrics)}, got {best!r}")
        if checkpoint is not None and best is None:
            raise ValueError("`best` must be given for `checkpoint`, got None")
        self.best = best
        self.mode = check_choice("mode", mode, ("min", "max"))
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.best_value: float | None = None
        self.best_step: int | None = None
        self._real = None if real is None else open_source(real, Order(seed), BATCH)
        self._knows_real: set[str] = set()
        self._last_step = 0

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Forgets the run before, if a new one begins."""
        if trainer.progress.step == 0:
            self.best_value = self.best_step = None
            self._last_step = 0

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Evaluates, if it is time by steps, or the run's last one."""
        progress = trainer.progress
        is_time = self.every_steps is not None and progress.step % self.every_steps == 0
        if is_time or progress.at_last_step:
            self._log(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Evaluates, if it is time by epochs."""
        if self.every_epochs is not None and trainer.progress.epoch % self.every_epochs == 0:
            self._log(trainer)

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Evaluates a run whose last step could not be told before."""
        if trainer.progress.is_complete:
            self._log(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best value and its step, and the step that was evaluated last."""
        return {
            "best_value": self.best_value,
            "best_step": self.best_step,
            "last_step": self._last_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.best_value, self.best_step = state["best_value"], state["best_step"]
        self._last_step = state["last_step"]

    def _log(self, trainer: GANTrainer) -> None:
        """Evaluates in the first process, and tells the others, which so decide alike."""
        if trainer.progress.step == self._last_step:
            return
        values, error = trainer.processes.gather(self._try_to_evaluate(trainer))[0]
        if error is not None:
            raise error
        self._last_step = trainer.progress.step
        trainer.history.record(self._last_step, values)
        if self.best is None:
            return
        if self.best not in values:
            raise ValueError(f"`best` must be one of {sorted(values)}, got {self.best!r}")
        if self._is_better(values[self.best]):
            self._keep(trainer, values[self.best])

    def _is_better(self, value: float) -> bool:
        if self.best_value is None:
            return value == value
        return value < self.best_value if self.mode == "min" else value > self.best_value

    def _keep(self, trainer: GANTrainer, value: float) -> None:
        before = self.best_value, self.best_step
        self.best_value, self.best_step = value, trainer.progress.step
        try:
            if self.checkpoint is not None:
                trainer.save(self.checkpoint)
        except BaseException:
            self.best_value, self.best_step = before
            raise

    def _try_to_evaluate(self, trainer: GANTrainer) -> tuple[dict[str, float], Exception | None]:
        """The values of the first process, or its error, which all processes raise together."""
        if trainer.processes.rank > 0:
            return {}, None
        try:
            return self._evaluate(trainer), None
        except Exception as error:
            return {}, error

    @torch.no_grad()
    def _evaluate(self, trainer: GANTrainer) -> dict[str, float]:
        labels = classes_in_turn(trainer.generator, self.samples)
        fake = trainer.sample(self.samples, labels=labels, seed=self.seed)
        values: dict[str, float] = {}
        with isolated_rng(self.seed):
            if len(self._updated) < len(self.metrics):
                transformed = torch.cat([self.transform(batch) for batch in fake.split(BATCH)])
            for name, metric in self.metrics.items():
                if name in self._updated:
                    value = self._update(name, metric, fake, trainer)
                else:
                    value = metric(transformed)
                values |= _named(name, value)
        return values

    def _update(self, name: str, metric: Any, fake: Tensor, trainer: GANTrainer) -> Any:
        """The value of a metric that is updated by batches, from all reals and the fakes."""
        keeps_real = getattr(metric, "reset_real_features", True) is False
        if keeps_real and name not in self._knows_real:
            metric.reset_real_features = True
            metric.reset()
            metric.reset_real_features = False
        metric.reset()
        if name not in self._knows_real:
            self._feed(metric, self._reals(trainer), real=True)
            if keeps_real:
                self._knows_real.add(name)
        self._feed(metric, fake.split(BATCH), real=False)
        with _unsynchronised(metric):
            return metric.compute()

    def _feed(self, metric: Any, batches: Iterable[Tensor], *, real: bool) -> None:
        for batch in batches:
            images = self.transform(batch)
            metric.update(images.to(getattr(metric, "device", images.device)), real=real)

    def _reals(self, trainer: GANTrainer) -> Iterator[Tensor]:
        """The real samples by batches."""
        count = 0
        for batch in () if self._real is None else self._real.batches(0, skip=0):
            samples = trainer.unpack_batch(batch).samples
            if not samples.is_floating_point():
                raise ValueError(
                    f"`real` must hold floats like the fakes', got {samples.dtype} (wrap bytes in "
                    "`vanillagan.data.ByteImages`)"
                )
            count += len(samples)
            yield samples
        if not count:
            raise ValueError("`real` must give samples each time, got none (an iterator?)")


def _is_updated(metric: Any) -> bool:
    return hasattr(metric, "update") and hasattr(metric, "compute")


@contextmanager
def _unsynchronised(metric: Any) -> Iterator[None]:
    """Keeps a metric of torchmetrics from waiting for the other processes, which don't compute."""
    if not hasattr(metric, "_to_sync"):
        yield
        return
    before, metric._to_sync = metric._to_sync, False
    try:
        yield
    finally:
        metric._to_sync = before


def _is_of(value: object, name: str) -> bool:
    """Whether a value's name is a metric's name, or begins with it."""
    return isinstance(value, str) and (value == name or value.startswith(f"{name}."))


def _check_metrics(metrics: object) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise TypeError(f"`metrics` must be a mapping of names to metrics, got {metrics!r:.80}")
    if not metrics:
        raise ValueError("`metrics` must have at least one metric, got {}")
    for name, metric in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"`metrics` must have strings as names, got {name!r:.80}")
        if _is_updated(metric):
            if not callable(getattr(metric, "reset", None)):
                raise TypeError(f"`metrics[{name!r}]` must have `reset`, got {metric!r:.80}")
            if not _takes_real(metric.update):
                raise TypeError(
                    f"`metrics[{name!r}]` must have `update(images, real=...)`, got {metric!r:.80} "
                    "(a metric of fakes alone: wrap it in a function of samples)"
                )
        elif not callable(metric):
            raise TypeError(
                f"`metrics[{name!r}]` must be a function of samples, or have `update`, `compute` "
                f"and `reset`, got {metric!r:.80}"
            )
    return dict(metrics)


def _takes_real(update: Any) -> bool:
    try:
        inspect.signature(update).bind(None, real=True)
    except TypeError:
        return False
    return True


def _named(name: str, value: Any) -> dict[str, float]:
    """What a metric gives, as numbers by name."""
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
            f"`metrics[{name!r}]` must give numbers, or a tuple or mapping of them, "
            f"got {value!r:.80}"
        ) from error
