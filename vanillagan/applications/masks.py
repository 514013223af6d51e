"""Damage to train on and to measure with: boxes, lost pixels, scratches.

Each mask has a damaged pixel or more, and a known one or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from vanillagan.errors import check_integer, check_integers, check_kind, check_number

__all__ = ["MaskSampler", "boxes", "lost_pixels", "mixed", "scratches"]

MaskSampler: TypeAlias = Callable[[int, torch.Generator], Tensor]
"""Draws n masks: `(n, torch.Generator) -> Tensor (n, 1, H, W)`, floats, 1 at damaged pixels."""


def boxes(size: tuple[int, int], share: float = 0.5, *, centred: bool = False) -> MaskSampler:
    """A box in each image, anywhere or in the centre.

    Args:
        size: Height and width of the images.
        share: Of both sides, in (0, 1), rounded to pixels, but never the whole of a side that has
            two pixels or more.
        centred: Whether it is in the centre; else it is anywhere inside.

    Example:
        >>> boxes((4, 4), centred=True)(1, torch.Generator())[0, 0]
        tensor([[0., 0., 0., 0.],
                [0., 1., 1., 0.],
                [0., 1., 1., 0.],
                [0., 0., 0., 0.]])
    """
    height, width = _check_size(size)
    check_number("share", share, minimum=0, maximum=1, exclude_minimum=True, exclude_maximum=True)
    sides = [max(1, min(round(share * side), side - 1)) for side in (height, width)]

    def draw(n: int, rng: torch.Generator) -> Tensor:
        inside = []
        for length, side in zip((height, width), sides, strict=True):
            places = torch.full((n,), (length - side) // 2)
            if not centred:
                places = torch.randint(length - side + 1, (n,), generator=rng)
            offsets = torch.arange(length) - places[:, None]
            inside.append((offsets >= 0) & (offsets < side))
        return (inside[0][:, None, :, None] & inside[1][:, None, None, :]).float()

    return draw


def lost_pixels(size: tuple[int, int], share: float = 0.5) -> MaskSampler:
    """Each pixel is lost with the probability `share`, in (0, 1), on its own; never all or none."""
    size = _check_size(size)
    check_number("share", share, minimum=0, maximum=1, exclude_minimum=True, exclude_maximum=True)
    return lambda n, rng: _marked(torch.rand(n, *size, generator=rng), share)


def scratches(size: tuple[int, int], count: int = 4, width: float = 2.0) -> MaskSampler:
    """Scratches from border to border, slightly bent.

    Args:
        size: Height and width of the images.
        count: Scratches in each image, at least 1.
        width: Of a scratch, in pixels, at least 1 and less than the smaller side.
    """
    size = _check_size(size)
    check_integer("count", count, minimum=1)
    check_number("width", width, minimum=1, maximum=min(size), exclude_maximum=True)
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in size),
                          indexing="ij")  # fmt: skip
    scale = max(size)

    def draw(n: int, rng: torch.Generator) -> Tensor:
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
    """Each mask is drawn by one of the samplers, which are all as likely and of one size."""
    check_kind("samplers", samplers, Sequence, "a list of samplers such as [boxes((28, 28))]")
    if not samplers:
        raise ValueError("`samplers` must hold one sampler of masks or more, got none")
    for index, sampler in enumerate(samplers):
        if not callable(sampler):
            raise TypeError(
                f"`samplers[{index}]` must be a sampler such as boxes((28, 28)), got {sampler!r}"
            )

    def draw(n: int, rng: torch.Generator) -> Tensor:
        drawn = [sampler(n, rng) for sampler in samplers]
        shapes = {tuple(masks.shape) for masks in drawn}
        if len(shapes) > 1:
            raise ValueError(f"`samplers` must draw masks of one shape, got {sorted(shapes)}")
        chosen = torch.randint(len(samplers), (n,), generator=rng)
        return torch.stack(drawn)[chosen, torch.arange(n)]

    return draw


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    sides = check_integers("size", size)
    if len(sides) != 2:
        raise ValueError(f"`size` must be (height, width), got {size!r}")
    if sides == (1, 1):
        raise ValueError("`size` must be of two pixels or more, got (1, 1)")
    return sides[0], sides[1]


def _marked(values: Tensor, limit: float) -> Tensor:
    """1 where values (n, H, W) are within the limit; of each n, the least are and the most not."""
    flat = values.flatten(1)
    marked = flat <= limit
    marked.scatter_(1, flat.argmin(1, keepdim=True), True)
    marked.scatter_(1, flat.argmax(1, keepdim=True), False)
    return marked.view_as(values)[:, None].float()
