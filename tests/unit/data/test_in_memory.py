"""Byte images, and datasets read into memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.helpers.data import Rows
from vanillagan.data import ByteImages, load_into_memory
from vanillagan.data.in_memory import rows


def pixels(n: int = 4) -> torch.Tensor:
    return torch.randint(256, (n, 3, 2, 2), dtype=torch.uint8)


# -- ByteImages ------------------------------------------------------------------------------------


def test_bytes_become_floats_as_in_the_reference():
    """The reference implementation has ToTensor, byte / 255, and then Normalize(0.5, 0.5)."""
    data = ByteImages(torch.arange(256).to(torch.uint8).view(1, 1, 16, 16))
    expected = (np.arange(256) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(data[0].flatten(), expected, atol=1e-6)
    assert data[0].min() == -1
    assert data[0].max() == 1
    assert data[0].dtype == torch.float32


def test_reading_does_not_change_the_bytes():
    images = pixels()
    before = images.clone()
    data = ByteImages(images)
    data[0], data[:]
    assert torch.equal(data.images, before)
    assert data.images.dtype == torch.uint8


@pytest.mark.parametrize(
    ("index", "shape"),
    [
        (2, (3, 2, 2)),
        (-1, (3, 2, 2)),
        (slice(1, 3), (2, 3, 2, 2)),
        ([3, 0, 0], (3, 3, 2, 2)),
        (torch.tensor([3, 1]), (2, 3, 2, 2)),
    ],
    ids=str,
)
def test_images_are_read_one_by_one_or_by_the_batch(index, shape):
    data = ByteImages(pixels(), torch.tensor([5, 6, 7, 8]))
    samples, labels = data[index]
    assert samples.shape == shape
    torch.testing.assert_close(samples, data.images[index] / 127.5 - 1)
    assert torch.equal(labels, torch.tensor([5, 6, 7, 8])[index])


def test_labels_of_images_are_optional():
    data = ByteImages(pixels())
    assert len(data) == 4
    assert isinstance(data[0], torch.Tensor)


def test_a_dataloader_reads_byte_images():
    data = ByteImages(pixels(5), torch.arange(5))
    samples, labels = next(iter(DataLoader(data, batch_size=3)))
    assert samples.shape == (3, 3, 2, 2)
    assert labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (torch.zeros(4, 3, 2, 2), None, TypeError, "`images` must be .*uint8, got torch.float32"),
        (np.zeros((4, 3, 2, 2), np.uint8), None, TypeError, "`images` must be .*, got ndarray"),
        (pixels()[0], None, ValueError, r"`images` must have the shape .*, got \(3, 2, 2\)"),
        (pixels(), torch.arange(3), ValueError, r"`labels` must have .* \(4,\), got \(3,\)"),
        (pixels(), torch.eye(4).long(), ValueError, r"`labels` must have .* \(4,\), got \(4, 4\)"),
        (pixels(), [0, 1, 2, 3], TypeError, "`labels` must be a tensor of integers, got"),
        (pixels(), torch.zeros(4), TypeError, "`labels` must be a tensor of integers, got"),
    ],
    ids=["floats", "array", "one-image", "too-few", "one-hot", "label-list", "label-floats"],
)
def test_invalid_images_or_labels_are_named(images, labels, error, message):
    with pytest.raises(error, match=message):
        ByteImages(images, labels)


@pytest.mark.parametrize("classes", ["cat", 5, (1, 2), None])
def test_classes_that_are_no_list_of_names_are_refused(classes):
    with pytest.raises(TypeError, match="`classes` must be a list of names, got"):
        ByteImages(pixels(), classes=classes)


# -- load_into_memory ------------------------------------------------------------------------------


class Drawn(Rows):
    """Count how often each sample is read."""

    def __init__(self, rows) -> None:
        super().__init__(rows)
        self.reads = [0] * len(rows)

    def __getitem__(self, index):
        self.reads[index] += 1
        return super().__getitem__(index)


class Stream(IterableDataset):
    """A stream with a length, but without indices."""

    def __len__(self):
        return 1

    def __iter__(self):
        yield torch.zeros(2)


class Flipped(Rows):
    """Reverse a row with probability 1/2."""

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return row.flip(0) if torch.rand(()) < 0.5 else row


@pytest.mark.parametrize("workers", [0, 2])
def test_floats_are_kept_as_floats_with_their_labels(workers):
    samples = torch.rand(600, 3, dtype=torch.float64)
    data = load_into_memory(
        Rows([(sample, index) for index, sample in enumerate(samples)]), workers=workers
    )
    assert type(data) is TensorDataset
    kept, labels = data.tensors
    assert torch.equal(kept, samples)
    assert kept.dtype == torch.float64
    assert torch.equal(labels, torch.arange(600))


def test_bytes_are_kept_as_bytes():
    images = pixels(5)
    data = load_into_memory(Rows([{"image": image, "label": 7} for image in images]))
    assert isinstance(data, ByteImages)
    assert torch.equal(data.images, images)
    assert data.labels.tolist() == [7] * 5
    assert load_into_memory(Rows(list(images))).labels is None


def test_only_probed_samples_are_read_again():
    data = Drawn(torch.rand(300, 2))
    load_into_memory(data)
    assert sorted(set(data.reads)) == [1, 3]
    assert data.reads.count(1) > 200


def test_nan_is_not_taken_for_a_random_transform():
    (samples,) = load_into_memory([torch.tensor([float("nan")])])[:]
    assert samples.isnan().all()


def test_loading_keeps_the_random_state():
    state = torch.get_rng_state()
    load_into_memory(Rows(torch.zeros(3, 2)))
    assert torch.equal(torch.get_rng_state(), state)


def changing(place: int, other: torch.Tensor) -> Rows:
    """Return 300 samples: zeros of shape (3, 2, 2), from index `place` on `other`."""
    return Rows([torch.zeros(3, 2, 2)] * place + [other] * (300 - place))


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (Rows([]), ValueError, "`dataset` must hold at least one sample"),
        (
            Stream(),
            TypeError,
            "`dataset` must be a map-style dataset, got Stream",
        ),
        ({"a": torch.zeros(2)}, TypeError, "`dataset` must be a map-style dataset, got dict"),
        (Rows(["a", "b"]), ValueError, "`dataset` must give tensors of one shape, got: .* str"),
        (Rows([[object()]]), ValueError, "`dataset` must give tensors of one shape, got: .*object"),
        (changing(9, torch.zeros(3, 4, 4)), ValueError, "must give tensors of one shape, got: "),
        (
            changing(256, torch.zeros(1, 2, 2)),
            ValueError,
            r"samples of one shape and dtype, got \(3, 2, 2\) of .*32 and \(1, 2, 2\) of .*32",
        ),
        (changing(256, pixels(1)[0]), ValueError, r"\(3, 2, 2\) of .*32 and \(3, 2, 2\) of .*int8"),
        (Flipped(torch.rand(50, 2)), ValueError, "must give the same sample .* are random"),
    ],
    ids=[
        "empty",
        "iterable",
        "mapping",
        "strings",
        "objects",
        "shape-in-a-batch",
        "shape",
        "dtype",
        "random",
    ],
)
def test_invalid_datasets_are_named(dataset, error, message):
    with pytest.raises(error, match=message):
        load_into_memory(dataset)


def test_each_tensor_is_indexed_on_its_own_device():
    data = TensorDataset(torch.rand(5, 2, device="meta"), torch.arange(5))
    samples, labels = rows(data, torch.tensor([3, 1]))
    assert samples.device.type == "meta"
    assert samples.shape == (2, 2)
    assert labels.tolist() == [3, 1]
