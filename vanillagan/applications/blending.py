"""Seamless cloning: what fills a hole, with its own gradients and the image's colours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vanillagan.data import is_finite
from vanillagan.errors import check_floats

__all__ = ["as_mask", "blend"]

TOLERANCE = 1e-5
"""The solver stops where no residual is above this part of what the membrane spans."""


def blend(images: Tensor, completions: Tensor, mask: Tensor) -> Tensor:
    """Fills the damaged pixels with completions so that no seam is seen.

    Inside the mask the result has the gradients of the completion, and at the mask's border the
    values of the image: it is the completion plus a membrane u with

        laplacian(u) = 0 inside the mask,    u = images - completions around it,

    solved by conjugate gradients for all images and channels at once. Along an image's own border,
    where nothing is known beyond, the membrane is free. A completion of zeros gives the membrane
    itself, the smoothest filling of the hole.

    Args:
        images: Images, floats, shape (N, C, H, W). Their damaged pixels are not read.
        completions: What to fill with, floats of the same shape.
        mask: True or 1 at damaged pixels; see `as_mask`.

    Returns:
        Images equal to `images` outside the mask, shape (N, C, H, W). No value leaves the range
        that image and completion span together.

    Raises:
        ValueError, TypeError: An argument is wrong; see `as_mask` for what a mask may be.

    Source: Perez et al., 2003, Poisson image editing, equations 2, 4 and 7.

    Example:
        >>> ramp = torch.linspace(0, 1, 5).expand(1, 1, 5, 5)
        >>> hole = torch.zeros(5, 5, dtype=torch.bool)
        >>> hole[1:4, 1:4] = True
        >>> torch.allclose(blend(ramp, torch.zeros(1, 1, 5, 5), hole), ramp, atol=1e-3)
        True
    """
    damaged = as_mask(mask, images)
    check_floats("completions", completions)
    if completions.shape != images.shape:
        raise ValueError(
            f"`completions` must have the shape of `images` {tuple(images.shape)}, got "
            f"{tuple(completions.shape)}"
        )
    if not is_finite(completions):
        raise ValueError("`completions` must be finite, got NaN or infinite values")
    completions = completions.to(images)
    known = torch.where(damaged, completions, images)
    precise = torch.promote_types(images.dtype, torch.float32)
    membrane = _membrane((known - completions).to(precise), damaged.to(precise))
    span = torch.stack([known, completions])
    low, high = span.amin((0, 2, 3, 4), keepdim=True)[0], span.amax((0, 2, 3, 4), keepdim=True)[0]
    filled = (completions + membrane.to(images)).clamp(low, high)
    return torch.where(damaged, filled, images)


def as_mask(mask: Tensor, images: Tensor) -> Tensor:
    """Checks a mask and the images that it belongs to; gives it as bools of shape (N, 1, H, W).

    Args:
        mask: True or 1 at damaged pixels, False or 0 at known ones: shape (H, W) or (1, H, W) for
            one mask for all images, (N, 1, H, W) for one for each.
        images: Images, floats, shape (N, C, H, W), finite where they are known.

    Raises:
        ValueError, TypeError: The shapes don't fit, the mask holds other values, or an image has
            no damaged or no known pixel.
    """
    check_floats("images", images)
    if images.dim() != 4 or not images.numel():
        raise ValueError(
            f"`images` must have the shape (N, channels, height, width), got {tuple(images.shape)}"
        )
    if not isinstance(mask, Tensor):
        raise TypeError(f"`mask` must be a tensor, got {type(mask).__name__}")
    count, _, *size = images.shape
    shapes = [(*size,), (1, *size), (1, 1, *size), (count, 1, *size)]
    if tuple(mask.shape) not in shapes:
        raise ValueError(
            f"`mask` must have the shape {shapes[0]}, {shapes[1]} or {shapes[3]}, got "
            f"{tuple(mask.shape)}"
        )
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("`mask` must hold 1 at damaged and 0 at known pixels, got other values")
    damaged = mask.to(images.device).bool().expand(count, 1, *size)
    pixels = damaged.flatten(1)
    if (whole := pixels.all(1)).any():
        raise ValueError(
            "`mask` must leave known pixels in each image, got one that is all ones for image "
            f"{int(whole.nonzero()[0])}"
        )
    if (none := ~pixels.any(1)).any():
        raise ValueError(
            "`mask` must mark damaged pixels in each image, got one that is all zeros for image "
            f"{int(none.nonzero()[0])}"
        )
    if not is_finite(images.where(~damaged, 0)):
        raise ValueError("`images` must be finite where they are known, got NaN or infinite values")
    return damaged


def _membrane(border: Tensor, inside: Tensor) -> Tensor:
    """The u that is harmonic inside and `border` outside, where `border` is 0 inside."""
    neighbours = _around(torch.ones_like(inside))

    def laplacian(u: Tensor) -> Tensor:
        """The negative Laplacian inside, of a u that is zero outside; positive definite."""
        return inside * (neighbours * u - _around(u))

    u = torch.zeros_like(border)
    residual = inside * _around(border)
    direction = residual
    square = _dot(residual, residual)
    limit = TOLERANCE * border.abs().amax((2, 3), keepdim=True)
    tiny = torch.finfo(u.dtype).tiny  # where a channel is solved, numerators are zero
    unknowns = int(inside.sum((1, 2, 3)).max())
    for _ in range(2 * unknowns):  # without rounding, `unknowns` are enough
        if (residual.abs() <= limit).all():
            break
        image = laplacian(direction)
        step = square / _dot(direction, image).clamp_min(tiny)
        u = u + step * direction
        residual = residual - step * image
        before, square = square, _dot(residual, residual)
        direction = residual + square / before.clamp_min(tiny) * direction
    return u


def _around(u: Tensor) -> Tensor:
    """The sum of the four neighbours, those beyond the border being zero."""
    padded = F.pad(u, (1, 1, 1, 1))
    above, below = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    return above + below + left + right


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The dot product of each image's channels: (N, C, H, W) twice -> (N, C, 1, 1)."""
    return (a * b).sum((2, 3), keepdim=True)
