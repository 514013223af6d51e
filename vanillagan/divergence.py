"""Search for the part of a run that has diverged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vanillagan.ema import EMA

__all__ = ["find_divergence"]

SECOND_MOMENTS = ("exp_avg_sq", "square_avg", "sum")
LARGEST = 1e18  # squares, as in variances, norms and Adam, overflow float32 from 2e19 on


def find_divergence(
    objects: Mapping[str, object], step: Mapping[str, Tensor | None] | None = None
) -> str | None:
    """Return which value is NaN, infinite or too large, "the EMA's weight 0.bias is nan", or None.

    It synchronizes with the device once.

    Args:
        objects: What `GANTrainer.state_objects` returns.
        step: Tensors of the last step by name; with them gradients are checked, too.
    """
    found = [(name, tensor) for name, tensor in (step or {}).items() if tensor is not None]
    found += _tensors_of(objects, gradients=step is not None)
    tensors = {name: x for name, x in found if x.is_floating_point() and x.numel()}
    # one number for all: only if it is too large, or overflows, each tensor is checked
    if get_total_norm(tensors.values()) < LARGEST:
        return None
    for name, tensor in tensors.items():
        largest = float(tensor.abs().max())
        if not largest <= LARGEST:
            is_moment = any(f"{key} of " in name for key in SECOND_MOMENTS)
            remark = " (gradients were too large: steps stay near 0)" if is_moment else ""
            return f"{name} is {largest:.0e}{remark}"
    return None


def _tensors_of(objects: Mapping[str, object], *, gradients: bool) -> Iterator[tuple[str, Tensor]]:
    keys: dict[object, str] = {}
    for name, value in objects.items():
        owner = "the EMA's" if isinstance(value, EMA) else f"the {name.replace('_', ' ')}'s"
        network = value.network if isinstance(value, EMA) else value
        if isinstance(network, nn.Module):
            for key, weight in network.named_parameters():
                keys[weight] = key
                if gradients and weight.grad is not None:
                    yield f"{owner} gradient of {key}", weight.grad
                yield f"{owner} weight {key}", weight.detach()
            for key, buffer in network.named_buffers():
                is_statistic = key.endswith(("running_mean", "running_var"))
                # others may be infinite, such as attention masks: only NaN is kept
                yield f"{owner} buffer {key}", buffer if is_statistic else buffer.clamp(-1, 1)
        elif isinstance(value, Optimizer):
            for parameter, state in value.state.items():
                for key, moment in state.items():
                    # counts of steps have no dimensions, and may be on another device
                    if isinstance(moment, Tensor) and moment.dim():
                        yield f"{owner} {key} of {keys.get(parameter)}", moment
