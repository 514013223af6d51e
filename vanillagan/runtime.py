"""Where training runs: device, precision, random state, processes."""

from __future__ import annotations

import atexit
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from vanillagan.exchange import SharedMean, shared_mean

__all__ = ["GlobalRNG", "Processes", "autocast", "resolve_device", "to_device"]


def resolve_device(device: torch.device | str | None) -> torch.device:
    """The device to train on; None takes the accelerator where there is one, else the CPU.

    Raises:
        ValueError: The device is unknown or not available here.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"`device` must be a device that is available here, such as 'cpu', got {device!r}"
        ) from error
    return resolved


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context in which networks run: nothing for "fp32", autocast for "bf16"."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy a tensor to a device; asynchronously only from pinned memory to a CUDA device.

    Elsewhere `non_blocking=True` isn't safe: on MPS the copy may read memory that was freed and
    reused meanwhile, which gives wrong values without an error.
    """
    if device.type == "cuda" and tensor.is_pinned():
        return tensor.to(device, dtype, non_blocking=True)
    return tensor.to(device, dtype)


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's first weight; the CPU for a network without any."""
    return next((tensor.device for tensor in _weights(network)), torch.device("cpu"))


def dtype_of(network: nn.Module) -> torch.dtype:
    """The dtype of the network's first floating weight; PyTorch's default for one without any."""
    floats = (tensor.dtype for tensor in _weights(network) if tensor.is_floating_point())
    return next(floats, torch.get_default_dtype())


def _weights(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts every module of the network in eval mode, and afterwards back in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class GlobalRNG:
    """The global random states that training may draw from: PyTorch's, NumPy's, Python's."""

    def state_dict(self) -> dict[str, Any]:
        """The states, as tensors and primitives."""
        numpy_state: Any = np.random.get_state()
        kind, keys, *rest = numpy_state
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "numpy": [kind, keys.tolist(), *rest],
            "python": random.getstate(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        torch.set_rng_state(state["torch"])
        for index, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda, index)
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))


class LatentRNG:
    """The random state that noise is drawn from, on the CPU, so that it is the same everywhere."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """The state, as a tensor."""
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.generator.set_state(state["state"])


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Seeds the global random states for what runs inside, and puts them back afterwards."""
    rng = GlobalRNG()
    outside = rng.state_dict()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        rng.load_state_dict(outside)


class Processes:
    """The processes that train together: those that `torchrun` started, or this one alone."""

    def __init__(self, device: torch.device) -> None:
        if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.count = dist.get_world_size() if dist.is_initialized() else 1
        self.device = device
        by_host = self.count > 1 and "cpu" in dist.get_backend_config()
        self._flags_on = torch.device("cpu") if by_host else device
        self._shared: dict[tuple[int, torch.dtype], SharedMean | None] = {}

    def broadcast(self, networks: Iterable[nn.Module]) -> None:
        """Gives every process the weights of the first."""
        if self.count > 1:
            for network in networks:
                for tensor in _weights(network):
                    dist.broadcast(tensor.data, src=0)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces each gradient by its mean over the processes, in one exchange."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        parts = [gradient.flatten() for gradient in gradients]
        self._average(parts)
        for gradient, part in zip(gradients, parts, strict=True):
            if part.data_ptr() != gradient.data_ptr():  # it has no flat view
                gradient.copy_(part.view_as(gradient))

    def _average(self, parts: list[Tensor]) -> None:
        """Replaces the parts, each of shape (n,), by their means over the processes."""
        sizes = [len(part) for part in parts]
        kind = (sum(sizes), parts[0].dtype)
        if parts[0].device.type == "cpu" and kind not in self._shared:
            self._shared[kind] = shared_mean(*kind)
        shared = self._shared.get(kind)
        if shared is not None:
            shared(parts)
            return
        mean = torch.cat(parts)
        dist.all_reduce(mean)
        for part, of_all in zip(parts, mean.div_(self.count).split(sizes), strict=True):
            part.copy_(of_all)

    def share(self, tensor: Tensor) -> Tensor:
        """This process's part of what was drawn for all of them, along the first dimension."""
        return tensor if self.count == 1 else tensor.chunk(self.count)[self.rank]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.count == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self._flags_on)
        self._average([flags])
        return bool(flags)

    def wait(self) -> None:
        """Waits until every process has come here."""
        if self.count > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in the order of ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


class ProcessRNG:
    """The global random states of all processes, each of which gets its own back."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def state_dict(self) -> dict[str, Any]:
        """The states by rank."""
        return {"ranks": self.processes.gather(GlobalRNG().state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores this process's state of what `state_dict` gave."""
        ranks = state["ranks"]
        GlobalRNG().load_state_dict(ranks[self.processes.rank % len(ranks)])
