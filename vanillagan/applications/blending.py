"""Poisson blending (seamless cloning) of completions into damaged images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vanillagan.runtime.device import to_device
from vanillagan.validation import check_dense, check_finite, check_float_tensor, check_type

__all__ = ["as_mask", "blend", "fill"]

TOLERANCE = 1e-5
"""Largest residual at which the solver stops, relative to the largest border value."""

LOOK_EVERY = 16
"""Iterations after which the residual is read from a device, which synchronizes with it."""


def blend(images: Tensor, completions: Tensor, mask: Tensor) -> Tensor:
    """Fill the damaged pixels of images with completions, without visible seams.

    The result has the gradients of the completion inside the mask, and meets the values of the
    image at the border of the mask. It is the completion plus a membrane u, which solves the
    Laplace equation with a Dirichlet boundary:

        laplacian(u) = 0 inside the mask,    u = images - completions around it.

    The equation is solved by conjugate gradients for all images and channels at once. The membrane
    is free (Neumann) at the border of the image itself. For a completion of zeros the result is the
    membrane of the image, the smoothest filling of the hole.

    Args:
        images: Images, floats, shape (N, C, H, W). Their damaged pixels are not read.
        completions: Completions, floats of the same shape.
        mask: True or 1 at damaged pixels; see `as_mask` for its shape.

    Returns:
        Images of shape (N, C, H, W), equal to `images` outside the mask. All values are within the
        joint range of image and completion.

    Raises:
        ValueError, TypeError: An argument is invalid; see `as_mask` for the mask.

    Source: Pérez et al., 2003, Poisson image editing, equations 2, 4 and 7.

    Example:
        >>> ramp = torch.linspace(0, 1, 5).expand(1, 1, 5, 5)
        >>> hole = torch.zeros(5, 5, dtype=torch.bool)
        >>> hole[1:4, 1:4] = True
        >>> torch.allclose(blend(ramp, torch.zeros(1, 1, 5, 5), hole), ramp, atol=1e-3)
        True
    """
    damaged = as_mask(mask, images)
    check_float_tensor("completions", completions)
    if completions.shape != images.shape:
        raise ValueError(
            f"`completions` must have the shape of `images` {tuple(images.shape)}, got "
            f"{tuple(completions.shape)}"
        )
    check_finite("completions", completions)
    return fill(images, completions.to(images), damaged)


def fill(images: Tensor, completions: Tensor, damaged: Tensor) -> Tensor:
    """Do what `blend` does, with a mask that `as_mask` has returned."""
    known = torch.where(damaged, completions, images)
    precise = torch.promote_types(images.dtype, torch.float32)
    membrane = _membrane((known - completions).to(precise), damaged.to(precise))
    span = torch.stack([known, completions])
    low, high = span.amin((0, 2, 3, 4), keepdim=True)[0], span.amax((0, 2, 3, 4), keepdim=True)[0]
    filled = (completions + membrane.to(images)).clamp(low, high)
    return torch.where(damaged, filled, images)


def as_mask(mask: Tensor, images: Tensor, *, reads_values: bool = True) -> Tensor:
    """Return a checked mask of images as booleans of shape (N, 1, H, W).

    Args:
        mask: True or 1 at damaged pixels, False or 0 at known ones. The shape is (H, W) or
            (1, H, W) for the same mask for all images, (N, 1, H, W) for one per image.
        images: Images, floats, shape (N, C, H, W), finite at known pixels.
        reads_values: Check the values, too, which synchronizes with a device.

    Raises:
        ValueError, TypeError: The shapes do not fit, the mask has other values, or an image has no
            damaged or no known pixel.
    """
    check_float_tensor("images", images)
    if images.dim() != 4 or not images.numel():
        raise ValueError(
            f"`images` must have the shape (N, channels, height, width), got {tuple(images.shape)}"
        )
    check_dense("images", images, needs_values=True)
    check_type("mask", mask, Tensor, "a tensor")
    check_dense("mask", mask, needs_values=True)
    if mask.is_complex():
        raise TypeError(f"`mask` must be a tensor of booleans or numbers, got {mask.dtype}")
    count, _, *size = images.shape
    shapes = [(*size,), (1, *size), (1, 1, *size), (count, 1, *size)]
    if tuple(mask.shape) not in shapes:
        raise ValueError(
            f"`mask` must have the shape {shapes[0]}, {shapes[1]} or {shapes[3]}, got "
            f"{tuple(mask.shape)}"
        )
    damaged = to_device(mask, images.device).bool().expand(count, 1, *size)
    if reads_values:
        _check_values(mask, damaged)
        check_finite("images", images.where(~damaged, 0), " at known pixels")
    return damaged


def _check_values(mask: Tensor, damaged: Tensor) -> None:
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("`mask` must be 1 at damaged and 0 at known pixels, got other values")
    pixels = damaged.flatten(1)
    for value, uniform in (("ones", pixels.all(1)), ("zeros", ~pixels.any(1))):
        if uniform.any():
            raise ValueError(
                "`mask` must have damaged and known pixels in each image, got only "
                f"{value} for image {int(uniform.nonzero()[0])}"
            )


def _membrane(border: Tensor, inside: Tensor) -> Tensor:
    """Return u, harmonic inside the mask and equal to `border`, which is 0 inside, outside it."""
    neighbors = _around(torch.ones_like(inside))

    def laplacian(u: Tensor) -> Tensor:
        """Return the negative Laplacian of u, which is 0 outside; positive definite."""
        return inside * (neighbors * u - _around(u))

    u = torch.zeros_like(border)
    residual = inside * _around(border)
    direction = residual
    square = _dot(residual, residual)
    limit = TOLERANCE * border.abs().amax((2, 3), keepdim=True)
    tiny = torch.finfo(u.dtype).tiny  # 0 / tiny instead of 0 / 0 for channels that are solved
    every = 1 if u.device.type == "cpu" else LOOK_EVERY
    for number in range(2 * inside[0].numel()):  # in exact arithmetic half of them suffice
        if number % every == 0 and (residual.abs() <= limit).all():
            break
        image = laplacian(direction)
        step = square / _dot(direction, image).clamp_min(tiny)
        u = u + step * direction
        residual = residual - step * image
        before, square = square, _dot(residual, residual)
        direction = residual + square / before.clamp_min(tiny) * direction
    return u


def _around(u: Tensor) -> Tensor:
    """Return the sum of the four neighbors of each pixel, with zeros beyond the border."""
    padded = F.pad(u, (1, 1, 1, 1))
    above, below = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    return above + below + left + right


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the dot products of the channels of two (N, C, H, W) tensors, shape (N, C, 1, 1)."""
    return (a * b).sum((2, 3), keepdim=True)
