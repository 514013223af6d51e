"""A small MNIST in torchvision's file layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PREFIXES = {"train": "train", "test": "t10k"}


def write_mnist(root: Path, *, train: int = 12, test: int = 5) -> dict[str, np.ndarray]:
    """Writes a small MNIST in torchvision's layout, of blobs whose place tells the label."""
    rng = np.random.default_rng(0)
    images = {}
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        pixels = rng.integers(0, 40, (count, 28, 28), dtype=np.uint8)
        for number, label in enumerate(labels):
            pixels[number, 4 + 2 * label : 8 + 2 * label, 6:22] = 255
        images[part] = pixels
        _write_idx(raw / f"{PREFIXES[part]}-images-idx3-ubyte", pixels)
        _write_idx(raw / f"{PREFIXES[part]}-labels-idx1-ubyte", labels.astype(np.uint8))
    return images


def _write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">i4").tobytes()
    path.write_bytes(header + values.tobytes())
