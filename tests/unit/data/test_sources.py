"""Batch sources of tensors, loaders and iterables."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from tests.helpers.data import OwnRows, Rows
from vanillagan import Batch, Callback, Generator
from vanillagan.compatibility import check_batch
from vanillagan.data import ByteImages
from vanillagan.data.epoch_sampler import EpochSampler
from vanillagan.data.sources import BatchSource, open_source


class Numbers(Dataset):
    """Samples 0, 1, 2, ... of shape (1,)."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index)])


class Jittered(Numbers):
    """Numbers with noise of all three global random states."""

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, float(torch.rand(())), np.random.rand(), random.random()])


class Stream(IterableDataset):
    """The numbers as a stream without a length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Tensor]:
        yield from (torch.tensor([float(index)]) for index in range(self.length))


def jitter(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows) + torch.rand(len(rows), 1)


def numbers(length: int) -> Tensor:
    return torch.arange(length, dtype=torch.float32).view(-1, 1)


def source_of(data: Any, *, batch_size: int = 4, **options: Any) -> BatchSource:
    """Return the batch source of `data`, with options of its epoch sampler."""
    return open_source(data, EpochSampler(0, **options), batch_size=batch_size)


def read(
    data: Any,
    *,
    epoch: int = 0,
    skip: int = 0,
    batch_size: int = 4,
    smallest_batch: int = 1,
) -> list[list[int]]:
    """Return the numbers in each batch of an epoch."""
    source = source_of(data, batch_size=batch_size, smallest_batch=smallest_batch)
    return [batch.samples.flatten().tolist() for batch in source.batches(epoch, skip=skip)]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


class Seen(Callback):
    """Keep the samples of each step."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def on_step_start(self, trainer, batch):
        self.batches.append(batch.samples)


# -- in memory -------------------------------------------------------------------------------------


def test_all_map_style_data_are_read_in_one_order():
    expected = read(numbers(21), epoch=2)
    assert read(TensorDataset(numbers(21)), epoch=2) == expected
    assert read(Numbers(21), epoch=2) == expected
    assert read(DataLoader(Numbers(21), batch_size=4, shuffle=True), epoch=2) == expected
    assert flat(expected) != list(range(21))


def test_labels_stay_with_their_samples():
    images = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1)
    for samples, labels in source_of(ByteImages(images, torch.arange(9))).batches(2):
        assert torch.allclose((samples.flatten() + 1) * 127.5, labels.float())
    for samples, labels in source_of(TensorDataset(numbers(9), torch.arange(9))).batches(2):
        assert torch.equal(samples.flatten(), labels.float())


def test_memory_mapped_files_are_read_by_the_batch(tmp_path):
    """A sparse file of 100 GB: it fits on any disk, but not into memory."""
    shape = (100_000, 1, 1000, 1000)
    path, size = tmp_path / "images", math.prod(shape)
    with path.open("wb") as file:
        file.truncate(size)
    mapped = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
    source = source_of(ByteImages(mapped.view(shape)))
    samples = next(source.batches(0)).samples
    assert samples.shape == (4, 1, 1000, 1000)
    assert bool((samples == -1).all())


