"""Feature extraction by any network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vanillagan.runtime.device import device_of, dtype_of, evaluating
from vanillagan.validation import check_finite, check_integer, check_type

__all__ = ["extract_features"]


def extract_features(extractor: nn.Module, samples: Tensor, *, batch_size: int = 500) -> Tensor:
    """Return the features of samples: the output of a network in eval mode, without gradients.

    Args:
        extractor: Any network `forward(samples) -> features (N, ...)`, such as a classifier without
            its last layer. The training modes of its modules are restored afterwards.
        samples: Samples, shape (N, ...), of any dtype and on any device. Floats are converted to
            the dtype of the network's weights.
        batch_size: Number of samples that pass through the network at once.

    Returns:
        Features, shape (N, F), on the device of the network.

    Raises:
        ValueError: `samples` is empty or not finite, or the network does not return one row per
            sample.
        TypeError: `extractor` is not a module, or samples or features are not a tensor.

    Example:
        >>> extract_features(nn.Conv2d(1, 4, 3), torch.zeros(2, 1, 5, 5)).shape
        torch.Size([2, 36])
    """
    check_type("extractor", extractor, nn.Module, "a torch.nn.Module")
    check_type("samples", samples, Tensor, "a tensor")
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
            f"`extractor` must return one row for each of {len(batch)} samples, got the shape "
            f"{tuple(features.shape)}"
        )
    return features.reshape(len(batch), -1)
