"""Large images repaired patch by patch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vanillagan.applications.blending import as_mask
from vanillagan.errors import check_floats, check_integer

__all__ = ["fill_by_patches"]

BATCH = 64
"""So many patches are filled at once."""


def fill_by_patches(
    fill: Callable[[Tensor, Tensor], Tensor],
    image: Tensor,
    mask: Tensor,
    *,
    size: int,
    stride: int | None = None,
) -> Tensor:
    """Fills the damage of an image of any size with what a model of small images makes of it.

    The image is covered by overlapping patches. Those with damage and with known pixels are filled,
    and averaged with weights that fall to zero at a patch's border, so that none of its borders is
    seen. Damage larger than a patch is filled from outside inwards, in several rounds.

    Args:
        fill: `(patches (n, C, size, size), masks (n, 1, size, size)) -> (n, C, size, size)`, such
            as a trained `ContextEncoder`, or `inpaint` with the first two arguments given. It is
            given patches on the device of the image.
        image: The image, floats, shape (C, H, W), neither side less than `size`. Its damaged pixels
            are not read.
        mask: True or 1 at damaged pixels, shape (H, W) or (1, H, W).
        size: Side of a patch, at least 2.
        stride: Pixels from one patch to the next, from 1 to `size` - 1, so that patches overlap; by
            default half a patch.

    Returns:
        The image with its damaged pixels filled, shape (C, H, W); its known pixels are kept.

    Raises:
        ValueError, TypeError: An argument is wrong; see `as_mask` for the mask.

    Example:
        >>> def grey(patches, masks):
        ...     return torch.zeros_like(patches)
        >>> mask = torch.rand(30, 50) < 0.1
        >>> fill_by_patches(grey, torch.rand(3, 30, 50), mask, size=16).shape
        torch.Size([3, 30, 50])
    """
    check_integer("size", size, minimum=2)
    stride = size // 2 if stride is None else stride
    check_integer("stride", stride, minimum=1, maximum=size - 1)
    check_floats("image", image)
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
    places = [(top, left) for top in _starts(image.shape[1], size, stride)
              for left in _starts(image.shape[2], size, stride)]  # fmt: skip
    while damaged.any():
        total, weight = torch.zeros_like(result), torch.zeros_like(result[:1])
        due = [place for place in places if damaged[_part(place, size)].any()
               and not damaged[_part(place, size)].all()]  # fmt: skip
        for start in range(0, len(due), BATCH):
            parts = [_part(place, size) for place in due[start : start + BATCH]]
            patches = torch.stack([result[part] for part in parts])
            filled = fill(patches, torch.stack([damaged[part] for part in parts]))
            if filled.shape != patches.shape:
                raise ValueError(
                    f"`fill` must give patches of the shape {tuple(patches.shape)}, got "
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
    """Where patches start, the last of them at the end of the image."""
    return sorted({*range(0, length - size + 1, stride), length - size})


def _part(place: tuple[int, int], size: int) -> tuple[slice, slice, slice]:
    top, left = place
    return slice(None), slice(top, top + size), slice(left, left + size)


def _window(size: int) -> Tensor:
    """Weights of a patch's pixels, nowhere zero: (size, size)."""
    side = torch.hann_window(size + 2, periodic=False)[1:-1]
    return side[:, None] * side
