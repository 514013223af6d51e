"""Validation of the sets that metrics compare, and their conversion to float64 matrices."""

from __future__ import annotations

from torch import Tensor

from vanillagan.validation import check_finite, check_float_tensor

__all__ = ["as_features", "as_points"]

LARGEST = 1e140
"""Largest value whose sums of squares are finite in float64."""


def as_points(minimum: int = 1, **named: Tensor) -> list[Tensor]:
    """Return sets of samples as float64 matrices without gradients.

    Args:
        minimum: Least number of samples in a set.
        **named: Sets by the names of their arguments, floats of shape (N, ...), with samples of the
            same size, on the same device.

    Returns:
        A matrix (N, F) for each set, on its device (on the CPU if the device has no float64).

    Raises:
        TypeError: A set is not a tensor of floats.
        ValueError: A set is too small, its values are too large or not finite, or its size or
            device differ from those of the first set.
    """
    for name, samples in named.items():
        check_float_tensor(name, samples)
        if samples.dim() == 0 or samples[:1].numel() == 0 or len(samples) < minimum:
            raise ValueError(
                f"`{name}` must have the shape (N, ...) with N of at least {minimum} and at least "
                f"one value in each sample, got {tuple(samples.shape)}"
            )
    first, *others = named
    for other in others:
        _check_pair(first, named[first], other, named[other])
    for name, samples in named.items():
        check_finite(name, samples)
        _check_magnitude(name, samples)
    rows = [samples.detach().reshape(len(samples), -1) for samples in named.values()]
    return [(points.cpu() if points.device.type == "mps" else points).double() for points in rows]


def as_features(minimum: int = 1, **named: Tensor) -> list[Tensor]:
    """Return sets of features of shape (N, F) as `as_points` does; other shapes are an error."""
    for name, features in named.items():
        if isinstance(features, Tensor) and features.dim() != 2:
            raise ValueError(
                f"`{name}` must be features of the shape (N, F), got {tuple(features.shape)} "
                "(flatten the samples or use `extract_features`)"
            )
    return as_points(minimum, **named)


def _check_magnitude(name: str, values: Tensor) -> None:
    largest = max(abs(bound.item()) for bound in values.aminmax())
    if largest > LARGEST:
        raise ValueError(
            f"`{name}` must have values up to {LARGEST:g}, whose squares are finite in float64, "
            f"got {largest:g}"
        )


def _check_pair(first: str, a: Tensor, second: str, b: Tensor) -> None:
    if a[0].numel() != b[0].numel():
        raise ValueError(
            f"`{first}` and `{second}` must have samples of the same size, got the shapes "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    if a.device != b.device:
        raise ValueError(
            f"`{first}` and `{second}` must be on the same device, got {a.device} and {b.device}"
        )
