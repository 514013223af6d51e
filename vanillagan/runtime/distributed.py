"""The processes that train together, through `torch.distributed`."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vanillagan.runtime.device import weights_of

__all__ = ["Distributed"]


class Distributed:
    """The ranks that train together: those that `torchrun` started, or this process alone.

    A process group that the script has initialized is used. Without one, and if `torchrun` has set
    WORLD_SIZE, one is initialized: NCCL for tensors on GPUs, gloo for those on CPUs.

    Gradients are averaged after backward. A `DistributedDataParallel` (DDP) wrapper is not used: it
    supports neither `autograd.grad` penalties (pytorch#47562) nor two forward passes before a
    backward pass with BatchNorm (pytorch#175024).

    Args:
        device: Device of the networks.

    Attributes:
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(self, device: torch.device) -> None:
        available = dist.is_available()
        if available and not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
            atexit.register(_destroy_process_group)
        is_distributed = available and dist.is_initialized()
        self.rank = dist.get_rank() if is_distributed else 0
        self.world_size = dist.get_world_size() if is_distributed else 1
        # `any` is called in each step: a flag on a GPU would synchronize with it
        has_cpu_backend = self.world_size > 1 and "cpu" in dist.get_backend_config()
        self._flag_device = torch.device("cpu") if has_cpu_backend else device

    def broadcast(self, networks: Iterable[nn.Module]) -> None:
        """Copy the weights of rank 0 to every rank."""
        if self.world_size > 1:
            for network in networks:
                for tensor in weights_of(network):
                    dist.broadcast(tensor.data, src=0)  # in place, which autograd forbids

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, in one all-reduce."""
        if self.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        mean = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(mean)
        mean.div_(self.world_size)
        # copied, not replaced by views of `mean`: gradients keep their memory format
        parts = mean.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def shard(self, tensor: Tensor) -> Tensor:
        """Return this rank's part of a tensor drawn for all ranks, along the first dimension."""
        return tensor if self.world_size == 1 else tensor.chunk(self.world_size)[self.rank]

    def any(self, flag: bool) -> bool:
        """Return True if the flag is set on any rank."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self._flag_device)
        dist.all_reduce(flags)
        return bool(flags)

    def barrier(self) -> None:
        """Block until every rank has reached this call."""
        if self.world_size > 1:
            dist.barrier()

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value of every rank, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values


def _destroy_process_group() -> None:
    if dist.is_initialized():  # the script may have destroyed it already
        dist.destroy_process_group()
