"""Samplers of latents, the input noise of a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vanillagan.validation import check_function, check_integer, check_integers, check_type

__all__ = [
    "LatentSampler",
    "draw_latents",
    "latent_sampler_of",
    "normal_latents",
    "uniform_latents",
]

LatentSampler: TypeAlias = Callable[[int, torch.Generator], Tensor]
"""Function `(n, rng) -> Tensor (n, ...)` that draws n latents from the generator, on its device.

While it runs, `rng.device` is the default device of new tensors.
"""


def normal_latents(*shape: int) -> LatentSampler:
    """Return a sampler of latents (n, *shape) from N(0, 1), as in the reference implementation.

    Example:
        >>> normal_latents(100)(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 100])
    """
    shape = check_integers("shape", shape)
    return lambda n, rng: torch.randn(n, *shape, generator=rng, device=rng.device)


def uniform_latents(*shape: int) -> LatentSampler:
    """Return a sampler of latents (n, *shape) from U(-1, 1).

    Example:
        >>> float(uniform_latents(100)(4, torch.Generator().manual_seed(0)).abs().max()) <= 1
        True
    """
    shape = check_integers("shape", shape)
    return lambda n, rng: torch.rand(n, *shape, generator=rng, device=rng.device) * 2 - 1


def draw_latents(sampler: LatentSampler, n: int, rng: torch.Generator) -> Tensor:
    """Draw n latents.

    Raises:
        TypeError: The sampler is not a function, or returns no tensor.
    """
    expected = "a function (n, torch.Generator) -> Tensor such as `normal_latents(100)`"
    check_function("latent_sampler", sampler, expected)
    with torch.device(rng.device):  # whatever `torch.set_default_device` has set
        latents = sampler(n, rng)
    expected = "a function (n, torch.Generator) that returns a Tensor"
    check_type("latent_sampler", latents, Tensor, expected)
    return latents


def latent_sampler_of(generator: nn.Module) -> LatentSampler:
    """Return the sampler from N(0, 1) of the generator's `latent_dim`.

    Raises:
        ValueError: The generator has no `latent_dim`.
    """
    latent_dim = getattr(generator, "latent_dim", None)
    if latent_dim is None:
        raise ValueError(
            f"`latent_sampler` must be given for {type(generator).__name__}, which has no "
            "`latent_dim`: a function (n, torch.Generator) -> Tensor such as "
            "`normal_latents(100)`, got None (or are generator and discriminator swapped?)"
        )
    return normal_latents(check_integer("latent_dim", latent_dim, minimum=1))
