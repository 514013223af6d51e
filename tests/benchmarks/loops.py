"""Training loops to compare: the reference implementation, hand-written, and the trainer.

The reference implementation is PyTorch-GAN's gan.py:
https://github.com/eriklindernoren/PyTorch-GAN/blob/master/implementations/gan/gan.py
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
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
    """Settings of all rows of a comparison.

    Attributes:
        data: Folder of MNIST, in torchvision's layout.
        batch_size: Real samples in a batch.
        precision: "fp32", or "bf16" for autocast to bfloat16.
        networks: "mlp" for those of the reference implementation, "conv" for the library's.
        seed: Seed of the weights, and of latents and sample order of the loops without a trainer.
        device: Device of the loops whose networks and data the caller puts there.
    """

    data: Path
    batch_size: int = 64
    precision: Literal["fp32", "bf16"] = "fp32"
    networks: Literal["mlp", "conv"] = "mlp"
    seed: int = 0
    device: str = "cpu"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which networks run, in loops without a trainer."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)


# -- networks and data ----------------------------------------------------------------------------


def own_networks(options: Options) -> tuple[nn.Module, nn.Module]:
    """Return the library's networks; the MLPs cost the same as the reference implementation's."""
    torch.manual_seed(options.seed)
    if options.networks == "conv":
        generator = ConvGenerator(LATENT_DIM, SAMPLE_SHAPE, base_channels=32, patch_size=2)
        return generator, ConvDiscriminator(SAMPLE_SHAPE, base_channels=32, patch_size=2)
    return Generator(LATENT_DIM, SAMPLE_SHAPE), Discriminator(SAMPLE_SHAPE)


def reference_networks(options: Options, *, sigmoid: bool) -> tuple[nn.Module, nn.Module]:
    """Return the networks of the reference implementation; the discriminator returns (N, 1).

    Args:
        options: Settings; "conv" networks are the library's.
        sigmoid: Let the discriminator end in a sigmoid, as in the reference implementation.
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
    """Return a DataLoader that reads MNIST one image at a time, through PIL.

    Args:
        options: Settings: the folder and the batch size.
        steps: Transforms before `ToTensor` and `Normalize`.
    """
    transform = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    )
    digits = MNIST(options.data, transform=transform, download=True)
    return DataLoader(digits, batch_size=options.batch_size, shuffle=True)


# -- rows -----------------------------------------------------------------------------------------


def reference(options: Options, tick: Tick) -> None:
    """Run the reference implementation: DataLoader, BCELoss, default Adam, .item() each step."""
    loader = plain_loader(options, transforms.Resize(28))
    train_as_reference(*reference_networks(options, sigmoid=True), loader, options, tick)


def train_as_reference(
    generator: nn.Module,
    discriminator: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    options: Options,
    tick: Tick,
) -> None:
    """Run the reference implementation's loop on given networks; batches are on the device."""
    adversarial_loss = nn.BCELoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=LR, betas=BETAS)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=LR, betas=BETAS)

    def discriminate(images: Tensor) -> Tensor:
        with options.autocast():
            probabilities: Tensor = discriminator(images)
        return probabilities.float()

    while True:
        for real, _labels in loader:
            valid = torch.ones(len(real), 1, device=options.device)
            fake = torch.zeros(len(real), 1, device=options.device)

            optimizer_g.zero_grad()
            with options.autocast():
                generated = generator(torch.randn(len(real), LATENT_DIM, device=options.device))
            g_loss = adversarial_loss(discriminate(generated), valid)
            g_loss.backward()
            optimizer_g.step()

            optimizer_d.zero_grad()
            real_loss = adversarial_loss(discriminate(real), valid)
            fake_loss = adversarial_loss(discriminate(generated.detach()), fake)
            d_loss = (real_loss + fake_loss) / 2
            d_loss.backward()
            optimizer_d.step()
            f"[D loss: {d_loss.item():f}] [G loss: {g_loss.item():f}]"
            tick()


def hand_written(options: Options, tick: Tick) -> None:
    """Run the trainer's mathematics without the trainer, with all optimizations that pay.

    Data in memory as bytes, indexed by batch; fused Adam; the discriminator frozen in the
    generator's step; one forward pass over real and fake samples; losses from logits; no
    synchronization; the generator's activations freed before the discriminator's step.
    """
    step = hand_written_step(*own_networks(options), options)
    for real in _batches(options):
        step(real)
        tick()


def hand_written_step(
    generator: nn.Module, discriminator: nn.Module, options: Options
) -> Callable[[Tensor], None]:
    """Return the step of `hand_written` for given networks."""
    optimizer_g, optimizer_d = (
        torch.optim.Adam(
            network.parameters(),
            lr=LR,
            betas=BETAS,
            fused=True,
            capturable=options.device != "cpu",
        )
        for network in (generator, discriminator)
    )
    weights_d = list(discriminator.parameters())

    def generator_step(n: int) -> Tensor:
        with options.autocast():
            fake: Tensor = generator(torch.randn(n, LATENT_DIM, device=options.device))
            for weight in weights_d:
                weight.requires_grad_(False)
            logits = discriminator(fake)
        loss = F.softplus(-logits.float()).mean()
        optimizer_g.zero_grad()
        loss.backward()
        optimizer_g.step()
        for weight in weights_d:
            weight.requires_grad_(True)
        return fake.detach()

    def discriminator_step(real: Tensor, fake: Tensor) -> None:
        with options.autocast():
            logits = discriminator(torch.cat([real, fake]))
        real_logits, fake_logits = logits.float().chunk(2)
        loss = (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2
        optimizer_d.zero_grad()
        loss.backward()
        optimizer_d.step()

    return lambda real: discriminator_step(real, generator_step(len(real)))


def _batches(options: Options) -> Iterator[Tensor]:
    images = mnist(options.data).images
    while True:
        for indices in torch.randperm(len(images)).split(options.batch_size):
            yield images.index_select(0, indices).float().div_(127.5).sub_(1.0)


class Ticking(Callback):
    """End the turn after the step, and after all other callbacks."""

    priority = 9

    def __init__(self, tick: Tick) -> None:
        self.tick = tick

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        self.tick()


def trainer(options: Options, tick: Tick) -> None:
    """Run GANTrainer without other callbacks."""
    _fit(options, [Ticking(tick)])


def trainer_full(options: Options, tick: Tick) -> None:
    """Run GANTrainer with a progress bar, a CSV log, and a sample grid every 400 steps."""
    with tempfile.TemporaryDirectory() as folder:
        shown = [ProgressBar(), CSVLog(Path(folder, "log.csv")), SampleGrid(folder)]
        _fit(options, [*shown, Ticking(tick)])


def _fit(options: Options, callbacks: list[Callback]) -> None:
    gan = GANTrainer(
        *own_networks(options), device="cpu", precision=options.precision, callbacks=callbacks
    )
    gan.fit(mnist(options.data), max_epochs=10**6, batch_size=options.batch_size)
