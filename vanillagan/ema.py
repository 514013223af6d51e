"""Exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vanillagan.validation import check_number

__all__ = ["EMA"]


class EMA:
    """Exponential moving average of the generator's weights, for better samples.

    Parameters and the running statistics of BatchNorm are averaged, other buffers are copied. The
    statistics of the newest weights do not fit the average: while learning rates are high, samples
    with them are worse. At step n the decay is at most (1 + n) / (10 + n), so that the untrained
    weights are forgotten early.

    Args:
        decay: Weight of the previous average at each step, in [0, 1). 0.999 averages over about the
            last 1,000 steps.

    Attributes:
        decay: As above.
        updates: Number of updates so far.
        network: The averaged copy of the network, in eval mode.

    Raises:
        ValueError, TypeError: `decay` is invalid.

    Source: Karras et al., 2018 (Progressive GAN, arXiv 1710.10196), appendix A.1; Yazici et al.,
    2019 (arXiv 1806.04498).

    Example:
        >>> ema = EMA(0.999)
        >>> network = nn.Linear(2, 1)
        >>> ema.start(network)
        >>> ema.update(network)
        >>> ema.network(torch.zeros(3, 2)).shape
        torch.Size([3, 1])
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = check_number("decay", decay, minimum=0, maximum=1, exclude_maximum=True)
        self.updates = 0
        self._network: nn.Module | None = None

    def __repr__(self) -> str:
        return f"EMA({self.decay:g}: {self.updates:,} updates)"

    @property
    def network(self) -> nn.Module:
        """Averaged copy of the network, in eval mode."""
        if self._network is None:
            raise RuntimeError("the average has not been started (call `EMA.start(network)` first)")
        return self._network

    def start(self, network: nn.Module) -> None:
        """Start the average with a copy of `network`.

        Raises:
            ValueError: This average was started already.
        """
        if self._network is not None:
            raise ValueError("`ema` must be new, got one that averages another network already")
        self._network = _copy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average with the weights and buffers of `network`."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged: list[tuple[Tensor, Tensor]] = []
        averaged += zip(self.network.parameters(), network.parameters(), strict=True)
        copied: list[tuple[Tensor, Tensor]] = []
        buffers = zip(self.network.named_buffers(), network.buffers(), strict=True)
        for (name, average), buffer in buffers:
            is_averaged = name.endswith(("running_mean", "running_var"))
            (averaged if is_averaged else copied).append((average, buffer))
        _call_each("lerp_", averaged, 1 - decay)
        _call_each("copy_", copied)

    @staticmethod
    def initial_state(weights: Any) -> dict[str, Any]:
        """Return the state of an average that starts at a network's `state_dict`."""
        return {"updates": 0, "network": weights}

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]


def _copy(network: nn.Module) -> nn.Module:
    """Return a deep copy of a network, also after it has run with `torch.nn.utils.spectral_norm`.

    That function keeps the weight of the last forward pass in an attribute, with its graph, which
    cannot be copied; the next forward pass computes it anew.
    """
    attributes = (value for module in network.modules() for value in vars(module).values())
    computed = [value for value in attributes if isinstance(value, Tensor) and not value.is_leaf]
    return copy.deepcopy(network, {id(value): value.detach().clone() for value in computed})


def _call_each(method: str, pairs: list[tuple[Tensor, Tensor]], *arguments: float) -> None:
    """Call `average.method(weight, *arguments)` of each pair (average, weight)."""
    # one kernel call for all weights, not one for each: torch.optim.swa_utils uses it too, but it
    # is no public API
    whole = getattr(torch, f"_foreach_{method}", None)
    if whole is not None and pairs:
        averages, weights = zip(*pairs, strict=True)
        whole(averages, weights, *arguments)
        return
    for average, weight in pairs:
        getattr(average, method)(weight, *arguments)
