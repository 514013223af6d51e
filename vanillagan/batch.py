"""A batch of training data: samples, perhaps with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch"]


class Batch(NamedTuple):
    """Samples, with their labels if there are any.

    Attributes:
        samples: Real samples, floats, shape (N, *sample_shape); in [-1, 1] for a Tanh generator.
        labels: Class indices, integers, shape (N,); or None.
    """

    samples: Tensor
    labels: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Positional arguments for a network: the samples, then the labels if there are any."""
        return (self.samples,) if self.labels is None else (self.samples, self.labels)

    @staticmethod
    def of(value: Any) -> Batch:
        """Convert what datasets usually yield to a `Batch`.

        Args:
            value: A `Batch`; a tensor of samples; a pair (samples, labels); or a mapping with the
                key "samples", "images" or "image" and perhaps "labels" or "label".

        Raises:
            TypeError: `value` has another form.
        """
        if isinstance(value, Batch):
            return value
        if isinstance(value, Tensor):
            return Batch(value)
        if isinstance(value, Mapping):
            samples = [value[key] for key in ("samples", "images", "image") if key in value]
            labels = [value[key] for key in ("labels", "label") if key in value]
            if samples:
                return Batch(samples[0], labels[0] if labels else None)
        elif isinstance(value, Sequence) and 1 <= len(value) <= 2:
            return Batch(*value)
        got = f"the keys {list(value)}" if isinstance(value, Mapping) else type(value).__name__
        raise TypeError(
            "`batch` must be a tensor, a pair (samples, labels) or a mapping with the key "
            f"'samples', got {got}; override `GANTrainer.unpack_batch` for other forms"
        )

    def split(self, parts: int) -> list[Batch]:
        """Split into `parts` batches whose sizes differ by at most one."""
        if parts == 1:
            return [self]
        samples = self.samples.tensor_split(parts)
        labels = [None] * parts if self.labels is None else self.labels.tensor_split(parts)
        return [Batch(*pair) for pair in zip(samples, labels, strict=True)]

    @staticmethod
    def join(batches: Sequence[Batch]) -> Batch:
        """Concatenate batches in order."""
        if len(batches) == 1:
            return batches[0]
        labels = [batch.labels for batch in batches if batch.labels is not None]
        return Batch(
            torch.cat([batch.samples for batch in batches]), torch.cat(labels) if labels else None
        )
