"""Does HealthMonitor warn of runs that fail, in each way, and of nothing else?

    python -m tests.benchmarks.health --data FOLDER [--steps 1000] [--runs NAME ...]

The failing runs are made to fail in one way each, and all that may be said of them is listed here;
the healthy ones are different games on MNIST. A warning too few or too many is a failure, and the
command ends in 1. The numbers are the smallest and the largest median over five looks.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tests.benchmarks.recipes import RECIPES, make_trainer
from vanillagan import (
    R1,
    R2,
    BCEAdversarialLoss,
    Discriminator,
    GANTrainer,
    Generator,
    GradientPenalty,
    HingeLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.callbacks import HealthMonitor
from vanillagan.datasets import mnist
from vanillagan.errors import TrainingHealthWarning
from vanillagan.optimizers import adam

STRONG = {"discriminator_optimizer": adam(2e-3), "generator_optimizer": adam(2e-6)}
GAMES: dict[str, tuple[set[str], dict[str, Any]]] = {
    "saturated": ({"saturated", "imbalance"}, STRONG),
    "vanished": (
        {"vanished", "saturated", "imbalance"},
        STRONG | {"loss": BCEAdversarialLoss(generator_objective="minimax")},
    ),
    "fast-generator": (
        {"oscillation", "imbalance", "collapse"},
        {"generator_optimizer": adam(1e-2)},
    ),
    "fast-discriminator": ({"imbalance"}, {"discriminator_optimizer": adam(2e-2)}),
    "hinge": (set(), {"loss": HingeLoss(), "penalties": [R1(0.5, every=4)]}),
    "relativistic": (set(), {"loss": RelativisticLoss(), "penalties": [R1(0.5), R2(0.5)]}),
    "wasserstein": (
        set(),
        {
            "loss": WassersteinLoss(),
            "penalties": [GradientPenalty(10.0)],
            "discriminator_steps": 5,
            "update_order": "discriminator_first",
            "generator_optimizer": adam(1e-4, (0.5, 0.9)),
            "discriminator_optimizer": adam(1e-4, (0.5, 0.9)),
        },
    ),
}
"""What a game is to be warned of, and what makes it such a game."""

RUNS = [*GAMES, "source-0", "clean-0", "conv-0"]


def make(run: str, monitor: HealthMonitor) -> tuple[set[str], GANTrainer]:
    """The troubles that are wanted in a run, and its trainer."""
    if run in GAMES:
        torch.manual_seed(0)
        wanted, options = GAMES[run]
        return wanted, GANTrainer(Generator(), Discriminator(), callbacks=[monitor], **options)
    recipe, _, seed = run.partition("-")
    wanted = {"collapse"} if recipe == "source" else set()
    return wanted, make_trainer(recipe, int(seed), [monitor])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--runs", nargs="+", default=RUNS, metavar="NAME",
        help=f"of {', '.join(GAMES)}; or a recipe and a seed such as clean-3, the recipe of "
        f"{', '.join(RECIPES)} (default: {' '.join(RUNS)})",
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
        failed += [] if set(monitor.warned) == wanted else [run]
        of_what = " and ".join(sorted(monitor.warned)) or "nothing"
        expected = " and ".join(sorted(wanted)) or "nothing"
        print(f"{run}: warned of {of_what}, expected {expected} ({seconds:.0f} s)")
        for warning in caught:
            print(f"    {warning.message}")
        for name, points in trainer.history.metrics.items():
            values = [value for _, value in points]
            medians = [median(values[i : i + 5]) for i in range(max(1, len(values) - 4))]
            print(f"    {name:18} {min(medians):8.3g} to {max(medians):8.3g}", flush=True)
    print(f"not as expected: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
