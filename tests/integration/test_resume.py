"""2k steps equal k steps, `save`, a new process, `load` and k steps, bit for bit on the CPU.

Run as a script, this file is that new process.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from tests.helpers.processes import environment
from tests.helpers.states import differences
from vanillagan import EMA, R1, Callback, Discriminator, GANTrainer, Generator
from vanillagan.callbacks import LRSchedule, StopOnSignal
from vanillagan.data import ByteImages

SAMPLES = 40
BATCH = 8
BATCHES = SAMPLES // BATCH


class Jittered(Dataset):
    """A map-style dataset whose transform draws from all global generators."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index] * float(torch.rand(())) * np.random.rand() * random.random()


class Streamed:
    """An iterable without a length, in a random order of its own."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.rows[torch.randperm(len(self.rows))].split(BATCH)


def jitter_in_collate(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows) * torch.rand(len(rows), 1)


def points(count: int = SAMPLES) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


def byte_images() -> ByteImages:
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (SAMPLES, 1, 1, 2), generator=rng, dtype=torch.uint8)
    return ByteImages(pixels, torch.arange(SAMPLES) % 3)


def loader(**options: Any) -> Any:
    return DataLoader(Jittered(points()), batch_size=BATCH, **({"shuffle": True} | options))


def weighted_loader() -> Any:
    sampler = WeightedRandomSampler(torch.arange(1.0, SAMPLES + 1), SAMPLES)
    return loader(shuffle=None, sampler=sampler)


def make_trainer(
    shape: tuple[int, ...] = (2,), *, classes: int = 0, dropout: float = 0.0, **options: Any
) -> GANTrainer:
    return GANTrainer(
        Generator(4, shape, hidden=(8, 8), num_classes=classes),
        Discriminator(shape, hidden=(8,), num_classes=classes, dropout=dropout),
        **({"device": "cpu", "ema": EMA(0.9)} | options),
    )


def schedule(kind: Callable[..., Any], interval: Any, **options: Any) -> Callable[[], GANTrainer]:
    def make() -> GANTrainer:
        return make_trainer(callbacks=[LRSchedule(partial(kind, **options), interval=interval)])

    return make


CASES: dict[str, tuple[Callable[[], Any], Callable[[], GANTrainer]]] = {
    "a tensor": (points, make_trainer),
    "a tensor with a partial last batch": (partial(points, 36), make_trainer),
    "a TensorDataset": (
        lambda: TensorDataset(points(), torch.arange(SAMPLES) % 3),
        partial(make_trainer, classes=3),
    ),
    "byte images": (byte_images, partial(make_trainer, (1, 1, 2), classes=3)),
    "a Dataset": (lambda: Jittered(points()), make_trainer),
    "a DataLoader": (loader, make_trainer),
    "a DataLoader with two workers": (partial(loader, num_workers=2), make_trainer),
    "a DataLoader with two workers and a random collate_fn": (
        partial(loader, num_workers=2, collate_fn=jitter_in_collate),
        make_trainer,
    ),
    "a WeightedRandomSampler": (weighted_loader, make_trainer),
    "a list of batches": (lambda: list(points().split(BATCH)), make_trainer),
    "an iterable without a length": (lambda: Streamed(points()), make_trainer),
    "dropout in the discriminator": (points, partial(make_trainer, dropout=0.5)),
    "two discriminator steps, lazy R1": (
        points,
        partial(make_trainer, discriminator_steps=2, penalties=[R1(0.5, every=4)]),
    ),
    "discriminator first": (points, partial(make_trainer, update_order="discriminator_first")),
    "cosine by step": (points, schedule(CosineAnnealingLR, "step", T_max=12)),
    "one cycle by step": (points, schedule(OneCycleLR, "step", max_lr=1e-2, total_steps=20)),
    "plateau by epoch": (points, schedule(ReduceLROnPlateau, "epoch", patience=0, threshold=1.0)),
    "plateau over an iterable without a length": (
        lambda: Streamed(points()),
        schedule(ReduceLROnPlateau, "epoch", patience=0, threshold=1.0),
    ),
}
MOMENTS = {"mid-epoch": BATCHES + 2, "at an epoch's end": BATCHES}


def train(name: str, *, start: Path | None, steps: int, end: Path) -> None:
    """Train until `steps` steps are done, from a checkpoint or from scratch, and save."""
    data, make = CASES[name]
    seed = 0 if start is None else 999  # weights and random states must come from the checkpoint
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    trainer = make()
    if start is not None:
        trainer.load(start)
    trainer.fit(data(), max_steps=steps, batch_size=BATCH)
    trainer.save(end)


def path_of(folder: Path, name: str, moment: str, part: str) -> Path:
    return folder / f"{name}, {moment}, {part}.pt"


def resume_all(folder: Path) -> None:
    """Resume every case, and keep the errors."""
    errors = {}
    for name in CASES:
        for moment, k in MOMENTS.items():
            place = partial(path_of, folder, name, moment)
            try:
                train(name, start=place("half"), steps=2 * k, end=place("resumed"))
            except Exception as error:
                errors[f"{name}, {moment}"] = repr(error)
    torch.save(errors, folder / "errors.pt")


class SlowSteps(Callback):
    def on_step_end(self, trainer, result):
        print(trainer.progress.step, flush=True)
        time.sleep(0.01)


def train_until_signal(folder: Path) -> None:
    trainer = make_trainer(dropout=0.5, callbacks=[SlowSteps(), StopOnSignal()])
    trainer.load(folder / "start.pt")
    trainer.fit(points(), max_steps=10_000, batch_size=BATCH)
    trainer.save(folder / "stopped.pt")
    (folder / "reason.txt").write_text(str(trainer.stop_reason))


def states_of(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)["states"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which this process has saved runs, and a new one has resumed them.

    The new process resumes every case, and trains until a Ctrl-C.
    """
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("resume")
    for name in CASES:
        for moment, k in MOMENTS.items():
            place = partial(path_of, folder, name, moment)
            train(name, start=None, steps=2 * k, end=place("whole"))
            train(name, start=None, steps=k, end=place("half"))
    make_trainer(dropout=0.5).save(folder / "start.pt")
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "7\n":
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", CASES)
def test_resume_in_a_new_process_is_exact(folder, name, moment):
    errors = torch.load(folder / "errors.pt", weights_only=True)
    assert f"{name}, {moment}" not in errors, errors[f"{name}, {moment}"]
    whole, half, resumed = (
        states_of(path_of(folder, name, moment, part)) for part in ("whole", "half", "resumed")
    )
    assert whole["progress"]["step"] == 2 * half["progress"]["step"] == 2 * MOMENTS[moment]
    assert set(whole) >= {"ema", "global_rng", "history", "run_rng", "callbacks"}
    assert differences(resumed, whole) == []


