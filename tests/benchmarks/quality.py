"""How good are generated digits? The recipes of examples/mnist.py, measured over seeds.

    python -m tests.benchmarks.quality --data FOLDER --recipes source clean --epochs 10

For each recipe and seed, after each of the epochs: the Frechet distance on the features of a
classifier that is trained here first, precision and recall (3 nearest neighbours of 3,000), the
digits found (3 % of the samples or more), and the seconds of training, measuring left out. With
--rejection, at the end, also samples that the discriminator accepts (Azadi et al., 2019), after it
was trained on for 1,000 steps of 256 against the generator as it is sampled from.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import save_image

from tests.benchmarks.digits import Judge
from tests.benchmarks.recipes import RECIPES, make_trainer
from vanillagan import Batch, GANTrainer
from vanillagan.callbacks import HealthMonitor
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist
from vanillagan.sampling import rejection_sample


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--recipes", choices=RECIPES, nargs="+", default=["source", "clean"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, nargs="+", default=[10], help="when to measure")
    parser.add_argument("--rejection", action="store_true", help="see above")
    parser.add_argument("--out", type=Path, default=Path("quality"), metavar="FOLDER")
    options = parser.parse_args()

    data, test = mnist(options.data), mnist(options.data, train=False)
    judge = Judge(data, test)
    print(f"classifier: {judge.accuracy:.2%} of the test set")
    print(f"real training images: {describe(judge.real)}", flush=True)
    rows: list[dict[str, Any]] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for recipe in options.recipes:
            rows += measure(recipe, seed, data, judge, options)
            result = {"accuracy": judge.accuracy, "real": judge.real, "rows": rows}
            (options.out / "quality.json").write_text(json.dumps(result, indent=1))
    for recipe in options.recipes:
        last = [r for r in rows if r["recipe"] == recipe and r.get("epoch") == options.epochs[-1]]
        distances = [row["frechet"] for row in last]
        print(
            f"{recipe}, {options.epochs[-1]} epochs, {len(last)} seeds: Frechet distance "
            f"{statistics.median(distances):.1f} (median), {max(distances):.1f} (worst)"
        )


def measure(
    recipe: str, seed: int, data: ByteImages, judge: Judge, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Trains one seed of a recipe, and measures it on the way."""
    trainer = make_trainer(recipe, seed, [HealthMonitor()])
    rows, seconds = [], 0.0
    for epoch in options.epochs:
        started = time.perf_counter()
        trainer.fit(data, epochs=epoch, batch_size=64)
        seconds += time.perf_counter() - started
        row = judge(trainer.sample(10_000, seed=seed))
        rows.append({"recipe": recipe, "seed": seed, "epoch": epoch, "seconds": seconds} | row)
        print(f"{recipe} seed {seed} epoch {epoch} {seconds:.0f} s: {describe(row)}", flush=True)
    if options.rejection:
        row = judge(accepted(trainer, data, seed))
        rows.append({"recipe": recipe, "seed": seed, "accepted": True} | row)
        print(f"{recipe} seed {seed} accepted: {describe(row)}", flush=True)
    samples = trainer.sample(100, seed=seed)
    save_image(samples, options.out / f"{recipe}-{seed}.png", nrow=10, normalize=True)
    return rows


def accepted(trainer: GANTrainer, data: ByteImages, seed: int) -> Tensor:
    """Samples that D accepts, once it was trained on against a generator that stands still."""
    expert = GANTrainer(trainer.generator, trainer.discriminator)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(1000):
        real, _ = data[torch.randint(len(data), (256,), generator=rng)]
        expert.discriminator_step(Batch(real), trainer.sample(len(real)))
    network = trainer.generator if trainer.ema is None else trainer.ema.network
    return rejection_sample(network, trainer.discriminator, 10_000, seed=seed)


def describe(row: dict[str, float]) -> str:
    return (
        f"Frechet {row['frechet']:.1f}, precision {row['precision']:.3f}, "
        f"recall {row['recall']:.3f}, {row['found']:.0f} of 10 digits found, "
        f"the rarest {row['least_share']:.1%}"
    )


if __name__ == "__main__":
    main()
