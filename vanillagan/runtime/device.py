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
    "device_of",
    "dtype_of",
    "evaluating",
    "resolve_device",
    "to_device",
    "uncompiled",
    "weights_of",
]


def resolve_device(device: torch.device | str | None) -> torch.device:
    """Return the device to train on; None takes the accelerator if there is one, else the CPU.

    Raises:
        ValueError: The device is unknown or not available here.
    """
    if device is None:
        if torch.cuda.is_available():
            # torchrun starts one process for each GPU of a machine
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)  # `torch.device` accepts devices that are not there
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"`device` must be a device that is available here, such as 'cpu', got {device!r}"
        ) from error
    return resolved


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which networks run: autocast for "bf16", nothing for "fp32"."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy a tensor to a device; from the CPU to CUDA without blocking the host."""
    if device.type == "cuda" and tensor.device.type == "cpu":
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
