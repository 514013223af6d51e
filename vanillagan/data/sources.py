"""Batch sources: any kind of data by the batch, in the same order again after a resume."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from vanillagan.batch import Batch, collate, is_sample
from vanillagan.data.epoch_sampler import EpochSampler, mix_seeds
from vanillagan.data.in_memory import ByteImages, rows
from vanillagan.runtime.rng import RandomStates, isolated_rng
from vanillagan.traits import sample_shape_of
from vanillagan.validation import check_finite, check_type

__all__ = ["BatchSource", "open_source"]

Unpack = Callable[[Any], Batch]


class BatchSource(ABC):
    """Batches by epoch, one for each training step, however the data is stored.

    Args:
        data: What the batches are read from.
        sampler: Order and sizes of the batches.
        unpack: Converts what the data yields to a `Batch`.
    """

    def __init__(self, data: Any, sampler: EpochSampler, unpack: Unpack) -> None:
        self.data = data
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
            self._raise_too_few(f"fewer in epoch {epoch}")

    def unpack(self, batch: Any) -> Batch:
        """Convert what the data yields to a `Batch`."""
        unpacked = batch if isinstance(batch, Batch) else self._unpack(batch)
        check_type("unpack_batch", unpacked, Batch, "a function that returns a Batch")
        return unpacked

    def _raise_too_few(self, got: str) -> NoReturn:
        count = self.sampler.batches_per_step
        why = f" (one for each of discriminator_steps={count}: lower `batch_size`)" * (count > 1)
        if isinstance(self.data, Iterator):
            why += (
                " (an iterator can be read only once: pass an object whose `__iter__` starts anew, "
                "such as a list or a DataLoader)"
            )
        raise ValueError(f"`data` must yield {count} or more batches in each epoch, got {got}{why}")

    def _grouped(self, batches: Iterator[Any]) -> Iterator[list[Any]]:
        count = self.sampler.batches_per_step
        while len(group := list(islice(batches, count))) == count:
            yield group


class MemorySource(BatchSource):
    """Tensors or arrays in memory, or mapped into it from a file, read by the batch."""

    def __init__(self, data: Any, sampler: EpochSampler, unpack: Unpack) -> None:
        super().__init__(data, sampler, unpack)
        images = getattr(data, "images", data), getattr(data, "labels", None)  # of ByteImages
        tensors = [x for x in getattr(data, "tensors", images) if isinstance(x, Tensor)]
        devices = {tensor.device for tensor in tensors}
        # none for arrays, and for tensors on two devices, each of which gets a copy of the indices
        self._device = devices.pop() if len(devices) == 1 else None
        for tensor in tensors:
            # batches on the CPU are checked in turn: a mapped file may be larger than the memory
            if tensor.device.type != "cpu":
                check_finite("data", tensor)

    def read(self, epoch: int, skip: int) -> Iterator[list[Any]]:
        skip *= self.sampler.batches_per_step
        indices = self.sampler.batches(epoch, skip=skip, device=self._device)
        for group in self._grouped(indices):
            # indices are joined, not samples, so that the samples of a step are copied once
            yield [rows(self.data, group[0] if len(group) == 1 else torch.cat(group))]


class LoaderSource(BatchSource):
    """A map-style dataset, read through a `DataLoader` in the order of the epoch sampler.

    The global generators are seeded for each batch, so that random transforms are the same after a
    resume and for any number of workers.
    """

    def __init__(self, loader: DataLoader[Any], sampler: EpochSampler, unpack: Unpack) -> None:
        super().__init__(loader.dataset, sampler, unpack)
        own_collate = None if loader.collate_fn is default_collate else loader.collate_fn
        self._keys = _SeededBatches(sampler)
        self._loader = DataLoader(
            _SeededDataset(loader.dataset, own_collate or collate),
            batch_size=None,  # the dataset reads and collates a whole batch, under its seed
            sampler=self._keys,
            collate_fn=_identity,
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
            generator=torch.Generator(),  # else it draws a seed from the global generator
        )

    def read(self, epoch: int, skip: int) -> Iterator[list[Any]]:
        self._keys.epoch = epoch
        self._keys.skip = skip * self.sampler.batches_per_step
        with torch.device("cpu"):  # a loader draws from its generator on the default device
            batches = iter(self._loader)
        return self._grouped(batches)


class IterableSource(BatchSource):
    """Any iterable of batches or of single samples, iterated again in each epoch.

    The first element shows which of them it is. Single samples are joined to batches.

    While a batch is drawn, the global generators have states of this source, so that a loader with
    a random sampler yields the same batches again. A resume reads and drops the batches that were
    used. An iterator cannot be restarted, and is read on from its current position.

    Args:
        batch_size: Single samples that are joined to a batch, over all ranks.
        sample_shape: Shape of a sample, if it is known.
    """

    def __init__(
        self,
        data: Any,
        sampler: EpochSampler,
        unpack: Unpack,
        *,
        batch_size: int,
        sample_shape: tuple[int, ...] | None,
    ) -> None:
        super().__init__(data, sampler, unpack)
        self._batch_size = max(1, batch_size // sampler.world_size)
        self._sample_shape = sample_shape

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
        elif batches and self._starts_with_sample:
            full, rest = divmod(batches, self._batch_size)
            batches = full + (rest >= smallest)
        return batches or None

    def read(self, epoch: int, skip: int) -> Iterator[list[Any]]:
        is_used_up = isinstance(self.data, Iterator)  # the batches to skip are gone already
        first = 0 if is_used_up else skip * self.sampler.batches_per_step
        return self._grouped(islice(self._batches(epoch), first, None))

    @cached_property
    def _starts_with_sample(self) -> bool:
        if not isinstance(self.data, IterableDataset):
            return False
        with isolated_rng(self.sampler.seed):
            return self._is_sample(next(iter(self.data), None))

    def _is_sample(self, element: Any) -> bool:
        is_stream = isinstance(self.data, IterableDataset)
        if not is_stream and hasattr(self.data, "__len__"):
            return False  # a loader or a list of batches
        answer = is_sample(element, self._sample_shape)
        # where the shapes do not tell: PyTorch's streams are of samples, other iterables of batches
        return is_stream if answer is None else answer

    def _iterate(self) -> Iterator[Any]:
        """Iterate the data, with single samples joined to batches."""
        elements = iter(self.data)
        first = list(islice(elements, 1))
        elements = chain(first, elements)
        if not first or not self._is_sample(first[0]):
            yield from elements
        while samples := list(islice(elements, self._batch_size)):
            yield collate(samples)

    def _batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches that are large enough."""
        _set_epoch(self.data, epoch)
        batches, end = self._iterate(), object()
        start: int | RandomStates = mix_seeds(self.sampler.seed, epoch)
        largest, smallest = 0, self.sampler.smallest_batch
        while True:
            # entered for each batch: training draws from the global generators between two batches
            with isolated_rng(start):
                batch = next(batches, end)
                start = RandomStates.now()
            if batch is end:
                break
            length = _length_of(batch)
            largest = max(largest, length)
            if length >= smallest:
                yield batch
        if 0 < largest < smallest:
            raise ValueError(
                f"`data` must yield batches of at least {smallest} samples, got none of more than "
                f"{largest} in epoch {epoch} (a DataLoader with `batch_size=None` yields single "
                "samples, unless its sampler or its dataset makes batches)"
            )


