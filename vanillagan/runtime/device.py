"""Device, precision and mode of networks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "autocast",
    "current_accelerator",
    "device_of",
    "dtype_of",
    "evaluating",
    "resolve_device",
    "to_device",
    "uncompiled",
    "weights_of",
]


def current_accelerator() -> torch.device | None:
    """Return the accelerator that PyTorch is built for, which need not be available, if any."""
    try:
        return torch.accelerator.current_accelerator()
    except RuntimeError:  # PyTorch 2.6 raises where none is available
        return None


def resolve_device(device: torch.device | str | None) -> torch.device:
    """Return the device to train on, with its index: `tensor.device` of a tensor there.

    None takes the accelerator if there is one, else the CPU. An accelerator without an index is
    this process's: torchrun starts one process for each GPU of a machine.

    Raises:
        ValueError: The device is unknown or not available here.
    """
    if device is None:
        device = (torch.accelerator.is_available() and current_accelerator()) or "cpu"
    try:
        resolved = torch.device(device)
        rank = os.environ.get("LOCAL_RANK")
        if rank is not None and resolved.index is None and resolved.type not in ("cpu", "meta"):
            # a launcher may also show each process its own GPU alone, as number 0
            count = torch.get_device_module(resolved).device_count()
            resolved = torch.device(resolved.type, int(rank) % max(count, 1))
        # `torch.device` accepts devices that are not there
        return torch.empty(0, device=resolved).device
    except (AttributeError, AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"`device` must be a device that is available here, such as 'cpu', got {device!r}"
        ) from error


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which networks run: autocast for "bf16", nothing for "fp32"."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


PINNED_COPIES = {"cuda"}
"""Types of devices to which copies from pinned memory do not block the host."""


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy a tensor to a device; from the CPU to CUDA without blocking the host.

    Raises:
        RuntimeError: The copy would become a part of a CUDA graph.
    """
    if device.type in PINNED_COPIES and tensor.device.type == "cpu":
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "each replay would copy the same memory of the host again (`latent_sampler` must "
                "draw on the device of its generator)"
            )
        # a copy from pageable memory would block until the GPU has finished what it is doing
        pinned = tensor.to(dtype=dtype or tensor.dtype).pin_memory()
        return pinned.to(device, non_blocking=True)
    # `non_blocking=True` is not safe elsewhere: on MPS the copy may read memory that was freed and
    # reused meanwhile, which gives wrong values without an error
    return tensor.to(device, dtype)


def uncompiled(network: nn.Module) -> nn.Module:
    """Return the network inside of one that `torch.compile` has returned, else the network."""
    # the wrapper's `state_dict` has the prefix `_orig_mod.`, which no other network takes
    inner: nn.Module = getattr(network, "_orig_mod", network)
    return inner


def weights_of(network: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters, then the buffers."""
    yield from network.parameters()
    yield from network.buffers()


def device_of(network: nn.Module) -> torch.device:
    """Return the device of the network's first weight; the CPU for a network without any."""
    return next((tensor.device for tensor in weights_of(network)), torch.device("cpu"))


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype of the first floating point weight; the default dtype without any."""
    floats = (tensor.dtype for tensor in weights_of(network) if tensor.is_floating_point())
    return next(floats, torch.get_default_dtype())


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module of the network in eval mode, and restore each one's mode afterwards."""
    # `network.train()` would also unfreeze modules that the user has put in eval mode
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
