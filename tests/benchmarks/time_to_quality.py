"""How long until digits are good? Frechet distance against seconds of training.

    python -m tests.benchmarks.time_to_quality --data FOLDER --out FOLDER
        [--recipes clean large ...] [--seeds 0 1 2 3 4] [--source-epochs 100]

The source's loop is looked at each 5 epochs, and the recipes after the parts of the first epochs
below; between looks alone the clock runs, so reading the data before and measuring don't count. An
epoch of the source counts what it takes as the source describes it, timed here over 300 steps at
first; the run itself reads the same batches from memory, which is faster and changes no bit. A look
is the Frechet distance of 10,000 samples to the test set, on the features of a classifier that is
trained once; of the source's samples in training mode, which it shows itself, and in eval mode the
better ones count. For each recipe and seed:

    target      the best distance that the source's loop of that seed has shown
    speed-up    the seconds that the source took to it, over those of the recipe to its first look
                at a distance as good; 0 where it has shown none

Runs of one seed follow each other, the source's last. Every look is written at once to
FOLDER/quality.json, and the classifier to FOLDER/judge.pt: the command goes on from there, where a
run that was cut off begins anew.

    clean       the recipe of examples/mnist.py
    large       in batches of 1024, Adam twice as fast, and an average over 100 steps
    large-bf16  the same in bf16
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.digits import Judge
from tests.benchmarks.loops import LATENT_DIM, Options, source, source_networks, train_as_source
from tests.benchmarks.machine import write_figures
from tests.benchmarks.recipes import make_trainer
from vanillagan import EMA, R1, Discriminator, GANTrainer, Generator
from vanillagan.data import ByteImages, normal_latent
from vanillagan.datasets import mnist
from vanillagan.optimizers import adam
from vanillagan.sampling import draw_samples

EPOCHS = (0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12)
"""When recipes are looked at."""

EVERY = 5
"""Epochs between two looks at the source."""


class Variant(NamedTuple):
    """What is varied of the recipe of examples/mnist.py; the average is over 100 steps."""

    lr: float
    batch_size: int
    precision: Literal["fp32", "bf16"] = "fp32"


VARIANTS = {
    "large": Variant(lr=0.0008, batch_size=1024),
    "large-bf16": Variant(lr=0.0008, batch_size=1024, precision="bf16"),
}


class Look(Protocol):
    """Judges samples; of several sets, the best one counts."""

    def __call__(self, epoch: float, seconds: float, *samples: Tensor) -> None: ...


class Ended(Exception):  # noqa: N818 - it is no error
    """The source's loop, which has no end, has had its epochs."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="FOLDER")
    parser.add_argument("--recipes", choices=("clean", *VARIANTS), nargs="*", default=["clean"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=float, default=8, help="the last look at the recipes")
    parser.add_argument(
        "--source-epochs", type=int, default=100, help="the last look at the source; 0 for none"
    )
    parser.add_argument("--out", type=Path, default=Path("time_to_quality"), metavar="FOLDER")
    options = parser.parse_args()

    data = mnist(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    judge = find_judge(options.out / "judge.pt", data, options.data)
    record = Record(options.out / "quality.json", judge)
    for seed in options.seeds:
        for recipe in options.recipes:
            epochs = [epoch for epoch in EPOCHS if epoch <= options.epochs]
            with_looks = record.run(recipe, seed, last=epochs[-1])
            if with_looks is not None:
                train_recipe(recipe, seed, data, epochs, with_looks)
        epochs = list(range(EVERY, options.source_epochs + 1, EVERY))
        if epochs:
            with_looks = record.run("source", seed, last=epochs[-1])
            if with_looks is not None:
                train_source(seed, data, epochs, record.source_epoch(options.data), with_looks)
    summarize(record.rows, options.recipes, options.seeds)


class Record:
    """All looks so far, in a file."""

    def __init__(self, path: Path, judge: Judge) -> None:
        self.path = path
        self.judge = judge
        self.figures = {"accuracy": judge.accuracy, "real": judge.real, "rows": []}
        if path.exists():
            self.figures = json.loads(path.read_text())["figures"]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A mapping for each look."""
        rows: list[dict[str, Any]] = self.figures["rows"]
        return rows

    def source_epoch(self, root: Path) -> float:
        """The seconds an epoch of the source's loop takes, timed the first time it is asked for."""
        if "source_epoch" not in self.figures:
            self.figures["source_epoch"] = time_source(root)
        seconds: float = self.figures["source_epoch"]
        return seconds

    def run(self, name: str, seed: int, *, last: float) -> Look | None:
        """Begins a run, or gives None if it was looked at to its last epoch before."""
        before = [row for row in self.rows if (row["name"], row["seed"]) == (name, seed)]
        if any(row["epoch"] == last for row in before):
            return None
        self.figures["rows"] = [row for row in self.rows if row not in before]

        def look(epoch: float, seconds: float, *samples: Tensor) -> None:
            row = {"name": name, "seed": seed, "epoch": epoch, "seconds": seconds}
            judged = [self.judge(some) for some in samples]
            self.rows.append(row | min(judged, key=lambda figures: figures["frechet"]))
            write_figures(self.path, "tests.benchmarks.time_to_quality", self.figures)
            print(
                f"{name:9} seed {seed} epoch {epoch:7.3f} {seconds:7.1f} s: "
                f"Frechet distance {self.rows[-1]['frechet']:.1f}",
                flush=True,
            )

        return look


def find_judge(path: Path, data: ByteImages, root: Path) -> Judge:
    """The judge of an earlier run, or a new one."""
    if path.exists():
        judge: Judge = torch.load(path, weights_only=False)
    else:
        judge = Judge(data, mnist(root, train=False))
        torch.save(judge, path)
    return judge


def train_recipe(recipe: str, seed: int, data: ByteImages, epochs: list[float], look: Look) -> None:
    """Trains a recipe, and looks at it on the way."""
    trainer, batch_size = make(recipe, seed)
    seconds = 0.0
    for epoch in epochs:
        started = time.perf_counter()
        trainer.fit(data, steps=round(epoch * len(data) / batch_size), batch_size=batch_size)
        seconds += time.perf_counter() - started
        look(epoch, seconds, trainer.sample(10_000, seed=seed))


def make(recipe: str, seed: int) -> tuple[GANTrainer, int]:
    """The trainer of a recipe, and its batch size."""
    if recipe not in VARIANTS:
        return make_trainer(recipe, seed, []), 64
    variant = VARIANTS[recipe]
    torch.manual_seed(seed)
    trainer = GANTrainer(
        Generator(),
        Discriminator(),
        penalties=[R1(0.5, every=4)],
        ema=EMA(0.99),
        generator_optimizer=adam(variant.lr, (0.0, 0.99)),
        discriminator_optimizer=adam(2 * variant.lr, (0.0, 0.99)),
        precision=variant.precision,
        seed=seed,
    )
    return trainer, variant.batch_size


def time_source(root: Path, *, warm_up: int = 20, steps: int = 300) -> float:
    """Times the source's loop as the source describes it: the seconds an epoch takes."""
    done, started = 0, 0.0

    def tick() -> None:
        nonlocal done, started
        done += 1
        if done == warm_up:
            started = time.perf_counter()
        elif done == warm_up + steps:
            raise Ended

    options = Options(root)
    with contextlib.suppress(Ended):
        source(options, tick)
    return (time.perf_counter() - started) / steps * steps_per_epoch(mnist(root))


def steps_per_epoch(data: ByteImages) -> int:
    """The source's loop uses a partial last batch too."""
    return -(-len(data) // Options.batch_size)


def train_source(
    seed: int, data: ByteImages, epochs: list[int], epoch_seconds: float, look: Look
) -> None:
    """Runs the source's loop on batches from memory, and looks at its generator on the way."""
    options = Options(Path(), seed=seed)
    generator, discriminator = source_networks(options, sigmoid=True)
    steps = 0

    def tick() -> None:
        nonlocal steps
        steps += 1
        epoch, rest = divmod(steps, steps_per_epoch(data))
        if rest == 0 and epoch in epochs:
            look(epoch, epoch * epoch_seconds, *sample_both_ways(generator, seed))
            if epoch == epochs[-1]:
                raise Ended

    with contextlib.suppress(Ended):
        train_as_source(generator, discriminator, same_batches(data), options, tick)


class InMemory(Dataset[Any]):
    """The images as `plain_loader` gives them, bit for bit, a batch at a time."""

    def __init__(self, data: ByteImages) -> None:
        self.images = data.images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, None]:
        images = self.images[torch.tensor(indices)]
        return images.float().div_(255).sub_(0.5).div_(0.5), None


def same_batches(data: ByteImages) -> DataLoader[Any]:
    """A loader that draws the batches of `plain_loader`, without their labels."""
    return DataLoader(
        InMemory(data), batch_size=Options.batch_size, shuffle=True, collate_fn=lambda batch: batch
    )


def sample_both_ways(generator: nn.Module, seed: int) -> list[Tensor]:
    """Samples of the source's generator as it shows them itself, in training mode, normalised over
    batches of 64; and in eval mode, by the running statistics that these batches have renewed."""
    network = copy.deepcopy(generator)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        shown = [network(torch.randn(64, LATENT_DIM, generator=rng)) for _ in range(157)]
    latent = normal_latent(LATENT_DIM)
    return [
        draw_samples(network, 10_000, latent_sampler=latent, seed=seed),
        torch.cat(shown)[:10_000],
    ]


def summarize(rows: list[dict[str, Any]], recipes: list[str], seeds: list[int]) -> None:
    """Prints the speed-ups, as far as there are looks at both."""
    for recipe in recipes:
        speed_ups = []
        for seed in seeds:
            source = [row for row in rows if (row["name"], row["seed"]) == ("source", seed)]
            ours = [row for row in rows if (row["name"], row["seed"]) == (recipe, seed)]
            if not source or not ours:
                continue
            best = min(source, key=lambda row: row["frechet"])
            reached = [row["seconds"] for row in ours if row["frechet"] <= best["frechet"]]
            speed_ups.append(best["seconds"] / min(reached) if reached else 0.0)
            print(
                f"{recipe:9} seed {seed}: target {best['frechet']:.1f}, which the source took "
                f"{best['seconds']:.0f} s to and {recipe} "
                f"{f'{min(reached):.1f} s' if reached else 'has not shown'}: "
                f"speed-up {speed_ups[-1]:.0f}"
            )
        if speed_ups:
            print(
                f"{recipe:9} speed-up {statistics.median(speed_ups):.0f} (median), "
                f"{min(speed_ups):.0f} (least) of {len(speed_ups)} seeds"
            )


if __name__ == "__main__":
    main()
