"""Folder of images of any kind and size, as a dataset of one size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vanillagan.batch import channels_first
from vanillagan.data.in_memory import ByteImages
from vanillagan.validation import check_choice, check_path, check_size

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_folder"]

Mode: TypeAlias = Literal["RGB", "L"]

WHITES = (255, 1023, 4095, 65535)
"""Largest values of the depths that 16-bit images are used for: 8, 10, 12 and 16 bits."""


def image_folder(
    root: str | os.PathLike[str],
    *,
    size: int | tuple[int, int],
    channels: int = 3,
    labels: bool = False,
) -> ByteImages:
    """Return all images of a folder and its subfolders, as bytes in memory, in the order of paths.

    Each image is rotated by its EXIF orientation, composited on white if it is transparent,
    cropped to the center at the requested aspect ratio, and resized with antialiasing. The first
    frame of an animation is read. Files that cannot be read as images are skipped, and counted in
    one warning. Hidden files and folders (with a leading dot) are ignored, and links are followed.

    16-bit grayscale images share one scale: white is the smallest of 255, 1023, 4095 and 65535 that
    no value of any of them exceeds, so that 12-bit values in 16-bit files keep their range. Images
    of floats, or of integers outside of [0, 65535], have no known range and are skipped.

    Args:
        root: Folder to read.
        size: Height and width, or one number for both, at least 1.
        channels: 3 for color, 1 for grayscale.
        labels: Label each image with its class: `root` holds a folder for each class, numbered from
            0 in the order of their names, as torchvision's ImageFolder does.

    Returns:
        Images of shape (N, channels, height, width), with labels if they are asked for, and the
        names of the classes as the attribute `classes`. Items are floats in [-1, 1].

    Raises:
        NotADirectoryError: `root` is not a folder.
        ValueError, TypeError: An argument is invalid, or no file in the folder can be read.
    """
    height, width = check_size(size)
    check_choice("channels", channels, (3, 1))
    root = check_path("root", root)
    if not root.is_dir():
        raise NotADirectoryError(f"`root` must be a folder of images, got {str(root)!r}")
    paths = list(_visible_files(root))
    parent = root if labels else None
    read = partial(_try_to_read, size=(height, width), channels=channels, no_class=parent)
    images = torch.empty(len(paths), channels, height, width, dtype=torch.uint8)
    count, broken, kept = 0, [], list[Path]()
    deep: dict[int, Tensor] = {}  # 16-bit images, whose scale is known when all are read
    largest = 0
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # of Pillow, for flawed files that it can read
        for path, image in zip(paths, pool.map(read, paths), strict=True):
            if isinstance(image, str):
                broken.append(f"{path.relative_to(root)} ({image})")
                continue
            pixels, maximum = image
            if pixels.dtype == torch.uint8:
                images[count] = pixels
            else:
                deep[count], largest = pixels, max(largest, maximum)
            kept.append(path)
            count += 1
    if not count:
        first = f", the first of them {broken[0]}" if broken else ""
        raise ValueError(
            f"`root` must contain images, got {str(root)!r} with {len(paths)} files, none of which "
            f"can be read as an image{first}"
        )
    white = next(value for value in WHITES if value >= largest)
    for index, pixels in deep.items():
        images[index] = (pixels * (255 / white)).round().clamp(0, 255)
    if broken:
        warnings.warn(
            f"skipped {len(broken)} of {len(paths)} files under {root} that cannot be read as "
            f"images, the first of them {broken[0]}",
            stacklevel=2,
        )
    of_images, classes = _classes_of(kept, paths, root) if labels else (None, [])
    return ByteImages(images[:count], of_images, classes=classes)


def _classes_of(kept: list[Path], paths: list[Path], root: Path) -> tuple[Tensor, list[str]]:
    """Return the class of each path that was kept, and the names of all classes."""
    classes = sorted({path.relative_to(root).parts[0] for path in paths if path.parent != root})
    numbers = [classes.index(path.relative_to(root).parts[0]) for path in kept]
    return torch.tensor(numbers), classes


def to_tensor(image: Image) -> Tensor:
    """Return a grayscale or RGB image as bytes of shape (channels, height, width)."""
    return channels_first(np.array(image))


def _visible_files(folder: Path, parents: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders in the order of paths, following links."""
    resolved = folder.resolve()
    if resolved in parents:  # a link to a folder that it is in
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _visible_files(path, (*parents, resolved))
        elif path.is_file():
            yield path


def _try_to_read(
    path: Path, *, size: tuple[int, int], channels: int, no_class: Path | None
) -> tuple[Tensor, int] | str:
    """Return the image and its largest value, or the reason why it cannot be read."""
    if path.parent == no_class:
        return "in no class folder"
    try:
        return _read(path, *size, channels)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise errors of any type for broken files
        words = f"{type(error).__name__}: {error}".replace(str(path), path.name)
        return words.replace("\n", " ")[:120]


def _read(path: Path, height: int, width: int, channels: int) -> tuple[Tensor, int]:
    """Return an image as bytes, or as floats if it has 16 bits, and its largest value."""
    from PIL import Image, ImageOps

    mode: Mode = "RGB" if channels == 3 else "L"
    image = _open(path, enough=2 * max(height, width))
    largest = 255
    if image.mode.startswith("I"):
        largest, image = _largest(image), image.convert("F")
    else:
        image = _convert(image, mode)
    fitted = to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC))
    return fitted.expand(channels, -1, -1), largest


def open_picture(path: Path, mode: Mode, *, enough: int | None = None) -> Image:
    """Open an image file, rotated by its EXIF orientation and composited on white.

    Args:
        path: Image file of any kind that Pillow reads. 16 bits are taken as [0, 65535].
        mode: Mode of the result: "RGB" or "L" (grayscale).
        enough: Number of pixels a side that suffices: a large JPEG is decoded at a fraction of its
            size, which is faster. None decodes at full size.
    """
    from PIL import Image

    image = _open(path, enough)
    if image.mode.startswith("I"):
        _largest(image)
        image = Image.fromarray((np.array(image) / 257).astype(np.uint8))
    return _convert(image, mode)


def _open(path: Path, enough: int | None) -> Image:
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        if enough is not None:
            opened.draft(None, (enough, enough))
        image = ImageOps.exif_transpose(opened)
    if image.mode == "F":
        raise ValueError("pixels are floats of an unknown range")
    return image


def _convert(image: Image, mode: Mode) -> Image:
    """Return an image of 8 bits in the given mode, on white if it is transparent."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _largest(image: Image) -> int:
    """Return the largest value of an image of integers; raise if it does not have 16 bits."""
    pixels = np.array(image)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ValueError(
            f"pixels are integers from {low} to {high}, of an unknown range: save them as 8 or 16 "
            "bits"
        )
    return high
