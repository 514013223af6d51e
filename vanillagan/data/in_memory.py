"""Data kept in memory: byte images, and datasets that are read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from vanillagan.batch import Batch, from_array, from_bytes
from vanillagan.runtime.device import to_device
from vanillagan.runtime.rng import isolated_rng
from vanillagan.validation import check_integer, check_integer_tensor, check_type, shown

__all__ = ["ByteImages", "load_into_memory"]


class ByteImages(Dataset[Any]):
    """Images kept as bytes, and converted to floats in [-1, 1] when they are read.

    They take a quarter of the memory of floats and are read by the batch. Images in a memory-mapped
    file, as `torch.from_file` returns, are read from it as they are needed.

    Args:
        images: Bytes, shape (N, channels, height, width), dtype uint8.
        labels: Class indices, integers, shape (N,); or None.
        classes: Names of the classes, if they are known; kept as an attribute.

    Raises:
        ValueError, TypeError: A wrong dtype or shape; the message names the argument.

    Example:
        >>> data = ByteImages(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
        >>> data[torch.tensor([0, 1])].flatten()
        tensor([-1.,  1.])
    """

    def __init__(
        self, images: Tensor, labels: Tensor | None = None, *, classes: Sequence[str] = ()
    ) -> None:
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"`images` must be a tensor of torch.uint8, got {kind}")
        if images.dim() != 4:
            raise ValueError(
                "`images` must have the shape (N, channels, height, width), "
                f"got {tuple(images.shape)}"
            )
        if labels is not None:
            check_integer_tensor("labels", labels)
            if labels.shape != images.shape[:1]:
                raise ValueError(
                    f"`labels` must have the shape ({len(images)},), got {tuple(labels.shape)}"
                )
        is_list = isinstance(classes, Sequence) and not isinstance(classes, str | bytes)
        if not is_list or not all(isinstance(name, str) for name in classes):
            raise TypeError(f"`classes` must be a list of names, got {shown(classes)}")
        self.images = images
        self.labels = labels
        self.classes = tuple(classes)

    def __repr__(self) -> str:
        labels = "" if self.labels is None else ", with labels"
        return f"ByteImages({len(self):,} images of shape {tuple(self.images.shape[1:])}{labels})"

    def to(self, device: torch.device | str) -> ByteImages:
        """Return a copy on a device: MNIST takes 47 MB there, and no batch has to be copied."""
        labels = None if self.labels is None else self.labels.to(device)
        return ByteImages(self.images.to(device), labels, classes=self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        """Read one image by an int, or a batch by a tensor or a slice of indices."""
        samples = from_bytes(rows(self.images, index))
        return samples if self.labels is None else (samples, rows(self.labels, index))


PROBES = 16
"""Number of samples that are read twice; one alone could hide a random transform by chance."""


def load_into_memory(
    dataset: Dataset[Any] | Sequence[Any], *, workers: int = 0
) -> ByteImages | TensorDataset:
    """Read every sample of a dataset once, with its transforms, and keep all of them in memory.

    Training then reads them by the batch instead of running the transforms in each epoch. The
    transforms must be deterministic, since random ones would be frozen; that is an error if the
    first 16 samples show it.

    Args:
        dataset: Any map-style dataset whose samples are of one shape: tensors, pairs
            (sample, label), or mappings as `Batch.of` takes.
        workers: Number of worker processes that read, at least 0; 0 reads in this process.

    Returns:
        `ByteImages` for samples that are bytes (as of torchvision's `PILToTensor`), a quarter of
        the memory; a `TensorDataset` for floats. With the labels, if there are any.

    Raises:
        ValueError: The dataset is empty, its samples have another form or differ in shape, or one
            is not the same when it is read again.
        TypeError: `dataset` is not a map-style dataset, or its samples are not tensors.

    Example:
        >>> halves = load_into_memory([(torch.tensor([i / 2]), i) for i in range(4)])
        >>> samples, labels = halves[1:3]
        >>> samples.flatten(), labels
        (tensor([0.5000, 1.0000]), tensor([1, 2]))
    """
    check_integer("workers", workers, minimum=0)
    source: Any = dataset
    reads = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if not reads or isinstance(source, IterableDataset | Mapping | Tensor | np.ndarray):
        raise TypeError(
            f"`dataset` must be a map-style dataset, got {type(source).__name__} (tensors and "
            "arrays are in memory already: pass them to `fit`)"
        )
    if len(source) == 0:
        raise ValueError("`dataset` must hold at least one sample, got an empty dataset")
    # under two seeds, so that a random transform gives two results
    first, again = _first_samples(source, seed=0), _first_samples(source, seed=1)
    parts = zip(first.inputs, again.inputs, strict=True)
    if not all(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all() for a, b in parts):
        raise ValueError(
            "`dataset` must give the same sample each time, got another one in a second reading: "
            "its transforms are random"
        )
    # allocated before they are read: a list of all samples would take the memory twice
    kept = [part.new_empty(len(source), *part.shape[1:]) for part in first.inputs]
    filled = ByteImages(*kept) if kept[0].dtype == torch.uint8 else TensorDataset(*kept)
    # a generator of its own: else the loader draws a seed from the global one
    loader = DataLoader(
        source, batch_size=256, num_workers=workers, collate_fn=_join, generator=torch.Generator()
    )
    with torch.device("cpu"):  # a loader draws from its generator on the default device
        batches = iter(loader)
    start = 0
    for batch in batches:
        for part, whole in zip(batch.inputs, kept, strict=True):
            if part[0].shape != whole[0].shape or part.dtype != whole.dtype:
                # the assignment below would broadcast it or round it to bytes
                raise ValueError(
                    "`dataset` must give samples of one shape and dtype, got "
                    f"{_describe(whole)} and {_describe(part)}"
                )
            whole[start : start + len(part)] = part
        start += len(batch.samples)
    return filled


def rows(data: Any, index: Any) -> Any:
    """Return `data[index]`."""
    if isinstance(data, TensorDataset):
        return tuple(rows(tensor, index) for tensor in data.tensors)
    if isinstance(data, np.ndarray):
        return from_array(data[index.numpy()])
    is_batch = isinstance(index, Tensor) and index.dtype == torch.int64 and index.dim() == 1
    if is_batch and isinstance(data, Tensor):
        # 6 to 10 times as fast as `data[index]` for batches of MNIST (512 images: 43 and 276 us)
        return data.index_select(0, to_device(index, data.device))
    return data[index]


def labels_of(data: Any) -> Tensor | None:
    """Return all labels of data in memory, shape (N,); None if there are none."""
    if isinstance(data, ByteImages):
        return data.labels
    if not isinstance(data, TensorDataset) or len(data.tensors) != 2:
        return None
    labels = data.tensors[1]
    return None if labels.dim() != 1 or labels.is_floating_point() else labels


def _describe(batch: Tensor) -> str:
    return f"{tuple(batch.shape[1:])} of {batch.dtype}"


def _first_samples(dataset: Any, *, seed: int) -> Batch:
    with isolated_rng(seed):
        return _join([dataset[index] for index in range(min(PROBES, len(dataset)))])


def _join(samples: list[Any]) -> Batch:
    """Collate samples of a dataset."""
    try:
        joined = default_collate([Batch.of(sample).inputs for sample in samples])
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"`dataset` must give tensors of one shape, got: {error}") from error
    for part in joined:
        check_type("dataset", part, Tensor, "a dataset that gives tensors")
    return Batch(*joined)
