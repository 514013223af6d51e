"""Small pictures cut from photographs that packages ship."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vanillagan.data import ByteImages
from vanillagan.datasets.folder import as_size, to_tensor
from vanillagan.errors import check_integer, check_seed, require

__all__ = ["PHOTOGRAPHS", "photo_crops"]

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
"""What is cut up, in the order of labels: six of scikit-image, and both of scikit-learn."""

CELLS = 3
"""A photograph has so many rows and columns of cells; those on the diagonal are held out."""

SHARES = 1 / 6, 1 / 4
"""A piece's longer side is from the one to the other share of its photograph's shorter side."""


def photo_crops(
    count: int = 4000, *, size: int | tuple[int, int] = 32, train: bool = True, seed: int = 0
) -> ByteImages:
    """Squares cut at random from eight photographs, a real set of pictures without a download.

    A cat, a woman, coffee, a temple, a dahlia, galaxies, a retina and a stained tissue: pieces of a
    sixth to a quarter of the photograph's side, which overlap. A third of each photograph is held
    out: no pixel of it is in a training picture. Needs the extra `examples`.

    Args:
        count: How many pictures, at least 1; of the photographs in turn.
        size: Height and width, or one number for both, at least 1; pieces have the shape of it.
        train: Pictures from the part to train on, or else from the part held out.
        seed: Fixes the places.

    Returns:
        Images of shape (count, 3, height, width), labelled 0 to 7 by their photograph; in [-1, 1]
        as they are read.

    Raises:
        MissingExtraError: scikit-image or scikit-learn is not installed.
        ValueError, TypeError: An argument is wrong.
    """
    check_integer("count", count, minimum=1)
    height, width = as_size(size)
    rng = np.random.default_rng(check_seed(seed))
    photographs = _photographs()
    labels = torch.arange(count) % len(photographs)
    crops = [_crop(photographs[label], height, width, train, rng) for label in labels.tolist()]
    return ByteImages(torch.stack(crops), labels)


def _photographs() -> list[npt.NDArray[np.uint8]]:
    """The photographs, bytes of shape (height, width, 3)."""
    skimage = require("skimage.data", extra="examples", user="photo_crops")
    sklearn = require("sklearn.datasets", extra="examples", user="photo_crops")
    return [
        *(getattr(skimage, name)() for name in PHOTOGRAPHS[:-2]),
        *(sklearn.load_sample_image(f"{name}.jpg") for name in PHOTOGRAPHS[-2:]),
    ]


def _crop(
    photograph: npt.NDArray[np.uint8],
    height: int,
    width: int,
    train: bool,
    rng: np.random.Generator,
) -> Tensor:
    """A random piece that lies wholly in the part to train on, or wholly in a cell held out."""
    from PIL import Image

    sides = np.array(photograph.shape[:2])
    longest = int(min(sides) * rng.uniform(*SHARES))
    shape = np.maximum(1, longest * np.array([height, width]) // max(height, width))
    fits = False
    while not fits:
        y, x = start = rng.integers(0, sides - shape + 1)
        cells = np.array([start, start + shape - 1]) * CELLS // sides
        (top, left), (bottom, right) = cells
        touches_diagonal = max(top, left) <= min(bottom, right)
        fits = not touches_diagonal if train else top == left == bottom == right
    # cut first: a resize of a part of an image reads a little beyond its border
    piece = Image.fromarray(photograph[y : y + shape[0], x : x + shape[1]])
    return to_tensor(piece.resize((width, height), Image.Resampling.BICUBIC))
