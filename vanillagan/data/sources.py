"""Batch sources: any kind of data by the batch, in the same order again after a resume."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from vanillagan.batch import Batch
from vanillagan.data.epoch_sampler import EpochSampler, mix_seeds
from vanillagan.data.in_memory import ByteImages, rows
from vanillagan.runtime.rng import GlobalRNG, isolated_rng
from vanillagan.validation import check_finite, check_type

__all__ = ["BatchSource", "open_source"]

Unpack = Callable[[Any], Batch]


class BatchSource(ABC):
    """Batches by epoch, one for each training step, however the data is stored.

    Args:
        sampler: Order and sizes of the batches.
        unpack: Converts what the data yields to a `Batch`.
    """

    def __init__(self, sampler: EpochSampler, unpack: Unpack = Batch.of) -> None:
        self.sampler = sampler
        self._unpack = unpack

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches in an epoch; None if unknown."""
        return self.sampler.batches_per_epoch

    @abstractmethod
    def read(self, epoch: int, skip: int) -> Iterator[list[Any]]:
        """Yield the batches of each training step, not unpacked, after the first `skip` steps."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Training steps in an epoch; None if unknown."""
        batches = self.batches_per_epoch
        return None if batches is None else batches // self.sampler.batches_per_step

    def batches(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """Yield the batch of each training step of an epoch, after the first `skip` steps.

        If a step reads k batches, they are joined. A rest of fewer than k is dropped.

        Raises:
            ValueError: The data yields fewer than k batches.
        """
        steps = skip
        for group in self.read(epoch, skip):
            steps += 1
            yield Batch.join([self.unpack(batch) for batch in group])
        if steps == 0:
            raise ValueError(
                f"`data` must yield {self.sampler.batches_per_step} or more batches in each epoch, "
                f"got fewer in epoch {epoch} (an iterator can be read only once)"
            )

    def unpack(self, batch: Any) -> Batch:
        """Convert what the data yields to a `Batch`."""
        unpacked = batch if isinstance(batch, Batch) else self._unpack(batch)
        check_type("unpack_batch", unpacked, Batch, "a function that returns a Batch")
        return unpacked

    def _grouped(self, batches: Iterator[Any]) -> Iterator[list[Any]]:
        count = self.sampler.batches_per_step
        while len(group := list(islice(batches, count))) == count:
            yield group


class MemorySource(BatchSource):
    """Tensors in memory, read by the batch."""

    def __init__(
        self, data: Tensor | TensorDataset | ByteImages, sampler: EpochSampler, unpack: Unpack
    ) -> None:
        for tensor in _tensors_of(data):
            check_finite("data", tensor)
        super().__init__(sampler, unpack)
        self.data = data

    def read(self, epoch: int, skip: int) -> Iterator[list[Any]]:
        indices = self.sampler.batches(epoch, skip=skip * self.sampler.batches_per_step)
        for group in self._grouped(indices):
            # indices are joined, not samples, so that the samples of a step are copied once
            yield [rows(self.data, torch.cat(group))]


class LoaderSource(BatchSource):
    """A map-style dataset, read through a `DataLoader` in the order of the epoch sampler.

    The global generators are seeded for each batch, so that random transforms are the same after a
    resume and for any number of workers.
    """

    def __init__(self, loader: DataLoader[Any], sampler: EpochSampler, unpack: Unpack) -> None:
        super().__init__(sampler, unpack)
        self._batch_sampler = _SeededBatchSampler(sampler)
        self._loader = DataLoader(
            _SeededDataset(loader.dataset, loader.collate_fn),
            batch_sampler=self._batch_sampler,
            num_workers=loader.num_workers,
            collate_fn=_identity,  # the dataset collates, under the seed of the batch
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
            generator=torch.Generator(),  # else it draws a seed from the global generator
        )

    def read(self, epoch: int, skip: int) -> Iterator[list[Any]]:
        self._batch_sampler.epoch = epoch
        self._batch_sampler.skip = skip * self.sampler.batches_per_step
        return self._grouped(iter(self._loader))


class IterableSource(BatchSource):
    """Any iterable of batches, iterated again in each epoch.

    While a batch is drawn, the global generators have states of this source, so that a loader with
    a random sampler yields the same batches again. A resume reads and drops the batches that were
    used. An iterator cannot be restarted, and is read on from its current position.
    """

    def __init__(self, data: Any, sampler: EpochSampler, unpack: Unpack) -> None:
        super().__init__(sampler, unpack)
        self.data = data

    @property
    def batches_per_epoch(self) -> int | None:
        data, smallest = self.data, self.sampler.smallest_batch
        if isinstance(data, Iterator):
            return None
        if isinstance(data, list | tuple):
            return sum(_length_of(batch) >= smallest for batch in data) or None
        batches = operator.length_hint(data)
        sampler = getattr(data, "batch_sampler", None)
        if isinstance(data, DataLoader) and type(sampler) is BatchSampler and not sampler.drop_last:
            samples = operator.length_hint(sampler.sampler) or operator.length_hint(data.dataset)
            batches -= 0 < samples % sampler.batch_size < smallest  # `_batches` drops the last one
        return batches or None

    def read(self, epoch: int, skip: int) -> Iterator[list[Any]]:
        return self._grouped(self._batches(epoch, skip * self.sampler.batches_per_step))

    def _batches(self, epoch: int, skip: int) -> Iterator[Any]:
        if isinstance(self.data, Iterator):
            skip = 0  # those batches are gone already
        _set_epoch(self.data, epoch)
        rng, states = GlobalRNG(), None
        iterator: Iterator[Any] | None = None
        largest, smallest = 0, self.sampler.smallest_batch
        while True:
            # entered for each batch: training draws from the global generators between two batches
            with isolated_rng(mix_seeds(self.sampler.seed, epoch)):
                if states is not None:
                    rng.load_state_dict(states)
                if iterator is None:
                    iterator = iter(self.data)
                try:
                    batch = next(iterator)
                except StopIteration:
                    if 0 < largest < smallest:
                        raise ValueError(
                            f"`data` must yield batches of at least {smallest} samples, got none "
                            f"of more than {largest} in epoch {epoch} (a DataLoader with "
                            "`batch_size=None` yields single samples, unless its sampler or its "
                            "dataset makes batches)"
                        ) from None
                    return
                states = rng.state_dict()
            largest = max(largest, _length_of(batch))
            if _length_of(batch) < smallest:
                continue
            if skip > 0:
                skip -= 1
            else:
                yield batch


def open_source(
    data: Any, sampler: EpochSampler, *, batch_size: int, unpack: Unpack = Batch.of
) -> BatchSource:
    """Create the batch source that reads `data`.

    Args:
        data: A tensor, a Dataset, a DataLoader or an iterable of batches.
        sampler: Epoch sampler whose length and batch size are not set yet.
        batch_size: Samples in a batch over all ranks, for data that is not batched already.
        unpack: Converts what the data yields to a `Batch`.

    Raises:
        ValueError: The data is empty, or holds values that are not finite.
        TypeError: The data is none of the kinds that can be read.
    """
    loader: Any = data
    if isinstance(data, np.ndarray):
        raise TypeError("`data` must be a tensor, got a NumPy array: use `torch.from_numpy(data)`")
    if isinstance(data, Tensor | ByteImages) or _is_plain_tensor_dataset(data):
        sampler = _sized(sampler, len(_not_empty(data)), batch_size)
        return MemorySource(data, sampler, unpack)
    if isinstance(data, IterableDataset):
        sampler = _sized(sampler, None, batch_size)
        loader = DataLoader(data, batch_size // sampler.world_size)
        return IterableSource(loader, sampler, unpack)
    if isinstance(data, Dataset):
        loader = DataLoader(_not_empty(data), batch_size=batch_size, shuffle=True)
    if type(loader) is DataLoader and _has_plain_order(loader):
        length, batch_size = len(_not_empty(loader.dataset)), loader.batch_size or 0
        sampler = replace(sampler, shuffle=isinstance(loader.sampler, RandomSampler))
        if loader.drop_last:
            sampler = replace(sampler, smallest_batch=batch_size // sampler.world_size)
        return LoaderSource(loader, _sized(sampler, length, batch_size), unpack)
    if isinstance(data, Mapping | str | bytes) or not hasattr(data, "__iter__"):
        raise TypeError(
            "`data` must be a tensor, a Dataset, a DataLoader or an iterable of batches, "
            f"got {type(data).__name__}"
        )
    if isinstance(data, Sequence):
        _not_empty(data)
    return IterableSource(data, sampler, unpack)


def _is_plain_tensor_dataset(data: Any) -> bool:
    """Return True for a TensorDataset, but not for a subclass with samples of its own."""
    return isinstance(data, TensorDataset) and type(data).__getitem__ is TensorDataset.__getitem__


class _SeededIndices(list[int]):
    """Indices of a batch, with the seed for random transforms.

    A list, because that is what a `DataLoader` passes to a dataset, in a worker process too.
    """

    seed: int


class _SeededBatchSampler:
    """Batches of the epoch sampler, with a seed for each."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler
        self.epoch = 0
        self.skip = 0

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[_SeededIndices]:
        batches = self.sampler.batches(self.epoch, skip=self.skip)
        for number, indices in enumerate(batches, start=self.skip):
            batch = _SeededIndices(indices.tolist())
            batch.seed = mix_seeds(self.sampler.seed, self.epoch, number, self.sampler.rank)
            yield batch


class _SeededDataset(Dataset[Any]):
    """A dataset read and collated by the batch, with global generators seeded for that batch."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.collate = collate

    def __getitems__(self, indices: _SeededIndices) -> Any:
        with isolated_rng(indices.seed):
            if hasattr(self.dataset, "__getitems__"):
                return self.collate(self.dataset.__getitems__(indices))
            return self.collate([self.dataset[index] for index in indices])


def _set_epoch(data: Any, epoch: int) -> None:
    """Call `set_epoch` of the data, and of its samplers and dataset, if there is one."""
    batch_sampler = getattr(data, "batch_sampler", None)
    parts = [getattr(data, name, None) for name in ("sampler", "dataset")]
    for part in [data, *parts, batch_sampler, getattr(batch_sampler, "sampler", None)]:
        set_epoch = getattr(part, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)


def _identity(batch: Any) -> Any:
    return batch


def _has_plain_order(loader: DataLoader[Any]) -> bool:
    """Return True if the loader reads all samples of a map-style dataset, in turn or shuffled.

    Only such a loader is replaced by one in the order of the epoch sampler. A subclass of a sampler
    may have any order, and a loader that was given a `batch_sampler` has no `batch_size`.
    """
    sampler: Any = loader.sampler
    if loader.batch_size is None or type(sampler) not in (SequentialSampler, RandomSampler):
        return False
    dataset: Any = loader.dataset
    whole = len(sampler.data_source) == len(dataset)
    if isinstance(sampler, RandomSampler):
        whole = whole and not sampler.replacement and sampler.num_samples == len(dataset)
    return whole and type(loader.batch_sampler) is BatchSampler


def _sized(sampler: EpochSampler, length: int | None, batch_size: int) -> EpochSampler:
    """Return the sampler with length and batch size; a length of None is unknown."""
    if batch_size % sampler.world_size:
        raise ValueError(
            f"`batch_size` must be a multiple of the world size {sampler.world_size}, "
            f"got {batch_size}"
        )
    sampler = replace(sampler, length=length or 0, batch_size=batch_size)
    if length is not None and sampler.batches_per_epoch == 0:
        raise ValueError(
            f"`data` must hold at least {sampler.smallest_batch * sampler.world_size} samples for "
            f"one batch, got {length}"
        )
    return sampler


def _not_empty(data: Any) -> Any:
    if isinstance(data, Tensor) and data.dim() == 0:
        raise ValueError(
            "`data` must hold samples of shape (N, *sample_shape), got a single number"
        )
    if len(data) == 0:
        raise ValueError("`data` must hold at least one sample, got an empty dataset")
    return data


def _tensors_of(data: Tensor | TensorDataset | ByteImages) -> tuple[Tensor, ...]:
    if isinstance(data, Tensor):
        return (data,)
    return (data.images,) if isinstance(data, ByteImages) else data.tensors


def _length_of(batch: Any) -> int:
    """Return the number of samples in a batch; 2, which is always enough, for an unknown form."""
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), ())
    if isinstance(batch, Sequence) and batch:
        batch = batch[0]
    return len(batch) if isinstance(batch, Tensor) and batch.dim() else 2
