"""Measure the memory of training, and its growth.

    python -m tests.benchmarks.memory --data FOLDER [--steps 20000] [--json FILE]

First the peak memory (RSS) of a process after 500 steps on MNIST:

    reference   the reference implementation: torchvision's MNIST and a DataLoader
    trainer     GANTrainer on the same digits, as bytes in memory

Then the memory (RSS) every 200 steps of a run of `--steps` steps, with the recipe and all callbacks
of examples/mnist.py and a CSV log. The growth is the slope of a line fitted from step 2,000 on, in
bytes a step; `trainer.history` accounts for 8 bytes a step. Linux only.
"""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from tests.benchmarks import loops
from tests.benchmarks.loops import Options
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from tests.benchmarks.recipes import make_trainer
from tests.benchmarks.turns import take_turns
from vanillagan import Callback, GANTrainer, StepResult
from vanillagan.callbacks import (
    Checkpoint,
    CSVLog,
    HealthMonitor,
    NaNGuard,
    Progress,
    SampleGrid,
    StopOnSignal,
)
from vanillagan.datasets import mnist

PEAK_STEPS = 500
EVERY = 200
SETTLED = 2000
"""First step of the fit of the growth."""


class Memory(Callback):
    """Record the memory of the process every 200 steps."""

    priority = 4

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.bytes: list[int] = []

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        if trainer.progress.step % EVERY == 0:
            self.steps.append(trainer.progress.step)
            self.bytes.append(memory())


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--data")
    parser.add("--steps", default=20_000, help="Train for this many steps")
    parser.add("--json")
    options = parser.parse_args()
    if options.steps < SETTLED + EVERY:
        parser.error(f"--steps must be at least {SETTLED + EVERY}, for a line from {SETTLED} on")

    rows = {
        "reference": partial(loops.reference, Options(options.data)),
        "trainer": partial(loops.trainer, Options(options.data)),
    }
    timings = take_turns(rows, rounds=1, steps=PEAK_STEPS // 2)
    peaks: dict[str, int | str] = {
        name: timing if isinstance(timing, str) else timing.peak_memory
        for name, timing in timings.items()
    }
    for name, peak in peaks.items():
        print(f"{name:10} {peak if isinstance(peak, str) else f'{peak / 1e6:.0f} MB at most'}")

    curve = record(options.data, options.steps)
    settled = curve.steps.index(SETTLED)
    slope = float(np.polyfit(curve.steps[settled:], curve.bytes[settled:], 1)[0])
    print(
        f"{curve.bytes[0] / 1e6:.1f} MB at step {curve.steps[0]:,}, {curve.bytes[-1] / 1e6:.1f} MB "
        f"at step {curve.steps[-1]:,}, {max(curve.bytes) / 1e6:.1f} MB at most; "
        f"{slope:+.0f} bytes a step from step {SETTLED:,} on"
    )
    figures = {"peaks": peaks, "steps": curve.steps, "bytes": curve.bytes, "slope": slope}
    write_figures(options.json, "tests.benchmarks.memory", figures)


def record(root: Path, steps: int) -> Memory:
    """Record the memory of a run of the stable recipe with all its callbacks.

    Raises:
        RuntimeError: The run ended early.
    """
    data, memory_log = mnist(root), Memory()
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [
            Progress(),
            SampleGrid(Path(folder, "images")),
            CSVLog(Path(folder, "log.csv")),
            Checkpoint(Path(folder, "checkpoints"), every_n_epochs=5, keep=1),
            NaNGuard(),
            HealthMonitor(),
            StopOnSignal(),
            memory_log,
        ]
        trainer = make_trainer("stable", 0, callbacks)
        trainer.fit(data, max_steps=steps)
    if trainer.progress.step < steps:
        raise RuntimeError(
            f"`fit` ended at step {trainer.progress.step} of {steps}: {trainer.stop_reason}"
        )
    return memory_log


def memory() -> int:
    """Return the memory of this process (RSS), in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError("/proc/self/status has no VmRSS: this needs Linux")
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
