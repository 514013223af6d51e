"""How long does a training step take, beside the source's loop and the best hand-written one?

    python -m tests.benchmarks.speed --data FOLDER [--rounds 60] [--steps 20] [--json FILE]

Every row trains the source's networks on MNIST, batch 64, on the CPU. The rows take turns every few
steps, so that a machine whose speed drifts slows all of them; the figures are ratios of medians.

    source          the source's loop: torchvision's DataLoader with PIL transforms, BCELoss on
                    sigmoids, Adam as it comes, .item() in each step
    hand-written    the best loop by hand of the trainer's mathematics: data in memory, batched
                    indexing, fused Adam, D frozen in G's step, one forward of D over real and fake,
                    losses from logits
    trainer         GANTrainer alone
    trainer, full   GANTrainer with a progress bar, a CSV log, and a grid each 400 steps
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from vanillagan import Callback, Discriminator, GANTrainer, Generator, StepResult
from vanillagan.callbacks import CSVLog, ProgressBar, SampleGrid
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist

Steps = Callable[[int], None]


def source_loop(root: Path) -> Steps:
    """The loop of the source, with its networks as it writes them."""

    def block(features_in: int, features_out: int, normalize: bool = True) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Linear(features_in, features_out)]
        if normalize:
            layers.append(nn.BatchNorm1d(features_out, 0.8))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        return layers

    generator = nn.Sequential(
        *block(100, 128, normalize=False), *block(128, 256), *block(256, 512), *block(512, 1024),
        nn.Linear(1024, 784), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(784, 512), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(512, 256), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(256, 1), nn.Sigmoid(),
    )  # fmt: skip
    transform = transforms.Compose(
        [transforms.Resize(28), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    )
    loader = DataLoader(MNIST(root, transform=transform), batch_size=64, shuffle=True)
    adversarial_loss = nn.BCELoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=0.0002, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=0.0002, betas=(0.5, 0.999))
    batches = chain.from_iterable(repeat(loader))

    def run(steps: int) -> None:
        for images, _labels in islice(batches, steps):
            valid = torch.ones(len(images), 1)
            fake = torch.zeros(len(images), 1)
            real = images.view(len(images), -1)

            optimizer_g.zero_grad()
            made = generator(torch.randn(len(images), 100))
            g_loss = adversarial_loss(discriminator(made), valid)
            g_loss.backward()
            optimizer_g.step()

            optimizer_d.zero_grad()
            real_loss = adversarial_loss(discriminator(real), valid)
            fake_loss = adversarial_loss(discriminator(made.detach()), fake)
            d_loss = (real_loss + fake_loss) / 2
            d_loss.backward()
            optimizer_d.step()
            f"[D loss: {d_loss.item():f}] [G loss: {g_loss.item():f}]"

    return run


def hand_written_loop(data: ByteImages) -> Steps:
    """The trainer's mathematics without the trainer."""
    generator, discriminator = Generator(), Discriminator()
    optimizer_g, optimizer_d = (
        torch.optim.Adam(network.parameters(), lr=0.0002, betas=(0.5, 0.999), fused=True)
        for network in (generator, discriminator)
    )
    weights_d = list(discriminator.parameters())
    epoch = torch.randperm(len(data)).split(64)
    batches = chain.from_iterable(repeat(epoch))

    def run(steps: int) -> None:
        for indices in islice(batches, steps):
            real = data.images[indices].float().div_(127.5).sub_(1.0)
            fake = generator(torch.randn(len(real), 100))
            for weight in weights_d:
                weight.requires_grad_(False)
            g_loss = F.softplus(-discriminator(fake)).mean()
            optimizer_g.zero_grad()
            g_loss.backward()
            optimizer_g.step()
            for weight in weights_d:
                weight.requires_grad_(True)

            scores = discriminator(torch.cat([real, fake.detach()]))
            real_scores, fake_scores = scores.chunk(2)
            d_loss = (F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()) / 2
            optimizer_d.zero_grad()
            d_loss.backward()
            optimizer_d.step()

    return run


def trainer_loop(data: ByteImages) -> Steps:
    trainer = GANTrainer(Generator(), Discriminator(), device="cpu")

    def run(steps: int) -> None:
        trainer.fit(data, steps=trainer.progress.step + steps)

    return run


class TakeTurns(Callback):
    """Times the steps of the run it is part of, and in between those of the other rows."""

    def __init__(self, others: dict[str, Steps], steps: int) -> None:
        self.others = others
        self.steps = steps
        self.seconds: dict[str, list[float]] = {name: [] for name in ("trainer, full", *others)}

    def on_fit_start(self, trainer: GANTrainer) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        if trainer.progress.step % self.steps == 0:
            self._note("trainer, full")
            for name, run in self.others.items():
                run(self.steps)
                self._note(name)

    def _note(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name].append((now - self.started) / self.steps)
        self.started = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20, help="steps of a row in each round")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()

    torch.manual_seed(0)
    data = mnist(options.data)
    others = {
        "source": source_loop(options.data),
        "hand-written": hand_written_loop(data),
        "trainer": trainer_loop(data),
    }
    turns = TakeTurns(others, options.steps)
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        shown = [ProgressBar(), CSVLog(Path(folder, "log.csv")), SampleGrid(folder)]
        full = GANTrainer(Generator(), Discriminator(), device="cpu", callbacks=[*shown, turns])
        full.fit(data, steps=(options.rounds + 1) * options.steps)

    # the first round warms up
    medians = {name: statistics.median(turns.seconds[name][1:]) for name in turns.seconds}
    for name, median in medians.items():
        print(
            f"{name:14} {median * 1e3:6.2f} ms a step   {median / medians['source']:.2f} of source"
            f"   {median / medians['hand-written']:.2f} of hand-written"
        )
    if options.json:
        figures = {"medians": medians, "seconds": turns.seconds}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
