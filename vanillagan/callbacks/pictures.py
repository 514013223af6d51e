"""Pictures of several images: enlarged, in rows, with captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["GAP", "caption", "scale_of", "tile"]

GAP = 2
"""Pixels between the images of a picture."""

LEGIBLE = 84
"""Pixels to which the longer side of a smaller image is enlarged: three times MNIST's 28."""

FONT_SIZES = (15, 10)
LARGE_FONT_SIZE = 24
"""Font size in pixels above parts that are at least 300 pixels wide."""


def scale_of(image: Tensor) -> int:
    """Return the whole factor that enlarges an image (..., height, width) to about 84 pixels."""
    return max(1, round(LEGIBLE / max(image.shape[-2:])))


def tile(images: Tensor, *, columns: int, scale: int | None = None) -> Image:
    """Place images row by row, each pixel enlarged to `scale` x `scale`.

    Args:
        images: Images in [-1, 1], shape (N, 1 or 3, height, width); others are clamped.
        columns: Images in a row, at least 1.
        scale: Factor of enlargement, at least 1; that of `scale_of` by default.
    """
    from PIL import Image
    from torch.nn.functional import pad
    from torchvision.utils import make_grid

    scale = scale_of(images) if scale is None else scale
    pixels = images.float().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid = make_grid(pixels, nrow=columns, padding=GAP)
    if len(pixels) == 1:  # `make_grid` leaves out the gap around a single image
        grid = pad(grid, (GAP, GAP, GAP, GAP))
    return Image.fromarray(grid.permute(1, 2, 0).contiguous().numpy())


def caption(picture: Image, *choices: Sequence[str]) -> Image:
    """Return a picture with texts above it, each in the middle of an equal part of its width.

    Args:
        picture: Picture with images of equal width side by side.
        choices: Texts from left to right; the first sequence that fits is written, and none if all
            are too wide.
    """
    from PIL import Image, ImageDraw, ImageFont

    is_wide = picture.width >= 300 * len(choices[0])
    for size in (LARGE_FONT_SIZE, *FONT_SIZES) if is_wide else FONT_SIZES:
        try:
            font = ImageFont.load_default(size)
        except TypeError:  # before Pillow 10.1 there is one size
            font = ImageFont.load_default()
        for texts in choices:
            width = picture.width / len(texts)
            if max(font.getlength(text) for text in texts) > width - 2 * GAP:
                continue
            height = 2 * size
            captioned = Image.new("RGB", (picture.width, picture.height + height), "white")
            captioned.paste(picture, (0, height))
            draw = ImageDraw.Draw(captioned)
            for place, text in enumerate(texts):
                left = (place + 0.5) * width - font.getlength(text) / 2
                draw.text((left, size / 2.5), text, fill="black", font=font)
            return captioned
    return picture
