"""Measure training on image files: DataLoader workers compared with images in memory.

    python -m tests.benchmarks.loading [--pictures 4000] [--rounds 8] [--steps 300] [--threads 1]
                                       [--json FILE]

Patches of photographs, 64x64 RGB, are written as JPEG files; then MLPs train on them in batches of
64, small ones so that reading dominates. Needs the extra `examples`. The rows take turns, each in
its own process:

    0, 1, 2, 4 workers     a DataLoader over torchvision's ImageFolder, with this many workers
    in memory              `load_into_memory(dataset)`: the same floats
    in memory, bytes       the same without the transforms to floats
    image_folder           `vanillagan.datasets.image_folder`: bytes in memory

Between the turns of a row its workers fill their queues, of two batches each. That shortens a round
of 300 steps by up to 8 batches (4 workers), less than 3 %. Training uses one thread, so that a
machine with two cores has one left for the workers.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import to_pil_image

from tests.benchmarks.loops import Ticking
from tests.benchmarks.machine import write_figures
from tests.benchmarks.options import Parser
from tests.benchmarks.turns import Tick, take_turns
from tests.helpers.scripts import load_example
from vanillagan import Discriminator, GANTrainer, Generator
from vanillagan.data import load_into_memory
from vanillagan.datasets import image_folder

SIZE = 64
BATCH_SIZE = 64
WORKERS = (0, 1, 2, 4)


def main() -> None:
    parser = Parser(__doc__)
    parser.add("--pictures", default=4000, help="Number of pictures")
    parser.add("--rounds", default=8)
    parser.add("--steps", default=300)
    parser.add("--threads", default=1, help="Threads of the training in each row")
    parser.add("--json")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, options.pictures)
        rows = {f"{count} workers": partial(load, folder, count) for count in WORKERS}
        rows |= {
            "in memory": partial(load_all, folder, False),
            "in memory, bytes": partial(load_all, folder, True),
            "image_folder": partial(read_folder, folder),
        }
        timings = take_turns(
            rows, rounds=options.rounds, steps=options.steps, threads=options.threads
        )
    for row, timing in timings.items():
        if isinstance(timing, str):
            print(f"{row:16} {timing}")
        else:
            print(
                f"{row:16} {timing.median * 1e3:7.2f} ms a step "
                f"{timing.peak_memory / 1e6:7.0f} MB at most"
            )
    write_figures(options.json, "tests.benchmarks.loading", timings)


def write_pictures(folder: Path, count: int) -> None:
    """Write patches of photographs into a folder of one class."""
    example = load_example("photographs")
    data = example["photo_patches"](example["TRAINED_ON"], count, size=(SIZE, SIZE))
    (folder / "photographs").mkdir()
    for number, image in enumerate(data.images):
        to_pil_image(image).save(folder / "photographs" / f"{number:06}.jpg", quality=90)


def dataset(folder: Path, *, as_bytes: bool = False) -> ImageFolder:
    floats = [transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    return ImageFolder(
        str(folder), transforms.Compose([transforms.PILToTensor()] if as_bytes else floats)
    )


def load(folder: Path, workers: int, tick: Tick) -> None:
    train(
        DataLoader(
            dataset(folder),
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        ),
        tick,
    )


def load_all(folder: Path, as_bytes: bool, tick: Tick) -> None:
    train(load_into_memory(dataset(folder, as_bytes=as_bytes)), tick)


def read_folder(folder: Path, tick: Tick) -> None:
    train(image_folder(folder, size=SIZE), tick)


def train(data: Any, tick: Tick) -> None:
    shape = (3, SIZE, SIZE)
    players = Generator(sample_shape=shape, hidden=(16,)), Discriminator(shape, hidden=(16,))
    trainer = GANTrainer(*players, device="cpu", callbacks=[Ticking(tick)])
    trainer.fit(data, max_epochs=sys.maxsize, batch_size=BATCH_SIZE)


if __name__ == "__main__":
    main()
