"""Trains a GAN on a folder of pictures, and shows and measures what it has learned.

Without --data it learns 4,000 squares cut from eight photographs that scikit-image and scikit-learn
ship: pieces of a cat, a woman, coffee, a temple, a dahlia, galaxies, a retina and a stained tissue.
What of each photograph no square was cut from serves to measure.

The networks are convolutional, as deep as the size asks for. The discriminator sees all images
changed at random (mirrored, shifted, with a hole), so that it can't learn a small set by heart; for
pictures in which left and right differ, such as writing, say --no-flip.

Expect at --size 32 after less than 10 minutes on 2 cores: colours, textures and edges that look
like the data; hardly an object. A batch takes about five times as long at 64 and at 128 (where D
sees squares of 4 x 4 pixels). More batches (--batches 30000) help more than anything else; and the
more alike the pictures are (faces that face the camera, flowers in the middle), the better they
become.

Ctrl-C stops after the step under way and saves; --resume goes on from there, exactly.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor

from vanillagan import (
    EMA,
    R1,
    R2,
    Callback,
    ConvDiscriminator,
    ConvGenerator,
    GANTrainer,
    RelativisticLoss,
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
from vanillagan.data import ByteImages
from vanillagan.datasets import image_folder, photo_crops
from vanillagan.errors import VanillaGANError, check_seed
from vanillagan.metrics import (
    extract_features,
    frechet_distance,
    nearest_neighbours,
    precision_recall,
)
from vanillagan.networks import DiffAugment
from vanillagan.optimizers import adam
from vanillagan.runtime import resolve_device

CHECKPOINT = "images.pt"
FEWEST = 16
MEASURED, NEIGHBOURS = 2000, 10_000
LARGEST_MAP = 32
SHOWN = 12
INTERRUPTED = 130


def main() -> int:
    options = parse_options()
    check_seed(options.seed)
    resolve_device(options.device)
    data, held_out = load_data(options)
    torch.manual_seed(options.seed)
    grid = SampleGrid(options.out / "images", every=options.sample_interval, side=8)
    trainer = make_trainer(
        options,
        [
            ProgressBar() if sys.stderr.isatty() else ConsoleLog(),
            grid,
            Checkpoint(options.out / "checkpoints", every_steps=options.sample_interval, keep=1),
            NaNGuard(),
            HealthMonitor(),
            StopOnSignal(),
        ],
    )
    checkpoint = options.out / CHECKPOINT
    if options.resume is not None:
        trainer.load(options.resume)
        print(f"Resumed from {options.resume} at batch {trainer.progress.step:,}")
    print(
        f"Training on {trainer.device} to batch {options.batches:,}; grids of samples go to "
        f"{grid.folder}"
    )
    show(pixels(data, 64), options.out / "data.png")
    started = time.monotonic()
    try:
        trainer.fit(data, steps=options.batches, batch_size=options.batch_size)
    except KeyboardInterrupt:
        if trainer.stop_reason is not None:
            print("\nInterrupted twice, in the middle of a step: nothing was saved")
            return INTERRUPTED
        trainer.stop("SIGINT")
    save(trainer, checkpoint)
    if trainer.stop_reason is not None:
        more = [] if options.resume == checkpoint else ["--resume", str(checkpoint)]
        print(f"\nStopped at batch {trainer.progress.step:,} and saved {checkpoint}. Go on with:")
        print(f"  python {shlex.join([*sys.argv, *more])}")
        return INTERRUPTED
    print(f"Trained for {time.monotonic() - started:.0f} s.")
    measure(trainer, data, held_out, options.out / "neighbours.png")
    grid.film_strip(options.out / "film_strip.png")
    print("Look at:")
    print(f"  the data     {options.out / 'data.png'}")
    print(f"  samples      {grid.folder / str(trainer.progress.step)}.png")
    print(f"  over time    {options.out / 'film_strip.png'}")
    print(f"  neighbours   {options.out / 'neighbours.png'} (samples over their nearest picture)")
    print(f"  checkpoint   {checkpoint}")
    return 0


def load_data(options: argparse.Namespace) -> tuple[ByteImages, ByteImages | None]:
    """The pictures to train on, and others held out, where there are any."""
    size = options.size, options.size
    if options.data is not None:
        with warnings.catch_warnings(record=True) as skipped:
            warnings.simplefilter("always")
            data = image_folder(options.data, size=size, channels=options.channels)
        for warning in skipped:
            print(f"Note: {warning.message}")
        if len(data) < FEWEST:
            raise ValueError(f"{options.data} must hold {FEWEST} pictures or more, got {len(data)}")
        print(f"Data: {len(data):,} pictures under {options.data}")
        return data, None
    data, held_out = (photo_crops(4000, size=size, train=train) for train in (True, False))
    print(f"Data: {len(data):,} squares cut from eight photographs")
    return data, held_out


def make_trainer(options: argparse.Namespace, callbacks: list[Callback]) -> GANTrainer:
    """Convolutional networks, the discriminator of which sees all images changed at random."""
    shape = (options.channels, options.size, options.size)
    changes = ["translation", "cutout"]
    patch = patch_of(options.size)
    # the generator's largest map is finer, of half as many channels: no patches show in its images
    part = min(patch, 2)
    discriminator = ConvDiscriminator(shape, width=options.width, patch=patch)
    return GANTrainer(
        ConvGenerator(
            options.latent_dim, shape, width=max(1, options.width // part), patch=patch // part
        ),
        DiffAugment(discriminator, changes if options.no_flip else ["flip", *changes]),
        loss=RelativisticLoss(),
        penalties=[R1(0.05, every=4), R2(0.05, every=4)],
        ema=EMA(0.999),
        generator_optimizer=adam(options.lr, (0.0, 0.99)),
        discriminator_optimizer=adam(2 * options.lr, (0.0, 0.99)),
        device=options.device,
        seed=options.seed,
        callbacks=callbacks,
    )


def patch_of(size: int) -> int:
    """The side of the squares of pixels that the networks' largest maps have one point for.

    These maps, which cost the most, get at most 32 x 32 points where the size can be divided so,
    and where it is even no more than half as many a side as the image has pixels.
    """
    fitting = [patch for patch in (8, 4, 2) if size % patch == 0]
    enough = (patch for patch in fitting if size // patch <= LARGEST_MAP)
    return min(enough, default=max(fitting, default=1))


def measure(trainer: GANTrainer, data: ByteImages, held_out: ByteImages | None, path: Path) -> None:
    """Prints how near samples are to the data; shows them over their nearest pictures."""
    training = pixels(data, NEIGHBOURS)
    n = min(MEASURED, len(training))
    fake = trainer.sample(n, seed=1).cpu()
    features, of_training = describe(fake), describe(training[:n])
    print(f"Of {n:,} samples, in features of an untrained network:")
    report("  against training pictures  ", of_training, features)
    if held_out is not None:
        real = pixels(held_out, n)
        of_real = describe(real)
        report("  against held-out pictures  ", of_real, features)
        report("  training against held-out  ", of_real, of_training)
    print(
        f"Distance to the nearest of {len(training):,} training pictures, root mean square at "
        "32 x 32 points or fewer:"
    )
    small = coarse(training)
    distances, places = nearest_neighbours(coarse(fake), small)
    unit = small[0].numel() ** 0.5
    print(f"  of samples            median {float(distances.median()) / unit:.3f}")
    if held_out is not None:
        others = nearest_neighbours(coarse(real), small).distances
        print(f"  of held-out pictures  median {float(others.median()) / unit:.3f}")
    show(torch.cat([fake[:SHOWN], training[places[:SHOWN, 0]]]), path, side=SHOWN)


def pixels(data: ByteImages, n: int) -> Tensor:
    """n pictures drawn by a fixed seed, or all if they are fewer, as floats in [-1, 1]."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return ByteImages(data.images)[order[:n]]


