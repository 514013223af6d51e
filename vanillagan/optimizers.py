"""The players' optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from vanillagan.errors import check_number
from vanillagan.hooks import Player

__all__ = ["OptimizerFactory", "adam"]

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Makes the optimizer of a network's weights: `lambda weights: SGD(weights, lr=0.1)`, say."""


def adam(lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999)) -> OptimizerFactory:
    """Adam as the source uses it, fused.

    Args:
        lr: The learning rate, above 0.
        betas: The decays of the two moments, in [0, 1).

    Returns:
        What `GANTrainer(generator_optimizer=..., discriminator_optimizer=...)` takes.

    Source: Radford et al., 2016 (DCGAN, arXiv 1511.06434), section 4: lr 0.0002, beta1 0.5.
    """
    lr = check_number("lr", lr, minimum=0, exclude_minimum=True)
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ValueError(f"`betas` must be two numbers in [0, 1), got {betas!r}")
    for index, beta in enumerate(betas):
        check_number(f"betas[{index}]", beta, minimum=0, maximum=1, exclude_maximum=True)
    return lambda weights: torch.optim.Adam(weights, lr=lr, betas=betas, fused=True)


def make_player(
    name: Literal["generator", "discriminator"],
    network: nn.Module,
    optimizer: OptimizerFactory | None,
    compiled: bool,
) -> Player:
    """One side of the game: the network with its optimizer, by default Adam as in the source."""
    parameters = tuple(weight for weight in network.parameters() if weight.requires_grad)
    factory: Any = adam() if optimizer is None else optimizer
    made = factory(parameters) if callable(factory) else factory
    if not callable(factory) or not isinstance(made, Optimizer):
        raise TypeError(
            f"`{name}_optimizer` must be a function that makes an optimizer of a network's weights,"
            f" such as `adam(lr=2e-4)` or `lambda weights: torch.optim.SGD(weights, lr=0.1)`, got "
            f"{made!r:.60}"
        )
    forward = torch.compile(network) if compiled else network
    return Player(name, network, forward, parameters, made)
