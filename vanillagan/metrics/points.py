"""What every metric asks of its sets of points, and the form in which it reads them."""

from __future__ import annotations

from torch import Tensor

from vanillagan.errors import check_kind

__all__ = ["as_features", "as_points", "check_finite"]

LARGEST = 1e140
"""The sums of squares of values up to here are finite in float64."""


def as_points(minimum: int = 1, **named: Tensor) -> list[Tensor]:
    """Sets of samples as matrices of points in float64, without gradients.

    Args:
        minimum: So many samples each set must have at least.
        **named: The sets by the names of their arguments, floats of shape (N, ...); of the same
            size after N, and on one device.

    Returns:
        A matrix (N, F) for each, on its device (on the CPU where the device has no float64).

    Raises:
        TypeError: A set is no tensor of floats.
        ValueError: A set is too small, not finite, too large in its values, or does not go with
            the first.
    """
    for name, samples in named.items():
        check_kind(name, samples, Tensor, "a tensor of floating point")
        if not samples.is_floating_point():
            raise TypeError(f"`{name}` must be a tensor of floating point, got {samples.dtype}")
        if samples.dim() == 0 or samples[:1].numel() == 0 or len(samples) < minimum:
            raise ValueError(
                f"`{name}` must have the shape (N, ...) with N of at least {minimum} and "
                f"a value or more in each sample, got {tuple(samples.shape)}"
            )
    first, *others = named
    for other in others:
        _check_pair(first, named[first], other, named[other])
    for name, samples in named.items():
        check_finite(name, samples)
        _check_magnitude(name, samples)
    return [_double(samples.detach().flatten(1)) for samples in map(_columns, named.values())]


def as_features(minimum: int = 1, **named: Tensor) -> list[Tensor]:
    """Sets of features as `as_points` gives them; each must have the shape (N, F) to begin with."""
    for name, features in named.items():
        if isinstance(features, Tensor) and features.dim() != 2:
            raise ValueError(
                f"`{name}` must be features of the shape (N, F), got {tuple(features.shape)}; "
                "flatten samples, or see `extract_features`"
            )
    return as_points(minimum, **named)


def check_finite(name: str, values: Tensor) -> None:
    """Raises where a value is NaN or infinite, naming the argument and how many there are."""
    bad = int(values.numel() - values.isfinite().sum())
    if bad:
        raise ValueError(f"`{name}` must be finite, got NaN or infinity in {bad} values")


def _check_magnitude(name: str, values: Tensor) -> None:
    largest = max(abs(bound.item()) for bound in values.aminmax())
    if largest > LARGEST:
        raise ValueError(
            f"`{name}` must be of values up to {LARGEST:g}, whose squares are finite in float64, "
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


def _columns(samples: Tensor) -> Tensor:
    return samples[:, None] if samples.dim() == 1 else samples


def _double(points: Tensor) -> Tensor:
    return (points.cpu() if points.device.type == "mps" else points).double()
