"""Batches, byte images and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.conftest import Rows
from vanillagan import Batch, Generator
from vanillagan.data import ByteImages, cached, latent_sampler_of, normal_latent, uniform_latent


def pixels(n: int = 4) -> torch.Tensor:
    return torch.randint(256, (n, 3, 2, 2), dtype=torch.uint8)


# -- Batch -----------------------------------------------------------------------------------------


def test_a_batch_is_a_pair_whose_labels_may_be_missing():
    samples, labels = Batch(torch.zeros(2, 3))
    assert samples.shape == (2, 3)
    assert labels is None


@pytest.mark.parametrize(("parts", "sizes"), [(1, [7]), (2, [4, 3]), (3, [3, 2, 2]), (7, [1] * 7)])
def test_a_batch_splits_into_parts_whose_sizes_differ_by_one_at_most(parts, sizes):
    batch = Batch(torch.arange(7.0)[:, None], torch.arange(7))
    split = batch.split(parts)
    assert [len(part.samples) for part in split] == sizes
    assert torch.cat([part.samples for part in split]).tolist() == batch.samples.tolist()
    for part in split:
        assert part.labels.tolist() == part.samples.flatten().tolist()


def test_an_unlabelled_batch_splits_into_unlabelled_ones():
    assert [part.labels for part in Batch(torch.zeros(4, 2)).split(2)] == [None, None]


def test_batches_join_in_order():
    first = Batch(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 2]))
    second = Batch(torch.tensor([[3.0]]), torch.tensor([3]))
    joined = Batch.join([first, second])
    assert joined.samples.tolist() == [[1], [2], [3]]
    assert joined.labels.tolist() == [1, 2, 3]
    assert Batch.join([Batch(first.samples), Batch(second.samples)]).labels is None
    assert Batch.join([first]) is first


# -- ByteImages ------------------------------------------------------------------------------------


def test_every_byte_becomes_the_float_that_the_source_makes_of_it():
    """The source has ToTensor, byte / 255, and then Normalize(0.5, 0.5)."""
    data = ByteImages(torch.arange(256).to(torch.uint8).view(1, 1, 16, 16))
    expected = (np.arange(256) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(data[0].flatten(), expected, atol=1e-6)
    assert data[0].min() == -1
    assert data[0].max() == 1
    assert data[0].dtype == torch.float32


def test_the_bytes_stay_as_they_are():
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


def test_without_labels_images_come_alone():
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
def test_wrong_images_or_labels_are_named(images, labels, error, message):
    with pytest.raises(error, match=message):
        ByteImages(images, labels)


# -- a cache in memory -----------------------------------------------------------------------------


class Drawn(Rows):
    """Counts how often each sample is read."""

    def __init__(self, rows) -> None:
        super().__init__(rows)
        self.reads = [0] * len(rows)

    def __getitem__(self, index):
        self.reads[index] += 1
        return super().__getitem__(index)


class Stream(IterableDataset):
    """Has a length, but no places."""

    def __len__(self):
        return 1

    def __iter__(self):
        yield torch.zeros(2)


class Flipped(Rows):
    """Turns a row round half of the time."""

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return row.flip(0) if torch.rand(()) < 0.5 else row


@pytest.mark.parametrize("workers", [0, 2])
def test_floats_are_cached_as_floats_with_their_labels(workers):
    samples = torch.rand(600, 3, dtype=torch.float64)
    data = cached(Rows([(sample, index) for index, sample in enumerate(samples)]), workers=workers)
    assert type(data) is TensorDataset
    kept, labels = data.tensors
    assert torch.equal(kept, samples)
    assert kept.dtype == torch.float64
    assert torch.equal(labels, torch.arange(600))


def test_bytes_are_cached_as_bytes():
    images = pixels(5)
    data = cached(Rows([{"image": image, "label": 7} for image in images]))
    assert isinstance(data, ByteImages)
    assert torch.equal(data.images, images)
    assert data.labels.tolist() == [7] * 5
    assert cached(Rows(list(images))).labels is None


def test_each_sample_is_read_once_but_for_the_few_that_show_random_transforms():
    data = Drawn(torch.rand(300, 2))
    cached(data)
    assert sorted(set(data.reads)) == [1, 3]
    assert data.reads.count(1) > 200


def test_a_sample_that_is_not_a_number_is_not_taken_for_a_random_one():
    (samples,) = cached([torch.tensor([float("nan")])])[:]
    assert samples.isnan().all()


def test_caching_leaves_no_trace_in_the_random_state():
    state = torch.get_rng_state()
    cached(Rows(torch.zeros(3, 2)))
    assert torch.equal(torch.get_rng_state(), state)


def changing(place: int, other: torch.Tensor) -> Rows:
    """Samples of shape (3, 2, 2), and from one place on another one."""
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
        (Rows(["a", "b"]), TypeError, "`dataset` must be a dataset that gives tensors, got"),
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
    ids=["empty", "iterable", "strings", "objects", "shape-in-a-batch", "shape", "dtype", "random"],
)
def test_what_cannot_be_cached_is_named(dataset, error, message):
    with pytest.raises(error, match=message):
        cached(dataset)


# -- noise -----------------------------------------------------------------------------------------

every_sampler = pytest.mark.parametrize("make", [normal_latent, uniform_latent])


@every_sampler
@pytest.mark.parametrize("shape", [(100,), (2, 3, 4)], ids=str)
def test_latents_have_the_shape_asked_for(make, shape):
    latent = make(*shape)(5, torch.Generator())
    assert latent.shape == (5, *shape)
    assert latent.dtype == torch.float32


@every_sampler
def test_latents_come_from_the_given_generator_alone(make):
    state = torch.get_rng_state()
    first, second = (make(8)(5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@every_sampler
def test_a_generator_gives_new_latents_at_each_call(make):
    rng = torch.Generator().manual_seed(1)
    assert not torch.equal(make(8)(5, rng), make(8)(5, rng))


@pytest.mark.parametrize(
    ("make", "distribution"),
    [(normal_latent, stats.norm(0, 1)), (uniform_latent, stats.uniform(-1, 2))],
)
def test_latents_follow_their_distribution(make, distribution):
    latent = make(100)(200, torch.Generator().manual_seed(0))
    assert stats.kstest(latent.flatten().numpy(), distribution.cdf).pvalue > 0.01


@every_sampler
@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((0,), ValueError, r"`shape\[0\]` must be a positive integer, got 0"),
        ((2, -1), ValueError, r"`shape\[1\]` must be a positive integer, got -1"),
        ((2.5,), TypeError, r"`shape\[0\]` must be a positive integer, got 2.5"),
        ((), ValueError, "`shape` must have at least one entry"),
    ],
    ids=str,
)
def test_a_wrong_latent_shape_is_named(make, shape, error, message):
    with pytest.raises(error, match=message):
        make(*shape)


def test_a_generators_own_noise_is_normal_of_its_latent_dim():
    latent = latent_sampler_of(Generator(7, (2,)))(3, torch.Generator().manual_seed(0))
    assert torch.equal(latent, torch.randn(3, 7, generator=torch.Generator().manual_seed(0)))


def test_a_network_without_latent_dim_has_no_noise_of_its_own():
    with pytest.raises(
        ValueError, match=r"`latent` must be given for Linear.*normal_latent\(100\)"
    ):
        latent_sampler_of(nn.Linear(2, 2))
