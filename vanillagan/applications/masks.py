"""Samplers of random masks, to train and to evaluate inpainting.

Each mask has at least one damaged and one known pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from vanillagan.validation import (
    check_bool,
    check_function,
    check_integer,
    check_number,
    check_size,
    check_type,
)

__all__ = ["MaskSampler", "boxes", "lost_pixels", "mixed", "scratches"]

MaskSampler: TypeAlias = Callable[[int, torch.Generator], Tensor]
"""Sampler of n masks: `(n, torch.Generator) -> (n, 1, H, W)`, floats, 1 at damaged pixels."""


def boxes(
    size: int | tuple[int, int], share: float = 0.5, *, centered: bool = False
) -> MaskSampler:
    """Return a sampler of masks with one box.

    Args:
        size: Height and width of the images, or one number for both.
        share: Share of each side that the box covers, in (0, 1), rounded to pixels. It is at least
            one pixel, and less than a side of two pixels or more.
        centered: Put the box in the center; otherwise its position is random.

    Example:
        >>> boxes((4, 4), centered=True)(1, torch.Generator())[0, 0]
        tensor([[0., 0., 0., 0.],
                [0., 1., 1., 0.],
                [0., 1., 1., 0.],
                [0., 0., 0., 0.]])
    """
    height, width = _check_size(size)
    check_bool("centered", centered)
    check_number("share", share, minimum=0, maximum=1, exclude_minimum=True, exclude_maximum=True)
    sides = [max(1, min(round(share * side), side - 1)) for side in (height, width)]

    def draw(n: int, rng: torch.Generator) -> Tensor:
        inside = []
        for length, side in zip((height, width), sides, strict=True):
            places = torch.full((n,), (length - side) // 2)
            if not centered:
                places = torch.randint(length - side + 1, (n,), generator=rng)
            offsets = torch.arange(length) - places[:, None]
            inside.append((offsets >= 0) & (offsets < side))
        return (inside[0][:, None, :, None] & inside[1][:, None, None, :]).float()

    return draw


def lost_pixels(size: int | tuple[int, int], share: float = 0.5) -> MaskSampler:
    """Return a sampler of masks whose pixels are independently damaged.

    Args:
        size: Height and width of the images, or one number for both.
        share: Probability that a pixel is damaged, in (0, 1).
    """
    size = _check_size(size)
    check_number("share", share, minimum=0, maximum=1, exclude_minimum=True, exclude_maximum=True)
    return lambda n, rng: _marked(torch.rand(n, *size, generator=rng), share)


def scratches(size: int | tuple[int, int], count: int = 4, width: float = 2.0) -> MaskSampler:
    """Return a sampler of masks with slightly bent scratches, from border to border.

    Args:
        size: Height and width of the images, or one number for both.
        count: Number of scratches in a mask, at least 1.
        width: Width of a scratch in pixels, at least 1 and less than the smaller side.
    """
    size = _check_size(size)
    check_integer("count", count, minimum=1)
    check_number("width", width, minimum=1, maximum=min(size), exclude_maximum=True)
    scale = max(size)

    def draw(n: int, rng: torch.Generator) -> Tensor:
        sides = (torch.arange(side, dtype=torch.float32, device=rng.device) for side in size)
        y, x = torch.meshgrid(*sides, indexing="ij")
        through = torch.rand(2, n, count, 1, 1, generator=rng)
        angle = torch.rand(n, count, 1, 1, generator=rng) * math.pi
        bend = (torch.rand(n, count, 1, 1, generator=rng) - 0.5) / scale
        down, right = y - through[0] * (size[0] - 1), x - through[1] * (size[1] - 1)
        along = angle.cos() * right + angle.sin() * down
        across = angle.cos() * down - angle.sin() * right
        distance = (across - bend * along.square()).abs().amin(1)
        return _marked(distance, width / 2)

    return draw


def mixed(samplers: Sequence[MaskSampler]) -> MaskSampler:
    """Return a sampler that draws each mask by one of `samplers`, all equally likely."""
    check_type("samplers", samplers, Sequence, "a list of samplers such as [boxes((28, 28))]")
    if not samplers:
        raise ValueError("`samplers` must have at least one entry, got none")
    for index, sampler in enumerate(samplers):
        check_function(f"samplers[{index}]", sampler, "a sampler such as boxes((28, 28))")

    def draw(n: int, rng: torch.Generator) -> Tensor:
        drawn = [sampler(n, rng) for sampler in samplers]
        shapes = {tuple(masks.shape) for masks in drawn}
        if len(shapes) > 1:
            raise ValueError(f"`samplers` must draw masks of the same shape, got {sorted(shapes)}")
        chosen = torch.randint(len(samplers), (n,), generator=rng)
        return torch.stack(drawn)[chosen, torch.arange(n)]

    return draw


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = check_size(size)
    if sides == (1, 1):
        raise ValueError("`size` must have at least two pixels, got (1, 1)")
    return sides


def _marked(values: Tensor, limit: float) -> Tensor:
    """Return masks of values (n, H, W) up to a limit, with the least but not the largest value."""
    flat = values.flatten(1)
    marked = flat <= limit
    marked.scatter_(1, flat.argmin(1, keepdim=True), True)
    marked.scatter_(1, flat.argmax(1, keepdim=True), False)
    return marked.view_as(values)[:, None].float()
