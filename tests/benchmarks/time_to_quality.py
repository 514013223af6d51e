"""Measure the seconds of training until digits reach the quality of the reference implementation.

    python -m tests.benchmarks.time_to_quality --data FOLDER [--out FOLDER]
        [--seeds 0 1 2 3 4] [--reference-epochs 100]

The reference implementation (PyTorch-GAN's gan.py) is evaluated every 5 epochs, and
`recipes.stable()` after 0.125 to 8 epochs, of a run of 8. Reading the data and evaluations are not
counted as training. An epoch of the reference counts the seconds of the loop as published, timed
first over 300 steps; the run itself reads the same batches from memory, which is faster and gives
identical results. An evaluation is the Fréchet distance of 10,000 samples to the test set, in the
features of a classifier that is trained once. The reference is sampled in training mode, as it does
itself, and in eval mode; the better value counts. For each seed:

    target      best distance of the reference implementation with that seed
    speed-up    seconds of the reference to the target, divided by those of the recipe to its first
                evaluation that is as good; 0 if there is none

Runs of one seed follow each other, the reference last. Each evaluation is written to
FOLDER/quality.json at once, and the classifier to FOLDER/judge.pt. Started again, the command
continues with the runs that are incomplete, from their beginning.
"""

from __future__ import annotations

import contextlib
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.digits import Judge
from tests.benchmarks.loops import (
    LATENT_DIM,
    Options,
    reference,
    reference_networks,
    train_as_reference,
)
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from tests.benchmarks.recipes import make_trainer
from tests.benchmarks.stopwatch import Stopwatch
from vanillagan import GANTrainer
from vanillagan.data import ByteImages, normal_latents
from vanillagan.datasets import mnist
from vanillagan.sampling import draw_samples

EPOCHS = (0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8)
"""Numbers of epochs after which the recipe is evaluated; the last one is the length of its run."""

EVERY = 5
"""Epochs between two evaluations of the reference implementation."""


class Evaluate(Protocol):
    """Evaluate samples; of several sets, the best one counts."""

    def __call__(self, epoch: float, seconds: float, *samples: Tensor) -> None: ...


