"""Train a GAN on MNIST.

  --recipe stable       (default) the MLPs of the reference implementation with a gradient penalty,
                        falling learning rates and an average of the generator's weights: clean
                        digits after about 3 minutes on 2 cores
  --recipe conditional  the same, conditioned on the digit: samples are of the digit asked for
  --recipe conv         convolutional networks: more variety, after about 8 minutes
  --recipe reference    the reference implementation, PyTorch-GAN's gan.py, to the letter: 200
                        epochs in less than an hour

Ctrl-C stops the run after the current step and saves it. --resume continues it exactly.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from common import Parser, RunOptions, exit_if_stopped, run, start_or_resume
from pictures import save_panels

from vanillagan import (
    Callback,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
    recipes,
)
from vanillagan.callbacks import (
    Checkpoint,
    HealthMonitor,
    NaNGuard,
    Progress,
    SampleGrid,
    StopOnSignal,
)
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist_or_5000
from vanillagan.errors import require
from vanillagan.player import adam
from vanillagan.results import History

ROWS, CLASSES = 8, 10
FIXED = ("recipe", "seed", "lr", "b1", "b2", "latent_dim", "img_size", "channels")
LENGTHS = {
    "stable": {"steps": 9_400},
    "conditional": {"steps": 9_400},
    "conv": {"steps": 9_400},
    "reference": {"epochs": 200},
}


def main() -> None:
    options = parse_options()
    require("matplotlib", extra="examples", user="examples/mnist.py")
    data, which = mnist_or_5000(
        options.data, image_size=options.img_size, channels=options.channels
    )
    print(f"Data: {which}")
    torch.manual_seed(options.seed)
    grid = SampleGrid(options.out / "images", every_n_steps=options.sample_interval)
    checkpoint = Checkpoint(options.out / "checkpoints", every_n_epochs=5, keep=1)
    fixed = RunOptions(options, *FIXED)
    callbacks = [Progress(), grid, checkpoint, NaNGuard(), HealthMonitor(), StopOnSignal(), fixed]
    trainer = make_trainer(options, callbacks)
    start_or_resume(trainer, checkpoint, resume=options.resume)
    print(f"Training on {trainer.device}, recipe {options.recipe}; outputs go to {options.out}")
    started = time.monotonic()
    trainer.fit(
        data, max_epochs=options.epochs, max_steps=options.steps, batch_size=options.batch_size
    )
    exit_if_stopped(trainer)
    plot_losses(trainer.history, options.out / "losses.png")
    grid.film_strip(options.out / "film_strip.png")
    compare(trainer, data, options.out / "comparison.png")
    print(f"Trained for {time.monotonic() - started:.0f} s. Outputs:")
    print(f"  real and generated digits  {options.out / 'comparison.png'}")
    print(f"  samples                    {grid.folder / str(trainer.progress.step)}.png")
    print(f"  samples by time            {options.out / 'film_strip.png'}")
    print(f"  losses                     {options.out / 'losses.png'}")
    print(f"  checkpoint                 {checkpoint.latest}")
    arguments = "10, labels=range(10)" if options.recipe == "conditional" else "25"
    print("Draw more samples with:")
    print(
        '  python -c "from torchvision.utils import save_image; from vanillagan import '
        f"load_generator; save_image(load_generator('{checkpoint.latest}').sample({arguments}), "
        "'samples.png', nrow=5, normalize=True)\""
    )


def make_trainer(options: argparse.Namespace, callbacks: Sequence[Callback] = ()) -> GANTrainer:
    """Return the trainer of a recipe."""
    shape = (options.channels, options.img_size, options.img_size)
    if options.recipe == "conv":
        size = {"base_channels": 32, "patch_size": 1 + (options.img_size % 2 == 0)}
        generator = ConvGenerator(options.latent_dim, shape, **size)
        discriminator = ConvDiscriminator(shape, **size)
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last)  # faster on a CPU, too
        recipe = recipes.dcgan()
    elif options.recipe == "reference":
        # the 0.8 that the reference implementation means as a momentum is PyTorch's eps
        generator = Generator(options.latent_dim, shape, norm_eps=0.8, norm_momentum=0.1)
        discriminator = Discriminator(shape)
        recipe = recipes.reference()
    else:
        classes = CLASSES if options.recipe == "conditional" else 0
        generator = Generator(options.latent_dim, shape, num_classes=classes)
        discriminator = Discriminator(shape, num_classes=classes)
        recipe = recipes.stable()
    rates = {"lr": 0.0002, "b1": 0.5, "b2": 0.999}
    asked = {name: getattr(options, name) for name in rates if getattr(options, name) is not None}
    if asked:
        rates |= asked
        optimizer = adam(rates["lr"], (rates["b1"], rates["b2"]))
        recipe["generator_optimizer"] = recipe["discriminator_optimizer"] = optimizer
    return GANTrainer(
        generator, discriminator, **recipe, callbacks=callbacks, device=options.device,
        seed=options.seed,
    )  # fmt: skip


def compare(trainer: GANTrainer, data: ByteImages, path: Path) -> None:
    """Save real and generated digits, not chosen; by class if the GAN is conditional."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    labels = trainer.sample_labels(ROWS * CLASSES)
    if labels is None:
        columns = 8
    else:  # a class in each column
        columns, classes = CLASSES, data.labels[order]
        by_class = [order[classes == digit][:ROWS] for digit in range(CLASSES)]
        order = torch.stack(by_class, 1).flatten()
    count = ROWS * columns
    panels = {
        "real": ByteImages(data.images)[order[:count]],
        f"generated after {trainer.progress.step:,} steps": trainer.sample(
            count, labels=labels, seed=0
        ),
    }
    save_panels(panels, path, columns=columns)


