"""Gradient accumulation: steps on parts of a batch, with the gradient of the whole batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from vanillagan.batch import Batch
from vanillagan.results import DiscriminatorStep, GeneratorStep

__all__ = ["Accumulation"]

Step = TypeVar("Step", GeneratorStep, DiscriminatorStep)


class Accumulation:
    """Runs a step on the parts of a batch, and knows the current part; else a batch is one part."""

    def __init__(self) -> None:
        self._set_sizes([0])

    def _set_sizes(self, sizes: list[int]) -> None:
        self._sizes, self._index = sizes, 0
        self._latents: list[Tensor] = []
        self._updates: Counter[str] = Counter()

    @property
    def is_first(self) -> bool:
        """True for the first part of a batch."""
        return self._index == 0

    @property
    def is_last(self) -> bool:
        """True for the last part of a batch."""
        return self._index == len(self._sizes) - 1

    def run(self, step: Callable[..., Step], parts: int, batch: Batch, *fake: Tensor) -> Step:
        """Call a step for each part of a batch and of the fakes, and join the results."""
        batches = batch.split(parts)
        fakes = [tensor.tensor_split(parts) for tensor in fake]
        self._set_sizes([len(part.samples) for part in batches])
        results = []
        try:
            for self._index, arguments in enumerate(zip(batches, *fakes, strict=True)):
                self._calls = 0
                results.append(step(*arguments))
            return _join(results, [size / sum(self._sizes) for size in self._sizes])
        finally:
            self._set_sizes([0])

    def weight(self, player: str, loss: Tensor) -> Tensor:
        """Return the current part's contribution to the loss of the batch."""
        if len(self._sizes) == 1:
            return loss
        if self._updates[player] != self._index:
            raise ValueError(
                f"`accumulate` must be 1 for steps that call `update` for the {player} more or "
                f"less than once for each part of a batch, got {len(self._sizes)}"
            )
        self._updates[player] += 1
        return loss * (self._sizes[self._index] / sum(self._sizes))

    def latents(self, n: int, draw: Callable[[int], Tensor]) -> Tensor:
        """Return the current part of latents that are drawn once for the whole batch.

        Drawn by parts they would be other numbers, as `torch.randn` fills blocks of 16 at once.
        """
        if len(self._sizes) == 1 or n != self._sizes[self._index]:
            return draw(n)
        if self._calls == len(self._latents):
            self._latents.append(draw(sum(self._sizes)))
        self._calls += 1
        start = sum(self._sizes[: self._index])
        return self._latents[self._calls - 1][start : start + n]


def _join(results: Sequence[Step], weights: Sequence[float]) -> Step:
    """Return the result of a batch: means of the scalars, and all rows of other tensors."""
    fields: list[Any] = []
    for values in zip(*results, strict=True):
        if values[0] is None:
            fields.append(None)
        elif values[0].dim():
            fields.append(torch.cat(values))
        else:
            fields.append(sum(w * value for w, value in zip(weights, values, strict=True)))
    return type(results[0])(*fields)
