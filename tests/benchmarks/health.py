"""Check that HealthMonitor warns of failing runs, each in its way, and of no healthy one.

    python -m tests.benchmarks.health --data FOLDER [--steps 1000] [--runs NAME ...]

The failing runs are made to fail in one way each, with the expected warnings listed below; the
healthy ones train with different losses on MNIST. A missing or unexpected warning makes the command
exit with 1. It prints the smallest and the largest median over five evaluations.
"""

from __future__ import annotations

import sys
import time
import warnings
from statistics import median
from typing import Any

import torch

from tests.benchmarks.options import Parser
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
from vanillagan.player import adam

STRONG = {"discriminator_optimizer": adam(2e-3), "generator_optimizer": adam(2e-6)}
SETTINGS: dict[str, tuple[set[str], dict[str, Any]]] = {
    "saturation": ({"saturation", "imbalance"}, STRONG),
    "vanishing-gradient": (
        {"vanishing_gradient", "saturation", "imbalance"},
        STRONG | {"loss": BCEAdversarialLoss(generator_objective="minimax")},
    ),
    "fast-generator": (
        {"oscillation", "imbalance", "mode_collapse"},
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
"""Expected warnings of each run, and its arguments of `GANTrainer`."""

RUNS = [*SETTINGS, "reference-0", "stable-0", "conv-0"]


def make(run: str, monitor: HealthMonitor) -> tuple[set[str], GANTrainer]:
    """Return the expected warnings of a run, and its trainer."""
    if run in SETTINGS:
        torch.manual_seed(0)
        wanted, options = SETTINGS[run]
        return wanted, GANTrainer(Generator(), Discriminator(), callbacks=[monitor], **options)
    recipe, _, seed = run.partition("-")
    wanted = {"mode_collapse"} if recipe == "reference" else set()
    return wanted, make_trainer(recipe, int(seed), [monitor])


def main() -> int:
    parser = Parser(__doc__.partition("\n")[0])
    parser.add("--data")
    parser.add("--steps", default=1000, help="Train each run for this many steps")
    parser.add(
        "--runs", default=RUNS, type=str, metavar="NAME",
        help=f"Make these runs, of {', '.join(SETTINGS)}; or a recipe and a seed such as stable-3, "
        f"the recipe of {', '.join(RECIPES)}",
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
            trainer.fit(data, max_steps=options.steps)
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
