"""A batch of training data: samples, perhaps with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from vanillagan.runtime.device import to_device

__all__ = [
    "Batch",
    "channels_first",
    "collate",
    "from_array",
    "from_bytes",
    "in_layout",
    "is_sample",
]

SAMPLE_KEYS = ("samples", "images", "image", "pixel_values", "img")
LABEL_KEYS = ("labels", "label", "cls")


class Batch(NamedTuple):
    """Samples, with their labels if there are any.

    Attributes:
        samples: Real samples, floats, shape (N, *sample_shape); in [-1, 1] for a Tanh generator.
        labels: Class indices, integers, shape (N,); or None. For networks with a `label_shape`,
            conditions of any dtype, shape (N, *label_shape).
    """

    samples: Tensor
    labels: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Positional arguments for a network: the samples, then the labels if there are any."""
        return (self.samples,) if self.labels is None else (self.samples, self.labels)

    @staticmethod
    def of(value: Any) -> Batch:
        """Convert what datasets usually yield to a `Batch`.

        Samples may be a tensor, a NumPy array, a Pillow image, or a list of these. Images become
        bytes of shape (channels, height, width), as by torchvision's `PILToTensor`.

        Args:
            value: A `Batch`; samples; a pair (samples, labels); or a mapping. Samples of a mapping
                have the key "samples", "images", "image", "pixel_values" or "img", or are the only
                images in it. Its labels have the key "labels", "label" or "cls".

        Raises:
            TypeError: `value` has another form.
            ValueError: The samples are not of one shape.
        """
        if isinstance(value, Batch):
            return value
        samples, labels = value, None
        if isinstance(value, Mapping):
            samples, labels = _columns(value)
        elif isinstance(value, list | tuple) and not all(map(_is_picture, value)):
            if len(value) > 2:
                raise _wrong_form(value)
            samples, labels = (*value, None)[:2]
        return Batch(_to_samples(samples), _to_labels(labels))

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Copy to a device, and convert floats to `dtype`."""
        return Batch(
            *(to_device(x, device, dtype if x.is_floating_point() else None) for x in self.inputs)
        )

    def split(self, parts: int) -> list[Batch]:
        """Split into `parts` batches whose sizes differ by at most one."""
        if parts == 1:
            return [self]
        samples = self.samples.tensor_split(parts)
        labels = [None] * parts if self.labels is None else self.labels.tensor_split(parts)
        return [Batch(*pair) for pair in zip(samples, labels, strict=True)]

    @staticmethod
    def join(batches: Sequence[Batch]) -> Batch:
        """Concatenate batches in order; labels that cannot be concatenated are left out."""
        if len(batches) == 1:
            return batches[0]
        labels = [batch.labels for batch in batches if batch.labels is not None]
        try:
            joined = torch.cat(labels) if labels else None
        except (TypeError, RuntimeError):  # names or boxes, which no network can read
            joined = None
        return Batch(torch.cat([batch.samples for batch in batches]), joined)


def collate(samples: list[Any]) -> Any:
    """Collate samples as PyTorch's `default_collate`, and some that it refuses.

    Pillow images are stacked. A part of the samples that cannot be stacked, such as boxes, stays a
    list: no network may need it.
    """
    try:
        return default_collate(samples)
    except (TypeError, RuntimeError):
        first = samples[0]
    if isinstance(first, Mapping):
        return {key: _collate_part([sample.get(key) for sample in samples]) for key in first}
    if isinstance(first, list | tuple):
        return [_collate_part(list(part)) for part in zip(*samples, strict=False)]
    return _to_samples(samples)


def _collate_part(part: list[Any]) -> Any:
    try:
        return collate(part)
    except (TypeError, ValueError):
        return part


def is_sample(value: Any, sample_shape: tuple[int, ...] | None) -> bool | None:
    """Return True for a single sample, False for a batch of them, None if neither is certain."""
    parts = list(value.values()) if isinstance(value, Mapping) else value
    parts = parts if isinstance(parts, list | tuple) else [parts]
    if any(isinstance(part, list | tuple) and part and _is_picture(part[0]) for part in parts):
        return False
    pictures = [_is_picture(part) for part in parts]
    if any(pictures):
        return not (isinstance(value, list | tuple) and len(pictures) > 1 and all(pictures))
    try:
        samples, labels = Batch.of(value)
    except (TypeError, ValueError):
        return None
    if isinstance(labels, Number | str | bytes) or (
        isinstance(labels, Tensor) and not labels.dim()
    ):
        return True
    if sample_shape is None:
        return None
    # the exact shapes first: (16, 16) may be a row of a batch, or an image without its channel
    if sample_shape in (samples.shape, samples.shape[1:]):
        return samples.shape == sample_shape
    forms = samples.unsqueeze(0), samples
    single, batch = (in_layout(form, sample_shape).shape[1:] == sample_shape for form in forms)
    return single if single or batch else None


def in_layout(samples: Tensor, sample_shape: tuple[int, ...] | None) -> Tensor:
    """Return images with their channels first, as the generator has them.

    Converts shape (N, height, width, channels), and (N, height, width) for one channel, where the
    result has the generator's shape; all other samples are returned as they are.
    """
    if sample_shape is None or samples.shape[1:] == sample_shape or len(sample_shape) != 3:
        return samples
    if samples.dim() == 4 and (samples.shape[3], *samples.shape[1:3]) == sample_shape:
        return samples.permute(0, 3, 1, 2).contiguous()
    return samples.unsqueeze(1) if (1, *samples.shape[1:]) == sample_shape else samples


def from_array(array: np.ndarray[Any, Any]) -> Tensor:
    """Return a NumPy array as a tensor, copied only where PyTorch cannot share its memory."""
    if array.dtype.kind not in "fiub":
        raise TypeError(f"`batch` must hold numbers, got a NumPy array of {array.dtype}")
    native = array.dtype.newbyteorder("=")
    # also copies read-only arrays, about which `from_numpy` warns
    return torch.from_numpy(np.require(array, dtype=native, requirements=["C", "W"]))


def from_bytes(images: Tensor) -> Tensor:
    """Return images of bytes as floats in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def channels_first(pixels: np.ndarray[Any, Any]) -> Tensor:
    """Return pixels (height, width) or (height, width, channels), channels first."""
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1)


