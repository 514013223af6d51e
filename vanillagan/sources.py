"""Where batches come from, and in which order: exactly the same one after a resume."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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

from vanillagan.data import ByteImages, is_finite, rows
from vanillagan.runtime import GlobalRNG, isolated_rng

__all__ = ["Order", "Source", "open_source"]


@dataclass
class Order:
    """The order of samples: a pure function of (seed, epoch, rank, world size).

    Resuming skips by index, so nothing of the past has to be read again. A batch is that of all
    processes; each reads its own part.

    Attributes:
        seed: What the order is drawn from.
        length: Samples in an epoch, 0 for data that doesn't tell.
        batch_size: Samples in a batch, over all processes.
        discriminator_steps: Batches in a training step.
        smallest_batch: Each process's part of a partial last batch is dropped below this size.
        shuffle: Whether each epoch has a new order.
        rank: This process.
        processes: How many processes there are.
    """

    seed: int
    length: int = 0
    batch_size: int = 0
    discriminator_steps: int = 1
    smallest_batch: int = 1
    shuffle: bool = True
    rank: int = 0
    processes: int = 1

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has."""
        full, rest = divmod(self.length, self.batch_size)
        return full + int(rest // self.processes >= self.smallest_batch)

    def batches(self, epoch: int, skip: int) -> Iterator[Tensor]:
        """Gives the indices of this process's samples in each batch of an epoch."""
        if self.shuffle:
            rng = torch.Generator().manual_seed(mix(self.seed, epoch))
            indices = torch.randperm(self.length, generator=rng)
        else:
            indices = torch.arange(self.length)
        for number in range(skip, self.batches_per_epoch):
            batch = indices[number * self.batch_size : (number + 1) * self.batch_size]
            part = len(batch) // self.processes
            yield batch[self.rank * part : (self.rank + 1) * part]

    def reads_as(self, other: Order) -> bool:
        """Whether the steps of an epoch read the batches that they read in the other order."""
        return self.state_dict() == other.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """What the batches of an epoch and its steps depend on."""
        return {
            "seed": self.seed,
            "length": self.length,
            "batch_size": self.batch_size,
            "discriminator_steps": self.discriminator_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.seed = state["seed"]
        self.length = state["length"]
        self.batch_size = state["batch_size"]
        self.discriminator_steps = state["discriminator_steps"]


class Source(Protocol):
    """Batches by epoch, however the data is stored.

    Attributes:
        batches_per_epoch: Batches in an epoch, None where the data doesn't tell.
    """

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches in an epoch, None where the data doesn't tell."""
        ...

    def batches(self, epoch: int, skip: int) -> Iterator[Any]:
        """Gives the batches of an epoch, after the first `skip` of them."""
        ...


class MemorySource:
    """Tensors in memory, read by the batch."""

    def __init__(self, data: Tensor | TensorDataset | ByteImages, order: Order) -> None:
        for tensor in _tensors_of(data):
            if not is_finite(tensor):
                raise ValueError("`data` must be finite, got NaN or infinite values in it")
        self.data = data
        self.order = order

    @property
    def batches_per_epoch(self) -> int:
        return self.order.batches_per_epoch

    def batches(self, epoch: int, skip: int) -> Iterator[Any]:
        device = _tensors_of(self.data)[0].device
        for indices in self.order.batches(epoch, skip):
            yield rows(self.data, indices.to(device))


class LoaderSource:
    """A map-style dataset, read through a `DataLoader` of our own order.

    The global random states are seeded for each batch, so that random transforms are the same
    after a resume and for any number of workers.
    """

    def __init__(self, loader: DataLoader[Any], order: Order) -> None:
        self.order = order
        self._sampler = _SeededBatches(order)
        self._loader = DataLoader(
            _SeededDataset(loader.dataset, loader.collate_fn),
            batch_sampler=self._sampler,
            num_workers=loader.num_workers,
            collate_fn=_as_it_is,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
            generator=torch.Generator(),
        )

    @property
    def batches_per_epoch(self) -> int:
        return self.order.batches_per_epoch

    def batches(self, epoch: int, skip: int) -> Iterator[Any]:
        self._sampler.epoch, self._sampler.skip = epoch, skip
        return iter(self._loader)


class IterableSource:
    """Any iterable of batches, iterated anew for each epoch.

    Each batch is drawn with random states of the source's own, so that a loader with a random
    sampler gives the same batches again; resuming reads and drops those that were used. An
    iterator, which can't begin anew, is read on from where it is.
    """

    def __init__(self, data: Any, order: Order) -> None:
        self.data = data
        self.order = order

    @property
    def batches_per_epoch(self) -> int | None:
        data, smallest = self.data, self.order.smallest_batch
        if isinstance(data, Iterator):
            return None
        if isinstance(data, list | tuple):
            return sum(_length_of(batch) >= smallest for batch in data) or None
        batches = operator.length_hint(data)
        sampler = getattr(data, "batch_sampler", None)
        if isinstance(data, DataLoader) and type(sampler) is BatchSampler and not sampler.drop_last:
            samples = operator.length_hint(sampler.sampler) or operator.length_hint(data.dataset)
            batches -= 0 < samples % sampler.batch_size < smallest
        return batches or None

    def batches(self, epoch: int, skip: int) -> Iterator[Any]:
        if isinstance(self.data, Iterator):
            skip = 0
        _set_epoch(self.data, epoch)
        rng, states = GlobalRNG(), None
        iterator: Iterator[Any] | None = None
        largest, smallest = 0, self.order.smallest_batch
        while True:
            with isolated_rng(mix(self.order.seed, epoch)):
                if states is not None:
                    rng.load_state_dict(states)
                if iterator is None:
                    iterator = iter(self.data)
                try:
                    batch = next(iterator)
                except StopIteration:
                    if 0 < largest < smallest:
                        raise ValueError(
                            f"`data` must give batches of at least {smallest} samples, got none of "
                            f"more than {largest} in epoch {epoch} (a DataLoader with "
                            "`batch_size=None` gives single samples, unless its sampler or its "
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


def open_source(data: Any, order: Order, batch_size: int) -> Source:
    """Finds the way to read `data`, and writes its sizes into `order`.

    Raises:
        ValueError: The data is empty, or holds values that aren't finite.
        TypeError: The data is none of the kinds that can be read.
    """
    loader: Any = data
    if isinstance(data, np.ndarray):
        raise TypeError("`data` must be a tensor, got a NumPy array: use `torch.from_numpy(data)`")
    if isinstance(data, Tensor | ByteImages) or _is_tensors(data):
        _set_sizes(order, len(_not_empty(data)), batch_size)
        return MemorySource(data, order)
    if isinstance(data, IterableDataset):
        _set_sizes(order, None, batch_size)
        return IterableSource(DataLoader(data, batch_size // order.processes), order)
    if isinstance(data, Dataset):
        loader = DataLoader(_not_empty(data), batch_size=batch_size, shuffle=True)
    if type(loader) is DataLoader and _has_plain_order(loader):
        length, batch_size = len(_not_empty(loader.dataset)), loader.batch_size or 0
        order.shuffle = isinstance(loader.sampler, RandomSampler)
        if loader.drop_last:
            order.smallest_batch = batch_size // order.processes
        _set_sizes(order, length, batch_size)
        return LoaderSource(loader, order)
    if isinstance(data, Mapping | str | bytes) or not hasattr(data, "__iter__"):
        raise TypeError(
            "`data` must be a tensor, a Dataset, a DataLoader or an iterable of batches, "
            f"got {type(data).__name__}"
        )
    if isinstance(data, Sequence):
        _not_empty(data)
    order.length = order.batch_size = 0
    return IterableSource(data, order)


def _is_tensors(data: Any) -> bool:
    """Whether it is a TensorDataset, which a subclass with samples of its own is not."""
    return isinstance(data, TensorDataset) and type(data).__getitem__ is TensorDataset.__getitem__


def mix(*numbers: int) -> int:
    """A seed that depends on all of the numbers, and is unlike that of any others."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _SeededIndices(list[int]):
    """The indices of a batch, and the seed of what is random in reading it."""

    seed: int


class _SeededBatches:
    """A batch sampler that gives the order's batches."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.epoch = 0
        self.skip = 0

    def __len__(self) -> int:
        return self.order.batches_per_epoch

    def __iter__(self) -> Iterator[_SeededIndices]:
        batches = self.order.batches(self.epoch, self.skip)
        for number, indices in enumerate(batches, start=self.skip):
            batch = _SeededIndices(indices.tolist())
            batch.seed = mix(self.order.seed, self.epoch, number, self.order.rank)
            yield batch


class _SeededDataset(Dataset[Any]):
    """A dataset read and collated by the batch, with the random states of that batch."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.collate = collate

    def __getitems__(self, indices: _SeededIndices) -> Any:
        with isolated_rng(indices.seed):
            if hasattr(self.dataset, "__getitems__"):
                return self.collate(self.dataset.__getitems__(indices))
            return self.collate([self.dataset[index] for index in indices])


def _set_epoch(data: Any, epoch: int) -> None:
    """Call `set_epoch` of the data, and of its samplers and dataset, where there is one."""
    batch_sampler = getattr(data, "batch_sampler", None)
    parts = [getattr(data, name, None) for name in ("sampler", "dataset")]
    for part in [data, *parts, batch_sampler, getattr(batch_sampler, "sampler", None)]:
        set_epoch = getattr(part, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)


def _as_it_is(batch: Any) -> Any:
    return batch


def _has_plain_order(loader: DataLoader[Any]) -> bool:
    """Return True if the loader reads all samples of a map-style dataset, in turn or shuffled.

    Only such a loader is replaced by one of our own order. A subclass of a sampler may give any
    order, and a `batch_sampler` that was passed leaves `batch_size` at None.
    """
    sampler: Any = loader.sampler
    if loader.batch_size is None or type(sampler) not in (SequentialSampler, RandomSampler):
        return False
    dataset: Any = loader.dataset
    whole = len(sampler.data_source) == len(dataset)
    if isinstance(sampler, RandomSampler):
        whole = whole and not sampler.replacement and sampler.num_samples == len(dataset)
    return whole and type(loader.batch_sampler) is BatchSampler


def _set_sizes(order: Order, length: int | None, batch_size: int) -> None:
    """Writes the sizes into `order`, or raises; no length is that of data that doesn't tell."""
    if batch_size % order.processes:
        raise ValueError(
            f"`batch_size` must be a multiple of the {order.processes} processes, got {batch_size}"
        )
    order.length, order.batch_size = length or 0, batch_size
    if length is not None and order.batches_per_epoch == 0:
        raise ValueError(
            f"`data` must hold at least {order.smallest_batch * order.processes} samples for one "
            f"batch, got {length}"
        )


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
    """The number of samples in a batch of a known kind; of another, enough for any use."""
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), ())
    if isinstance(batch, Sequence) and batch:
        batch = batch[0]
    return len(batch) if isinstance(batch, Tensor) and batch.dim() else 2
