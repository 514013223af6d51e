"""Means over the processes of one machine, through memory that they share."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["SharedMean", "shared_mean"]

FOLDER = Path("/dev/shm")
"""Where Linux has files that are memory."""

AWAKE = 0.01
"""The seconds that a process waits for others before it sleeps."""

LINE = 64
"""Bytes between two counters, so that no two are in one line of a cache."""


class SharedMean:
    """The mean over the processes of what each of them has, on the CPU.

    Each writes into a slot of its own, waits until all have, and reads all slots, which takes a
    fraction of the time that gloo takes to send them. There are two sets of slots, used in turns:
    who writes into one again has met all others at the other one, so they have read it.

    Args:
        slots: What all processes read and write, shape (2, processes, size).
        arrived: How often each process has met the others, shape (processes,), zeros at first.
        pids: The ids of the processes, by rank.
    """

    def __init__(self, slots: Tensor, arrived: Tensor, pids: list[int]) -> None:
        self.sets = slots
        self.arrived = arrived
        self.pids = pids
        self.rank = dist.get_rank()
        self.meetings = 0

    def __call__(self, parts: list[Tensor]) -> None:
        """Replaces the parts by their means: each of shape (n,), all together of shape (size,).

        Raises:
            RuntimeError: A process that this one waits for has ended, or doesn't come.
        """
        slots = self.sets[self.meetings % 2]
        torch.cat(parts, out=slots[self.rank])
        self._meet()
        sizes = [len(part) for part in parts]
        for part, first, second, *others in zip(
            parts, *(slot.split(sizes) for slot in slots), strict=True
        ):
            torch.add(first, second, out=part)
            for other in others:
                part.add_(other)
            part.div_(len(slots))

    def _meet(self) -> None:
        """Waits until all have come here, awake at first: who is asleep wakes up too late.

        `sched_yield` lets others run, and orders this process's accesses to memory for them.
        """
        self.meetings += 1
        os.sched_yield()
        self.arrived[self.rank] = self.meetings
        started = time.monotonic()
        while (self.arrived < self.meetings).any():
            waited = time.monotonic() - started
            if waited < AWAKE:
                os.sched_yield()
            else:
                self._check_others(waited)
                time.sleep(AWAKE / 10)
        os.sched_yield()

    def _check_others(self, waited: float) -> None:
        """Raises if a process that is missing won't come."""
        missing = (self.arrived < self.meetings).nonzero().flatten().tolist()
        for rank in missing:
            if not _runs(self.pids[rank]) and self.arrived[rank] < self.meetings:
                raise RuntimeError(
                    f"all processes must train to the same end, got process {rank} that has ended "
                    f"while process {self.rank} waits for it"
                )
        if waited > dist.default_pg_timeout.total_seconds():
            raise RuntimeError(
                f"all processes must take the same steps, got process {self.rank} that waits for "
                f"{missing} since {waited:.0f} s"
            )


def shared_mean(size: int, dtype: torch.dtype) -> SharedMean | None:
    """Finds memory to share for means of `size` elements; all processes call it together.

    Returns:
        None in every process where there is none for all of them: they run on several machines, in
        several containers, or not on Linux, or there is too little, of which the first one warns.
    """
    count = dist.get_world_size()
    numbers = torch.Size((2, count, size)).numel() * dtype.itemsize
    counters = count * LINE
    path = _reserve(counters + numbers) if dist.get_rank() == 0 else None
    try:
        paths = [path]
        dist.broadcast_object_list(paths, src=0)
        memory = _open(paths[0], counters + numbers)
        places: list[Any] = [None] * count
        dist.all_gather_object(places, None if memory is None else _place())
    finally:
        if path is not None:
            path.unlink()
    if memory is None or None in places or len({namespace for namespace, _ in places}) > 1:
        return None
    arrived = memory[:counters].view(torch.int64)[:: LINE // 8]
    slots = memory[counters:].view(dtype).view(2, count, size)
    return SharedMean(slots, arrived, [pid for _, pid in places])


def _reserve(size: int) -> Path | None:
    """A new file in memory, of so many bytes, all zero; None where it can't be had."""
    try:
        handle, name = tempfile.mkstemp(prefix="vanillagan-", dir=FOLDER)
    except OSError:
        return None
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        Path(name).unlink()
        warnings.warn(
            f"{FOLDER} must have room for {size / 1e6:.0f} MB, by which processes exchange "
            f"gradients fast, got: {error.strerror}; they go through the process group (a "
            f"container gets more by --shm-size)",
            stacklevel=2,
        )
        return None
    finally:
        os.close(handle)
    return Path(name)


def _open(path: Path | None, size: int) -> Tensor | None:
    """The file's bytes as a tensor; None where this process can't see it."""
    if path is None or not path.exists() or path.stat().st_size != size:
        return None  # from_file would make a new one, or a longer one
    try:
        return torch.from_file(str(path), True, size, dtype=torch.uint8)
    except RuntimeError:
        return None


def _place() -> tuple[str, int] | None:
    """A name for what this process's id is valid in, and the id; None if that can't be found."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()), os.getpid()
    except OSError:
        return None


def _runs(pid: int) -> bool:
    """Whether a process of that id is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
