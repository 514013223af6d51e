"""Does HealthMonitor warn of runs that fail, and of those alone? Five of either kind on MNIST.

    python -m tests.benchmarks.health --data FOLDER [--steps 1000] [--runs NAME ...]

The failing runs are made to fail in one way each; the healthy ones are the `clean` recipe of
examples/mnist.py with seeds 0 to 4. The numbers are the smallest and the largest median over five
looks.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tests.benchmarks.recipes import RECIPES, make_trainer
from vanillagan import BCEAdversarialLoss, Discriminator, GANTrainer, Generator
from vanillagan.callbacks import HealthMonitor
from vanillagan.datasets import mnist
from vanillagan.errors import TrainingHealthWarning
from vanillagan.optimizers import adam

STRONG = {"discriminator_optimizer": adam(2e-3), "generator_optimizer": adam(2e-6)}
FAILING: dict[str, tuple[str, dict[str, Any]]] = {
    "saturated": ("saturated", STRONG),
    "vanished": (
        "vanished",
        STRONG | {"loss": BCEAdversarialLoss(generator_objective="minimax")},
    ),
    "fast-generator": ("oscillation", {"generator_optimizer": adam(1e-2)}),
    "fast-discriminator": ("imbalance", {"discriminator_optimizer": adam(2e-2)}),
}
RUNS = [*FAILING, "source-0", *(f"clean-{seed}" for seed in range(5))]


def make(run: str, monitor: HealthMonitor) -> tuple[str, GANTrainer]:
    """The trouble that is wanted in a run, and its trainer."""
    if run in FAILING:
        torch.manual_seed(0)
        wanted, options = FAILING[run]
        return wanted, GANTrainer(Generator(), Discriminator(), callbacks=[monitor], **options)
    recipe, _, seed = run.partition("-")
    wanted = "collapse" if recipe == "source" else "none"
    return wanted, make_trainer(recipe, int(seed), [monitor])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--runs", nargs="+", default=RUNS, metavar="NAME",
        help=f"of {', '.join(FAILING)}; or a recipe and a seed such as conv-0, the recipe of "
        f"{', '.join(RECIPES)} (default: all that fail, source-0, and clean-0 to clean-4)",
    )  # fmt: skip
    options = parser.parse_args()

    data = mnist(options.data)
    failed = []
    for run in options.runs:
        monitor = HealthMonitor()
        wanted, trainer = make(run, monitor)
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TrainingHealthWarning)
            trainer.fit(data, steps=options.steps)
        seconds = time.perf_counter() - started
        is_right = wanted in monitor.warned if wanted != "none" else not monitor.warned
        failed += [] if is_right else [run]
        shown = ", ".join(monitor.warned) or "none"
        print(f"{run:18} wanted {wanted:11} warned of {shown} ({seconds:.0f} s)")
        for warning in caught:
            print(f"    {warning.message}")
        for name, points in trainer.history.metrics.items():
            values = [value for _, value in points]
            medians = [median(values[i : i + 5]) for i in range(max(1, len(values) - 4))]
            print(f"    {name:18} {min(medians):8.3g} to {max(medians):8.3g}", flush=True)
    print(f"not as wanted: {', '.join(failed) or 'none'}")


if __name__ == "__main__":
    main()
