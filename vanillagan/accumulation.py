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
    """Runs steps on `parts` parts of a batch; outside of `run`, a batch is one part."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self._begin([0])

    def _begin(self, sizes: list[int]) -> None:
        self._sizes, self._index = sizes, 0
        self._latents: list[Sequence[Tensor]] = []
        self._updates: Counter[str] = Counter()

    def run(self, step: Callable[..., Step], batch: Batch, *fake: Tensor) -> Step:
        """Call a step for each part of a batch and of the fakes, and join the results."""
        if self.parts == 1:
            return step(batch, *fake)
        batches = batch.split(self.parts)
        fakes = [tensor.tensor_split(self.parts) for tensor in fake]
        self._begin([len(part.samples) for part in batches])
        results = []
        try:
            for self._index, arguments in enumerate(zip(batches, *fakes, strict=True)):
                self._calls = 0
                results.append(step(*arguments))
            return _join(results, [size / sum(self._sizes) for size in self._sizes])
        finally:
            self._begin([0])

    @property
    def is_first(self) -> bool:
        """True for the first part of a batch."""
        return self._index == 0

    @property
    def is_last(self) -> bool:
        """True for the last part of a batch."""
        return self._index == len(self._sizes) - 1

    def weight(self, player: str, loss: Tensor) -> Tensor:
        """Return the current part's contribution to the loss of the batch."""
        if len(self._sizes) == 1:
            return loss
        if self._updates[player] != self._index:
            raise ValueError(
                f"`accumulate` must be 1 for steps that call `update` for the {player} more or "
                f"less than once for each part of a batch, got {self.parts}"
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
            self._latents.append(draw(sum(self._sizes)).split(self._sizes))
        self._calls += 1
        return self._latents[self._calls - 1][self._index]


def _join(results: Sequence[Step], weights: Sequence[float]) -> Step:
    """Return the result of a batch: means of the scalars, and all rows of other tensors."""

    def joined(*values: Any) -> Any:
        if values[0] is None:
            return None
        if values[0].dim():
            return torch.cat(values)
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    return type(results[0])(*map(joined, *results))