def open_source(
    data: Any,
    sampler: EpochSampler,
    *,
    batch_size: int,
    unpack: Unpack = Batch.of,
    generator: nn.Module | None = None,
) -> BatchSource:
    """Create the batch source that reads `data`.

    ==============================================  ==============================================
    data                                            how it is read
    ==============================================  ==============================================
    tensor, array, `ByteImages`, `TensorDataset`,   in memory, by the batch
    table of numbers
    `DataLoader` in plain or shuffled order         by the sample, in the epoch sampler's order
    any other `DataLoader`                          iterated
    anything with `__len__` and `__getitem__`       by the sample, in the epoch sampler's order
    a list of batches                               iterated
    any other iterable                              iterated; single samples are joined to batches
    ==============================================  ==============================================

    Args:
        data: Any data of the table.
        sampler: Epoch sampler whose length and batch size are not set yet.
        batch_size: Samples in a batch over all ranks, for data that is not batched already.
        unpack: Converts what the data yields to a `Batch`.
        generator: Its `sample_shape`, if it declares one, tells single samples from batches.

    Raises:
        ValueError: The data is empty, or holds values that are not finite.
        TypeError: The data is none of the kinds that can be read.
    """
    shape = None if generator is None else sample_shape_of(generator)

    source: BatchSource
    data = _from_table(data)
    if _is_pair(data):
        raise _wrong_data(data)
    if isinstance(data, Tensor | np.ndarray | ByteImages) or _is_plain_tensor_dataset(data):
        sampler = _sized(sampler, len(_not_empty(data)), batch_size)
        source = MemorySource(data, sampler, unpack)
    elif isinstance(data, DataLoader) and _is_plain_loader(data):
        source = _by_sample(data, sampler, unpack)
    elif _is_map_style(data) and not _holds_batches(_not_empty(data), shape):
        loader = DataLoader(data, batch_size=batch_size, shuffle=True)
        source = _by_sample(loader, sampler, unpack)
    elif hasattr(data, "__iter__") and not isinstance(data, Mapping | str | bytes):
        if isinstance(data, IterableDataset):
            sampler = _sized(sampler, None, batch_size)
        source = IterableSource(data, sampler, unpack, batch_size=batch_size, sample_shape=shape)
    else:
        raise _wrong_data(data)
    if source.steps_per_epoch == 0:
        source._raise_too_few(str(source.batches_per_epoch))
    return source


