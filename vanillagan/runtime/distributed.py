"""The processes that train together, through `torch.distributed`."""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vanillagan.runtime.device import weights_of
from vanillagan.runtime.graphs import deferred_to_replay

__all__ = ["Distributed"]

T = TypeVar("T")


def _import_before_group() -> None:
    # Functions of this module have the default process group as default arguments. Adam imports it
    # (PyTorch 2.14): if it did so first, after a group is initialized, its threads would outlive
    # the destruction of the group, and could abort the process at its end.
    importlib.import_module("torch.distributed.nn.functional")


if dist.is_available() and "WORLD_SIZE" in os.environ:
    _import_before_group()  # the script may initialize the group


class Distributed:
    """The ranks that train together: those that `torchrun` started, or this process alone.

    A process group that the script has initialized is used (initialize it after importing
    vanillagan). Without one, and if `torchrun` has set WORLD_SIZE, one is initialized, with
    PyTorch's default backend of the device (NCCL for CUDA) and gloo for tensors on CPUs.

    If a rank exits, the others raise a RuntimeError that names it in their current or next
    collective operation. A rank that hangs is noticed after the timeout of the process group.

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
            _import_before_group()
            backend = dist.get_default_backend_for_device(device)
            dist.init_process_group(
                "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:{backend}"
            )
        is_distributed = available and dist.is_initialized()
        self.rank = dist.get_rank() if is_distributed else 0
        self.world_size = dist.get_world_size() if is_distributed else 1
        self._delayed: Any = None  # the flag of the last call, and its transfer
        if self.world_size == 1:
            return
        atexit.register(self._destroy)  # else threads of gloo abort the process at its end
        if device.index is not None:  # NCCL takes the current device for a barrier
            torch.get_device_module(device).set_device(device)
        config = dist.get_backend_config()
        self._averages = f"{device.type}:nccl" in config  # gloo has sums alone
        # flags and objects on a GPU would synchronize with it; None is the default group
        self._cpu_group: Any = None if "cpu" in config else dist.new_group(backend="gloo")

    def broadcast(self, networks: Iterable[nn.Module]) -> None:
        """Copy the weights of rank 0 to every rank."""
        if self.world_size > 1:
            with self._naming_exited_ranks():
                for tensor in (tensor for network in networks for tensor in weights_of(network)):
                    dist.broadcast(tensor.data, src=0)  # in place, which autograd forbids

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, in one all-reduce.

        A gradient that only some ranks have counts as zeros on the others. One that no rank has
        stays None.
        """
        trained = [weight for weight in parameters if weight.requires_grad]
        if self.world_size == 1 or not trained:
            return
        if deferred_to_replay(self.average_gradients, parameters):
            return
        missing = [index for index, weight in enumerate(trained) if weight.grad is None]
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in trained]
        present = gradients[0].new_ones(len(trained))
        for index in missing:
            present[index] = 0.0
        mean = torch.cat([present, *(gradient.flatten() for gradient in gradients)])
        with self._naming_exited_ranks():
            dist.all_reduce(mean, dist.ReduceOp.AVG if self._averages else dist.ReduceOp.SUM)
        if not self._averages:
            mean.div_(self.world_size)
        # copied, not replaced by views of `mean`: gradients keep their memory format
        present, *parts = mean.split([len(trained), *(g.numel() for g in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        for index in missing:  # reading `present` synchronizes with the device, but this is rare
            if present[index] > 0:
                trained[index].grad = gradients[index]

    def shard(self, tensor: Tensor) -> Tensor:
        """Return this rank's part of a tensor drawn for all ranks, along the first dimension."""
        return tensor if self.world_size == 1 else tensor.chunk(self.world_size)[self.rank]

    def start_fit(self, arguments: Mapping[str, Any], steps_per_epoch: int | None) -> int | None:
        """Check that all ranks call `fit` alike; return the steps of the shortest epoch.

        Raises:
            ValueError: An argument differs between ranks.
        """
        ranks = self.all_gather((dict(arguments), steps_per_epoch))
        for name in arguments:
            values = [rank_arguments[name] for rank_arguments, _ in ranks]
            if values.count(values[0]) < len(values):
                raise ValueError(
                    f"`{name}` must be the same on all ranks, got {values} (all ranks load, and "
                    "pass all data, which the trainer shards, or an iterable of their own batches)"
                )
        steps = [steps for _, steps in ranks]
        return None if None in steps else min(steps)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Forget, at the end of `fit`, its last flag.

        The next `fit` must not read it, and its transfer keeps a thread of gloo alive.
        """
        try:
            yield
        finally:
            self._delayed = None

    def until_shortest(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield the batches until one rank has none left."""
        for batch in batches:
            if self.any(False):
                return
            yield batch
        self.any(True)

    def any(self, flag: bool, *, delayed: bool = False) -> bool:
        """Return True if the flag is set on any rank.

        With several ranks and `delayed`, the answer is that of the previous call, which arrived
        during the step in between.
        """
        if self.world_size == 1:
            return flag
        flags = torch.tensor([float(flag)], device="cpu")
        answer: Any = dist.all_reduce(flags, group=self._cpu_group, async_op=True), flags
        if delayed:
            answer, self._delayed = self._delayed, answer
        if answer is None:
            return False
        with self._naming_exited_ranks():
            answer[0].wait()
        return bool(answer[1])

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value of every rank, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with self._naming_exited_ranks():
            dist.all_gather_object(values, value, group=self._cpu_group)
        return values

    def on_rank_0(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0; return its value or raise its error on all ranks."""
        if self.world_size == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = function()
            except Exception as error:  # of any kind: the other ranks are waiting
                outcome[1] = error
        with self._naming_exited_ranks():
            dist.broadcast_object_list(outcome, src=0, group=self._cpu_group)
        if outcome[1] is not None:
            raise outcome[1]
        value: T = outcome[0]
        return value

    @contextmanager
    def _naming_exited_ranks(self) -> Iterator[None]:
        """Name the ranks that have exited if a collective operation fails."""
        try:
            yield
        except RuntimeError as error:
            exited = ", ".join(str(rank) for rank in range(self.world_size) if self._is_gone(rank))
            if not exited:
                raise
            raise RuntimeError(
                f"rank {exited} exited while rank {self.rank} was waiting for it: its own output "
                "tells why (all ranks must call `fit`, `save` and `load` alike)"
            ) from error

    def _is_gone(self, rank: int) -> bool:
        try:  # gloo keeps a connection to each rank, and refuses to receive from one that is closed
            if rank != self.rank:
                dist.irecv(torch.empty(1, device="cpu"), src=rank, group=self._cpu_group)
        except RuntimeError as error:
            return "by peer" in str(error) or "Broken pipe" in str(error)
        return False

    def _destroy(self) -> None:
        self._cpu_group = None
        if dist.is_initialized():  # the script may have destroyed it already
            dist.destroy_process_group()