class Indexing(TorchDispatchMode):
    """Count the operations that index tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"index_select": 0, "index": 0, "select": 0}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        if name in self.counts:
            self.counts[name] += 1
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("data", "tensors"),
    [
        pytest.param(numbers(40), 1, id="a tensor"),
        pytest.param(TensorDataset(numbers(40), torch.arange(40)), 2, id="a TensorDataset"),
        pytest.param(
            ByteImages(torch.zeros(40, 1, 2, 2, dtype=torch.uint8), torch.arange(40)),
            2,
            id="byte images",
        ),
    ],
)
def test_memory_is_indexed_once_for_a_batch(data, tensors):
    source = source_of(data, batch_size=8)
    with Indexing() as indexing:
        assert len(list(source.batches(0))) == 5
    assert indexing.counts == {"index_select": 5 * tensors, "index": 0, "select": 0}


def test_getitem_of_a_tensor_dataset_subclass_is_used():
    class Doubled(TensorDataset):
        def __getitem__(self, index: int) -> Tensor:
            assert isinstance(index, int)
            return super().__getitem__(index)[0] * 2

    assert read(Doubled(numbers(6)), batch_size=4) == [
        [2 * number for number in batch] for batch in read(numbers(6), batch_size=4)
    ]


def test_arrays_are_read_as_tensors():
    assert read(numbers(21).numpy(), epoch=2) == read(numbers(21), epoch=2)
    reversed_big_endian = numbers(21).numpy().astype(">f8")[::-1]
    assert sorted(flat(read(reversed_big_endian))) == list(range(21))


def test_mapped_arrays_are_read_by_the_batch(tmp_path):
    """A sparse file of 100 GB, opened read-only."""
    shape = (100_000, 250_000)
    np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=shape)
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    path, size = str(tmp_path / "x.npy"), math.prod(shape)
    mapped = torch.from_file(path, shared=True, size=size)  # its header as values, too
    for data in (array, TensorDataset(mapped.view(shape))):
        assert len(next(source_of(data).batches(0)).samples) == 4


# -- the last batch --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda points: points, id="a tensor"),
        pytest.param(Rows, id="a Dataset"),
        pytest.param(lambda points: DataLoader(points, batch_size=4), id="a DataLoader"),
        pytest.param(lambda points: points.split(4), id="batches"),
        pytest.param(lambda points: iter(points.split(4)), id="an iterator"),
    ],
)
@pytest.mark.parametrize(
    ("hidden", "sizes"),
    [pytest.param((8, 8), [4, 4], id="BatchNorm"), pytest.param((8,), [4, 4, 1], id="without")],
)
def test_batch_norm_drops_a_last_batch_of_one_sample(points, make_trainer, data, hidden, sizes):
    seen = Seen()
    trainer = make_trainer(hidden=hidden, callbacks=[seen])
    trainer.fit(data(points[:9]), max_epochs=1, batch_size=4)
    assert [len(batch) for batch in seen.batches] == sizes
    assert trainer.progress.epoch == 1


def test_drop_last_leaves_out_a_partial_batch():
    loader = DataLoader(Numbers(11), batch_size=4, shuffle=True, drop_last=True)
    source = source_of(loader, batch_size=99)
    assert source.batches_per_epoch == 2
    assert [len(batch.samples) for batch in source.batches(0)] == [4, 4]


def test_batches_left_over_by_discriminator_steps(points, make_trainer):
    seen = Seen()
    trainer = make_trainer(discriminator_steps=2, callbacks=[seen])
    trainer.fit(points[:20], max_epochs=2, batch_size=4)
    assert [len(batch) for batch in seen.batches] == [8, 8, 8, 8]
    assert (trainer.progress.step, trainer.progress.epoch) == (4, 2)


# -- single samples and batches --------------------------------------------------------------------


class Images(Generator):
    """A generator of images of shape (channels, height, width)."""

    def __init__(self, *sample_shape: int) -> None:
        super().__init__(2, sample_shape, hidden=(2,))


def picture(index: int, *, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> Image.Image:
    return Image.new("RGB", size, (index, index, index)).convert(mode)


def first_batch(data: Any, generator: nn.Module | None = None, **options: Any) -> Batch:
    """Return the first batch as the trainer prepares it."""
    source = open_source(data, EpochSampler(0, **options), batch_size=4, generator=generator)
    return check_batch(next(source.batches(0)), generator or Images(3, 4, 5), smallest=1)


PIXELS = np.arange(8, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(5, 2).repeat(3, 3)
IMAGES = {
    "Pillow images": [picture(index) for index in range(8)],
    "tuples of Pillow images": tuple(picture(index) for index in range(8)),
    "pairs": [(picture(index), index) for index in range(8)],
    "pairs with text": [(picture(index), "text" * index) for index in range(8)],
    "mappings": [{"id": str(index), "png": picture(index)} for index in range(8)],
    "arrays": list(PIXELS),
    "one array": PIXELS,
    "channels first": PIXELS.transpose(0, 3, 1, 2),
    "floats": list(torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 127.5 - 1),
    "no base class": OwnRows(PIXELS),
    "generator": (picture(index) for index in range(8)),
    "loader": DataLoader([picture(index) for index in range(8)], batch_size=4, shuffle=True),
    "batches of Pillow images": [[picture(index) for index in range(k, k + 4)] for k in (0, 4)],
    "batches of arrays": [PIXELS[:4], PIXELS[4:]],
}


@pytest.mark.parametrize("data", IMAGES.values(), ids=IMAGES)
def test_images_of_any_kind_are_floats_with_channels_first(data):
    samples = first_batch(data, Images(3, 4, 5)).samples
    assert samples.shape == (4, 3, 4, 5)
    levels = (samples[:, 0, 0, 0] + 1) * 127.5
    assert len({round(level, 3) for level in levels.tolist()}) == 4
    torch.testing.assert_close(samples, levels.view(4, 1, 1, 1).expand_as(samples) / 127.5 - 1)
    assert levels.min() >= -0.001
    assert levels.max() < 7.001


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA"])
def test_modes_of_images(mode):
    channels = {"L": 1, "1": 1, "P": 3, "RGBA": 4}[mode]
    data = [picture(255, mode=mode)] * 4
    samples = first_batch(data, Images(channels, 4, 5)).samples
    assert torch.equal(samples, torch.ones(4, channels, 4, 5))


def test_gray_images_may_lack_the_channel():
    assert first_batch(PIXELS[..., 0], Images(1, 4, 5)).samples.shape == (4, 1, 4, 5)
    assert first_batch(list(PIXELS[..., 0]), Images(1, 4, 5)).samples.shape == (4, 1, 4, 5)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            [picture(0), picture(1, size=(9, 4))] * 2,
            ValueError,
            r"one shape, got \(3, 4, .\) and \(3, 4, .\): give images one mode .* `Resize",
        ),
        (
            [Image.fromarray(np.zeros((4, 5), np.uint16))] * 4,
            TypeError,
            r"got a Pillow image of mode 'I;16': convert it .* / 32767.5 - 1` for 16 bits",
        ),
        (
            torch.zeros(4, 3, 4, 5, dtype=torch.int16),
            TypeError,
            r"got samples of torch.int16: scale the range that the values use",
        ),
        (
            [[0.5, 0.5]] * 4,
            TypeError,
            "`batch` must be .*; convert lists of numbers with `torch.tensor`",
        ),
        (
            list(torch.zeros(8, 7)),
            ValueError,
            r"a tensor \(7,\) is neither a batch \(N, 3, 4, 5\) nor a single sample",
        ),
    ],
    ids=["sizes", "16-bit Pillow images", "16 bits", "lists of numbers", "neither"],
)
def test_samples_that_are_refused_come_with_a_remedy(data, error, message):
    with pytest.raises(error, match=message):
        first_batch(data, Images(3, 4, 5))


def test_lists_of_samples_and_of_batches_are_told_by_their_shapes():
    generator = Generator(2, (1,), hidden=(2,))

    def sizes(data: Any) -> list[int]:
        source = open_source(data, EpochSampler(0), batch_size=4, generator=generator)
        assert source.batches_per_epoch in (2, None)
        return [len(batch.samples) for batch in source.batches(0)]

    assert sizes(list(numbers(8))) == [4, 4]
    assert sizes(list(numbers(10).split(5))) == [5, 5]
    assert sizes(iter(numbers(8))) == [4, 4]
    assert sizes(iter(numbers(10).split(5))) == [5, 5]
    assert sizes([(row, 3) for row in numbers(8)]) == [4, 4]


class Batches(Stream):
    def __iter__(self) -> Iterator[Tensor]:
        yield from numbers(self.length).split(5)

    def __len__(self) -> int:
        return -(-self.length // 5)


def test_streams_of_batches_are_told_by_their_shapes():
    generator = Generator(2, (1,), hidden=(2,))
    source = open_source(Batches(10), EpochSampler(0), batch_size=4, generator=generator)
    assert source.batches_per_epoch == 2
    assert [len(batch.samples) for batch in source.batches(0)] == [5, 5]


def test_labels_that_no_network_reads_may_be_of_any_kind():
    rows = [
        (torch.zeros(3, 4, 5), {"boxes": torch.zeros(index, 4), "name": None}) for index in range(8)
    ]
    for count in (1, 2):
        batch = first_batch(rows, Images(3, 4, 5), batches_per_step=count)
        assert batch.samples.shape == (4 * count, 3, 4, 5)
        assert batch.labels is None


# -- DataLoaders -----------------------------------------------------------------------------------


def test_a_loader_brings_batch_size_and_collate_fn():
    loader = DataLoader(
        Numbers(6), batch_size=3, collate_fn=lambda rows: torch.stack(rows) + 100, shuffle=True
    )
    batches = read(loader, batch_size=99)
    assert [len(batch) for batch in batches] == [3, 3]
    assert sorted(flat(batches)) == [100, 101, 102, 103, 104, 105]


def test_a_loader_without_shuffle_keeps_the_order():
    loader = DataLoader(Numbers(10), batch_size=4)
    for epoch in (0, 1):
        assert read(loader, epoch=epoch) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert read(loader, skip=1) == [[4, 5, 6, 7], [8, 9]]


def test_a_subset_is_read_by_its_own_indices():
    batches = read(Subset(Numbers(100), [3, 50, 99]))
    assert sorted(flat(batches)) == [3, 50, 99]


@pytest.mark.parametrize("collate_fn", [None, jitter], ids=["transform", "transform and collate"])
def test_random_transforms_do_not_depend_on_workers(collate_fn):
    def batches(workers: int, skip: int) -> list[list[int]]:
        torch.manual_seed(workers + skip)
        loader = DataLoader(
            Jittered(12), batch_size=4, shuffle=True, num_workers=workers, collate_fn=collate_fn
        )
        return read(loader, epoch=1, skip=skip)

    alone = batches(0, 0)
    assert batches(1, 0) == alone
    assert batches(2, 1) == alone[1:]


def test_random_transforms_differ_by_epoch_and_sample():
    def noise(epoch: int) -> list[float]:
        batches = source_of(DataLoader(Jittered(8), batch_size=4)).batches(epoch)
        return torch.cat([batch.samples for batch in batches])[:, 1:].flatten().tolist()

    assert len({*noise(0), *noise(1)}) == 2 * 8 * 3


def test_persistent_workers_read_each_epochs_order():
    loader = DataLoader(
        Numbers(12), batch_size=4, shuffle=True, num_workers=1, persistent_workers=True
    )
    source = source_of(loader)
    epochs = [[b.samples.flatten().tolist() for b in source.batches(e)] for e in (0, 1)]
    assert epochs == [read(numbers(12), epoch=0), read(numbers(12), epoch=1)]


def global_states() -> list[Any]:
    _, keys, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), keys.tolist(), rest, random.getstate()]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(numbers(12), id="a tensor"),
        pytest.param(Jittered(12), id="a Dataset"),
        pytest.param(DataLoader(Jittered(12), batch_size=4, shuffle=True), id="a DataLoader"),
        pytest.param(
            DataLoader(Jittered(12), batch_size=4, shuffle=True, collate_fn=jitter),
            id="a DataLoader with a random collate_fn",
        ),
        pytest.param(
            DataLoader(Jittered(12), 4, sampler=WeightedRandomSampler(torch.ones(12), 12)),
            id="a weighted sampler",
        ),
        pytest.param(DataLoader(Stream(12), batch_size=4), id="a stream"),
    ],
)
def test_reading_keeps_the_global_random_states(data):
    before = global_states()
    for _ in source_of(data).batches(0):
        assert global_states() == before
    assert global_states() == before


# -- iterables -------------------------------------------------------------------------------------


def test_an_iterable_is_read_in_its_order():
    batches = list(numbers(10).split(4))
    assert read(batches) == read(tuple(batches)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert read(batches, skip=2) == [[8, 9]]


def test_a_stream_in_a_loader_is_read_in_each_epoch():
    loader = DataLoader(Stream(6), batch_size=4)
    assert read(loader) == read(loader, epoch=1) == [[0, 1, 2, 3], [4, 5]]
    assert source_of(loader).batches_per_epoch is None


def test_a_stream_of_samples_is_read_by_the_batch(make_trainer):
    assert read(Stream(6)) == read(Stream(6), epoch=1) == [[0, 1, 2, 3], [4, 5]]
    assert read(Stream(6), skip=1) == [[4, 5]]
    assert source_of(Stream(6)).batches_per_epoch is None
    parts = [source_of(Stream(6), rank=rank, world_size=2) for rank in (0, 1)]
    assert [[len(batch) for batch in part.batches(0)] for part in parts] == [[2, 2, 2]] * 2
    with pytest.raises(
        ValueError, match=r"`batch_size` must be a multiple of the world size 2, got 5"
    ):
        source_of(Stream(6), world_size=2, batch_size=5)


def test_another_batch_size_restarts_a_stream(make_trainer):
    class Pairs(Stream):
        def __iter__(self) -> Iterator[Tensor]:
            yield from (sample.repeat(2) / self.length - 0.5 for sample in super().__iter__())

    seen = Seen()
    trainer = make_trainer(callbacks=[seen])
    trainer.fit(Pairs(12), max_steps=1, batch_size=4)
    with pytest.warns(UserWarning, match="restarting the current epoch"):
        trainer.fit(Pairs(12), max_epochs=1, batch_size=6)
    assert [len(batch) for batch in seen.batches] == [4, 6, 6]
    assert torch.equal(torch.cat(seen.batches[1:])[:, 0], torch.arange(12) / 12 - 0.5)


def test_a_loader_of_a_stream_of_batches_is_iterated():
    class Batches(Stream):
        def __iter__(self) -> Iterator[Tensor]:
            yield from numbers(self.length).split(3)

    assert read(DataLoader(Batches(7), batch_size=None)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_an_iterator_is_read_on_from_where_it_is(points, make_trainer):
    seen = Seen()
    trainer = make_trainer(callbacks=[seen])
    batches = iter(points.split(50))
    trainer.fit(batches, max_steps=1)
    trainer.fit(batches, max_steps=3)
    assert (trainer.progress.epoch, trainer.progress.step) == (0, 3)
    trainer.fit(batches, max_epochs=1)
    assert (trainer.progress.epoch, trainer.progress.step) == (1, 4)
    assert torch.equal(torch.cat(seen.batches), points)


class Sized(Stream):
    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize(
    ("data", "batches"),
    [
        pytest.param(DataLoader(Numbers(9), 4, sampler=[*range(9)]), 2, id="a sampler"),
        pytest.param(DataLoader(Numbers(9), 4, sampler=[*range(8)]), 2, id="a shorter sampler"),
        pytest.param(DataLoader(Numbers(9), 4, sampler=[*range(6)]), 2, id="half a batch"),
        pytest.param(
            DataLoader(Numbers(9), 4, sampler=[*range(9)], drop_last=True), 2, id="drop_last"
        ),
        pytest.param(DataLoader(Sized(9), 4), 2, id="a stream in a loader"),
        pytest.param(Sized(9), 2, id="a stream"),
        pytest.param(list(numbers(9).split(4)), 2, id="a list"),
        pytest.param([*numbers(8).split(4), {"samples": numbers(1)}], 2, id="a list of kinds"),
    ],
)
def test_batches_per_epoch_of_an_iterable(data, batches):
    source = source_of(data, smallest_batch=2)
    assert source.batches_per_epoch == batches == len(list(source.batches(0)))


def test_last_step_is_known_if_a_sample_is_dropped(points, make_trainer):
    class Last(Callback):
        def __init__(self) -> None:
            self.seen: list[bool] = []

        def on_step_end(self, trainer, result):
            self.seen.append(trainer.progress.at_last_step)

    last = Last()
    loader = DataLoader(TensorDataset(points[:9]), 4, sampler=[*range(9)])
    make_trainer(callbacks=[last]).fit(loader, max_epochs=2)
    assert last.seen == [False, False, False, True]


def test_a_sampler_with_replacement_repeats_an_epoch():
    def batches(epoch: int) -> list[list[int]]:
        torch.manual_seed(epoch + 50)
        data = Numbers(30)
        sampler = RandomSampler(data, replacement=True, num_samples=8)
        return read(DataLoader(data, batch_size=4, sampler=sampler), epoch=epoch)

    assert batches(0) == batches(0) != batches(1)
    assert [len(batch) for batch in batches(0)] == [4, 4]


def test_set_epoch_of_a_distributed_sampler():
    def expected(epoch: int) -> list[int]:
        sampler = DistributedSampler(Numbers(8), num_replicas=2, rank=1)
        sampler.set_epoch(epoch)
        return list(sampler)

    sampler = DistributedSampler(Numbers(8), num_replicas=2, rank=1)
    loader = DataLoader(Numbers(8), batch_size=4, sampler=sampler)
    for epoch in (0, 1, 2):
        assert flat(read(loader, epoch=epoch)) == expected(epoch)
    assert expected(0) != expected(1)


def test_set_epoch_of_an_iterable():
    class Shifted:
        epoch = -1

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[Tensor]:
            yield numbers(2) + 10 * self.epoch

    assert read(Shifted(), epoch=3) == [[30, 31]]

    class ShiftedStream(Stream):
        epoch = -1
        set_epoch = Shifted.set_epoch

        def __iter__(self) -> Iterator[Tensor]:
            yield from numbers(2) + 10 * self.epoch

    assert read(ShiftedStream(2), epoch=3) == [[30, 31]]
    assert read(DataLoader(ShiftedStream(2), batch_size=2), epoch=3) == [[30, 31]]


def test_an_iterator_cannot_be_read_twice(points, make_trainer):
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"in epoch 1 .an iterator can be read only once"):
        trainer.fit((batch for batch in points.split(50)), max_epochs=2)
    assert (trainer.progress.epoch, trainer.progress.step) == (1, 4)


class OddOnly(DataLoader):
    """A loader that leaves out the even numbers."""

    def __iter__(self) -> Iterator[Tensor]:
        for batch in super().__iter__():
            yield batch[batch[:, 0] % 2 == 1]


class Backwards(SequentialSampler):
    def __iter__(self) -> Iterator[int]:
        return iter(reversed(range(len(self.data_source))))


def test_iter_of_a_loader_subclass_is_used():
    assert read(OddOnly(Numbers(8), batch_size=4)) == [[1, 3], [5, 7]]
    loader = OddOnly(Numbers(16), batch_size=4, shuffle=True)
    batches = read(loader, epoch=1)
    assert sorted(flat(batches)) == list(range(1, 16, 2))
    torch.manual_seed(9)
    assert read(loader, epoch=1, skip=2) == batches[2:]
    assert read(loader, epoch=2) != batches


def test_iter_of_a_sampler_subclass_is_used():
    assert read(DataLoader(Numbers(6), 4, sampler=Backwards(Numbers(6)))) == [[5, 4, 3, 2], [1, 0]]


def test_a_sampler_of_fewer_samples_is_used():
    sampler = RandomSampler(range(5))
    assert sorted(flat(read(DataLoader(Numbers(9), 4, sampler=sampler)))) == [*range(5)]


BATCHES_OF_LISTS = {
    "batch_sampler": lambda data: DataLoader(
        data, batch_sampler=BatchSampler(RandomSampler(data), 4, drop_last=False)
    ),
    "weighted batch_sampler": lambda data: DataLoader(
        data,
        batch_sampler=BatchSampler(WeightedRandomSampler(torch.ones(9), 9), 4, drop_last=False),
    ),
    "batch_sampler with drop_last": lambda data: DataLoader(
        data, batch_sampler=BatchSampler(RandomSampler(data), 4, drop_last=True)
    ),
    "list of batches": lambda data: DataLoader(data, batch_sampler=[[0, 1, 2], [3, 4], [5, 6]]),
    "a sampler of lists": lambda data: DataLoader(
        data, sampler=BatchSampler(RandomSampler(data), 4, drop_last=False), batch_size=None
    ),
}


@pytest.mark.parametrize("make", BATCHES_OF_LISTS.values(), ids=BATCHES_OF_LISTS)
def test_batch_samplers_are_used_and_resumed(tmp_path, points, make_trainer, make):
    def trainer(seen: Seen):
        return make_trainer(callbacks=[seen])

    whole, first, second = Seen(), Seen(), Seen()
    run = trainer(whole)
    run.fit(make(TensorDataset(points[:9])), max_epochs=3)
    assert run.progress.epoch == 3
    run = trainer(first)
    run.fit(make(TensorDataset(points[:9])), max_steps=3)
    run.save(tmp_path / "run.pt")
    torch.manual_seed(8)
    run = trainer(second)
    run.load(tmp_path / "run.pt")
    run.fit(make(TensorDataset(points[:9])), max_epochs=3)
    resumed = first.batches + second.batches
    assert [batch.tolist() for batch in resumed] == [batch.tolist() for batch in whole.batches]


@pytest.mark.parametrize("name", ["batch_sampler", "weighted batch_sampler"])
def test_batches_per_epoch_of_a_batch_sampler(name):
    for smallest, expected in [(1, 3), (2, 2)]:  # 9 = 4 + 4 + 1
        source = source_of(BATCHES_OF_LISTS[name](Numbers(9)), smallest_batch=smallest)
        assert source.batches_per_epoch == expected


def test_set_epoch_within_a_batch_sampler():
    sampler = DistributedSampler(Numbers(8), num_replicas=2, rank=1)
    loader = DataLoader(Numbers(8), batch_sampler=BatchSampler(sampler, 4, drop_last=False))
    read(loader, epoch=5)
    assert sampler.epoch == 5


def test_a_loader_of_single_samples_is_refused(make_trainer, points):
    with pytest.raises(ValueError, match=r"shape \(2,\), got .* is a single sample, not a batch"):
        make_trainer().fit(DataLoader(Rows(points), batch_size=None, shuffle=True), max_epochs=1)
    images = points.view(-1, 1, 2)  # a sample looks like a batch of one
    with pytest.raises(ValueError, match="batches of at least 2 samples, got none of more than 1"):
        make_trainer().fit(DataLoader(Rows(images), batch_size=None, shuffle=True), max_epochs=1)


# -- batches of a training step --------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(numbers(23), id="a tensor"),
        pytest.param(Numbers(23), id="a Dataset"),
        pytest.param(list(numbers(23).split(4)), id="batches"),
    ],
)
def test_a_step_of_four_batches_gets_them_joined(data):
    """A rest of fewer batches is dropped, and `skip` counts steps."""
    single = flat([batch.samples.flatten().tolist() for batch in source_of(data).batches(1)])
    source = source_of(data, batches_per_step=4)
    assert [batch.samples.flatten().tolist() for batch in source.batches(1)] == [single[:16]]
    source = source_of(data, batches_per_step=2)
    joined = [batch.samples.flatten().tolist() for batch in source.batches(1)]
    assert joined == [single[:8], single[8:16], single[16:]]
    assert [b.samples.flatten().tolist() for b in source.batches(1, skip=1)] == joined[1:]
    assert source.steps_per_epoch == 3


def test_unpack_converts_what_the_data_yields():
    def unpack(row: dict[str, Tensor]) -> Batch:
        return Batch(row["x"])

    data = [{"x": numbers(2)}, {"x": numbers(3)}]
    source = open_source(data, EpochSampler(0), batch_size=4, unpack=unpack)
    assert [len(batch.samples) for batch in source.batches(0)] == [2, 3]
    source = open_source(data, EpochSampler(0), batch_size=4, unpack=len)
    with pytest.raises(TypeError, match="`unpack_batch` must be a function that returns a Batch"):
        next(source.batches(0))


# -- bad data --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(torch.zeros(0, 2), id="a tensor"),
        pytest.param(TensorDataset(torch.zeros(0, 2)), id="a TensorDataset"),
        pytest.param(ByteImages(torch.zeros(0, 1, 2, 2, dtype=torch.uint8)), id="byte images"),
        pytest.param(Numbers(0), id="a Dataset"),
        pytest.param(DataLoader(Numbers(0), batch_size=4), id="a DataLoader"),
        pytest.param([], id="a list"),
    ],
)
def test_empty_data_is_refused(data):
    with pytest.raises(ValueError, match="`data` must hold at least one sample, got an empty"):
        source_of(data)


@pytest.mark.parametrize(
    "data", [iter([]), DataLoader(Stream(0), batch_size=4)], ids=["iterator", "stream"]
)
def test_a_stream_without_batches_is_refused(make_trainer, data):
    with pytest.raises(ValueError, match="`data` must yield 1 or more batches in each epoch"):
        make_trainer().fit(data, max_epochs=1)


def test_a_single_sample_is_too_few_for_batch_norm(points, make_trainer):
    with pytest.raises(ValueError, match=r"`data` must hold at least 2 samples .* got 1"):
        make_trainer().fit(points[:1], max_epochs=1)


def test_arrays_of_text_are_refused():
    with pytest.raises(TypeError, match="`data` must hold numbers, got ndarray of object"):
        source_of(np.array([{}, {}]))


class WithoutLength(Dataset):
    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(2)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (WithoutLength(), "got WithoutLength: define its `__len__`"),
        ({"train": numbers(4)}, r"got dict with the keys \['train'\]: pass one of its values"),
        ("images", "got str: read a folder of images by `vanillagan.datasets.image_folder`"),
        (lambda: iter([]), "got function: call it"),
        ((numbers(4), torch.arange(4)), r"got tuple of samples and labels: pass `TensorDataset\("),
        (
            [numbers(2).numpy(), np.arange(2)],
            r"got list of samples and labels: pass `TensorDataset\(",
        ),
    ],
    ids=["no length", "mapping", "path", "function", "pair", "pair of arrays"],
)
def test_refused_data_come_with_a_remedy(data, remedy):
    with pytest.raises(TypeError, match=f"`data` must be .*, {remedy}"):
        source_of(data)


def test_too_few_batches_for_the_discriminator_steps_are_told_before_the_first_step():
    message = (
        "`data` must yield 5 or more batches in each epoch, got 3 .one for each of "
        "discriminator_steps=5: lower `batch_size`"
    )
    with pytest.raises(ValueError, match=message):
        source_of(numbers(12), batches_per_step=5)


@pytest.mark.parametrize("data", [3, None, {"samples": torch.zeros(4, 2)}, "mnist"], ids=repr)
def test_other_types_of_data_are_refused(data):
    with pytest.raises(TypeError, match="`data` must be a tensor, a Dataset, a DataLoader or an"):
        source_of(data)


def test_batch_size_is_a_multiple_of_the_world_size():
    with pytest.raises(
        ValueError, match=r"`batch_size` must be a multiple of the world size 2, got 5"
    ):
        source_of(numbers(20), world_size=2, batch_size=5)