class Ended(Exception):  # noqa: N818 - it is no error
    """Ends the reference implementation's loop, which has no end."""


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--data")
    parser.add("--seeds")
    parser.add("--reference-epochs", default=100,
               help="Length of the reference's run in epochs, 0 for none")  # fmt: skip
    parser.add("--out", default=Path("runs/time_to_quality"))
    options = parser.parse_args()

    data = mnist(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    judge = find_judge(options.out / "judge.pt", data, options.data)
    record = Record(options.out / "quality.json", judge)
    for seed in options.seeds:
        evaluate = record.run("stable", seed, last=EPOCHS[-1])
        if evaluate is not None:
            train_recipe(seed, data, evaluate)
        reference_epochs = list(range(EVERY, options.reference_epochs + 1, EVERY))
        if reference_epochs:
            evaluate = record.run("reference", seed, last=reference_epochs[-1])
            if evaluate is not None:
                epoch_seconds = record.reference_epoch(options.data)
                train_reference(seed, data, reference_epochs, epoch_seconds, evaluate)
    summarize(record.rows, options.seeds)


class Record:
    """All evaluations so far, in a file."""

    def __init__(self, path: Path, judge: Judge) -> None:
        self.path = path
        self.judge = judge
        self.figures = {"accuracy": judge.accuracy, "real": judge.real, "rows": []}
        if path.exists():
            self.figures = json.loads(path.read_text())["figures"]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Mappings, one for each evaluation."""
        rows: list[dict[str, Any]] = self.figures["rows"]
        return rows

    def reference_epoch(self, root: Path) -> float:
        """Return the seconds of an epoch of the reference, timed at the first call."""
        if "reference_epoch" not in self.figures:
            self.figures["reference_epoch"] = time_reference(root)
        seconds: float = self.figures["reference_epoch"]
        return seconds

    def run(self, name: str, seed: int, *, last: float) -> Evaluate | None:
        """Start a run; return None if it is complete."""
        before = [row for row in self.rows if (row["name"], row["seed"]) == (name, seed)]
        if any(row["epoch"] == last for row in before):
            return None
        self.figures["rows"] = [row for row in self.rows if row not in before]

        def evaluate(epoch: float, seconds: float, *samples: Tensor) -> None:
            row = {"name": name, "seed": seed, "epoch": epoch, "seconds": seconds}
            judged = [self.judge(some) for some in samples]
            self.rows.append(row | min(judged, key=lambda figures: figures["frechet"]))
            write_figures(self.path, "tests.benchmarks.time_to_quality", self.figures)
            print(
                f"{name:9} seed {seed} epoch {epoch:7.3f} {seconds:7.1f} s: "
                f"Fréchet distance {self.rows[-1]['frechet']:.1f}",
                flush=True,
            )

        return evaluate


def find_judge(path: Path, data: ByteImages, root: Path) -> Judge:
    """Return the judge of an earlier run, or a new one."""
    if path.exists():
        judge: Judge = torch.load(path, weights_only=False)
    else:
        judge = Judge(data, mnist(root, train=False))
        torch.save(judge, path)
    return judge


def train_recipe(seed: int, data: ByteImages, evaluate: Evaluate) -> None:
    """Train by `recipes.stable()`, and evaluate it after some epochs."""
    steps = {round(epoch * len(data) / Options.batch_size): epoch for epoch in EPOCHS}

    def evaluate_step(trainer: GANTrainer, seconds: float) -> None:
        evaluate(steps[trainer.progress.step], seconds, trainer.sample(10_000, seed=seed))

    trainer = make_trainer("stable", seed, [Stopwatch(steps, evaluate_step)])
    trainer.fit(data, max_steps=max(steps), batch_size=Options.batch_size)


def time_reference(root: Path, *, warm_up: int = 20, steps: int = 300) -> float:
    """Return the seconds of an epoch of the reference implementation as published."""
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
        reference(options, tick)
    return (time.perf_counter() - started) / steps * steps_per_epoch(mnist(root))


def steps_per_epoch(data: ByteImages) -> int:
    """Return the steps of an epoch, with a partial last batch."""
    return -(-len(data) // Options.batch_size)


def train_reference(
    seed: int, data: ByteImages, epochs: list[int], epoch_seconds: float, evaluate: Evaluate
) -> None:
    """Run the reference implementation on batches from memory, and evaluate its generator."""
    options = Options(Path(), seed=seed)
    generator, discriminator = reference_networks(options, sigmoid=True)
    steps = 0

    def tick() -> None:
        nonlocal steps
        steps += 1
        epoch, rest = divmod(steps, steps_per_epoch(data))
        if rest == 0 and epoch in epochs:
            evaluate(epoch, epoch * epoch_seconds, *sample_both_ways(generator, seed))
            if epoch == epochs[-1]:
                raise Ended

    with contextlib.suppress(Ended):
        train_as_reference(generator, discriminator, same_batches(data), options, tick)


class InMemory(Dataset[Any]):
    """The images of `plain_loader`, bit for bit, read a batch at a time."""

    def __init__(self, data: ByteImages) -> None:
        self.images = data.images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, None]:
        images = self.images[torch.tensor(indices)]
        return images.float().div_(255).sub_(0.5).div_(0.5), None


def same_batches(data: ByteImages) -> DataLoader[Any]:
    """Return a loader of the batches of `plain_loader`, without labels."""
    return DataLoader(
        InMemory(data), batch_size=Options.batch_size, shuffle=True, collate_fn=lambda batch: batch
    )


def sample_both_ways(generator: nn.Module, seed: int) -> list[Tensor]:
    """Sample the reference implementation's generator in both modes of BatchNorm.

    In training mode, as it does itself, normalized over batches of 64; and in eval mode, with the
    running statistics that these batches have updated.
    """
    network = copy.deepcopy(generator)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        shown = [network(torch.randn(64, LATENT_DIM, generator=rng)) for _ in range(157)]
    latent = normal_latents(LATENT_DIM)
    return [
        draw_samples(network, 10_000, latent_sampler=latent, seed=seed),
        torch.cat(shown)[:10_000],
    ]


def summarize(rows: list[dict[str, Any]], seeds: list[int]) -> None:
    """Print the speed-ups of all seeds that have both runs."""
    speed_ups = []
    for seed in seeds:
        target = [row for row in rows if (row["name"], row["seed"]) == ("reference", seed)]
        ours = [row for row in rows if (row["name"], row["seed"]) == ("stable", seed)]
        if not target or not ours:
            continue
        best = min(target, key=lambda row: row["frechet"])
        reached = [row["seconds"] for row in ours if row["frechet"] <= best["frechet"]]
        speed_ups.append(best["seconds"] / min(reached) if reached else 0.0)
        print(
            f"seed {seed}: target {best['frechet']:.1f}, reached by the reference "
            f"after {best['seconds']:.0f} s, by stable "
            f"{f'after {min(reached):.1f} s' if reached else 'never'}: "
            f"speed-up {speed_ups[-1]:.0f}"
        )
    if speed_ups:
        print(
            f"speed-up {statistics.median(speed_ups):.0f} (median), "
            f"{min(speed_ups):.0f} (least) of {len(speed_ups)} seeds"
        )


if __name__ == "__main__":
    main()
