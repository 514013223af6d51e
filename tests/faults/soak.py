"""A long run with every callback, and many short ones: memory, open files and threads stay flat."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LinearLR

from tests.faults.figures import Figures
from tests.helpers.trainers import make_trainer
from vanillagan import EMA, R1, Callback, GANTrainer
from vanillagan.callbacks import (
    BestCheckpoint,
    Checkpoint,
    ConsoleLog,
    CSVLog,
    GradientClip,
    HealthMonitor,
    LRSchedule,
    MetricLog,
    NaNGuard,
    Progress,
    ProgressBar,
    SampleGrid,
    StopOnSignal,
    TensorBoardLog,
)

__all__ = ["soak"]

SHAPE = (1, 4, 4)
GROWTH = 8 * 2**20
"""Bytes of memory that a run may gain after its warm-up, apart from what its history needs."""


def soak(long: bool) -> Figures:
    """Look at a run ten times, and at each of many trainers that are dropped.

    In a process of its own, where no threads of other tests come and go.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_soak, long).result()


def _soak(long: bool) -> Figures:
    figures = Figures()
    steps, trainers = (100_000, 200) if long else (1_500, 20)
    gc.freeze()  # imports are no part of the soak, and collecting is faster without them
    with tempfile.TemporaryDirectory() as name, _quiet():
        folder = Path(name)
        watch = Usage(steps // 10)
        train(folder, steps, watch)
        _judge(figures, f"a run of {steps} steps", watch.seen, history=64 * steps)
        files = [path.name for path in folder.rglob("*") if path.is_file()]
        kinds = {kind: sum(name.endswith(kind) for name in files) for kind in (".pt", ".png")}
        figures.tried += 1
        # two checkpoints and the best one; a picture at each of ten looks, and two more
        if kinds[".pt"] > 3 or kinds[".png"] > 12 or len(files) > 20:
            figures.fail(f"{len(files)} files of {steps} steps: {sorted(files)[:25]}")

        seen: list[dict[str, int]] = []
        alive = []
        for index in range(trainers):
            alive.append(train(folder / str(index % 2), 3))
            gc.collect()
            figures.tried += 1
            if alive[-1]() is not None:
                figures.fail(f"trainer {index} is not freed")
            seen.append(usage(seen))
        _judge(figures, f"{trainers} trainers", seen)
    return figures


def train(folder: Path, steps: int, *callbacks: Callback) -> weakref.ref[GANTrainer]:
    """Train a tiny network with every callback; return a reference to the trainer."""
    every = max(steps // 10, 1)
    trainer = make_trainer(
        MetricLog({"spread": lambda x: float(x.std())}, num_samples=64, every_n_steps=every),
        BestCheckpoint(folder / "best.pt", monitor="spread", mode="max"),
        Checkpoint(folder / "checkpoints", every_n_steps=every, keep=2),
        ConsoleLog(),
        CSVLog(folder / "log.csv", every_n_steps=10),
        TensorBoardLog(folder / "board", every_n_steps=100),
        GradientClip(10.0),
        HealthMonitor(every_n_steps=50),
        LRSchedule(lambda optimizer: LinearLR(optimizer, total_iters=100), interval="step"),
        NaNGuard(every_n_steps=10),
        Progress(),
        ProgressBar(),
        SampleGrid(folder / "images", every_n_steps=every),
        StopOnSignal(),
        *callbacks,
        shape=SHAPE,
        hidden=(8,),
        penalties=[R1(0.5, every=4)],
        ema=EMA(),
    )
    data = torch.rand(256, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    trainer.fit(data, max_steps=steps, batch_size=16)
    trainer.sample(4)
    return weakref.ref(trainer)


class Usage(Callback):
    """Note what the process uses, every n steps."""

    priority = 9

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.seen: list[dict[str, int]] = []

    def on_step_end(self, trainer: GANTrainer, result: Any) -> None:
        if trainer.progress.step % self.every_n_steps == 0:
            gc.collect()
            self.seen.append(usage(self.seen))


def usage(before: list[dict[str, int]]) -> dict[str, int]:
    """Return the memory, open files and threads of this process.

    A thread that has been joined is listed until the system removes it, which takes a while on a
    busy machine: if there are more threads than in the last of `before`, wait up to 5 seconds.
    """
    deadline = time.monotonic() + 5
    while before and threads() > before[-1]["threads"] and time.monotonic() < deadline:
        time.sleep(0.01)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "open files": len([*Path("/proc/self/fd").iterdir()]),
        "threads": threads(),
    }


def threads() -> int:
    """Return the number of threads of this process."""
    return len([*Path("/proc/self/task").iterdir()])


def _judge(figures: Figures, what: str, seen: list[dict[str, int]], *, history: int = 0) -> None:
    """Compare each look after the warm-up, of three tenths, with the last look in it."""
    start = len(seen) * 3 // 10
    allowed = {"memory": GROWTH + history, "open files": 0, "threads": 0}
    for now in seen[start + 1 :]:
        figures.tried += 1
        grown = {name: value - seen[start][name] for name, value in now.items()}
        if any(grown[name] > limit for name, limit in allowed.items()):
            figures.fail(f"{what}: {grown} after the warm-up")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings of runs that are not meant to learn, and their logs."""
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
