"""Random sets of points for metrics."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_points(
    n: int, features: int, seed: int, *, shift: float = 0.0, scale: float = 1.0
) -> Tensor:
    """Return correlated Gaussian points of shape (n, features) in float64."""
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(features, features, generator=rng, dtype=torch.float64)
    points = torch.randn(n, features, generator=torch.Generator().manual_seed(seed + 100)).double()
    return shift + scale * points @ mix / features**0.5


def two_sets(seed: int, *, n: int = 70, m: int = 55, features: int = 6) -> tuple[Tensor, Tensor]:
    """Return two overlapping sets of points of different distributions."""
    first = gaussian_points(n, features, seed)
    return first, gaussian_points(m, features, seed + 10, shift=0.3, scale=1.2)
