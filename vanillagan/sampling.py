"""Drawing samples from a generator, without a trace in the training state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vanillagan.data import LatentSampler, latent_sampler_of
from vanillagan.errors import check_integer
from vanillagan.runtime import device_of, dtype_of, isolated_rng

__all__ = ["Labels", "draw_samples"]

Labels: TypeAlias = "Tensor | Sequence[int] | int | None"
"""Classes to sample: one for each sample, or one for all."""

CHUNK = 1000
"""So many samples go through the generator at once, which bounds the memory."""


def draw_samples(
    generator: nn.Module,
    n: int,
    *,
    labels: Labels = None,
    latent: Tensor | None = None,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
) -> Tensor:
    """Draws n samples from any generator, in eval mode and without gradients.

    Neither the modes of its modules nor any global random state is changed by it.

    Args:
        generator: `forward(latent)` or, conditioned on classes, `forward(latent, labels)`.
        n: How many samples, at least 1.
        labels: Classes to sample: n of them, or one for all.
        latent: The latents themselves, shape (n, ...), in place of drawn ones.
        latent_sampler: Where latents come from; by default N(0, 1) of `generator.latent_dim`.
        seed: Makes the samples repeatable; None draws new ones at each call.

    Returns:
        Samples of shape (n, *sample_shape), on the device of the generator.

    Raises:
        ValueError, TypeError: An argument is out of its range, or labels and network don't fit.
    """
    n = check_integer("n", n, minimum=1)
    rng = torch.Generator()
    seed = rng.seed() if seed is None else check_integer("seed", seed, minimum=0)
    rng.manual_seed(seed)
    if latent is None:
        latent = (latent_sampler or latent_sampler_of(generator))(n, rng)
    elif not isinstance(latent, Tensor):
        raise TypeError(f"`latent` must be a tensor, got {latent!r:.80}")
    elif len(latent) != n:
        raise ValueError(f"`latent` must hold n={n} latents, got {len(latent)}")
    device = device_of(generator)
    inputs = [latent.to(device, dtype_of(generator) if latent.is_floating_point() else None)]
    if labels is not None:
        inputs.append(_as_labels(labels, n).to(device))
    elif getattr(generator, "num_classes", 0):
        raise ValueError(
            f"`labels` must be given to a generator of {generator.num_classes} classes, got None"
        )
    with torch.no_grad(), evaluating(generator), isolated_rng(seed):
        chunks = zip(*(tensor.split(CHUNK) for tensor in inputs), strict=True)
        return torch.cat([generator(*chunk) for chunk in chunks])


def _as_labels(labels: Tensor | Sequence[int] | int, n: int) -> Tensor:
    try:
        tensor = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`labels` must be integers, got {labels!r:.80}") from error
    if tensor.dim() == 0:
        tensor = tensor.expand(n)
    if len(tensor) != n:
        raise ValueError(f"`labels` must hold n={n} classes or one for all, got {len(tensor)}")
    return tensor


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts every module of the network in eval mode, and afterwards back in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
