"""Disks that are full, read-only or gone: the last good files stay, and training goes on."""

from __future__ import annotations

import csv
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults.figures import Figures
from tests.helpers.callbacks import At, images
from tests.helpers.disk import full_disk
from tests.helpers.permissions import folder_of_a_user
from tests.helpers.trainers import make_trainer
from vanillagan import Callback, checkpoint
from vanillagan.callbacks import BestCheckpoint, Checkpoint, CSVLog, SampleGrid

__all__ = ["check_disk"]

STEPS = 6
LARGEST = 60_000
"""Bytes, more than a file of these runs has."""


class EachStep(Callback):
    """Record a metric that is better at each step."""

    priority = 1

    def on_step_end(self, trainer, result):
        trainer.history.record(trainer.progress.step, {"m": -trainer.progress.step})


def callbacks_in(folder: Path) -> list[Callback]:
    return [
        Checkpoint(folder, every_n_steps=1, keep=1),
        BestCheckpoint(folder / "best.pt", monitor="m"),
        CSVLog(folder / "log.csv", every_n_steps=1),
        SampleGrid(folder, every_n_steps=1, side=1, scale=1),
        EachStep(),
    ]


def problem_of(path: Path) -> str | None:
    """Return what is wrong with a file; a table may end in half a row."""
    try:
        if path.suffix == ".pt":
            checkpoint.read(path)
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        else:
            whole = path.read_text().rpartition("\n")[0].splitlines()
            if path.name != "log.csv" or len({len(row) for row in csv.reader(whole)}) != 1:
                return f"{path.name} is damaged or temporary"
    except Exception as error:
        return f"{path.name}: {error!r}"
    return None


def check_files(figures: Figures, case: str, folder: Path) -> None:
    """Count files that are damaged, missing or too many."""
    for problem in filter(None, map(problem_of, folder.iterdir())):
        figures.fail(f"{case}: {problem}", lost=True)
    for pattern in ("step-*.pt", "best.pt", "log.csv"):
        if len(list(folder.glob(pattern))) != 1:
            figures.fail(f"{case}: {pattern}: {list(folder.glob(pattern))}", lost=True)


def check_save(figures: Figures, folder: Path, size: int) -> None:
    """Save over a checkpoint, on a disk that takes `size` bytes."""
    figures.tried += 1
    path = folder / "run.pt"
    trainer = make_trainer(hidden=(4,))
    trainer.save(path)
    before = path.read_bytes()
    trainer.progress.step += 1
    try:
        with full_disk(size):
            trainer.save(path)
    except OSError as error:
        if str(path) not in str(error):
            figures.fail(f"save, {size} bytes: {error}")
        if path.read_bytes() != before or list(folder.iterdir()) != [path]:
            figures.fail(f"save, {size} bytes", lost=True)
    else:
        if checkpoint.read(path)["states"]["progress"]["step"] != 1:
            figures.fail(f"save, {size} bytes: no error", lost=True)


def check_run(figures: Figures, folder: Path, case: str, fault: Callable[[], Any]) -> None:
    """Train with the fault from step 2 on; nothing but the last checkpoint may raise."""
    figures.tried += 1
    trainer = make_trainer(
        At(2, lambda _: fault()), *callbacks_in(folder), shape=(1, 4, 4), hidden=(4,)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trainer.fit(images(), max_steps=STEPS, batch_size=8)
        except OSError as error:
            if f"step-{STEPS:08d}.pt" not in str(error):
                figures.fail(f"{case}: {error}")
        except Exception as error:
            figures.fail(f"{case}: {error!r}")
    if trainer.progress.step != STEPS:
        figures.fail(f"{case}: training stopped at step {trainer.progress.step}")


def check_disk(long: bool) -> Figures:
    """Fill disks at many byte positions, protect folders and remove them."""
    figures = Figures()
    saves, runs = (400, 120) if long else (20, 8)
    for index in range(saves):
        with tempfile.TemporaryDirectory() as name:
            check_save(figures, Path(name), LARGEST * index // saves)
    for index in range(runs):
        # half of them at the sizes of tables and pictures
        size = (1_500 if index % 2 else LARGEST) * index // runs
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder, case = Path(name), f"run, {size} bytes"
            fill = partial(stack.enter_context, full_disk(size))
            check_run(figures, folder, case, fill)
            check_files(figures, case, folder)
    with folder_of_a_user() as folder:
        check_run(figures, folder, "read-only", partial(folder.chmod, 0o555))
        check_files(figures, "read-only", folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "new"
        check_run(figures, folder, "vanished", partial(shutil.rmtree, folder))
        check_files(figures, "vanished", folder)
    return figures
