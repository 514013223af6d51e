"""Means over the processes of one machine, through memory that they share."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

FOLDER = Path("/dev/shm")
"""Where Linux has files that are memory."""


class SharedMean:
    """The mean over the processes of what each of them has, on the CPU.

    Each writes into a slot of its own, waits until all have, and reads all slots, which takes half
    the time that gloo takes to send them. There are two sets of slots, used in turns: who writes
    into one again has met all others at the other one, so they have read it.

    Args:
        memory: What `share_memory` gave in every process, shape (2 * processes * size,).
    """

    def __init__(self, memory: Tensor) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.sets = memory.view(2, self.count, -1)
        self.turn = 0

    def __call__(self, parts: list[Tensor]) -> Tensor:
        """The mean of the parts, joined: each of shape (n,), all together of shape (size,)."""
        self.turn = 1 - self.turn
        slots = self.sets[self.turn]
        torch.cat(parts, out=slots[self.rank])
        dist.barrier()
        mean = slots[0] / self.count
        for slot in slots[1:]:
            mean.add_(slot, alpha=1 / self.count)
        return mean


def share_memory(size: int, dtype: torch.dtype) -> Tensor | None:
    """Memory that every process reads and writes, shape (size,); all of them call it together.

    Returns:
        None in every process where there is none for all: they run on several machines or not on
        Linux, or there is too little memory.
    """
    path = _reserve(size * dtype.itemsize) if dist.get_rank() == 0 else None
    try:
        paths = [path]
        dist.broadcast_object_list(paths, src=0)
        found = torch.tensor(int(paths[0] is not None and paths[0].exists()))
        dist.all_reduce(found, dist.ReduceOp.MIN)
        if not found:
            return None
        memory = torch.from_file(str(paths[0]), shared=True, size=size, dtype=dtype)
        dist.barrier()
        return memory
    finally:
        if path is not None:
            path.unlink()


def _reserve(size: int) -> Path | None:
    """A file of so many bytes in memory, or None where they can't be had."""
    if sys.platform != "linux":
        return None
    try:
        handle, name = tempfile.mkstemp(prefix="vanillagan-", dir=FOLDER)
    except OSError:
        return None
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError:
        Path(name).unlink()
        return None
    finally:
        os.close(handle)
    return Path(name)