_CONVERTED_MODES = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}


def _from_picture(picture: Any) -> Tensor:
    """Return a Pillow image as bytes of shape (channels, height, width)."""
    picture = picture.convert(_CONVERTED_MODES.get(picture.mode, picture.mode))
    pixels = np.array(picture)
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"`batch` must hold images of 8 bits a channel, got a Pillow image of mode "
            f"{picture.mode!r}: convert it to floats in [-1, 1] by the range that its pixels use, "
            "such as `torch.from_numpy(np.float32(image))[None] / 32767.5 - 1` for 16 bits"
        )
    return channels_first(pixels)


def _is_picture(value: Any) -> bool:
    """Return True for a Pillow image, without importing Pillow."""
    return type(value).__module__.partition(".")[0] == "PIL"


def _to_samples(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return from_array(value)
    if _is_picture(value):
        return _from_picture(value)
    if not isinstance(value, list | tuple) or not value or isinstance(value[0], Number):
        raise _wrong_form(value)
    parts = [_to_samples(part) for part in value]
    for part in parts:
        if part.shape != parts[0].shape:
            raise ValueError(
                f"`batch` must hold samples of one shape, got {tuple(parts[0].shape)} and "
                f"{tuple(part.shape)}: give images one mode (`image.convert('RGB')`) and one size, "
                "such as by the transforms `Resize(64)` and `CenterCrop(64)` of torchvision"
            )
    return torch.stack(parts)


def _to_labels(labels: Any) -> Any:
    """Return numbers as a tensor, other labels as they are: an unconditional network has no use."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "fiub":
        return from_array(labels)
    if isinstance(labels, list | tuple) and all(isinstance(label, Number) for label in labels):
        return torch.tensor(labels)
    return labels


def _columns(value: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Return the samples and the labels in a mapping."""
    samples = [value[key] for key in SAMPLE_KEYS if key in value]
    labels = [value[key] for key in LABEL_KEYS if key in value]
    if not samples:
        samples = [column for column in value.values() if _is_images(column)]
        if len(samples) != 1:
            raise _wrong_form(value)
    return samples[0], labels[0] if labels else None


def _is_images(column: Any) -> bool:
    if isinstance(column, list | tuple) and column:
        return _is_picture(column[0])
    return _is_picture(column) or (isinstance(column, Tensor | np.ndarray) and column.ndim >= 3)


def _wrong_form(value: Any) -> TypeError:
    got = f"the keys {list(value)}" if isinstance(value, Mapping) else type(value).__name__
    if isinstance(value, list | tuple) and value:
        got += f" of {len(value)}: " + ", ".join(type(part).__name__ for part in value[:4])
    remedy = "override `GANTrainer.unpack_batch` for other forms"
    if isinstance(value[0] if isinstance(value, list) and value else value, Number):
        remedy = "convert lists of numbers with `torch.tensor`"
    return TypeError(
        "`batch` must be a tensor, a NumPy array, a pair (samples, labels) or a mapping with the "
        f"key 'samples', 'images', 'image', 'pixel_values' or 'img', got {got}; {remedy}"
    )
