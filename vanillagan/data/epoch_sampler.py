"""Order of the samples in an epoch, a pure function of the seed and the epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vanillagan.runtime.device import to_device

__all__ = ["EpochSampler", "mix_seeds"]


@dataclass(frozen=True)
class EpochSampler:
    """Indices of each batch of an epoch: a pure function of (seed, epoch, rank, world size).

    A resumed run skips by index; no sample has to be read again. A batch is split evenly over the
    ranks.

    Attributes:
        seed: Seed of the order.
        length: Number of samples; 0 if unknown.
        batch_size: Samples in a batch, over all ranks; 0 if the data is batched already.
        batches_per_step: Batches for one training step.
        smallest_batch: A partial last batch is dropped if a rank's part is smaller than this.
        shuffle: Draw a new order in each epoch.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    seed: int
    length: int = 0
    batch_size: int = 0
    batches_per_step: int = 1
    smallest_batch: int = 1
    shuffle: bool = True
    rank: int = 0
    world_size: int = 1

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(self.length, self.batch_size)
        return full + int(rest // self.world_size >= self.smallest_batch)

    @property
    def signature(self) -> dict[str, int]:
        """Values that determine the batches and steps of an epoch."""
        return {
            "seed": self.seed,
            "length": self.length,
            "batch_size": self.batch_size,
            "discriminator_steps": self.batches_per_step,
            "shuffle": int(self.shuffle),
        }

    def batches(
        self, epoch: int, *, skip: int = 0, device: torch.device | None = None
    ) -> Iterator[Tensor]:
        """Yield this rank's indices of each batch of an epoch, after the first `skip` batches.

        They lie on the CPU, or on `device`, to which the whole order is copied at once.
        """
        if self.shuffle:
            rng = torch.Generator().manual_seed(mix_seeds(self.seed, epoch))
            indices = torch.randperm(self.length, generator=rng, device="cpu")
        else:
            indices = torch.arange(self.length, device="cpu")
        if device is not None:
            indices = to_device(indices, device)
        for number in range(skip, self.batches_per_epoch):
            batch = indices[number * self.batch_size : (number + 1) * self.batch_size]
            part = len(batch) // self.world_size
            yield batch[self.rank * part : (self.rank + 1) * part]


def mix_seeds(*numbers: int) -> int:
    """Return a seed in [0, 2**63 - 1] that depends on all of the numbers and their order.

    A sum such as seed + epoch would give a run with seed 1 the orders of one with seed 0, an epoch
    later. Python's `hash` may change between versions.
    """
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
