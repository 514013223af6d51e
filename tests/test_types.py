"""What type checkers say of the public names: mypy reads this file, and pytest runs it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from typing_extensions import assert_type

from vanillagan import Discriminator, GANTrainer, Generator, load_generator
from vanillagan.data import normal_latent
from vanillagan.networks.base import GeneratorBase


def test_a_generator_from_a_checkpoint_samples(tmp_path: Path) -> None:
    GANTrainer(Generator(4, (2,)), Discriminator((2,)), device="cpu").save(tmp_path / "run.pt")
    generator = load_generator(tmp_path / "run.pt")
    assert_type(generator, GeneratorBase)
    assert assert_type(generator.sample(3), Tensor).shape == (3, 2)


def test_a_foreign_generator_from_a_checkpoint_keeps_its_type(tmp_path: Path) -> None:
    networks = nn.Linear(4, 2), nn.Linear(2, 1)
    GANTrainer(*networks, latent=normal_latent(4), device="cpu").save(tmp_path / "run.pt")
    network = nn.Linear(4, 2)
    generator = load_generator(tmp_path / "run.pt", network=network, device="cpu")
    assert assert_type(generator, nn.Linear) is network
