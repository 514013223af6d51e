"""Folders of images from strangers: cut and flipped files, other formats, odd names, huge headers.

A fault is lost if a good file of the same folder is not read, or if the memory grows beyond what
the images take; it has failed if reading ends in an error.
"""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.figures import Figures
from vanillagan.datasets import image_folder

__all__ = ["broken_images"]

SIDE = 16
FOLDERS = 10
"""Folders over which the broken files are spread; each holds two good ones, too."""

LIMIT = 2**26
"""Largest growth of the peak of memory, in bytes, while a folder of small files is read."""

SUFFIXES = ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm")
NAMES = ("\x1b[2J", "a\nb", "%s{0}", "-rf", "x" * 200, "\udcff", "é", "..png", "CON", " ")


def broken_images(long: bool) -> Figures:
    """Read folders of broken images; count those whose reading fails, or costs a good one."""
    figures = Figures()
    rng = random.Random(15)
    total = 500 if long else 60
    for number in range(FOLDERS):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            files = list(make(rng, total // FOLDERS))
            for index, (name, content) in enumerate(files):
                path = root / f"{index:03}{name}"
                path.write_bytes(content)
            _odd_entries(root)
            for name, color in (("000 first.png", 10), ("zzz last.png", 200)):
                Image.new("RGB", (9, 7), (color,) * 3).save(root / name)
            figures.tried += len(files)
            _read(figures, root, f"folder {number}")
    return figures


def _odd_entries(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to(root, target_is_directory=True)
    (root / "nowhere.png").symlink_to("nothing.png")
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe.png")


def _read(figures: Figures, root: Path, name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = _peak()
        try:
            images = image_folder(root, size=SIDE).images
        except Exception as error:
            figures.fail(f"{name}: {type(error).__name__}: {error}")
            return
        growth = _peak() - before
    messages = [str(warning.message) for warning in caught]
    if len(messages) > 1 or not all(message.isprintable() for message in messages):
        figures.fail(f"{name}: warnings {messages!r:.300}")
    means = images.double().mean((1, 2, 3))
    if not (means[0] == 10 and means[-1] == 200):
        figures.fail(f"{name}: a good file was not read", lost=True)
    if growth > LIMIT or images.untyped_storage().nbytes() > 2 * images.nbytes:
        figures.fail(f"{name}: the memory grew by {growth:,} bytes", lost=True)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make(rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of broken files."""
    whole = dict(_good(rng))
    for index in range(count):
        suffix = rng.choice(SUFFIXES)
        content = bytearray(whole[suffix])
        kind = index % 5
        if kind == 0:
            content = content[: rng.randrange(len(content))]
        elif kind == 1:
            for _ in range(rng.choice((1, 3, 30))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            content = bytearray(rng.choice(_others()))
        elif kind == 3:
            content = bytearray(_claiming(rng.choice((12_000, 30_000, 2**31 - 1))))
        else:
            suffix = rng.choice(SUFFIXES)  # another format than the name says
        yield f"{rng.choice(NAMES)}.{suffix}", bytes(content)


def _good(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    noise = np.frombuffer(rng.randbytes(24 * 20 * 3), dtype=np.uint8).reshape(24, 20, 3)
    for suffix in SUFFIXES:
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
        Image.fromarray(noise).save(buffer, kind)
        yield suffix, buffer.getvalue()


def _others() -> list[bytes]:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    pdf, svg = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    return [b"", b"\0" * 4096, b"notes", postscript, pdf, svg, b"GIF89a", b"BM", b"II*\0", b"P6 9"]


def _claiming(side: int) -> bytes:
    """Return a PNG whose header claims to be of `side` x `side` pixels, and that is not damaged."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        parts += [struct.pack(">I", len(content)), kind, content, crc]
    return b"".join(parts)
