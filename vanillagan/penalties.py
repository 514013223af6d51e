"""Penalties on the discriminator's gradient, added to its loss.

A penalty applied lazily, each `every` steps, is scaled by `every` by the trainer, so that its
strength does not depend on how often it is applied (Karras et al., 2020, arXiv 1912.04958, app. B).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from vanillagan.errors import check_integer, check_number

__all__ = ["R1", "R2", "Critic", "GradientPenalty", "Penalty"]

Critic: TypeAlias = Callable[[Tensor], Tensor]
"""The discriminator as a function of samples alone: (N, *sample_shape) -> scores (N,)."""


@runtime_checkable
class Penalty(Protocol):
    """What the trainer asks of a penalty.

    Attributes:
        every: The penalty is applied each `every` steps, scaled by `every`.
    """

    every: int

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """The penalty, a scalar, from real and fake samples of shape (N, *sample_shape)."""
        ...


@dataclass(frozen=True)
class _ZeroCentered:
    gamma: float
    every: int = 1

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, minimum=0)
        check_integer("every", self.every, minimum=1)


class R1(_ZeroCentered):
    """Keeps D flat at the data: gamma / 2 times the batch mean of |grad D(x)|^2 over real samples.

    Attributes:
        gamma: The strength, at least 0.
        every: Applied each `every` steps, at least 1.

    Source: Mescheder et al., 2018 (arXiv 1801.04406), equation 9.
    """

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """gamma / 2 * mean |grad D(x)|^2 over the real samples."""
        return self.gamma / 2 * squared_gradient_norms(critic, real).mean()


class R2(_ZeroCentered):
    """Keeps D flat at the fakes: gamma / 2 times the batch mean of |grad D(G(z))|^2.

    Attributes:
        gamma: The strength, at least 0.
        every: Applied each `every` steps, at least 1.

    Source: Mescheder et al., 2018 (arXiv 1801.04406), equation 10.
    """

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """gamma / 2 * mean |grad D(G(z))|^2 over the fakes."""
        return self.gamma / 2 * squared_gradient_norms(critic, fake).mean()


@dataclass(frozen=True)
class GradientPenalty:
    """Keeps D's slope near 1 between data and fakes: weight * mean (|grad D(x)| - 1)^2.

    The points x lie on lines from real to fake samples, at places drawn uniformly from PyTorch's
    global random state.

    Attributes:
        weight: The strength, at least 0; 10 in the paper.
        every: Applied each `every` steps, at least 1.

    Source: Gulrajani et al., 2017 (WGAN-GP, arXiv 1704.00028), equation 3.
    """

    weight: float = 10.0
    every: int = 1

    def __post_init__(self) -> None:
        check_number("weight", self.weight, minimum=0)
        check_integer("every", self.every, minimum=1)

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """weight * mean (|grad D(x)| - 1)^2 at random points between real and fake samples."""
        place = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        between = torch.lerp(real.detach(), fake.detach(), place)
        # sqrt has no finite slope at 0
        norms = (squared_gradient_norms(critic, between) + 1e-12).sqrt()
        return self.weight * (norms - 1).square().mean()


def squared_gradient_norms(critic: Critic, samples: Tensor) -> Tensor:
    """|grad D(x)|^2 of each sample, (N, *sample_shape) -> (N,), itself differentiable."""
    points = samples.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradient.flatten(1).square().sum(1)
