"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vanillagan.errors import check_number

__all__ = ["EMA"]


class EMA:
    """An average of a generator's weights over its last steps, which samples better than any one.

    Weights are averaged, buffers (BatchNorm's statistics) are copied. The decay grows to its value
    as (1 + n) / (10 + n) over the first steps n, so that early averages aren't those of the
    untrained network.

    Args:
        decay: The share of the average that each step keeps, in [0, 1). 0.999 averages over about
            the last 1,000 steps.

    Attributes:
        network: The averaged copy, in eval mode.

    Source: Karras et al., 2018 (arXiv 1710.10196), A.1; Yazici et al., 2019 (1806.04498).

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

    @property
    def network(self) -> nn.Module:
        """The averaged copy, in eval mode."""
        if self._network is None:
            raise RuntimeError("`EMA.start(network)` must be called before its network is read")
        return self._network

    def start(self, network: nn.Module) -> None:
        """Begins the average with a copy of `network`.

        Raises:
            ValueError: The average of another network has begun already.
        """
        if self._network is not None:
            raise ValueError("`ema` must be new: this EMA averages another network already")
        self._network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards the weights of `network`, and copies its buffers."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = list(self.network.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        """The average and how many updates it has seen."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]