def describe(images: Tensor) -> Tensor:
    """The features of a convolutional network as it is before training, of a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = tuple(images.shape[1:])
        network = ConvDiscriminator(shape, width=32, patch=patch_of(shape[-1]))
    return extract_features(network.layers, images)


def coarse(images: Tensor) -> Tensor:
    """The images with 32 x 32 points at most, each the mean of those it stands for."""
    side = min(LARGEST_MAP, images.shape[-1])
    return torch.nn.functional.adaptive_avg_pool2d(images, side)


def report(what: str, real: Tensor, fake: Tensor) -> None:
    precision, recall = precision_recall(real, fake)
    frechet = frechet_distance(real, fake)
    print(f"{what} precision {precision:.3f}, recall {recall:.3f}, Frechet distance {frechet:.3f}")


def show(images: Tensor, path: Path, *, side: int = 8) -> None:
    """Saves images in [-1, 1] as a grid."""
    from torchvision.utils import save_image

    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(images.add(1).div(2), path, nrow=side)


def save(trainer: GANTrainer, path: Path) -> None:
    """Saves without being interrupted."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    trainer.save(path)
    signal.signal(signal.SIGINT, before)


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(name: str, meaning: str, **settings) -> None:
        default = settings.get("default")
        shown = meaning if default is None else f"{meaning} (default: {default})"
        parser.add_argument(name, help=shown, **settings)

    whole = {"type": positive, "metavar": "N"}
    add("--data", "a folder of pictures of any kind and size, and of folders of them", type=Path,
        metavar="FOLDER")  # fmt: skip
    add("--size", "height and width of an image, such as 32, 64 or 128", default=32, **whole)
    add("--channels", "3 for colours, 1 for grey, with --data", default=3, type=int, choices=(1, 3))
    add("--batches", "batches in all", default=3000, **whole)
    add("--batch-size", "images in a batch", default=64, **whole)
    add("--width", "channels of D's largest map; G's has half as many", default=32, **whole)
    add("--latent-dim", "size of the noise vector", default=100, **whole)
    add("--lr", "Adam's learning rate; twice that for D", default=3e-4, type=float)
    parser.add_argument("--no-flip", action="store_true", help="don't mirror images")
    add("--sample-interval", "batches between two grids of samples, and two checkpoints",
        default=500, **whole)  # fmt: skip
    add("--device", "where to train, such as cpu or cuda:0; an accelerator if there is one")
    add("--seed", "fixes weights, noise and order of images", type=int, default=0, metavar="N")
    add("--resume", "go on from a checkpoint; without a name, from the run's own in --out",
        type=Path, nargs="?", const=Path(), metavar="FILE")  # fmt: skip
    add("--out", "where to write", type=Path, default=Path("pictures"), metavar="FOLDER")
    options = parser.parse_args(words)
    if options.data is None and options.channels == 1:
        parser.error("--channels 1 needs --data")
    if options.resume == Path():
        options.resume = options.out / CHECKPOINT
    return options


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
