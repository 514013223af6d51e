"""Numbers that tell how a game is going, none of which depends on the loss or the kind of data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.losses import AdversarialLoss

__all__ = ["Diversity", "discriminator_pull", "diversity", "separation", "sketch", "total_norm"]

EXACT_DIMENSIONS = 64
"""Distances in so few dimensions are computed exactly; beyond, through a matrix product."""

SKETCH = 64
"""So many numbers are kept of a long vector."""


def separation(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The share of pairs in which D scores the real sample above the fake, ties as half.

    It is the area under D's ROC curve: 1 where D tells all apart, 1/2 where it can't.

    Args:
        real_scores: Shape (N,).
        fake_scores: Shape (M,).
    """
    return (real_scores[:, None] - fake_scores[None]).sign().mean() / 2 + 0.5


def discriminator_pull(loss: AdversarialLoss, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """How hard D's loss still pulls at the scores, against its pull where D can't tell.

    The L1 norm of the loss's gradient with respect to the scores, divided by that for fakes scored
    as the reals are. For the original game it is mean (1 - D(x)) + mean D(G(z)); it goes to 0 as D
    saturates. A Wasserstein critic's is always 1.
    """

    def pull(fakes: Tensor) -> Tensor:
        real, fake = real_scores.clone().requires_grad_(), fakes.clone().requires_grad_()
        with torch.enable_grad():
            value = loss.discriminator(real, fake)
        gradients = torch.autograd.grad(value, [real, fake], allow_unused=True)
        read = [gradient.flatten() for gradient in gradients if gradient is not None]
        return torch.cat(read).abs().sum()

    # probabilities of 0 and 1 are clamped, so that nothing pulls at them: 0 / 0
    return (pull(fake_scores) / pull(real_scores)).nan_to_num(nan=0.0)


class Diversity(NamedTuple):
    """How diverse fakes are, as scalars.

    Attributes:
        spread: The fakes' standard deviation over the data's, over all coordinates together.
        nearest: The median distance of a fake to its nearest fake, over the same of the data.
        missed: The share of reals without a fake near: within the distance in which nine of ten
            reals have their nearest real, and a quarter of the data's median distance more.
    """

    spread: Tensor
    nearest: Tensor
    missed: Tensor


def diversity(real: Tensor, fake: Tensor) -> Diversity:
    """How diverse fakes are against as many real samples.

    Args:
        real: Shape (N, d), N at least 2.
        fake: Shape (N, d).
    """
    centre = real.mean(0)
    real, fake = real - centre, fake - centre
    spread = (fake.var(0).sum() / real.var(0).sum()).sqrt()
    typical = _distances(real, real)
    among_reals = _nearest(typical, itself=True)
    nearest = _nearest(_distances(fake, fake), itself=True).median() / among_reals.median()
    near = among_reals.quantile(0.9) + typical.median() / 4
    missed = (_nearest(_distances(real, fake), itself=False) > near).to(real.dtype).mean()
    return Diversity(spread, nearest, missed)


def sketch(vector: Tensor) -> Tensor:
    """A few random sums of the vector's entries, always the same, which keep lengths roughly.

    Args:
        vector: Shape (d,).

    Returns:
        Shape (64,), whose distances are those of the vectors within about a tenth; up to 64 entries
        the vector itself.

    Source: Charikar et al., 2002, Finding frequent items in data streams (count sketch).
    """
    if len(vector) <= SKETCH:
        return vector
    rng = torch.Generator().manual_seed(0)
    signs = torch.randint(2, vector.shape, generator=rng).mul_(2).sub_(1)
    places = torch.randint(SKETCH, vector.shape, generator=rng)
    signed = vector * signs.to(vector)
    return vector.new_zeros(SKETCH).index_add_(0, places.to(vector.device), signed)


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The L2 norm over all entries of all tensors."""
    norm: Tensor = torch.stack(torch._foreach_norm(list(tensors))).norm()
    return norm


def _distances(a: Tensor, b: Tensor) -> Tensor:
    exact = a.shape[1] <= EXACT_DIMENSIONS
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist"
    distances: Tensor = torch.cdist(a, b, compute_mode=mode)
    return distances


def _nearest(distances: Tensor, *, itself: bool) -> Tensor:
    """The smallest distance in each row, without that of a sample to itself."""
    if itself:
        distances = distances.clone().fill_diagonal_(torch.inf)
    return distances.amin(1)
