"""Pictures of several kinds of images, each with a caption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor

from vanillagan.callbacks.pictures import caption, tile

SPACE = 12
"""Pixels between two panels."""


def save_panels(
    panels: Mapping[str, Tensor],
    path: Path,
    *,
    columns: int,
    below: bool = False,
) -> None:
    """Save images of several kinds as panels, side by side or below each other.

    Args:
        panels: Images in [-1, 1] by caption, each of shape (N, 1 or 3, height, width).
        path: File to write.
        columns: Images in a row of a panel.
        below: Place the panels below each other.
    """
    pictures = [caption(tile(images, columns=columns), [title]) for title, images in panels.items()]
    widths, heights = ([picture.size[axis] for picture in pictures] for axis in (0, 1))
    space = SPACE * (len(pictures) - 1)
    size = (max(widths), sum(heights)) if below else (sum(widths) + space, max(heights))
    whole = Image.new("RGB", size, "white")
    place = 0
    for picture in pictures:
        whole.paste(picture, (0, place) if below else (place, 0))
        place += picture.height if below else picture.width + SPACE
    whole.save(path)
