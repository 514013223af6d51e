"""Inpainting of large images, patch by patch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vanillagan.applications.blending import as_mask
from vanillagan.validation import check_float_tensor, check_function, check_integer

__all__ = ["fill_by_patches"]

BATCH = 64
"""Number of patches that are filled at once."""


def fill_by_patches(
    fill: Callable[[Tensor, Tensor], Tensor],
    image: Tensor,
    mask: Tensor,
    *,
    size: int,
    stride: int | None = None,
) -> Tensor:
    """Fill the damaged pixels of an image of any size with a model of small images.

    The image is covered with overlapping patches. Each patch that has both damaged and known pixels
    is filled. Overlapping patches are averaged with weights that fall to zero at a patch's border,
    so that no seam is visible. Damage larger than a patch is filled from the outside inwards, in
    several rounds.

    Args:
        fill: `(patches (n, C, size, size), masks (n, 1, size, size)) -> (n, C, size, size)`, such
            as a trained `ContextEncoder`, or `inpaint` with its first two arguments bound. Patches
            are on the device of the image.
        image: Image, floats, shape (C, H, W), with H and W of at least `size`. Its damaged pixels
            are not read.
        mask: True or 1 at damaged pixels, shape (H, W) or (1, H, W).
        size: Side of a patch, at least 2.
        stride: Distance between neighboring patches in pixels, from 1 to `size` - 1, so that
            patches overlap; by default half a patch.

    Returns:
        Image with its damaged pixels filled and its known pixels unchanged, shape (C, H, W).

    Raises:
        ValueError, TypeError: An argument is invalid; see `as_mask` for the mask.

    Example:
        >>> def gray(patches, masks):
        ...     return torch.zeros_like(patches)
        >>> mask = torch.rand(30, 50) < 0.1
        >>> fill_by_patches(gray, torch.rand(3, 30, 50), mask, size=16).shape
        torch.Size([3, 30, 50])
    """
    check_function("fill", fill, "a function of patches and masks")
    check_integer("size", size, minimum=2)
    stride = size // 2 if stride is None else stride
    check_integer("stride", stride, minimum=1, maximum=size - 1)
    check_float_tensor("image", image)
    if image.dim() != 3:
        raise ValueError(
            f"`image` must have the shape (channels, height, width), got {tuple(image.shape)}"
        )
    damaged = as_mask(mask, image[None])[0]
    if min(image.shape[1:]) < size:
        raise ValueError(
            f"`image` must be at least `size`={size} pixels high and wide, got "
            f"{tuple(image.shape[1:])}"
        )
    result = image.where(~damaged, 0)
    window = _window(size).to(image)
    corners = [(top, left) for top in _starts(image.shape[1], size, stride)
               for left in _starts(image.shape[2], size, stride)]  # fmt: skip
    while damaged.any():
        total, weight = torch.zeros_like(result), torch.zeros_like(result[:1])
        due = [corner for corner in corners if damaged[_part(corner, size)].any()
               and not damaged[_part(corner, size)].all()]  # fmt: skip
        for start in range(0, len(due), BATCH):
            parts = [_part(corner, size) for corner in due[start : start + BATCH]]
            patches = torch.stack([result[part] for part in parts])
            filled = fill(patches, torch.stack([damaged[part] for part in parts]))
            if filled.shape != patches.shape:
                raise ValueError(
                    f"`fill` must return patches of the shape {tuple(patches.shape)}, got "
                    f"{tuple(filled.shape)}"
                )
            for part, patch in zip(parts, filled.to(result), strict=True):
                total[part] += window * patch
                weight[part] += window
        reached = damaged & (weight > 0)
        result = torch.where(reached, total / weight.clamp_min(1e-12), result)
        damaged = damaged & ~reached
    return result


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Return the positions of patches along one axis; the last patch ends with the image."""
    return sorted({*range(0, length - size + 1, stride), length - size})


def _part(corner: tuple[int, int], size: int) -> tuple[slice, slice, slice]:
    top, left = corner
    return slice(None), slice(top, top + size), slice(left, left + size)


def _window(size: int) -> Tensor:
    """Return positive weights of a patch's pixels, shape (size, size)."""
    side = torch.hann_window(size + 2, periodic=False)[1:-1]
    return side[:, None] * side
