"""Metrics of torchmetrics as functions of samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vanillagan.data.epoch_sampler import EpochSampler
from vanillagan.data.sources import open_source
from vanillagan.validation import check_function, check_outputs, shown

__all__ = ["from_torchmetrics"]

BATCH_SIZE = 500
"""Samples in each update of a metric."""


def from_torchmetrics(
    metric: Any, real: Any, transform: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], Any]:
    """Return a function of samples that evaluates a metric of torchmetrics, such as the FID.

    Each call updates the metric with all real samples and all fakes, in batches of 500. A metric
    with `reset_real_features=False` reads the real samples once.

    Args:
        metric: Has `update(images, real=...)`, `compute()` and `reset()`, such as
            `FrechetInceptionDistance(normalize=True, reset_real_features=False)`.
        real: Real samples: a tensor, a Dataset or a DataLoader. Labels are ignored.
        transform: Converts a batch of samples, real or fake, to what the metric expects, such as
            `lambda x: (x.expand(-1, 3, -1, -1) + 1) / 2`.

    Returns:
        A function of samples (N, *sample_shape) that returns what `metric.compute()` does.

    Raises:
        TypeError: An argument is of the wrong type, or the metric does not compare with real
            samples.
        ValueError: `real` is empty or its samples are not floats (raised by the function).
    """
    return _TorchMetric(metric, real, transform)


class _TorchMetric:
    def __init__(
        self, metric: Any, real: Any, transform: Callable[[Tensor], Tensor] | None
    ) -> None:
        _check_metric(metric)
        if transform is not None:
            check_function("transform", transform, "a function of samples")
        try:
            self.source = open_source(real, EpochSampler(0), batch_size=BATCH_SIZE)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("`data`", "`real`")) from error
        self.metric = metric
        self.transform = transform
        self.keeps_real = getattr(metric, "reset_real_features", True) is False
        self.has_real = False

    @torch.no_grad()
    def __call__(self, fake: Tensor) -> Any:
        check_outputs(fake=fake)
        if not fake.dim():
            raise ValueError("`fake` must have the shape (N, ...), got ()")
        if self.keeps_real and not self.has_real:
            # real samples from before, or of an update that failed, must not count twice
            self.metric.reset_real_features = True
            self.metric.reset()
            self.metric.reset_real_features = False
        self.metric.reset()
        if not self.has_real:
            self._update(self._real_batches(), real=True)
            self.has_real = self.keeps_real
        self._update(fake.split(BATCH_SIZE), real=False)
        with _unsynchronized(self.metric):
            return self.metric.compute()

    def _update(self, batches: Iterable[Tensor], *, real: bool) -> None:
        for batch in batches:
            images = batch if self.transform is None else self.transform(batch)
            device = getattr(self.metric, "device", images.device)
            self.metric.update(images.to(device), real=real)

    def _real_batches(self) -> Iterator[Tensor]:
        is_empty = True
        for group in self.source.read(0, skip=0):
            samples = self.source.unpack(group[0]).samples
            if not samples.is_floating_point():
                raise ValueError(
                    f"`real` must hold floats as the fakes do, got {samples.dtype} (wrap bytes in "
                    "`vanillagan.data.ByteImages`)"
                )
            is_empty = False
            yield samples
        if is_empty:
            raise ValueError("`real` must yield samples at each evaluation (is it an iterator?)")


def _check_metric(metric: Any) -> None:
    for name in ("update", "compute", "reset"):
        if not callable(getattr(metric, name, None)):
            raise TypeError(
                f"`metric` must have `update`, `compute` and `reset`, got {shown(metric)}"
            )
    try:
        inspect.signature(metric.update).bind(None, real=True)
    except TypeError as error:
        raise TypeError(
            f"`metric` must have `update(images, real=...)`, got {shown(metric)} (write a function "
            "of samples for a metric of fakes alone)"
        ) from error


@contextmanager
def _unsynchronized(metric: Any) -> Iterator[None]:
    """Keep a metric from waiting for other ranks, which do not evaluate."""
    # torchmetrics reads this private attribute at each `compute`; its public twin,
    # `sync_on_compute`, only when the metric is created
    if not hasattr(metric, "_to_sync"):
        yield
        return
    before, metric._to_sync = metric._to_sync, False
    try:
        yield
    finally:
        metric._to_sync = before
