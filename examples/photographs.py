"""Small pictures cut from photographs that scikit-image and scikit-learn ship."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vanillagan.data import ByteImages
from vanillagan.errors import require

TRAINED_ON = ("flower", "coffee", "rocket", "astronaut", "motorcycle")
UNSEEN = ("china", "chelsea")
"""Photographs that examples/restore.py trains on, and those that it repairs."""


def photographs(names: tuple[str, ...]) -> list[npt.NDArray[np.uint8]]:
    """Load photographs as bytes of shape (height, width, 3)."""
    skimage = require("skimage.data", extra="examples", user="photographs")
    sklearn = require("sklearn.datasets", extra="examples", user="photographs")
    loaders = {
        "astronaut": skimage.astronaut,
        "chelsea": skimage.chelsea,
        "china": lambda: sklearn.load_sample_image("china.jpg"),
        "coffee": skimage.coffee,
        "flower": lambda: sklearn.load_sample_image("flower.jpg"),
        "motorcycle": lambda: skimage.stereo_motorcycle()[0],
        "rocket": skimage.rocket,
    }
    return [loaders[name]() for name in names]


def as_tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Convert bytes (height, width, 3) to a tensor (3, height, width)."""
    return torch.tensor(np.asarray(pixels)).permute(2, 0, 1)


def as_floats(pixels: Tensor) -> Tensor:
    """Convert bytes to floats in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def photo_patches(
    names: tuple[str, ...], count: int, *, size: tuple[int, int], seed: int = 0
) -> ByteImages:
    """Cut patches from anywhere in the photographs, half of them flipped: (count, 3, *size)."""
    rng = torch.Generator().manual_seed(seed)
    images = [as_tensor(pixels) for pixels in photographs(names)]
    height, width = size
    patches = []
    for index in range(count):
        image = images[index % len(images)]
        top, left = (
            int(torch.randint(side - length + 1, (), generator=rng))
            for side, length in zip(image.shape[1:], size, strict=True)
        )
        patch = image[:, top : top + height, left : left + width]
        patches.append(patch.flip(2) if index // len(images) % 2 else patch)
    return ByteImages(torch.stack(patches))
