"""Linear layer with a faster float32 matrix product on some CPUs."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

__all__ = ["Linear"]


class Linear(nn.Linear):
    """`nn.Linear`, up to twice as fast in float32 on AMD CPUs with AVX-512.

    Values differ from those of `nn.Linear` by float32 rounding there. On other machines, for small
    products, in other precisions, and when compiled or traced, it computes what `nn.Linear`
    computes. Its weights and its `state_dict` always are those of `nn.Linear`.

    Example:
        >>> Linear(100, 128)(torch.randn(4, 100)).shape
        torch.Size([4, 128])
    """

    # PyTorch multiplies float32 matrices by MKL; oneDNN, which it also contains, is faster on these
    # CPUs. How much depends on the CPU. On one thread MKL and oneDNN reached 113 and 250 GFLOP/s on
    # the EPYC of docs/results/performance.md (half the time), but 84 to 94 and 90 to 105 on an EPYC
    # of family 25, model 17 (0.82 to 0.99 of the time).

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        weight = self.weight  # read once: a parametrization computes it at each access
        if ONEDNN_IS_FASTER and _is_supported(input, weight):
            y: Tensor = OneDNNLinear.apply(input, weight, self.bias)
            return y
        return F.linear(input, weight, self.bias)


class OneDNNLinear(torch.autograd.Function):
    """`F.linear` of x (N, in_features) by oneDNN, twice differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            multiply(grad, weight.contiguous().t()) if needs_x else None,
            multiply(grad.t(), x.contiguous().t()) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias, by PyTorch if a second derivative or a transform needs it."""
    # oneDNN's operator has no derivative and no batching rule of its own
    if PRIVATE is None or torch.is_grad_enabled() or PRIVATE.is_transforming():
        return F.linear(x, weight, bias)
    return PRIVATE.linear_pointwise(x, weight, bias, "none", [], "")


def _is_supported(x: Tensor, weight: Tensor) -> bool:
    """Return True for products that oneDNN computes faster and that nothing traces."""
    plain = (Tensor, nn.Parameter)  # subclasses, such as torchao's, multiply in their own way
    return (
        x.device.type == weight.device.type == "cpu"  # first: it is checked in each step on a GPU
        and type(x) in plain
        and type(weight) in plain
        and not torch.compiler.is_compiling()
        and PRIVATE is not None
        and not PRIVATE.is_tracing()
        and not PRIVATE.is_transforming()
        and PRIVATE.forward_ad_level() < 0
        and not torch.is_autocast_enabled("cpu")
        and x.dtype == weight.dtype == torch.float32
        and x.ndim == 2
        and x.shape[1] == weight.shape[1]
        and x.shape[0] * weight.numel() >= SMALLEST
    )


class PrivateAPI(NamedTuple):
    """Functions of PyTorch that are not public, and that `Linear` needs for oneDNN."""

    linear_pointwise: Callable[..., Tensor]
    is_tracing: Callable[[], bool]
    is_transforming: Callable[[], bool]
    forward_ad_level: Callable[[], int]


def _find_private_api() -> PrivateAPI | None:
    """Return the functions, or None if this version of PyTorch lacks one of them."""
    try:
        forward_ad._current_level  # noqa: B018
        return PrivateAPI(
            linear_pointwise=torch.ops.mkldnn._linear_pointwise,
            is_tracing=torch._C._is_tracing,
            is_transforming=torch._C._are_functorch_transforms_active,
            forward_ad_level=lambda: forward_ad._current_level,
        )
    except AttributeError:
        return None


def _onednn_is_faster() -> bool:
    """Return True if PyTorch has both libraries, on a CPU that is slow with MKL."""
    return (
        PRIVATE is not None
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and "AuthenticAMD" in _describe_cpu()
    )


def _describe_cpu() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()


PRIVATE = _find_private_api()

ONEDNN_IS_FASTER = _onednn_is_faster()

SMALLEST = 2**20
"""Multiplications in a product from which oneDNN is faster: its calls have more overhead."""
