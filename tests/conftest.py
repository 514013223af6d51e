"""What the tests share: small players, small data, and where the full MNIST is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from vanillagan import Discriminator, GANTrainer, Generator


class Rows(Dataset):
    """A map-style dataset of rows."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


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


@pytest.fixture
def make_trainer() -> Callable[..., GANTrainer]:
    """Makes trainers of small players in the plane; the same arguments give the same weights."""

    def make(*, num_classes: int = 0, hidden: tuple[int, ...] = (16, 16), **options: Any):
        torch.manual_seed(0)
        return GANTrainer(
            Generator(8, (2,), hidden=hidden, num_classes=num_classes),
            Discriminator((2,), hidden=(16,), num_classes=num_classes),
            **({"device": "cpu"} | options),
        )

    return make


@pytest.fixture(scope="session")
def full_mnist() -> Path:
    """The folder of the full MNIST in torchvision's layout: $VANILLAGAN_MNIST, or else data/."""
    root = Path(os.environ.get("VANILLAGAN_MNIST", "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"needs the full MNIST, which is not under {root} (set VANILLAGAN_MNIST)")
    return root
