"""Fixtures: small trainers and data, one thread, and the folder of the full MNIST."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.trainers import make_trainer
from vanillagan import GANTrainer


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> Iterator[None]:
    """Small tensors run faster on one thread; every test begins with the same random state."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def points() -> torch.Tensor:
    """200 points in the plane, within [-1, 1]."""
    rng = torch.Generator().manual_seed(1)
    return torch.rand(200, 2, generator=rng) * 2 - 1


@pytest.fixture(name="make_trainer")
def make_trainer_fixture() -> Callable[..., GANTrainer]:
    """Return `tests.helpers.trainers.make_trainer`."""
    return make_trainer


@pytest.fixture(scope="session")
def full_mnist() -> Path:
    """The folder of the full MNIST in torchvision's layout: $VANILLAGAN_MNIST, or else data/."""
    root = Path(os.environ.get("VANILLAGAN_MNIST", "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"needs the full MNIST, which is not under {root} (set VANILLAGAN_MNIST)")
    return root
