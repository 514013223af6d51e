"""Trains a GAN on MNIST and shows what it has learned.

The networks, the loss, the optimizers and the order of updates are those of the original GAN
(Goodfellow et al., 2014) as the well-known PyTorch tutorial code has them.

  --recipe clean    (default) the tutorial's perceptrons, with BatchNorm as its text means it; R1
                    applied lazily, Adam of little memory, twice as fast for D, and an average of
                    the generator's weights: clean digits within 3 minutes on 2 cores
  --recipe conv     the same with convolutional networks: more variety, in about 15 minutes
  --recipe source   the tutorial's code to the letter: BatchNorm's 0.8 taken as eps, no penalty, no
                    average, 200 epochs (about an hour on 2 cores)

Ctrl-C stops after the step under way and saves; --resume goes on from there, exactly.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

import torch

from vanillagan import (
    EMA,
    R1,
    Callback,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
)
from vanillagan.callbacks import (
    Checkpoint,
    ConsoleLog,
    HealthMonitor,
    NaNGuard,
    ProgressBar,
    SampleGrid,
    StopOnSignal,
)
from vanillagan.datasets import mnist_or_5000
from vanillagan.errors import VanillaGANError, require
from vanillagan.optimizers import adam
from vanillagan.progress import History

BATCHES = {"clean": 7_500, "conv": 20_000}
SOURCE_EPOCHS = 200
ADAM = {
    "clean": {"lr": 0.0004, "b1": 0.0, "b2": 0.99},
    "conv": {"lr": 0.0002, "b1": 0.0, "b2": 0.99},
    "source": {"lr": 0.0002, "b1": 0.5, "b2": 0.999},
}
INTERRUPTED = 130


def main() -> int:
    options = parse_options()
    require("matplotlib", extra="examples", user="examples/mnist.py")
    data, which = mnist_or_5000(
        options.data, image_size=options.img_size, channels=options.channels
    )
    print(f"Data: {which}")
    torch.manual_seed(options.seed)
    grid = SampleGrid(options.out / "images", every=options.sample_interval)
    trainer = make_trainer(
        options,
        [
            ProgressBar() if sys.stderr.isatty() else ConsoleLog(),
            grid,
            Checkpoint(options.out / "checkpoints", every_epochs=5, keep=1),
            NaNGuard(),
            HealthMonitor(),
            StopOnSignal(),
        ],
    )
    checkpoint = options.out / "mnist.pt"
    if options.resume is not None:
        trainer.load(options.resume)
        print(f"Resumed from {options.resume} at batch {trainer.progress.step:,}")
    epochs = options.n_epochs or default_epochs(options, len(data))
    print(
        f"Training on {trainer.device} to epoch {epochs} (recipe {options.recipe}); "
        f"grids of samples go to {grid.folder}"
    )
    started = time.monotonic()
    try:
        trainer.fit(data, epochs=epochs, batch_size=options.batch_size)
    except KeyboardInterrupt:
        if trainer.stop_reason is not None:
            print("\nInterrupted twice, in the middle of a step: nothing was saved")
            return INTERRUPTED
        trainer.stop("SIGINT")
    save(trainer, checkpoint)
    if trainer.stop_reason is not None:
        words = sys.argv[:-2] if "--resume" in sys.argv[-2:-1] else sys.argv
        print(f"\nStopped at batch {trainer.progress.step:,} and saved {checkpoint}. Go on with:")
        print(f"  python {shlex.join([*words, '--resume', str(checkpoint)])}")
        return INTERRUPTED
    plot_losses(trainer.history, options.out / "losses.png")
    grid.film_strip(options.out / "film_strip.png")
    print(f"Trained for {time.monotonic() - started:.0f} s. Look at:")
    print(f"  samples      {grid.folder / str(trainer.progress.step)}.png")
    print(f"  over time    {options.out / 'film_strip.png'}")
    print(f"  losses       {options.out / 'losses.png'}")
    print(f"  checkpoint   {checkpoint}")
    print("Sample from it:")
    print(
        '  python -c "from torchvision.utils import save_image; from vanillagan import '
        f"load_generator; save_image(load_generator('{checkpoint}').sample(25), 'samples.png', "
        'nrow=5, normalize=True)"'
    )
    return 0


def make_trainer(options: argparse.Namespace, callbacks: list[Callback]) -> GANTrainer:
    """The game of the recipe."""
    shape = (options.channels, options.img_size, options.img_size)
    rest = {"device": options.device, "seed": options.seed, "callbacks": callbacks}
    betas = (options.b1, options.b2)
    if options.recipe == "source":
        return GANTrainer(
            # the tutorial's 0.8 is meant as a momentum, but PyTorch takes it as eps
            Generator(options.latent_dim, shape, norm_eps=0.8, norm_momentum=0.1),
            Discriminator(shape),
            generator_optimizer=adam(options.lr, betas),
            discriminator_optimizer=adam(options.lr, betas),
            **rest,
        )
    if options.recipe == "conv":
        patch = 1 + (options.img_size % 2 == 0)
        generator = ConvGenerator(options.latent_dim, shape, width=32, patch=patch)
        discriminator = ConvDiscriminator(shape, width=32, patch=patch)
    else:
        generator, discriminator = Generator(options.latent_dim, shape), Discriminator(shape)
    return GANTrainer(
        generator,
        discriminator,
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.999),
        generator_optimizer=adam(options.lr, betas),
        discriminator_optimizer=adam(2 * options.lr, betas),
        **rest,
    )


def default_epochs(options: argparse.Namespace, length: int) -> int:
    """The source's epochs, or as many as make the batches that show clean digits."""
    if options.recipe == "source":
        return SOURCE_EPOCHS
    return max(1, round(BATCHES[options.recipe] * options.batch_size / length))


