"""What the trainer reads: a batch of samples, byte images that stay bytes, and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from vanillagan.errors import check_integer, check_integers, check_kind
from vanillagan.runtime import isolated_rng

__all__ = ["Batch", "ByteImages", "LatentSampler", "cached", "normal_latent", "uniform_latent"]

LatentSampler: TypeAlias = Callable[[int, torch.Generator], Tensor]
"""Draws n latents from a random generator: `(n, generator) -> Tensor (n, ...)`, on the CPU."""


class Batch(NamedTuple):
    """Samples with, where there are any, their labels.

    Attributes:
        samples: Real samples, shape (N, *sample_shape), floats; in [-1, 1] for a Tanh generator.
        labels: Their classes, shape (N,), integers, or None.
    """

    samples: Tensor
    labels: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a network is called with: the samples, then the labels if there are any."""
        return (self.samples,) if self.labels is None else (self.samples, self.labels)

    @staticmethod
    def of(value: Any) -> Batch:
        """Makes a batch of what data usually gives.

        Args:
            value: A `Batch`; a tensor of samples; a pair (samples, labels); or a mapping with the
                key "samples", "images" or "image" and perhaps "labels" or "label".

        Raises:
            TypeError: The value has another form.
        """
        if isinstance(value, Batch):
            return value
        if isinstance(value, Tensor):
            return Batch(value)
        if isinstance(value, Mapping):
            samples = [value[key] for key in ("samples", "images", "image") if key in value]
            labels = [value[key] for key in ("labels", "label") if key in value]
            if samples:
                return Batch(samples[0], labels[0] if labels else None)
        elif isinstance(value, Sequence) and 1 <= len(value) <= 2:
            return Batch(*value)
        raise TypeError(
            "`batch` must be a tensor, a pair (samples, labels) or a mapping with the key "
            f"'samples', got {value!r:.80}; override `GANTrainer.unpack_batch` for other forms"
        )

    def split(self, parts: int) -> list[Batch]:
        """Splits the batch into `parts` batches whose sizes differ by one at most."""
        if parts == 1:
            return [self]
        samples = self.samples.tensor_split(parts)
        labels = [None] * parts if self.labels is None else self.labels.tensor_split(parts)
        return [Batch(*pair) for pair in zip(samples, labels, strict=True)]

    @staticmethod
    def join(batches: Sequence[Batch]) -> Batch:
        """Joins batches into one, in order."""
        if len(batches) == 1:
            return batches[0]
        labels = [batch.labels for batch in batches if batch.labels is not None]
        return Batch(
            torch.cat([batch.samples for batch in batches]), torch.cat(labels) if labels else None
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite: the sum then isn't, which costs less than a mask."""
    if not tensor.is_floating_point():
        return True
    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    return math.isfinite(total.item())


class ByteImages(Dataset[Any]):
    """Images kept as bytes, scaled to floats in [-1, 1] as they are read.

    A quarter of the memory of floats, and read by the batch. Images of a file that is mapped into
    memory, as `torch.from_file` gives, are read from it as they are needed.

    Args:
        images: Bytes, shape (N, channels, height, width), dtype uint8.
        labels: Their classes, shape (N,), integers, or None.

    Raises:
        ValueError, TypeError: A wrong dtype or shape; the message names the argument.

    Example:
        >>> data = ByteImages(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
        >>> data[torch.tensor([0, 1])].flatten()
        tensor([-1.,  1.])
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None) -> None:
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"`images` must be a tensor of torch.uint8, got {kind}")
        if images.dim() != 4:
            raise ValueError(
                "`images` must have the shape (N, channels, height, width), "
                f"got {tuple(images.shape)}"
            )
        if labels is not None and (not isinstance(labels, Tensor) or labels.is_floating_point()):
            kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"`labels` must be a tensor of integers, got {kind}")
        if labels is not None and labels.shape != images.shape[:1]:
            raise ValueError(
                f"`labels` must have the shape ({len(images)},), got {tuple(labels.shape)}"
            )
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        """Reads one image by an int, or a batch by a tensor or a slice of indices."""
        samples: Tensor = rows(self.images, index).to(torch.float32).div_(127.5).sub_(1.0)
        return samples if self.labels is None else (samples, rows(self.labels, index))


PROBES = 16
"""So many samples are read twice, since a random transform may now and then do the same."""


def cached(
    dataset: Dataset[Any] | Sequence[Any], *, workers: int = 0
) -> ByteImages | TensorDataset:
    """Reads every sample once, with its transforms, and keeps all of them in memory.

    Training then reads them by the batch instead of running the transforms in each epoch, so these
    must give the same each time: random ones would be frozen, which is an error where it shows.

    Args:
        dataset: Any map-style dataset whose samples are of one shape: tensors, pairs
            (sample, label), or mappings as `Batch.of` takes.
        workers: Processes that read, at least 0; none reads in this one.

    Returns:
        `ByteImages` of samples that are bytes (torchvision's `PILToTensor` gives them), a quarter
        of the memory; of floats a `TensorDataset`. With the labels, if there are any.

    Raises:
        ValueError: The dataset is empty, its samples are no tensors or differ in shape, or one is
            not the same when it is read again.
        TypeError: It is no map-style dataset, or its samples have another form.

    Example:
        >>> halves = cached([(torch.tensor([number / 2]), number) for number in range(4)])
        >>> samples, labels = halves[1:3]
        >>> samples.flatten(), labels
        (tensor([0.5000, 1.0000]), tensor([1, 2]))
    """
    check_integer("workers", workers, minimum=0)
    source: Any = dataset
    reads = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if not reads or isinstance(source, IterableDataset):
        raise TypeError(f"`dataset` must be a map-style dataset, got {type(source).__name__}")
    if len(source) == 0:
        raise ValueError("`dataset` must hold at least one sample, got an empty one")
    first, again = _first_samples(source, seed=0), _first_samples(source, seed=1)
    if not all(
        torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(first.inputs, again.inputs, strict=True)
    ):
        raise ValueError(
            "`dataset` must give the same sample each time, got another one in a second reading: "
            "its transforms are random"
        )
    kept = [torch.empty(len(source), *part.shape[1:], dtype=part.dtype) for part in first.inputs]
    filled = ByteImages(*kept) if kept[0].dtype == torch.uint8 else TensorDataset(*kept)
    loader = DataLoader(
        source, batch_size=256, num_workers=workers, collate_fn=_join, generator=torch.Generator()
    )
    start = 0
    for batch in loader:
        for part, whole in zip(batch.inputs, kept, strict=True):
            if part[0].shape != whole[0].shape or part.dtype != whole.dtype:
                raise ValueError(  # or else it might be broadcast, or rounded to bytes
                    f"`dataset` must give samples of one shape and dtype, got {_kind(whole)} and "
                    f"{_kind(part)}"
                )
            whole[start : start + len(part)] = part
        start += len(batch.samples)
    return filled


def _kind(batch: Tensor) -> str:
    return f"{tuple(batch.shape[1:])} of {batch.dtype}"


def _first_samples(dataset: Any, *, seed: int) -> Batch:
    """A few samples, read with random states of the seed."""
    with isolated_rng(seed):
        return _join([dataset[index] for index in range(min(PROBES, len(dataset)))])


def _join(samples: list[Any]) -> Batch:
    """A batch of samples that a dataset gives."""
    parts = [Batch.of(sample).inputs for sample in samples]
    try:
        joined = default_collate(parts)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"`dataset` must give tensors of one shape, got: {error}") from error
    for part in joined:
        check_kind("dataset", part, Tensor, "a dataset that gives tensors")
    return Batch(*joined)


def rows(data: Any, index: Any) -> Any:
    """`data[index]`; tensors give a batch by `index_select`, which is several times faster."""
    if isinstance(data, TensorDataset):
        return tuple(rows(tensor, index) for tensor in data.tensors)
    batch = isinstance(index, Tensor) and index.dtype == torch.int64 and index.dim() == 1
    return data.index_select(0, index) if batch and isinstance(data, Tensor) else data[index]


def labels_of(data: Any) -> Tensor | None:
    """All labels of data in memory, shape (N,), or None where it isn't known to have any."""
    if isinstance(data, ByteImages):
        return data.labels
    if not isinstance(data, TensorDataset) or len(data.tensors) != 2:
        return None
    labels = data.tensors[1]
    return None if labels.dim() != 1 or labels.is_floating_point() else labels


def normal_latent(*shape: int) -> LatentSampler:
    """Noise from N(0, 1): a sampler of latents of shape (n, *shape), as in the source.

    Example:
        >>> normal_latent(100)(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 100])
    """
    shape = check_integers("shape", shape)
    return lambda n, rng: torch.randn(n, *shape, generator=rng)


def uniform_latent(*shape: int) -> LatentSampler:
    """Noise from U(-1, 1): a sampler of latents of shape (n, *shape).

    Example:
        >>> float(uniform_latent(100)(4, torch.Generator().manual_seed(0)).abs().max()) <= 1
        True
    """
    shape = check_integers("shape", shape)
    return lambda n, rng: torch.rand(n, *shape, generator=rng) * 2 - 1


def draw_latent(sampler: LatentSampler, n: int, rng: torch.Generator) -> Tensor:
    """Draws n latents; raises where the sampler is no function, or gives no tensor."""
    if not callable(sampler):
        raise TypeError(
            "`latent_sampler` must be a function (n, torch.Generator) -> Tensor such as "
            f"`normal_latent(100)`, got {sampler!r:.60}"
        )
    latent = sampler(n, rng)
    check_kind("latent", latent, Tensor, "a function (n, torch.Generator) that returns a Tensor")
    return latent


def latent_sampler_of(generator: nn.Module, *, argument: str = "latent") -> LatentSampler:
    """N(0, 1) of the generator's `latent_dim`; raises, naming the argument, where it has none."""
    latent_dim = getattr(generator, "latent_dim", None)
    if latent_dim is None:
        raise ValueError(
            f"`{argument}` must be given for {type(generator).__name__}, which has no "
            "`latent_dim`: a callable (n, torch.Generator) -> Tensor such as `normal_latent(100)`, "
            "got None"
        )
    return normal_latent(check_integer("latent_dim", latent_dim, minimum=1))
