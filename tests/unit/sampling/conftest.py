"""Generators to sample from."""

from __future__ import annotations

import pytest

from vanillagan import Generator


@pytest.fixture
def generator() -> Generator:
    return Generator(4, (2,), hidden=(8, 8))


@pytest.fixture
def conditional() -> Generator:
    return Generator(4, (2,), hidden=(8, 8), num_classes=3)
