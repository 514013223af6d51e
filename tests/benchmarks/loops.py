"""Training loops whose speed is compared, as rows of `turns`: the source's, the best one by hand,
and the trainer's."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from tests.benchmarks.turns import Tick
from vanillagan import (
    Callback,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
    StepResult,
)
from vanillagan.callbacks import CSVLog, ProgressBar, SampleGrid
from vanillagan.datasets import mnist

LATENT_DIM = 100
SAMPLE_SHAPE = (1, 28, 28)
LR, BETAS = 0.0002, (0.5, 0.999)


@dataclass(frozen=True)
class Options:
    """What the rows of one comparison have in common.

    Attributes:
        data: The folder of MNIST, in torchvision's layout.
        batch_size: Real samples in a step.
        precision: "fp32", or "bf16" for autocast to bfloat16.
        networks: "perceptron" for those of the source, "conv" for those of the library's recipe.
        seed: What the weights are drawn from, and the noise and the order of the loops by hand.
    """

    data: Path
    batch_size: int = 64
    precision: Literal["fp32", "bf16"] = "fp32"
    networks: Literal["perceptron", "conv"] = "perceptron"
    seed: int = 0

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the networks run, in loops without a trainer."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast("cpu", dtype=torch.bfloat16)


# -- networks and data ----------------------------------------------------------------------------


def own_networks(options: Options) -> tuple[nn.Module, nn.Module]:
    """The library's networks; the perceptrons are the source's in all that takes time."""
    torch.manual_seed(options.seed)
    if options.networks == "conv":
        generator = ConvGenerator(LATENT_DIM, SAMPLE_SHAPE, width=32, patch=2)
        return generator, ConvDiscriminator(SAMPLE_SHAPE, width=32, patch=2)
    return Generator(LATENT_DIM, SAMPLE_SHAPE), Discriminator(SAMPLE_SHAPE)


def source_networks(options: Options, *, sigmoid: bool) -> tuple[nn.Module, nn.Module]:
    """The source's networks as it writes them, of images; D gives (N, 1).

    Args:
        options: Which networks: "conv" are the library's.
        sigmoid: Whether D ends in one, as in the source; else it gives logits.
    """
    if options.networks == "conv":
        generator, critic = own_networks(options)
        discriminator = nn.Sequential(critic, nn.Unflatten(0, (-1, 1)))
        return generator, discriminator.append(nn.Sigmoid()) if sigmoid else discriminator
    torch.manual_seed(options.seed)
    pixels = math.prod(SAMPLE_SHAPE)

    def block(features_in: int, features_out: int, normalize: bool = True) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Linear(features_in, features_out)]
        if normalize:
            layers.append(nn.BatchNorm1d(features_out, 0.8))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        return layers

    generator = nn.Sequential(
        *block(LATENT_DIM, 128, normalize=False),
        *block(128, 256),
        *block(256, 512),
        *block(512, 1024),
        nn.Linear(1024, pixels),
        nn.Tanh(),
        nn.Unflatten(1, SAMPLE_SHAPE),
    )
    discriminator = nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, 512),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(256, 1),
    )
    return generator, discriminator.append(nn.Sigmoid()) if sigmoid else discriminator


def plain_loader(options: Options, *steps: object) -> DataLoader[tuple[Tensor, Tensor]]:
    """MNIST as tutorials read it: an image at a time, through PIL.

    Args:
        options: The folder and the batch size.
        steps: Transforms that come before `ToTensor` and `Normalize`.
    """
    transform = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    )
    digits = MNIST(options.data, transform=transform, download=True)
    return DataLoader(digits, batch_size=options.batch_size, shuffle=True)


# -- rows -----------------------------------------------------------------------------------------


def source(options: Options, tick: Tick) -> None:
    """The source's loop: a DataLoader, BCELoss on sigmoids, Adam as it comes, .item() each step."""
    loader = plain_loader(options, transforms.Resize(28))
    train_as_source(*source_networks(options, sigmoid=True), loader, options, tick)


