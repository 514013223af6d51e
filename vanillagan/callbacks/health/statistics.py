"""Statistics of a training run that do not depend on the loss or the kind of data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.losses import AdversarialLoss

__all__ = [
    "Diversity",
    "count_sketch",
    "discriminator_auc",
    "diversity",
    "logit_gradient",
    "total_norm",
]

EXACT_DIMENSIONS = 64
"""Largest dimension in which distances are computed exactly, not through a matrix product."""

SKETCH_SIZE = 64
"""Number of entries of a sketch."""


def discriminator_auc(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the area under the discriminator's ROC curve.

    It is the fraction of pairs in which the real sample has the larger logit, ties as half: 1 if
    all are told apart, 1/2 for a guess.

    Args:
        real_logits: Shape (N,).
        fake_logits: Shape (M,).
    """
    return (real_logits[:, None] - fake_logits[None]).sign().mean() / 2 + 0.5


def logit_gradient(loss: AdversarialLoss, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the gradient of the discriminator's loss by its logits, relative to equal logits.

    It is the L1 norm of the gradient, divided by the norm for fakes with the logits of the reals.
    For the cross-entropy loss it is mean (1 - D(x)) + mean D(G(z)), which goes to 0 as D saturates.
    For the Wasserstein loss it is always 1.

    Args:
        loss: The adversarial loss.
        real_logits: Shape (N,).
        fake_logits: Shape (N,).
    """

    def norm(fakes: Tensor) -> Tensor:
        real, fake = real_logits.clone().requires_grad_(), fakes.clone().requires_grad_()
        with torch.enable_grad():
            value = loss.discriminator(real, fake)
        gradients = torch.autograd.grad(value, [real, fake], allow_unused=True)
        used = [gradient.flatten() for gradient in gradients if gradient is not None]
        return torch.cat(used).abs().sum()

    # probabilities of exactly 0 and 1 are clamped by the loss and have no gradient: 0 / 0
    return (norm(fake_logits) / norm(real_logits)).nan_to_num(nan=0.0)


class Diversity(NamedTuple):
    """Diversity of fake samples, as scalar tensors.

    Attributes:
        std_ratio: Standard deviation of fakes over that of the data, over all coordinates together.
        nearest_ratio: Median distance of a fake to its nearest fake, over the same of the data.
        coverage: Fraction of real samples with a fake nearby: within the 90th percentile of the
            distances of reals to their nearest real, plus a quarter of their median distance.
    """

    std_ratio: Tensor
    nearest_ratio: Tensor
    coverage: Tensor


def diversity(real: Tensor, fake: Tensor) -> Diversity:
    """Compare the diversity of fake samples with that of as many real samples.

    Args:
        real: Shape (N, d), N at least 2.
        fake: Shape (N, d).
    """
    center = real.mean(0)
    real, fake = real - center, fake - center
    std_ratio = (fake.var(0).sum() / real.var(0).sum()).sqrt()
    between_reals = _distances(real, real)
    nearest_real = _nearest(between_reals, exclude_self=True)
    nearest_fake = _nearest(_distances(fake, fake), exclude_self=True)
    nearby = nearest_real.quantile(0.9) + between_reals.median() / 4
    missed = _nearest(_distances(real, fake)) > nearby
    return Diversity(
        std_ratio, nearest_fake.median() / nearest_real.median(), 1 - missed.to(real.dtype).mean()
    )


def count_sketch(vector: Tensor) -> Tensor:
    """Project a vector to a few random signed sums of its entries, always the same ones.

    Args:
        vector: Shape (d,).

    Returns:
        Shape (64,); distances between sketches are those between the vectors within about a tenth.
        A vector of up to 64 entries is returned as it is.

    Source: Charikar et al., 2002, Finding frequent items in data streams (count sketch).
    """
    if len(vector) <= SKETCH_SIZE:
        return vector
    rng = torch.Generator().manual_seed(0)
    signs = torch.randint(2, vector.shape, generator=rng, device="cpu").mul_(2).sub_(1)
    buckets = torch.randint(SKETCH_SIZE, vector.shape, generator=rng, device="cpu")
    signed = vector * signs.to(vector)
    return vector.new_zeros(SKETCH_SIZE).index_add_(0, buckets.to(vector.device), signed)


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the L2 norm over all entries of all tensors."""
    norm: Tensor = torch.stack(torch._foreach_norm(list(tensors))).norm()
    return norm


def _distances(a: Tensor, b: Tensor) -> Tensor:
    exact = a.shape[1] <= EXACT_DIMENSIONS
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist"
    distances: Tensor = torch.cdist(a, b, compute_mode=mode)
    return distances


def _nearest(distances: Tensor, *, exclude_self: bool = False) -> Tensor:
    if exclude_self:
        distances = distances.clone().fill_diagonal_(torch.inf)
    return distances.amin(1)
