"""Where batches come from, and in which order."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
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

from tests.conftest import Rows
from vanillagan import Callback
from vanillagan.data import ByteImages
from vanillagan.sources import Order, open_source


class Numbers(Dataset):
    """0, 1, 2, ... as samples of shape (1,)."""

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
    """As many numbers, without a length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Tensor]:
        yield from (torch.tensor([float(index)]) for index in range(self.length))


def jitter(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows) + torch.rand(len(rows), 1)


def numbers(length: int) -> Tensor:
    return torch.arange(length, dtype=torch.float32).view(-1, 1)


def read(
    data: Any,
    *,
    epoch: int = 0,
    skip: int = 0,
    batch_size: int = 4,
    seed: int = 0,
    smallest_batch: int = 1,
) -> list[list[int]]:
    """The numbers in each batch of an epoch."""
    order = Order(seed, smallest_batch=smallest_batch)
    source = open_source(data, order, batch_size)
    return [batch.flatten().tolist() for batch in source.batches(epoch, skip)]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


class Seen(Callback):
    """Keeps the samples of each step."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def on_step_start(self, trainer, batch):
        self.batches.append(batch.samples)


# -- Order -----------------------------------------------------------------------------------------


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    def indices(seed: int, epoch: int) -> list[int]:
        order = Order(seed, length=20, batch_size=6)
        torch.manual_seed(seed + epoch)
        return torch.cat(list(order.batches(epoch, 0))).tolist()

    assert indices(1, 5) == indices(1, 5)
    orders = [indices(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 9


def test_reading_an_epoch_does_not_depend_on_what_was_read_before():
    order = Order(1, length=20, batch_size=6)
    first = [list(map(int, batch)) for batch in order.batches(3, 0)]
    list(order.batches(4, 0))
    next(order.batches(3, 2))
    assert [list(map(int, batch)) for batch in order.batches(3, 0)] == first


@pytest.mark.parametrize("length", [1, 4, 7, 8, 21])
def test_an_epoch_has_each_sample_once(length):
    batches = list(Order(0, length=length, batch_size=4).batches(2, 0))
    assert sorted(torch.cat(batches).tolist()) == list(range(length))
    assert [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)


def test_skip_leaves_out_the_first_batches():
    order = Order(0, length=22, batch_size=4)
    whole = [batch.tolist() for batch in order.batches(1, 0)]
    for skip in range(7):
        assert [batch.tolist() for batch in order.batches(1, skip)] == whole[skip:]


def test_the_parts_of_the_processes_are_disjoint_and_make_up_the_batch_of_one_process():
    one = Order(3, length=30, batch_size=6)
    parts = [Order(3, length=30, batch_size=6, rank=rank, processes=3) for rank in range(3)]
    for whole, *ranks in zip(
        one.batches(1, 0), *(part.batches(1, 0) for part in parts), strict=True
    ):
        assert [len(rank) for rank in ranks] == [2, 2, 2]
        assert torch.cat(ranks).tolist() == whole.tolist()


def test_the_parts_of_a_partial_last_batch_are_of_one_size_in_all_processes():
    parts = [Order(3, length=11, batch_size=6, rank=rank, processes=2) for rank in range(2)]
    last = [list(part.batches(0, 0))[-1] for part in parts]
    assert [len(part) for part in last] == [2, 2]


@pytest.mark.parametrize(
    ("length", "batch_size", "smallest_batch", "processes", "expected"),
    [
        (12, 4, 1, 1, 3),
        (13, 4, 1, 1, 4),
        (13, 4, 2, 1, 3),
        (14, 4, 2, 1, 4),
        (3, 4, 1, 1, 1),
        (15, 4, 4, 1, 3),
        (14, 4, 2, 2, 3),
        (14, 4, 1, 2, 4),
        (13, 4, 1, 2, 3),
    ],
)
def test_batches_per_epoch(length, batch_size, smallest_batch, processes, expected):
    order = Order(
        0,
        length=length,
        batch_size=batch_size,
        smallest_batch=smallest_batch,
        processes=processes,
    )
    assert order.batches_per_epoch == expected == len(list(order.batches(0, 0)))


# -- in memory -------------------------------------------------------------------------------------


def test_tensors_tensor_datasets_and_map_style_datasets_are_read_in_the_same_order():
    expected = read(numbers(21), epoch=2)
    assert [batch[0].flatten().tolist() for batch in batches_of(TensorDataset(numbers(21)))] == (
        expected
    )
    assert read(Numbers(21), epoch=2) == expected
    assert read(DataLoader(Numbers(21), batch_size=4, shuffle=True), epoch=2) == expected
    assert flat(expected) != list(range(21))


def batches_of(data: Any, *, epoch: int = 2) -> list[Any]:
    return list(open_source(data, Order(0), 4).batches(epoch, 0))


def test_labels_stay_with_their_samples():
    images = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1)
    for samples, labels in batches_of(ByteImages(images, torch.arange(9))):
        assert torch.allclose((samples.flatten() + 1) * 127.5, labels.float())
    for samples, labels in batches_of(TensorDataset(numbers(9), torch.arange(9))):
        assert torch.equal(samples.flatten(), labels.float())


def test_a_file_mapped_into_memory_is_read_by_the_batch_and_never_as_a_whole(tmp_path):
    """100 GB, all of it holes, which fit on any disk but hardly into memory."""
    shape = (100_000, 1, 1000, 1000)
    path, size = tmp_path / "images", math.prod(shape)
    with path.open("wb") as file:
        file.truncate(size)
    mapped = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
    source = open_source(ByteImages(mapped.view(shape)), Order(0), 4)
    samples = next(source.batches(0, 0))
    assert samples.shape == (4, 1, 1000, 1000)
    assert bool((samples == -1).all())


class Indexing(TorchDispatchMode):
    """Counts how often tensors are indexed, by what operation."""

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
def test_what_is_in_memory_is_indexed_once_for_a_batch(data, tensors):
    source = open_source(data, Order(0), 8)
    with Indexing() as indexing:
        assert len(list(source.batches(0, 0))) == 5
    assert indexing.counts == {"index_select": 5 * tensors, "index": 0, "select": 0}


def test_a_tensor_dataset_with_samples_of_its_own_is_read_sample_by_sample():
    class Doubled(TensorDataset):
        def __getitem__(self, index: int) -> Tensor:
            assert isinstance(index, int)
            return super().__getitem__(index)[0] * 2

    assert read(Doubled(numbers(6)), batch_size=4) == [
        [2 * number for number in batch] for batch in read(numbers(6), batch_size=4)
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    data = numbers(8)
    data[5] = value
    for bad in (data, TensorDataset(data)):
        with pytest.raises(ValueError, match="`data` must be finite, got NaN or infinite"):
            open_source(bad, Order(0), 4)


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
def test_a_last_batch_of_one_sample_is_left_out_where_a_network_has_batch_norm(
    points, make_trainer, data, hidden, sizes
):
    seen = Seen()
    trainer = make_trainer(hidden=hidden, callbacks=[seen])
    trainer.fit(data(points[:9]), epochs=1, batch_size=4)
    assert [len(batch) for batch in seen.batches] == sizes
    assert trainer.progress.epoch == 1


def test_drop_last_leaves_out_a_partial_batch():
    loader = DataLoader(Numbers(11), batch_size=4, shuffle=True, drop_last=True)
    source = open_source(loader, Order(0), 99)
    assert source.batches_per_epoch == 2
    assert [len(batch) for batch in source.batches(0, 0)] == [4, 4]


def test_the_last_batches_that_are_fewer_than_the_discriminators_steps_are_left_out(
    points, make_trainer
):
    seen = Seen()
    trainer = make_trainer(discriminator_steps=2, callbacks=[seen])
    trainer.fit(points[:20], epochs=2, batch_size=4)
    assert [len(batch) for batch in seen.batches] == [8, 8, 8, 8]
    assert (trainer.progress.step, trainer.progress.epoch) == (4, 2)


# -- DataLoaders -----------------------------------------------------------------------------------


def test_a_loader_brings_its_own_batch_size_and_collate_fn():
    loader = DataLoader(
        Numbers(6), batch_size=3, collate_fn=lambda rows: torch.stack(rows) + 100, shuffle=True
    )
    batches = read(loader, batch_size=99)
    assert [len(batch) for batch in batches] == [3, 3]
    assert sorted(flat(batches)) == [100, 101, 102, 103, 104, 105]


def test_a_loader_without_shuffle_keeps_the_order_of_the_data():
    loader = DataLoader(Numbers(10), batch_size=4)
    for epoch in (0, 1):
        assert read(loader, epoch=epoch) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert read(loader, skip=1) == [[4, 5, 6, 7], [8, 9]]


def test_a_subset_is_read_by_its_own_indices():
    batches = read(Subset(Numbers(100), [3, 50, 99]))
    assert sorted(flat(batches)) == [3, 50, 99]


@pytest.mark.parametrize("collate_fn", [None, jitter], ids=["transform", "transform and collate"])
def test_random_transforms_are_the_same_for_any_number_of_workers_and_after_a_skip(collate_fn):
    def batches(workers: int, skip: int) -> list[list[int]]:
        torch.manual_seed(workers + skip)
        loader = DataLoader(
            Jittered(12), batch_size=4, shuffle=True, num_workers=workers, collate_fn=collate_fn
        )
        return read(loader, epoch=1, skip=skip)

    alone = batches(0, 0)
    assert batches(1, 0) == alone
    assert batches(2, 1) == alone[1:]


def test_random_transforms_differ_between_epochs_and_samples():
    def noise(epoch: int) -> list[float]:
        batches = open_source(DataLoader(Jittered(8), batch_size=4), Order(0), 4).batches(epoch, 0)
        return torch.cat(list(batches))[:, 1:].flatten().tolist()

    assert len({*noise(0), *noise(1)}) == 2 * 8 * 3


def test_persistent_workers_read_each_epoch_in_an_order_of_its_own():
    loader = DataLoader(
        Numbers(12), batch_size=4, shuffle=True, num_workers=1, persistent_workers=True
    )
    source = open_source(loader, Order(0), 4)
    epochs = [[batch.flatten().tolist() for batch in source.batches(e, 0)] for e in (0, 1)]
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
def test_reading_leaves_the_global_random_states_alone(data):
    before = global_states()
    for _ in open_source(data, Order(0), 4).batches(0, 0):
        assert global_states() == before
    assert global_states() == before


# -- iterables -------------------------------------------------------------------------------------


def test_an_iterable_is_read_as_it_comes():
    batches = list(numbers(10).split(4))
    assert read(batches) == read(tuple(batches)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert read(batches, skip=2) == [[8, 9]]


def test_a_stream_in_a_loader_is_read_in_each_epoch():
    loader = DataLoader(Stream(6), batch_size=4)
    assert read(loader) == read(loader, epoch=1) == [[0, 1, 2, 3], [4, 5]]
    assert open_source(loader, Order(0), 4).batches_per_epoch is None


def test_a_stream_of_samples_is_read_by_the_batch(make_trainer):
    assert read(Stream(6)) == read(Stream(6), epoch=1) == [[0, 1, 2, 3], [4, 5]]
    assert read(Stream(6), skip=1) == [[4, 5]]
    assert open_source(Stream(6), Order(0), 4).batches_per_epoch is None
    parts = [open_source(Stream(6), Order(0, rank=rank, processes=2), 4) for rank in (0, 1)]
    assert [[len(batch) for batch in part.batches(0, 0)] for part in parts] == [[2, 2, 2]] * 2
    with pytest.raises(ValueError, match=r"`batch_size` must be a multiple of the 2 .*, got 5"):
        open_source(Stream(6), Order(0, processes=2), 5)


def test_another_batch_size_in_the_middle_of_a_stream_starts_it_anew(make_trainer):
    class Pairs(Stream):
        def __iter__(self) -> Iterator[Tensor]:
            yield from (sample.repeat(2) / self.length for sample in super().__iter__())

    seen = Seen()
    trainer = make_trainer(callbacks=[seen])
    trainer.fit(Pairs(12), steps=1, batch_size=4)
    with pytest.warns(UserWarning, match="the epoch under way starts anew"):
        trainer.fit(Pairs(12), epochs=1, batch_size=6)
    assert [len(batch) for batch in seen.batches] == [4, 6, 6]
    assert torch.equal(torch.cat(seen.batches[1:])[:, 0], torch.arange(12) / 12)


def test_a_loader_of_batches_that_a_stream_makes_itself_is_read_as_it_comes():
    class Batches(Stream):
        def __iter__(self) -> Iterator[Tensor]:
            yield from numbers(self.length).split(3)

    assert read(DataLoader(Batches(7), batch_size=None)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_an_iterator_is_read_on_from_where_it_is(points, make_trainer):
    seen = Seen()
    trainer = make_trainer(callbacks=[seen])
    batches = iter(points.split(50))
    trainer.fit(batches, steps=1)
    trainer.fit(batches, steps=3)
    assert (trainer.progress.epoch, trainer.progress.step) == (0, 3)
    trainer.fit(batches, epochs=1)
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
def test_an_iterable_tells_how_many_batches_it_will_give(data, batches):
    source = open_source(data, Order(0, smallest_batch=2), 4)
    assert source.batches_per_epoch == batches == len(list(source.batches(0, 0)))


def test_the_last_step_is_known_where_a_last_sample_is_left_out(points, make_trainer):
    class Last(Callback):
        def __init__(self) -> None:
            self.seen: list[bool] = []

        def on_step_end(self, trainer, result):
            self.seen.append(trainer.progress.at_last_step)

    last = Last()
    loader = DataLoader(TensorDataset(points[:9]), 4, sampler=[*range(9)])
    make_trainer(callbacks=[last]).fit(loader, epochs=2)
    assert last.seen == [False, False, False, True]


def test_a_random_sampler_with_replacement_gives_the_same_batches_for_the_same_epoch():
    def batches(epoch: int) -> list[list[int]]:
        torch.manual_seed(epoch + 50)
        data = Numbers(30)
        sampler = RandomSampler(data, replacement=True, num_samples=8)
        return read(DataLoader(data, batch_size=4, sampler=sampler), epoch=epoch)

    assert batches(0) == batches(0) != batches(1)
    assert [len(batch) for batch in batches(0)] == [4, 4]


def test_a_distributed_sampler_is_told_the_epoch():
    def expected(epoch: int) -> list[int]:
        sampler = DistributedSampler(Numbers(8), num_replicas=2, rank=1)
        sampler.set_epoch(epoch)
        return list(sampler)

    sampler = DistributedSampler(Numbers(8), num_replicas=2, rank=1)
    loader = DataLoader(Numbers(8), batch_size=4, sampler=sampler)
    for epoch in (0, 1, 2):
        assert flat(read(loader, epoch=epoch)) == expected(epoch)
    assert expected(0) != expected(1)


def test_an_iterable_with_set_epoch_is_told_the_epoch():
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


def test_a_generator_that_is_read_twice_is_a_value_error(points, make_trainer):
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"in epoch 1 .an iterator can be read only once"):
        trainer.fit((batch for batch in points.split(50)), epochs=2)
    assert (trainer.progress.epoch, trainer.progress.step) == (1, 4)


class OddOnly(DataLoader):
    """A loader that leaves out the even numbers."""

    def __iter__(self) -> Iterator[Tensor]:
        for batch in super().__iter__():
            yield batch[batch[:, 0] % 2 == 1]


class Backwards(SequentialSampler):
    def __iter__(self) -> Iterator[int]:
        return iter(reversed(range(len(self.data_source))))


def test_a_loader_that_iterates_in_its_own_way_is_iterated():
    assert read(OddOnly(Numbers(8), batch_size=4)) == [[1, 3], [5, 7]]
    loader = OddOnly(Numbers(16), batch_size=4, shuffle=True)
    batches = read(loader, epoch=1)
    assert sorted(flat(batches)) == list(range(1, 16, 2))
    torch.manual_seed(9)
    assert read(loader, epoch=1, skip=2) == batches[2:]
    assert read(loader, epoch=2) != batches


def test_a_sampler_that_orders_in_its_own_way_is_used():
    assert read(DataLoader(Numbers(6), 4, sampler=Backwards(Numbers(6)))) == [[5, 4, 3, 2], [1, 0]]


def test_a_sampler_of_fewer_samples_than_the_dataset_is_used():
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
def test_batches_of_a_batch_sampler_are_trained_on_and_resumed(
    tmp_path, points, make_trainer, make
):
    def trainer(seen: Seen):
        return make_trainer(callbacks=[seen])

    whole, first, second = Seen(), Seen(), Seen()
    run = trainer(whole)
    run.fit(make(TensorDataset(points[:9])), epochs=3)
    assert run.progress.epoch == 3
    assert run.progress.at_last_step or run.progress.steps_per_epoch
    run = trainer(first)
    run.fit(make(TensorDataset(points[:9])), steps=3)
    run.save(tmp_path / "run.pt")
    torch.manual_seed(8)
    run = trainer(second)
    run.load(tmp_path / "run.pt")
    run.fit(make(TensorDataset(points[:9])), epochs=3)
    resumed = first.batches + second.batches
    assert [batch.tolist() for batch in resumed] == [batch.tolist() for batch in whole.batches]


@pytest.mark.parametrize("name", ["batch_sampler", "weighted batch_sampler"])
def test_a_batch_sampler_tells_how_many_batches_are_left(name):
    for smallest, expected in [(1, 3), (2, 2)]:  # 9 = 4 + 4 + 1
        source = open_source(
            BATCHES_OF_LISTS[name](Numbers(9)), Order(0, smallest_batch=smallest), 4
        )
        assert source.batches_per_epoch == expected


def test_a_distributed_sampler_within_a_batch_sampler_is_told_the_epoch():
    sampler = DistributedSampler(Numbers(8), num_replicas=2, rank=1)
    loader = DataLoader(Numbers(8), batch_sampler=BatchSampler(sampler, 4, drop_last=False))
    read(loader, epoch=5)
    assert sampler.epoch == 5


def test_a_loader_of_single_samples_is_refused(make_trainer, points):
    with pytest.raises(ValueError, match=r"shape \(2,\), got .* \(a single sample: batches have"):
        make_trainer().fit(DataLoader(Rows(points), batch_size=None, shuffle=True), epochs=1)
    images = points.view(-1, 1, 2)  # a sample looks like a batch of one
    with pytest.raises(ValueError, match="batches of at least 2 samples, got none of more than 1"):
        make_trainer().fit(DataLoader(Rows(images), batch_size=None, shuffle=True), epochs=1)


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
    order = Order(0)
    with pytest.raises(ValueError, match="`data` must hold at least one sample, got an empty"):
        open_source(data, order, 4)
    assert order == Order(0)


@pytest.mark.parametrize(
    "data", [iter([]), DataLoader(Stream(0), batch_size=4)], ids=["iterator", "stream"]
)
def test_a_stream_without_batches_is_refused(make_trainer, data):
    with pytest.raises(ValueError, match="`data` must give 1 batches or more in each epoch"):
        make_trainer().fit(data, epochs=1)


def test_a_single_sample_is_too_few_for_batch_norm(points, make_trainer):
    with pytest.raises(ValueError, match=r"`data` must hold at least 2 samples .* got 1"):
        make_trainer().fit(points[:1], epochs=1)


@pytest.mark.parametrize("data", [3, None, {"samples": torch.zeros(4, 2)}, "mnist"], ids=repr)
def test_what_is_no_data_is_refused(data):
    with pytest.raises(TypeError, match="`data` must be a tensor, a Dataset, a DataLoader or an"):
        open_source(data, Order(0), 4)


def test_a_batch_size_that_the_processes_cannot_share_is_refused():
    order = Order(0, processes=2)
    with pytest.raises(ValueError, match=r"`batch_size` must be a multiple of the 2 .*, got 5"):
        open_source(numbers(20), order, 5)