def train_as_source(
    generator: nn.Module,
    discriminator: nn.Module,
    loader: DataLoader[tuple[Tensor, Tensor]],
    options: Options,
    tick: Tick,
) -> None:
    """Runs the source's loop on networks that may be looked at meanwhile."""
    adversarial_loss = nn.BCELoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=LR, betas=BETAS)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=LR, betas=BETAS)

    def score(images: Tensor) -> Tensor:
        with options.autocast():
            scores: Tensor = discriminator(images)
        return scores.float()

    while True:
        for real, _labels in loader:
            valid = torch.ones(len(real), 1)
            fake = torch.zeros(len(real), 1)

            optimizer_g.zero_grad()
            with options.autocast():
                made = generator(torch.randn(len(real), LATENT_DIM))
            g_loss = adversarial_loss(score(made), valid)
            g_loss.backward()
            optimizer_g.step()

            optimizer_d.zero_grad()
            real_loss = adversarial_loss(score(real), valid)
            fake_loss = adversarial_loss(score(made.detach()), fake)
            d_loss = (real_loss + fake_loss) / 2
            d_loss.backward()
            optimizer_d.step()
            f"[D loss: {d_loss.item():f}] [G loss: {g_loss.item():f}]"
            tick()


def hand_written(options: Options, tick: Tick) -> None:
    """The trainer's mathematics without the trainer, with every trick that pays.

    Data in memory as bytes, read by the batch; fused Adam; D frozen in G's step; one forward of D
    over real and fake; losses from logits; nothing read; G's activations freed before D's step.
    """
    generator, discriminator = own_networks(options)
    optimizer_g, optimizer_d = (
        torch.optim.Adam(network.parameters(), lr=LR, betas=BETAS, fused=True)
        for network in (generator, discriminator)
    )
    weights_d = list(discriminator.parameters())

    def generator_step(n: int) -> Tensor:
        with options.autocast():
            fake: Tensor = generator(torch.randn(n, LATENT_DIM))
            for weight in weights_d:
                weight.requires_grad_(False)
            scores = discriminator(fake)
        loss = F.softplus(-scores.float()).mean()
        optimizer_g.zero_grad()
        loss.backward()
        optimizer_g.step()
        for weight in weights_d:
            weight.requires_grad_(True)
        return fake.detach()

    def discriminator_step(real: Tensor, fake: Tensor) -> None:
        with options.autocast():
            scores = discriminator(torch.cat([real, fake]))
        real_scores, fake_scores = scores.float().chunk(2)
        loss = (F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()) / 2
        optimizer_d.zero_grad()
        loss.backward()
        optimizer_d.step()

    for real in _batches(options):
        discriminator_step(real, generator_step(len(real)))
        tick()


def _batches(options: Options) -> Iterator[Tensor]:
    images = mnist(options.data).images
    while True:
        for indices in torch.randperm(len(images)).split(options.batch_size):
            yield images.index_select(0, indices).float().div_(127.5).sub_(1.0)


class Ticking(Callback):
    """Ends the turn, after all that other callbacks do in a step."""

    order = 9

    def __init__(self, tick: Tick) -> None:
        self.tick = tick

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        self.tick()


def trainer(options: Options, tick: Tick) -> None:
    """GANTrainer alone."""
    _fit(options, [Ticking(tick)])


def trainer_full(options: Options, tick: Tick) -> None:
    """GANTrainer with a progress bar, a CSV log, and a grid each 400 steps."""
    with tempfile.TemporaryDirectory() as folder:
        shown = [ProgressBar(), CSVLog(Path(folder, "log.csv")), SampleGrid(folder)]
        _fit(options, [*shown, Ticking(tick)])


def _fit(options: Options, callbacks: list[Callback]) -> None:
    game = GANTrainer(
        *own_networks(options), device="cpu", precision=options.precision, callbacks=callbacks
    )
    game.fit(mnist(options.data), epochs=10**6, batch_size=options.batch_size)
