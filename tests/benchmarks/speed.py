"""Measure the time of a training step, compared with other loops, libraries, and a lower limit.

    python -m tests.benchmarks.speed --data FOLDER [--rows NAME ...] [--batch-sizes 64 256 1024]
        [--precisions fp32 bf16] [--networks mlp conv] [--threads N] [--repeat N]
        [--json FILE]

Every row trains on MNIST on the CPU. The rows of a comparison take turns in one run (see
`turns.py`), so that a drift of the machine's speed affects all of them; the reliable figures are
the ratios of medians. For a row that can't run the error is printed.

    reference       the reference implementation, PyTorch-GAN's gan.py: torchvision's DataLoader
                    with PIL transforms, BCELoss on sigmoids, default Adam, .item() in each step
    ignite          pytorch-ignite's DCGAN example: an Engine, ProgressBar, RunningAverage
    lightning       Lightning's GAN example: manual optimization, losses on its progress bar
    torchgan        torchgan's Trainer with the minimax losses
    hand-written    the trainer's mathematics in the fastest loop by hand: data in memory, batched
                    indexing, fused Adam, the discriminator frozen in the generator's step, one
                    forward pass over real and fake samples, losses from logits
    trainer         GANTrainer without other callbacks
    trainer, full   GANTrainer with a progress bar, a CSV log, and a grid every 400 steps
    limit           the matrix products or convolutions of a step and fused Adam, nothing else

reference, ignite, lightning and torchgan train the networks of the reference implementation; the
extra `bench` installs the libraries. All rows take a few minutes at batch size 64 on two cores.
Processes of the same program differ in speed: `--repeat` runs each row that many times and shows by
how much. The costs of the log and of grids show with `--steps 400`, as a grid is saved every 400
steps.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product
from typing import Any

from tests.benchmarks import limit, loops, peers
from tests.benchmarks.loops import Options
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from tests.benchmarks.turns import Row, Timing, take_turns

ROWS = {
    "reference": loops.reference,
    "ignite": peers.ignite,
    "lightning": peers.lightning,
    "torchgan": peers.torchgan,
    "hand-written": loops.hand_written,
    "trainer": loops.trainer,
    "trainer, full": loops.trainer_full,
    "limit": limit.limit,
}
BASELINES = ("reference", "hand-written", "limit")


def main() -> None:
    options = parse_options()
    comparisons = []
    for networks, precision, batch_size in product(
        options.networks, options.precisions, options.batch_sizes
    ):
        shared = Options(options.data, batch_size, precision, networks)
        outcomes = take_turns(
            name_rows(options.rows, shared, options.repeat),
            rounds=options.rounds,
            steps=options.steps,
            threads=options.threads,
        )
        print(f"\n{networks}, {precision}, batch {batch_size}\n{table(outcomes, batch_size)}")
        comparisons.append(
            {
                "networks": networks,
                "precision": precision,
                "batch_size": batch_size,
                "rows": {name: figures(row, batch_size) for name, row in outcomes.items()},
            }
        )
        # each time, so that an interrupted run keeps what it has
        settings = {name: getattr(options, name) for name in ("rounds", "steps", "threads")}
        written = settings | {"comparisons": comparisons}
        write_figures(options.json, "tests.benchmarks.speed", written)


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add("--data")
    parser.add("--rows", choices=list(ROWS), default=list(ROWS), metavar="NAME",
               help="Measure these rows")  # fmt: skip
    parser.add("--batch-sizes", default=[64], help="Measure with these batch sizes")
    parser.add("--precisions", choices=["fp32", "bf16"], default=["fp32"],
               help="Measure in these precisions")  # fmt: skip
    parser.add("--networks", choices=["mlp", "conv"], default=["mlp"])
    parser.add("--rounds", default=40)
    parser.add("--steps", default=20)
    parser.add("--threads", help="Threads of each row (default: PyTorch's choice)")
    parser.add("--repeat", default=1, help="Run each row in this many processes")
    parser.add("--json")
    return parser.parse_args()


def name_rows(names: list[str], options: Options, repeat: int) -> dict[str, Row]:
    """Return the rows of a comparison; repeated ones are numbered from the second on."""
    return {
        name if number == 1 else f"{name} ({number})": partial(ROWS[name], options)
        for number in range(1, 1 + repeat)
        for name in names
    }


def table(outcomes: dict[str, Timing | str], batch_size: int) -> str:
    """Format a comparison, one line a row."""
    heads = ["ms a step", "images/s", *(f"of {name}" for name in BASELINES), "peak MB"]
    width = max(14, *map(len, outcomes))
    lines = [" " * width + "".join(f"{head:>16}" for head in heads)]
    medians = {name: row.median for name, row in outcomes.items() if isinstance(row, Timing)}
    for name, row in outcomes.items():
        if isinstance(row, str):
            lines.append(f"{name:{width}}  does not run: {row}")
            continue
        ratios = [f"{row.median / medians[r]:.2f}" if r in medians else "-" for r in BASELINES]
        speed = f"{batch_size / row.median:,.0f}"
        cells = [f"{row.median * 1e3:.2f}", speed, *ratios, f"{row.peak_memory / 1e6:,.0f}"]
        lines.append(f"{name:{width}}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def figures(row: Timing | str, batch_size: int) -> dict[str, Any]:
    """Return the figures of a row for the JSON file."""
    if isinstance(row, str):
        return {"error": row}
    return {
        "median_seconds": row.median,
        "images_per_second": batch_size / row.median,
        "peak_memory_bytes": row.peak_memory,
        "seconds": row.seconds,
    }


if __name__ == "__main__":
    main()
