"""Features of samples, from any network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vanillagan.errors import check_integer, check_kind
from vanillagan.metrics.points import check_finite
from vanillagan.runtime import device_of, dtype_of, evaluating

__all__ = ["extract_features"]


def extract_features(extractor: nn.Module, samples: Tensor, *, batch_size: int = 500) -> Tensor:
    """Runs samples through a network in eval mode, without gradients, a batch at a time.

    Args:
        extractor: Any network `forward(samples) -> features (N, ...)`, such as a classifier without
            its last layer. The modes of its modules are put back afterwards.
        samples: Samples, shape (N, ...), of any dtype; floats are given to the network in the dtype
            of its weights. They may be on another device.
        batch_size: So many samples go through the network at once.

    Returns:
        Features, shape (N, F), on the device of the network.

    Raises:
        ValueError: Samples are none or not finite, or the network gives not one row for each.
        TypeError: `extractor` is no module, `samples` no tensor, or features no tensor.

    Example:
        >>> extract_features(nn.Conv2d(1, 4, 3), torch.zeros(2, 1, 5, 5)).shape
        torch.Size([2, 36])
    """
    check_kind("extractor", extractor, nn.Module, "a torch.nn.Module")
    check_kind("samples", samples, Tensor, "a tensor")
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    if samples.dim() == 0 or len(samples) == 0:
        raise ValueError(
            f"`samples` must have the shape (N, ...) with N of at least 1, "
            f"got {tuple(samples.shape)}"
        )
    check_finite("samples", samples)
    device = device_of(extractor)
    dtype = dtype_of(extractor) if samples.is_floating_point() else None
    with torch.no_grad(), evaluating(extractor):
        return torch.cat(
            [_rows(extractor, batch.to(device, dtype)) for batch in samples.split(batch_size)]
        )


def _rows(extractor: nn.Module, batch: Tensor) -> Tensor:
    features = extractor(batch)
    if not isinstance(features, Tensor):
        raise TypeError(f"`extractor` must return a tensor, got {type(features).__name__}")
    if features.dim() == 0 or len(features) != len(batch):
        raise ValueError(
            f"`extractor` must return a row for each of {len(batch)} samples, "
            f"got the shape {tuple(features.shape)}"
        )
    return features.reshape(len(batch), -1)