def _by_sample(loader: DataLoader[Any], sampler: EpochSampler, unpack: Unpack) -> LoaderSource:
    """Return the source that reads the loader's dataset in the order of the epoch sampler."""
    length, batch_size = len(_not_empty(loader.dataset)), loader.batch_size or 0
    sampler = replace(sampler, shuffle=isinstance(loader.sampler, RandomSampler))
    if loader.drop_last:
        sampler = replace(sampler, smallest_batch=batch_size // sampler.world_size)
    return LoaderSource(loader, _sized(sampler, length, batch_size), unpack)


def _is_map_style(data: Any) -> bool:
    has_both = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    return has_both and not isinstance(data, IterableDataset | Mapping | str | bytes)


def _is_pair(data: Any) -> bool:
    """Return True for all samples and all labels, which are no list of two batches."""
    if not isinstance(data, list | tuple) or len(data) != 2:
        return False
    shapes = [getattr(part, "shape", ()) for part in data]
    return len(shapes[0]) > 1 and shapes[1] == shapes[0][:1]


def _holds_batches(data: Any, sample_shape: tuple[int, ...] | None) -> bool:
    """Return True for a list of batches; one of samples is told by the shape of a sample."""
    return isinstance(data, list | tuple) and not is_sample(data[0], sample_shape)


def _from_table(data: Any) -> Any:
    """Return the numbers of a data frame of pandas or polars; other data as it is."""
    is_table = hasattr(data, "columns") and hasattr(data, "to_numpy")
    array = data.to_numpy() if is_table else data
    if isinstance(array, np.ndarray) and array.dtype.kind not in "fiub":
        remedy = ": select the columns of numbers, in pandas by `data.select_dtypes('number')`"
        raise TypeError(
            f"`data` must hold numbers, got {type(data).__name__} of {array.dtype}"
            f"{remedy if is_table else ''}"
        )
    return array.astype(np.float32, copy=False) if is_table else array


def _wrong_data(data: Any) -> TypeError:
    got, remedy = type(data).__name__, ""
    if _is_pair(data):
        got += " of samples and labels"
        remedy = ": pass `TensorDataset(samples, labels)` of torch.utils.data"
    elif isinstance(data, Mapping):
        got += f" with the keys {list(data)!r:.60}"
        remedy = ": pass one of its values, such as `data['train']`, or a `TensorDataset`"
    elif hasattr(data, "__getitem__") and not isinstance(data, str | bytes):
        remedy = ": define its `__len__`, or make it an IterableDataset with `__iter__`"
    elif callable(data):
        remedy = ": call it"
    elif isinstance(data, str):
        remedy = ": read a folder of images by `vanillagan.datasets.image_folder`"
    return TypeError(
        "`data` must be a tensor, a Dataset, a DataLoader or an iterable of batches or samples, "
        f"got {got}{remedy}"
    )


def _is_plain_tensor_dataset(data: Any) -> bool:
    """Return True for a TensorDataset, but not for a subclass with samples of its own."""
    return isinstance(data, TensorDataset) and type(data).__getitem__ is TensorDataset.__getitem__


class _SeededBatches:
    """The seed for random transforms, and the indices, of each batch of an epoch."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler
        self.epoch = self.skip = 0

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        batches = self.sampler.batches(self.epoch, skip=self.skip)
        for number, indices in enumerate(batches, start=self.skip):
            seed = mix_seeds(self.sampler.seed, self.epoch, number, self.sampler.rank)
            yield seed, indices.tolist()


class _SeededDataset(Dataset[Any]):
    """A dataset read and collated by the batch, with global generators seeded for that batch."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.collate = collate

    def __getitem__(self, key: tuple[int, list[int]]) -> Any:
        seed, indices = key
        with isolated_rng(seed):
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


def _is_plain_loader(loader: DataLoader[Any]) -> bool:
    """Return True if the loader reads all samples of a map-style dataset, in turn or shuffled.

    Only such a loader is replaced by one in the order of the epoch sampler. A subclass of it or of
    a sampler may have any order, and a loader that was given a `batch_sampler` has no `batch_size`.
    """
    sampler: Any = loader.sampler
    return (
        type(loader) is DataLoader
        and loader.batch_size is not None
        and type(loader.batch_sampler) is BatchSampler
        and type(sampler) in (SequentialSampler, RandomSampler)
        and not getattr(sampler, "replacement", False)
        and len(sampler) == len(sampler.data_source) == len(loader.dataset)  # type: ignore[arg-type]
    )


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
    if isinstance(data, Tensor | np.ndarray) and data.ndim == 0:
        raise ValueError(
            "`data` must hold samples of shape (N, *sample_shape), got a single number"
        )
    if len(data) == 0:
        raise ValueError("`data` must hold at least one sample, got an empty dataset")
    return data


def _length_of(batch: Any) -> int:
    """Return the number of samples in a batch; 2, which is always enough, for an unknown form."""
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), ())
    if isinstance(batch, Sequence) and batch:
        batch = batch[0]
    return len(batch) if isinstance(batch, Tensor) and batch.dim() else 2