@pytest.mark.slow
def test_a_run_stopped_by_ctrl_c_resumes_exactly(folder, tmp_path):
    assert (folder / "reason.txt").read_text() == "SIGINT"
    step = states_of(folder / "stopped.pt")["progress"]["step"]
    assert 7 <= step < 10_000
    for start, end in (("start", "whole"), ("stopped", "resumed")):
        trainer = make_trainer(dropout=0.5)
        trainer.load(folder / f"{start}.pt")
        trainer.fit(points(), max_steps=step + 6, batch_size=BATCH)
        trainer.save(tmp_path / f"{end}.pt")
    assert differences(states_of(tmp_path / "resumed.pt"), states_of(tmp_path / "whole.pt")) == []


def test_max_epochs_is_a_total_of_the_run(tmp_path):
    first = make_trainer()
    first.fit(points(), max_epochs=2, batch_size=BATCH)
    first.save(tmp_path / "run.pt")
    second = make_trainer()
    second.load(tmp_path / "run.pt")
    second.fit(points(), max_epochs=3, batch_size=BATCH)
    assert (second.progress.epoch, second.progress.step) == (3, 3 * BATCHES)
    with pytest.warns(UserWarning, match="nothing left to do: the run has done 3 epochs"):
        second.fit(points(), max_epochs=3, batch_size=BATCH)


@pytest.mark.parametrize(("k", "batch_size"), [(1, 4), (2, BATCH // 2), (2, BATCH)])
def test_other_batches_restart_the_epoch(tmp_path, k, batch_size):
    first = make_trainer()
    first.fit(points(), max_steps=BATCHES + 2, batch_size=BATCH)
    first.save(tmp_path / "run.pt")
    second = make_trainer(discriminator_steps=k)
    second.load(tmp_path / "run.pt")
    with pytest.warns(
        UserWarning, match=f"restarting the current epoch.*'discriminator_steps': {k}"
    ):
        second.fit(points(), max_epochs=2, batch_size=batch_size)
    assert second.progress.step == BATCHES + 2 + SAMPLES // batch_size // k


if __name__ == "__main__":
    torch.set_num_threads(1)
    for task in (resume_all, train_until_signal):
        task(Path(sys.argv[1]))
