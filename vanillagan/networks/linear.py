"""The fully connected layer, on the faster matrix products for the CPU at hand."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

__all__ = ["Linear"]


class Linear(nn.Linear):
    """`nn.Linear`, twice as fast in float32 on CPUs of AMD that have AVX-512.

    PyTorch multiplies float32 matrices by MKL, which reaches half of what such a CPU can do. Here
    oneDNN multiplies there, which PyTorch comes with too: the same products in the same precision,
    rounded differently. On other machines, for small products, in other precisions, compiled or
    traced, it is `nn.Linear`, and its weights and `state_dict` always are.

    Example:
        >>> Linear(100, 128)(torch.randn(4, 100)).shape
        torch.Size([4, 128])
    """

    independent_samples = True

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, in_features) to (N, out_features)."""
        weight = self.weight  # once: a parametrization computes it
        if ONEDNN_IS_FASTER and _can_be_multiplied(input, weight):
            y: Tensor = OneDNNLinear.apply(input, weight, self.bias)
            return y
        return F.linear(input, weight, self.bias)


class OneDNNLinear(torch.autograd.Function):
    """`F.linear` of x (N, in) by oneDNN; differentiable twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        to_x, to_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if to_weight else None, weight if to_x else None)
        return multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            multiply(grad, weight.contiguous().t()) if to_x else None,
            multiply(grad.t(), x.contiguous().t()) if to_weight else None,
            grad.sum(0) if to_bias else None,
        )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight' + bias, by what can be differentiated if the gradient of a gradient is wanted."""
    if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _can_be_multiplied(x: Tensor, weight: Tensor) -> bool:
    """Whether the product is one of those that are faster, and nobody looks into it."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim == 2
        and x.shape[1] == weight.shape[1]
        and x.shape[0] * weight.numel() >= SMALLEST
    )


def _onednn_is_faster() -> bool:
    """Whether PyTorch has both libraries, on a CPU that MKL makes half of."""
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and "AuthenticAMD" in _describe_cpu()
    )


def _describe_cpu() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()


ONEDNN_IS_FASTER = _onednn_is_faster()

SMALLEST = 2**20
"""The multiplications from which on it is faster; its calls take longer than MKL's."""
