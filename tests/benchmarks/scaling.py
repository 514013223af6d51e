"""Measure how the time of a step depends on batch, networks, data and callbacks.

    python -m tests.benchmarks.scaling [--axes AXIS ...] [--rounds 8] [--steps 50] [--json FILE]

One number is varied at a time, from MLPs with the reference implementation's widths, batch size 64,
60,000 images, one discriminator step and no callbacks:

    batch        16, 64, 256, 1024, 4096
    width        hidden layers of both networks, a quarter to four times the reference's
    samples      60,000, 600,000 and 6,000,000 images in a memory-mapped file of 4.7 GB, by
                 `ByteImages(torch.from_file(...))`; the first row has 60,000 in memory
    d_steps      1, 2, 4, 8
    callbacks    0, 1, 4, 16, 64 callbacks with an empty `on_step_end`

The file of random bytes is written to --folder. It then is in the disk cache if memory suffices;
otherwise a batch costs 64 reads from the disk. The rows of an axis take turns, each in its own
process. A row's time includes starts of epochs that fall into its turns. Rows of the axis samples
have none, so the start of an epoch, which draws the sample order, is timed separately.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.loops import Ticking
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from tests.benchmarks.turns import Tick, take_turns
from vanillagan import Callback, Discriminator, GANTrainer, Generator, StepResult
from vanillagan.data import ByteImages
from vanillagan.data.epoch_sampler import EpochSampler

SHAPE = (1, 28, 28)
PIXELS = 784
SAMPLES = 60_000
SIZES = (SAMPLES, 10 * SAMPLES, 100 * SAMPLES)
AXES: dict[str, dict[str, dict[str, Any]]] = {
    "batch": {str(n): {"batch_size": n} for n in (16, 64, 256, 1024, 4096)},
    "width": {str(w): {"width": w} for w in (0.25, 0.5, 1.0, 2.0, 4.0)},
    "samples": {"in memory": {}} | {str(n): {"samples": n, "mapped": True} for n in SIZES},
    "d_steps": {str(k): {"discriminator_steps": k} for k in (1, 2, 4, 8)},
    "callbacks": {str(n): {"callbacks": n} for n in (0, 1, 4, 16, 64)},
}


class Empty(Callback):
    """Do nothing at the end of each step."""

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        pass


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--axes", choices=list(AXES), default=list(AXES), help="Vary these numbers")
    parser.add("--rounds", default=8)
    parser.add("--steps", default=50)
    parser.add("--folder", type=Path, metavar="FOLDER",
               help="Folder with 4.7 GB of space, for the samples")  # fmt: skip
    parser.add("--json")
    options = parser.parse_args()

    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder, "images")
        for axis in options.axes:
            if axis == "samples":
                write_images(path, max(SIZES))
            rows = {name: partial(train, path, **given) for name, given in AXES[axis].items()}
            timings = take_turns(rows, rounds=options.rounds, steps=options.steps)
            for name, timing in timings.items():
                failed = isinstance(timing, str)
                said = timing if failed else f"{1 / timing.median:8.1f} steps/s"
                print(f"{axis:10} {name:>10} {said}", flush=True)
            figures[axis] = timings
            if axis == "samples":
                figures["epoch_start_seconds"] = {str(n): time_epoch_start(n) for n in SIZES}
                for name, seconds in figures["epoch_start_seconds"].items():
                    print(f"{axis:10} {name:>10} {seconds * 1e3:8.1f} ms for the start of an epoch")
            write_figures(options.json, "tests.benchmarks.scaling", figures)


def write_images(path: Path, count: int) -> None:
    """Write random images, all different."""
    rng = torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        for _ in range(count // SAMPLES):
            part = torch.randint(256, (SAMPLES, PIXELS), dtype=torch.uint8, generator=rng)
            file.write(part.numpy())


def time_epoch_start(samples: int, *, times: int = 5) -> float:
    """Return the seconds until the indices of an epoch's first batch are known."""
    sampler = EpochSampler(seed=0, length=samples, batch_size=64)
    seconds = []
    for epoch in range(times):
        started = time.perf_counter()
        next(sampler.batches(epoch, skip=0))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def train(
    path: Path,
    tick: Tick,
    *,
    batch_size: int = 64,
    width: float = 1.0,
    samples: int = SAMPLES,
    mapped: bool = False,
    discriminator_steps: int = 1,
    callbacks: int = 0,
) -> None:
    if mapped:
        images = torch.from_file(
            str(path), shared=True, size=samples * PIXELS, dtype=torch.uint8
        ).view(samples, *SHAPE)
    else:
        images = torch.randint(256, (samples, *SHAPE), dtype=torch.uint8)
    trainer = GANTrainer(
        Generator(hidden=tuple(int(width * units) for units in (128, 256, 512, 1024))),
        Discriminator(hidden=tuple(int(width * units) for units in (512, 256))),
        discriminator_steps=discriminator_steps,
        device="cpu",
        callbacks=[*(Empty() for _ in range(callbacks)), Ticking(tick)],
    )
    trainer.fit(ByteImages(images), max_epochs=sys.maxsize, batch_size=batch_size)


if __name__ == "__main__":
    main()
