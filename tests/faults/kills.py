"""SIGKILL at any instant: a run that is started again ends as if it had not been killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from tests.faults.figures import Figures
from tests.helpers.callbacks import images
from tests.helpers.states import differences
from tests.helpers.trainers import make_trainer
from vanillagan import Callback, checkpoint
from vanillagan.callbacks import BestCheckpoint, Checkpoint, CSVLog, SampleGrid

__all__ = ["check_kills"]

STEPS = 26
WRITING = (("atomic_file.py",), ("checkpointing.py", "logs.py", "sample_grid.py"))
"""Files of the code that writes: what is common, and the callbacks."""


class EpochMetric(Callback):
    """Record a metric at the end of each epoch, the smallest one after the third."""

    priority = 1

    def on_epoch_end(self, trainer):
        trainer.history.record(trainer.progress.step, {"m": abs(trainer.progress.epoch - 2.9)})


class Lines:
    """Trace function that counts the lines of some files, and may kill the process at one."""

    def __init__(self, files: tuple[str, ...], kill_at: int | None) -> None:
        self.files, self.count, self.kill_at = files, 0, kill_at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(self.files):
            return None
        self.count += event == "line"
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self


def train(folder: Path, files: tuple[str, ...] = (), kill_at: int | None = None) -> None:
    """Run a training script, as a scheduler starts it again and again."""
    torch.set_num_threads(1)
    np.random.seed(0)
    random.seed(0)
    warnings.simplefilter("ignore")
    lines = Lines(files, kill_at)
    sys.settrace(lines)
    saved = Checkpoint(folder / "checkpoints", every_n_steps=3, keep=2)
    trainer = make_trainer(
        saved,
        BestCheckpoint(folder / "best" / "best.pt", monitor="m"),
        CSVLog(folder / "log.csv", every_n_steps=1),
        SampleGrid(folder / "images", every_n_steps=4, side=2),
        EpochMetric(),
        shape=(1, 4, 4),
    )
    with redirect_stdout(None):
        saved.resume(trainer)
    trainer.fit(images(), max_steps=STEPS, batch_size=8)
    sys.settrace(None)
    folder.with_suffix(".lines").write_text(str(lines.count))


def files_in(folder: Path) -> dict[str, Any]:
    """Return the content of all files, also of temporary ones, by their name."""
    return {
        str(path.relative_to(folder)): checkpoint.read(path)["states"]
        if path.suffix == ".pt"
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_kills(long: bool) -> Figures:
    """Kill runs after random times, and at random lines of the code that writes files."""
    figures, rng = Figures(), random.Random(0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.prepared"])

    def start(folder: Path, *options: Any, seconds: float | None = None) -> int | None:
        process = context.Process(target=train, args=(folder, *options))
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode

    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        start(whole.with_name("first"))  # which starts the server
        lines = {}
        for files in WRITING:
            shutil.rmtree(whole, ignore_errors=True)
            begun = time.monotonic()
            start(whole, files)
            seconds = time.monotonic() - begun
            lines[files] = int(whole.with_suffix(".lines").read_text())
        expected = files_in(whole)
        run = 0
        while figures.tried < (300 if long else 12):
            run += 1
            folder = Path(name) / f"run-{run}"
            code: int | None = -signal.SIGKILL
            while code == -signal.SIGKILL:
                files = rng.choice([*WRITING, ()])
                if files:
                    code = start(folder, files, rng.randint(1, lines[files]))
                else:
                    code = start(folder, seconds=rng.uniform(0, seconds))
                figures.tried += code == -signal.SIGKILL
            if code != 0:
                figures.fail(f"run {run}: exit code {code}", lost=True)
            elif different := differences(files_in(folder), expected):
                figures.fail(f"run {run}: {different[:5]}", lost=True)
    return figures
