"""Small datasets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset


class OwnRows:
    """Map-style data of no base class."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


class Rows(OwnRows, Dataset):
    """A map-style dataset of rows."""


def ring(n: int = 256, modes: int = 8, seed: int = 0) -> Tensor:
    """Return points on the first `modes` of 8 Gaussians on a circle, of standard deviation 0.02."""
    rng = torch.Generator().manual_seed(seed)
    angles = torch.randint(modes, (n,), generator=rng) * math.pi / 4
    centers = torch.stack([angles.cos(), angles.sin()], dim=1)
    return centers + 0.02 * torch.randn(n, 2, generator=rng)
