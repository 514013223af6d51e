"""Folder of images of any kind and size, as a dataset of one size."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vanillagan.data.in_memory import ByteImages
from vanillagan.validation import check_choice, check_size

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_folder"]

Mode: TypeAlias = Literal["RGB", "L"]


def image_folder(
    root: str | os.PathLike[str], *, size: int | tuple[int, int], channels: int = 3
) -> ByteImages:
    """Return all images of a folder and its subfolders, as bytes in memory, in the order of paths.

    Each image is rotated by its EXIF orientation, composited on white if it is transparent,
    cropped to the center at the requested aspect ratio, and resized with antialiasing. The first
    frame of an animation is read. Files that cannot be read as images are skipped, and counted in
    one warning. Hidden files and folders (with a leading dot) are ignored.

    Args:
        root: Folder to read.
        size: Height and width, or one number for both, at least 1.
        channels: 3 for color, 1 for grayscale.

    Returns:
        Images of shape (N, channels, height, width), without labels. Items are floats in [-1, 1].

    Raises:
        NotADirectoryError: `root` is not a folder.
        ValueError, TypeError: An argument is invalid, or no file in the folder can be read.
    """
    height, width = check_size(size)
    check_choice("channels", channels, (3, 1))
    if not isinstance(root, str | os.PathLike):
        raise TypeError(f"`root` must be the path of a folder, got {root!r:.80}")
    root = Path(root)
    if not root.is_dir():
        raise NotADirectoryError(f"`root` must be a folder of images, got {str(root)!r}")
    paths = [path for path in sorted(root.rglob("*")) if _is_wanted(path, root)]

    def read(path: Path) -> Tensor | str:
        """Return the image, or the reason why it cannot be read."""
        try:
            return _read(path, height, width, channels)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of any type for broken files
            words = f"{type(error).__name__}: {error}".replace(str(path), path.name)
            return words.replace("\n", " ")[:120]

    images = torch.empty(len(paths), channels, height, width, dtype=torch.uint8)
    count, broken = 0, []
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # of Pillow, for flawed files that it can read
        for path, image in zip(paths, pool.map(read, paths), strict=True):
            if isinstance(image, str):
                broken.append(f"{path.relative_to(root)} ({image})")
            else:
                images[count] = image
                count += 1
    if not count:
        raise ValueError(
            f"`root` must contain images, got {str(root)!r} with {len(paths)} files, none of which "
            "can be read as an image"
        )
    if broken:
        warnings.warn(
            f"skipped {len(broken)} of {len(paths)} files under {root} that cannot be read as "
            f"images, the first of them {broken[0]}",
            stacklevel=2,
        )
    return ByteImages(images[:count])


def to_tensor(image: Image) -> Tensor:
    """Return a grayscale or RGB image as bytes of shape (channels, height, width)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def _is_wanted(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.is_file()


def _read(path: Path, height: int, width: int, channels: int) -> Tensor:
    from PIL import Image, ImageOps

    mode: Mode = "RGB" if channels == 3 else "L"
    image = open_picture(path, mode, enough=2 * max(height, width))
    return to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC))


def open_picture(path: Path, mode: Mode, *, enough: int | None = None) -> Image:
    """Open an image file, rotated by its EXIF orientation and composited on white.

    Args:
        path: Image file of any kind that Pillow reads.
        mode: Mode of the result: "RGB" or "L" (grayscale).
        enough: Number of pixels a side that suffices: a large JPEG is decoded at a fraction of its
            size, which is faster. None decodes at full size.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        if enough is not None:
            opened.draft(None, (enough, enough))
        image = ImageOps.exif_transpose(opened)
    if image.mode == "F":
        raise ValueError("pixels are floats of an unknown range")
    if image.mode.startswith("I"):  # 16-bit grayscale
        image = Image.fromarray((np.array(image) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