def save(trainer: GANTrainer, path: Path) -> None:
    """Saves without being interrupted."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    trainer.save(path)
    signal.signal(signal.SIGINT, before)


def plot_losses(history: History, path: Path) -> None:
    """Both losses, each batch faintly and their running mean over it."""
    from matplotlib.figure import Figure  # at the end, so that training starts sooner

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, losses in (
        ("discriminator", history.discriminator_loss),
        ("generator", history.generator_loss),
    ):
        values = torch.tensor(losses)
        width = max(1, len(values) // 100)
        (line,) = axes.plot(values, alpha=0.2, linewidth=0.5)
        means = values.unfold(0, width, 1).mean(1)
        steps = range(width, len(values) + 1)
        axes.plot(steps, means, color=line.get_color(), label=f"{name} (mean of {width} batches)")
    axes.axhline(0.6931, color="grey", linestyle=":", label="log 2, where D can't tell them apart")
    axes.set(xlabel="batches", ylabel="loss", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(name: str, meaning: str, **settings) -> None:
        default = settings.get("default")
        names = {name, name.replace("_", "-")}
        shown = meaning if default is None else f"{meaning} (default: {default})"
        parser.add_argument(*sorted(names, reverse=True), help=shown, **settings)

    whole = {"type": positive, "metavar": "N"}
    add(
        "--n_epochs",
        f"epochs in all (default: {SOURCE_EPOCHS} for source; for clean what makes "
        f"{BATCHES['clean']:,} batches, 8 of the full MNIST or 96 of the 5,000 digits; for conv "
        f"{BATCHES['conv']:,} batches)",
        **whole,
    )
    add("--batch_size", "images in a batch", default=64, **whole)
    add("--lr", f"Adam's learning rate; twice that for D but in source {of_recipes('lr')}",
        type=float)  # fmt: skip
    add("--b1", f"Adam's decay of the first moment {of_recipes('b1')}", type=float)
    add("--b2", f"Adam's decay of the second moment {of_recipes('b2')}", type=float)
    add("--latent_dim", "size of the noise vector", default=100, **whole)
    add("--img_size", "height and width of an image", default=28, **whole)
    add("--channels", "channels of an image, 1 or 3", default=1, type=int, choices=(1, 3))
    add("--sample_interval", "batches between two grids of samples", default=400, **whole)
    add("--data", "MNIST in torchvision's layout, or where to download it", type=Path,
        default=Path("data"), metavar="FOLDER")  # fmt: skip
    add("--device", "where to train, such as cpu or cuda:0; an accelerator if there is one")
    add("--seed", "fixes weights, noise and order of images", type=int, default=0, metavar="N")
    add("--resume", "go on from a checkpoint; without a name, from the run's own in --out",
        type=Path, nargs="?", const=Path(), metavar="FILE")  # fmt: skip
    add("--out", "where to write", type=Path, default=Path(), metavar="FOLDER")
    add("--recipe", "see above", choices=tuple(ADAM), default="clean")
    options = parser.parse_args(words)
    for name, value in ADAM[options.recipe].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.resume == Path():
        options.resume = options.out / "mnist.pt"
    return options


def of_recipes(name: str) -> str:
    """The defaults of an option, as --help shows them."""
    return f"(default: {', '.join(f'{adam[name]} for {recipe}' for recipe, adam in ADAM.items())})"


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {number}")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted")
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, VanillaGANError) as error:
        sys.exit(f"error: {error}")
