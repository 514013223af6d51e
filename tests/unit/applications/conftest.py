"""Fixtures of the tests of applications."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture
def box() -> Tensor:
    """Return a mask (8, 8) with a box of 4 x 4 pixels in the center."""
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:6, 2:6] = True
    return mask