def plot_losses(history: History, path: Path) -> None:
    """Save a plot of both losses, each step faintly and their running mean."""
    from matplotlib.figure import Figure  # imported here, so that training starts sooner

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for player in ("discriminator", "generator"):
        losses = torch.tensor(getattr(history, f"{player}_loss"))
        width = max(1, len(losses) // 100)
        (line,) = axes.plot(losses, alpha=0.2, linewidth=0.5)
        axes.plot(range(width, len(losses) + 1), losses.unfold(0, width, 1).mean(1),
                  color=line.get_color(), label=f"{player} (mean of {width} steps)")  # fmt: skip
    axes.axhline(0.6931, color="gray", linestyle=":", label="log 2, the loss where D = 1/2")
    axes.set(xlabel="steps", ylabel="loss", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "mnist")
    # fmt: off
    add, count = parser.add_argument, parser.add_count
    add("--recipe", choices=tuple(LENGTHS), default="stable",
        help="Train by this recipe, see above (default: stable).")
    count("--epochs", "--n_epochs", help="Train for this many epochs in all (default: 200 for "
          "reference).")
    count("--steps", help="Train for this many steps in all (default: 9,400 for all but "
          "reference).")
    parser.add_resume()
    parser.add_data()
    count("--batch-size", "--batch_size", default=64, help="Images in a batch (default: 64).")
    add("--lr", type=float, metavar="RATE",
        help="Learning rate of Adam for both players. One of --lr, --b1 and --b2 replaces the "
        "recipe's optimizers by Adam with these three (default: 0.0002).")
    add("--b1", type=float, metavar="BETA",
        help="Decay rate of Adam's first moment, see --lr (default: 0.5).")
    add("--b2", type=float, metavar="BETA",
        help="Decay rate of Adam's second moment, see --lr (default: 0.999).")
    count("--latent-dim", "--latent_dim", default=100, help="Size of a latent (default: 100).")
    count("--img-size", "--img_size", default=28,
          help="Height and width of an image in pixels (default: 28).")
    add("--channels", type=int, choices=(1, 3), default=1,
        help="Channels of an image: 1 for gray, 3 for equal red, green and blue (default: 1).")
    count("--sample-interval", "--sample_interval", default=400,
          help="Steps between two grids of samples (default: 400).")
    add("--workers", "--n-cpu", "--n_cpu", type=int, default=0, metavar="N",
        help="Accepted as in the reference implementation, without effect: the digits are read "
        "from memory, which needs no worker processes.")
    # fmt: on
    options = parser.parse_args(words)
    if options.epochs is None and options.steps is None:
        for name, value in LENGTHS[options.recipe].items():
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    run(main)
