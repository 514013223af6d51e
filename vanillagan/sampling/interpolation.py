"""Samples on the path between two latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vanillagan.sampling.draw import Labels, check_generator, draw_samples
from vanillagan.validation import check_bool, check_finite, check_float_tensor, check_integer

__all__ = ["interpolate"]


def interpolate(
    generator: nn.Module,
    start: Tensor,
    end: Tensor,
    n: int,
    *,
    spherical: bool = True,
    labels: Labels = None,
) -> Tensor:
    """Draw samples on the path from one latent to another, in even steps, both ends included.

    Args:
        generator: `forward(latents)` or, conditioned on classes, `forward(latents, labels)`.
        start: Latent of the first sample, floats, without a batch dimension: shape (latent_dim,).
        end: Latent of the last sample, of the same shape.
        n: Number of samples, at least 2.
        spherical: If True, the angle and the length of the latent change evenly (slerp), so that
            latents on the path are as long as normal noise is; else they lie on the straight line.
        labels: Classes to sample: n of them, or one for all.

    Returns:
        Samples of shape (n, *sample_shape), in eval mode and without gradients.

    Raises:
        ValueError, TypeError: An argument is invalid; or, on the spherical path, a latent is zero
            or the two point in opposite directions, so that no path is the shortest.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), figure 3, for the straight line; White, 2016
    (arXiv 1609.04468) for the spherical path.

    Example:
        >>> from vanillagan import Generator
        >>> interpolate(Generator(8, (2,)), torch.randn(8), torch.randn(8), 5).shape
        torch.Size([5, 2])
    """
    n = check_integer("n", n, minimum=2)
    check_bool("spherical", spherical)
    check_generator(generator)
    latent_dim = getattr(generator, "latent_dim", None)
    for name, latent in (("start", start), ("end", end)):
        check_float_tensor(name, latent)
        if latent_dim is not None and latent.shape != (latent_dim,):
            raise ValueError(
                f"`{name}` must be a single latent of shape ({latent_dim},), "
                f"got {tuple(latent.shape)}"
            )
        check_finite(name, latent)
    if start.shape != end.shape:
        raise ValueError(
            f"`end` must have the shape of `start` {tuple(start.shape)}, got {tuple(end.shape)}"
        )
    fraction = torch.linspace(0, 1, n, dtype=torch.float64).view(-1, *[1] * start.dim())
    ends = start.detach().cpu().double(), end.detach().cpu().double()
    path = _slerp(*ends, fraction) if spherical else torch.lerp(*ends, fraction)
    return draw_samples(generator, n, labels=labels, latents=path)


def _slerp(start: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
    """Return the points at fractions of the path whose angle and length change evenly."""
    lengths = start.norm(), end.norm()
    for name, length in zip(("start", "end"), lengths, strict=True):
        if not 0 < length < math.inf:
            raise ValueError(
                f"`{name}` must have a length above 0 for the spherical path, got {float(length):g}"
            )
    first, last = start / lengths[0], end / lengths[1]
    # exact for small angles, for which the arc cosine of the dot product is not
    angle = 2 * torch.atan2((first - last).norm(), (first + last).norm())
    if math.pi - angle < 1e-6:
        raise ValueError(
            "`end` must not point in the direction opposite to `start`, where no spherical path is "
            "the shortest"
        )
    turn = angle / math.pi
    # sin(t * angle) / sin(angle), by sinc for its limit t where the angle is zero
    weights = [t * torch.sinc(t * turn) / torch.sinc(turn) for t in (1 - fraction, fraction)]
    direction: Tensor = weights[0] * first + weights[1] * last
    return direction * torch.lerp(*lengths, fraction)
