"""Deterministic algorithms, so that runs are repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """Use them in each test."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
