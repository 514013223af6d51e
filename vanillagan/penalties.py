"""Penalties on the gradient of the discriminator, added to its loss.

A penalty with `every=n` is applied every n steps (lazy regularization). The trainer multiplies it
by n, so that its strength does not depend on n (Karras et al., 2020, StyleGAN2, arXiv 1912.04958,
appendix B).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vanillagan.validation import check_function, check_integer, check_number, check_outputs, shown

__all__ = ["R1", "R2", "Critic", "GradientPenalty", "Penalty", "total_penalty"]

Critic: TypeAlias = Callable[[Tensor], Tensor]
"""The discriminator as a function of samples alone: (N, *sample_shape) -> logits (N,)."""


@runtime_checkable
class Penalty(Protocol):
    """Protocol of penalties.

    Attributes:
        every: Number of steps between applications; the trainer multiplies the penalty by it.
    """

    @property
    def every(self) -> int:
        """Number of steps between applications; the trainer multiplies the penalty by it."""
        ...

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty, a scalar, from real and fake samples of shape (N, *sample_shape)."""
        ...


def total_penalty(
    penalties: Sequence[Penalty], critic: Critic, real: Tensor, fake: Tensor
) -> Tensor:
    """Return the sum of penalties, each multiplied by its `every`.

    So the strength of a penalty does not depend on how often it is applied.
    """
    if not isinstance(penalties, Sequence) or not penalties:
        raise TypeError(f"`penalties` must be a list of penalties, got {shown(penalties)}")
    for index, penalty in enumerate(penalties):
        check_function(f"penalties[{index}]", penalty, "a penalty such as R1(1.0)")
    # of the implementations of attention, MATH alone has a second derivative
    with sdpa_kernel(SDPBackend.MATH):
        return torch.stack([p.every * p(critic, real, fake) for p in penalties]).sum()


@dataclass(frozen=True)
class _ZeroCentered:
    gamma: float
    every: int = 1

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, minimum=0)
        check_integer("every", self.every, minimum=1)


@dataclass(frozen=True)
class R1(_ZeroCentered):
    """R1, the zero-centered gradient penalty at real samples: gamma / 2 * mean |grad D(x)|^2.

    Attributes:
        gamma: Strength, at least 0.
        every: Number of steps between applications, at least 1.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Mescheder et al., 2018 (arXiv 1801.04406), equation 9.
    """

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """Return gamma / 2 * mean |grad D(x)|^2 over the real samples."""
        return self.gamma / 2 * squared_gradient_norms(critic, real, "real").mean()


@dataclass(frozen=True)
class R2(_ZeroCentered):
    """R2, the zero-centered gradient penalty at fakes: gamma / 2 * mean |grad D(G(z))|^2.

    Attributes:
        gamma: Strength, at least 0.
        every: Number of steps between applications, at least 1.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Mescheder et al., 2018 (arXiv 1801.04406), equation 10.
    """

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """Return gamma / 2 * mean |grad D(G(z))|^2 over the fakes."""
        return self.gamma / 2 * squared_gradient_norms(critic, fake, "fake").mean()


@dataclass(frozen=True)
class GradientPenalty:
    """Gradient penalty of WGAN-GP: weight * mean (|grad D(x)| - 1)^2 between real and fake samples.

    Each point x lies on the line from a real to a fake sample, at a position drawn uniformly from
    PyTorch's global random state.

    Attributes:
        weight: Strength, at least 0; 10 in the paper.
        every: Number of steps between applications, at least 1.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Gulrajani et al., 2017 (WGAN-GP, arXiv 1704.00028), equation 3.
    """

    weight: float = 10.0
    every: int = 1

    def __post_init__(self) -> None:
        check_number("weight", self.weight, minimum=0)
        check_integer("every", self.every, minimum=1)

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """Return weight * mean (|grad D(x)| - 1)^2 at points between real and fake samples."""
        check_function("critic", critic, "a function of samples")
        check_outputs(real=real, fake=fake)
        form = (real.shape, real.dtype, real.device)
        if form != (fake.shape, fake.dtype, fake.device) or real.dim() < 2:
            raise ValueError(
                "`real` and `fake` must have one shape (N, ...), dtype and device, got "
                f"{tuple(real.shape)} of {real.dtype} on {real.device} and {tuple(fake.shape)} of "
                f"{fake.dtype} on {fake.device}"
            )
        shape = (len(real), *[1] * (real.dim() - 1))
        position = torch.rand(shape, device=real.device, dtype=real.dtype)
        between = torch.lerp(real.detach(), fake.detach(), position)
        # the derivative of sqrt is infinite at 0
        norms = (squared_gradient_norms(critic, between) + 1e-12).sqrt()
        return self.weight * (norms - 1).square().mean()


def squared_gradient_norms(critic: Critic, samples: Tensor, name: str = "samples") -> Tensor:
    """Return |grad D(x)|^2 of each sample, differentiable: (N, *sample_shape) -> (N,)."""
    check_function("critic", critic, "a function of samples")
    check_outputs(**{name: samples})
    if samples.dim() < 2:
        raise ValueError(f"`{name}` must have the shape (N, ...), got {tuple(samples.shape)}")
    points = samples.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradient.flatten(1).square().sum(1)
