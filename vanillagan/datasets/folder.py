"""A folder of pictures of any kind, as images of one size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vanillagan.data import ByteImages
from vanillagan.errors import check_choice, check_integer, check_integers

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_folder"]

Mode: TypeAlias = Literal["RGB", "L"]


def image_folder(
    root: str | os.PathLike[str], *, size: int | tuple[int, int], channels: int = 3
) -> ByteImages:
    """All pictures in a folder and the folders in it, as bytes in memory, in the order of paths.

    Each is turned as its EXIF data says, laid on white where it is transparent, cut to the middle
    part of the wanted shape and resized with antialiasing. Of an animation the first frame is read.
    Files that are no pictures, or broken ones, are skipped: one warning counts them. Hidden files
    and folders, of a name that begins with a dot, are passed over.

    Args:
        root: The folder.
        size: Height and width, or one number for both, at least 1.
        channels: 3 for colours, 1 for grey.

    Returns:
        Images of shape (N, channels, height, width), without labels; in [-1, 1] as they are read.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError, TypeError: An argument is wrong, or no file in the folder can be read.
    """
    height, width = as_size(size)
    check_choice("channels", channels, (3, 1))
    if not isinstance(root, str | os.PathLike):
        raise TypeError(f"`root` must be the path of a folder, got {root!r:.80}")
    root = Path(root)
    if not root.is_dir():
        raise NotADirectoryError(f"`root` must be a folder of pictures, got {str(root)!r}")
    paths = [path for path in sorted(root.rglob("*")) if _is_wanted(path, root)]

    def read(path: Path) -> Tensor | str:
        """The picture, or why it can't be read."""
        try:
            return _read(path, height, width, channels)
        except MemoryError:
            raise
        except Exception as error:  # decoders meet broken bytes with errors of any kind
            words = f"{type(error).__name__}: {error}".replace(str(path), path.name)
            return words.replace("\n", " ")[:120]

    images = torch.empty(len(paths), channels, height, width, dtype=torch.uint8)
    count, broken = 0, []
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # Pillow's, of files that it can read in spite of flaws
        for path, image in zip(paths, pool.map(read, paths), strict=True):
            if isinstance(image, str):
                broken.append(f"{path.relative_to(root)} ({image})")
            else:
                images[count] = image
                count += 1
    if not count:
        raise ValueError(
            f"`root` must hold pictures, got {str(root)!r} with {len(paths)} files, none of which "
            "can be read as one"
        )
    if broken:
        warnings.warn(
            f"skipped {len(broken)} of {len(paths)} files under {root} that can't be read as "
            f"pictures, the first of them {broken[0]}",
            stacklevel=2,
        )
    return ByteImages(images[:count])


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, from both or from one number for both; or raises."""
    if not isinstance(size, Sequence):
        side = check_integer("size", size, minimum=1)
        return side, side
    sides = check_integers("size", size)
    if len(sides) != 2:
        raise ValueError(f"`size` must be a number or (height, width), got {size}")
    return sides[0], sides[1]


def to_tensor(image: Image) -> Tensor:
    """A grey or RGB picture as bytes, shape (channels, height, width)."""
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
    """A picture of any kind, turned as its EXIF data says, and on white where it is transparent.

    A large JPEG is decoded at a fraction of its size, where sides of `enough` pixels are enough.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        if enough is not None:
            opened.draft(None, (enough, enough))
        image = ImageOps.exif_transpose(opened)
    if image.mode == "F":
        raise ValueError("pixels are floats of an unknown range")
    if image.mode.startswith("I"):  # grey of 16 bits
        image = Image.fromarray((np.array(image) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
