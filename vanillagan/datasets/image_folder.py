"""Folder of images of any kind and size, as a dataset of one size."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vanillagan.batch import channels_first
from vanillagan.data.in_memory import ByteImages
from vanillagan.validation import check_bool, check_choice, check_integer, check_path, check_size

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_folder"]

Mode: TypeAlias = Literal["RGB", "L"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Formats that are read. Pillow would hand PostScript to Ghostscript, a program of its own."""

MOST_PIXELS = 2**27
"""Largest number of pixels of an image, about 11,500 x 11,500: a file of 21 kB can claim more."""

LARGE = 2**23
"""Number of pixels above which one thread decodes: each would keep hundreds of MB of its own."""

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
    frame of an animation is read. Hidden files and folders (with a leading dot) are ignored, and
    links are followed.

    PNG, JPEG, WebP, GIF, BMP, TIFF and PPM files of up to 2**27 pixels are read, whatever their
    names. All other files, and those that are damaged, are skipped and counted in one warning.

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
    height, width = size = check_size(size)
    channels = check_choice("channels", check_integer("channels", channels, minimum=1), (3, 1))
    labels = check_bool("labels", labels)
    root = check_path("root", root)
    if not root.is_dir():
        raise NotADirectoryError(f"`root` must be a folder of images, got {str(root)!r}")
    paths = list(_visible_files(root))
    parent = root if labels else None
    read = partial(_try_to_read, size=size, channels=channels, no_class=parent)
    # it grows in place, while a tensor for all files would ask for the memory of those skipped, and
    # a list of images for twice the memory
    read_bytes = bytearray()
    broken, kept = [], list[Path]()
    deep: dict[int, Tensor] = {}  # 16-bit images, whose scale is known when all are read
    largest = 0
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # of Pillow, for flawed files that it can read
        for path, image in zip(paths, pool.map(partial(read, most=LARGE), paths), strict=True):
            image = image or read(path)
            if not isinstance(image, tuple):
                broken.append(f"{str(path.relative_to(root))!r} ({image})")
                continue
            pixels, maximum = image
            if pixels.dtype != torch.uint8:
                deep[len(kept)], largest = pixels, max(largest, maximum)
            read_bytes += pixels.to(torch.uint8).numpy().tobytes()
            kept.append(path)
    if not kept:
        first = f", the first of them {broken[0]}" if broken else ""
        raise ValueError(
            f"`root` must contain images, got {str(root)!r} with {len(paths)} files, none of which "
            f"can be read as an image{first}"
        )
    images = torch.frombuffer(read_bytes, dtype=torch.uint8).view(-1, channels, height, width)
    white = next(value for value in WHITES if value >= largest)
    for index, pixels in deep.items():
        images[index] = (pixels * (255 / white)).round().clamp(0, 255)
    if broken:
        warnings.warn(
            f"skipped {len(broken)} of {len(paths)} files under {str(root)!r} that cannot be read "
            f"as images, the first of them {broken[0]}",
            stacklevel=2,
        )
    of_images, classes = _classes_of(kept, paths, root) if labels else (None, [])
    return ByteImages(images, of_images, classes=classes)


def _classes_of(kept: list[Path], paths: list[Path], root: Path) -> tuple[Tensor, list[str]]:
    """Return the class of each path that was kept, and the names of all classes."""
    classes = sorted({path.relative_to(root).parts[0] for path in paths if path.parent != root})
    numbers = [classes.index(path.relative_to(root).parts[0]) for path in kept]
    return torch.tensor(numbers), classes


def to_tensor(image: Image) -> Tensor:
    """Return a grayscale or RGB image as bytes of shape (channels, height, width)."""
    return channels_first(np.array(image))


def _visible_files(root: Path) -> Iterator[Path]:
    """Yield all that is no folder under `root` in the order of paths, following links."""
    stack: list[tuple[Path, tuple[Path, ...]]] = [(root, ())]
    while stack:
        path, parents = stack.pop()
        try:
            inside = sorted(path.iterdir(), reverse=True)
        except OSError:  # a file, a broken link, or a folder that may not be read
            yield path
            continue
        resolved = path.resolve()
        if resolved not in parents:  # else a link to a folder that it is in
            visible = [child for child in inside if not child.name.startswith(".")]
            stack += [(child, (*parents, resolved)) for child in visible]


def _try_to_read(
    path: Path,
    *,
    size: tuple[int, int],
    channels: int,
    no_class: Path | None,
    most: float = math.inf,
) -> tuple[Tensor, int] | str | None:
    """Return an image, as floats if it has 16 bits, and its largest value, or why it can't be read.

    None stands for an image of more than `most` pixels, which is left to another thread.
    """
    from PIL import Image, ImageOps

    if path.parent == no_class:
        return "in no class folder"
    try:
        with _opened(path, 2 * max(size), most) as image:
            largest = 255
            if image.mode.startswith("I"):
                largest, image = _largest(image), image.convert("F")
            else:
                image = _convert(image, "RGB" if channels == 3 else "L")
            fitted = ImageOps.fit(image, size[::-1], Image.Resampling.BICUBIC)
        return to_tensor(fitted).expand(channels, -1, -1), largest
    except MemoryError:
        raise
    except BlockingIOError:
        return None
    except Exception as error:  # decoders raise errors of any type for broken files
        words = f"{type(error).__name__}: {error}".replace(str(path), path.name)
        return repr(words)[1:-1][:120]  # a name can hold what controls a terminal


def open_picture(path: Path, mode: Mode) -> Image:
    """Open an image, rotated by its EXIF orientation, on white; 16 bits are taken as [0, 65535]."""
    from PIL import Image

    with _opened(path) as image:
        if image.mode.startswith("I"):
            _largest(image)
            image = Image.fromarray((np.array(image) / 257).astype(np.uint8))
        return _convert(image, mode)


@contextmanager
def _opened(path: Path, enough: int | None = None, most: float = math.inf) -> Iterator[Image]:
    """Open an image; a large JPEG is decoded at a fraction of its size that has `enough` pixels."""
    from PIL import Image, ImageOps

    if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
        raise ValueError("not a file")
    with Image.open(path, formats=FORMATS) as opened:
        pixels = math.prod(opened.size)
        if pixels > MOST_PIXELS:
            raise ValueError(f"{opened.width} x {opened.height} pixels, more than {MOST_PIXELS:,}")
        if enough is not None:
            opened.draft(None, (enough, enough))
        # a progressive JPEG takes some memory for the pixels of its full size, too
        if max(math.prod(opened.size), pixels // 4) > most:
            raise BlockingIOError
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F":
            raise ValueError("pixels are floats of an unknown range")
        yield image


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
