"""Small pictures cut from photographs that scikit-image and scikit-learn ship."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from vanillagan.data import ByteImages
from vanillagan.errors import require

PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "china",
    "flower",
)
"""Photographs that `photo_crops` cuts up, in the order of labels."""

TRAINED_ON = ("flower", "coffee", "rocket", "astronaut", "motorcycle")
UNSEEN = ("china", "chelsea")
"""Photographs that examples/restore.py trains on, and those that it repairs."""

CELLS = 3
"""Number of rows and of columns of cells in a photograph; those on the diagonal are held out."""

SHARES = 1 / 6, 1 / 4
"""Range of a crop's longer side, as a share of its photograph's shorter side."""


def photographs(names: tuple[str, ...]) -> list[npt.NDArray[np.uint8]]:
    """Load photographs as bytes of shape (height, width, 3)."""
    skimage = require("skimage.data", extra="examples", user="photographs")
    sklearn = require("sklearn.datasets", extra="examples", user="photographs")
    others = {
        "china": lambda: sklearn.load_sample_image("china.jpg"),
        "flower": lambda: sklearn.load_sample_image("flower.jpg"),
        "motorcycle": lambda: skimage.stereo_motorcycle()[0],
    }
    return [others.get(name, getattr(skimage, name, None))() for name in names]


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


def photo_crops(
    count: int = 4000, *, size: tuple[int, int] = (32, 32), train: bool = True, seed: int = 0
) -> ByteImages:
    """Cut rectangles at random from eight photographs: a set of pictures without a download.

    The crops overlap. A third of each photograph is held out: none of its pixels is in a training
    picture.

    Args:
        count: Number of crops, of the photographs in turn.
        size: Height and width of the crops after resizing.
        train: Crops from the part for training, else from the part held out.
        seed: Seed of the positions.

    Returns:
        Images of shape (count, 3, height, width), labeled 0 to 7 by their photograph.
    """
    rng = np.random.default_rng(seed)
    pictures = photographs(PHOTOGRAPHS)
    labels = torch.arange(count) % len(pictures)
    crops = [_crop(pictures[label], size, train, rng) for label in labels.tolist()]
    return ByteImages(torch.stack(crops), labels)


def _crop(
    photograph: npt.NDArray[np.uint8], size: tuple[int, int], train: bool, rng: np.random.Generator
) -> Tensor:
    """Cut a crop that lies wholly in the part for training, or wholly in a cell held out."""
    sides = np.array(photograph.shape[:2])
    longest = int(min(sides) * rng.uniform(*SHARES))
    shape = np.maximum(1, longest * np.array(size) // max(size))
    fits = False
    while not fits:
        y, x = start = rng.integers(0, sides - shape + 1)
        cells = np.array([start, start + shape - 1]) * CELLS // sides
        (top, left), (bottom, right) = cells
        touches_diagonal = max(top, left) <= min(bottom, right)
        fits = not touches_diagonal if train else top == left == bottom == right
    # cut before resizing: a resize of a part of an image reads pixels beyond its border
    crop = Image.fromarray(photograph[y : y + shape[0], x : x + shape[1]])
    return as_tensor(np.array(crop.resize(size[::-1], Image.Resampling.BICUBIC)))
