"""Contract of every callback of the library."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler

from tests.helpers.callbacks import BATCH, STEPS, FailOnce, GlobalDraws, Record, images, train
from tests.helpers.states import snapshot
from tests.helpers.trainers import make_trainer as make_bare_trainer
from vanillagan import Callback, GANTrainer, callbacks
from vanillagan.callback import CallbackList
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

OBSERVERS: dict[str, Callable[[Path], Callback]] = {
    "BestCheckpoint": lambda folder: BestCheckpoint(folder / "best.pt", monitor="m"),
    "CSVLog": lambda folder: CSVLog(folder / "log.csv", every_n_steps=1),
    "Checkpoint": lambda folder: Checkpoint(folder / "checkpoints", every_n_steps=1),
    "ConsoleLog": lambda folder: ConsoleLog(0.0),
    "HealthMonitor": lambda folder: HealthMonitor(every_n_steps=1, patience=99),
    "MetricLog": lambda folder: MetricLog({"noise": draw_noise}, num_samples=9, every_n_steps=1),
    "NaNGuard": lambda folder: NaNGuard(every_n_steps=1),
    "Progress": lambda folder: Progress(),
    "ProgressBar": lambda folder: ProgressBar(),
    "SampleGrid": lambda folder: SampleGrid(folder / "images", every_n_steps=1),
    "StopOnSignal": lambda folder: StopOnSignal(),
    "TensorBoardLog": lambda folder: TensorBoardLog(folder / "events", every_n_steps=1),
}
CONTROLLERS: dict[str, Callable[[Path], Callback]] = {
    "GradientClip": lambda folder: GradientClip(0.01),
    "LRSchedule": lambda folder: LRSchedule(partial(lr_scheduler.ExponentialLR, gamma=0.5)),
}
EVERY = OBSERVERS | CONTROLLERS
EVERY_RANK = ("BestCheckpoint", "Checkpoint", "GradientClip", "LRSchedule", "MetricLog")
EVERY_RANK += ("NaNGuard", "StopOnSignal")
MAIN_PROCESS_ONLY = {name: make for name, make in EVERY.items() if name not in EVERY_RANK}


def each(factories: dict[str, Callable[[Path], Callback]]) -> Any:
    return pytest.mark.parametrize("make", factories.values(), ids=factories)


def draw_noise(samples: Tensor) -> float:
    """Return a metric that uses every global random generator."""
    return float(torch.rand(7).sum() + np.random.rand() + random.random() + samples.mean())


def make_trainer(*callbacks: Callback) -> GANTrainer:
    return make_bare_trainer(*callbacks, Record(), shape=(1, 4, 4))


def weights(trainer: GANTrainer) -> dict[str, Any]:
    """Return the trainer's state without what callbacks keep and record."""
    return {
        place: value
        for place, value in snapshot(trainer).items()
        if not place.startswith(("/callbacks", "/history/metrics"))
    }


def test_the_contract_covers_every_callback():
    assert set(EVERY) == set(callbacks.__all__)


@each(OBSERVERS)
def test_an_observer_does_not_change_training(tmp_path, make):
    runs = []
    for observers in ([], [make(tmp_path)]):
        np.random.seed(0)
        random.seed(0)
        draws = GlobalDraws()
        trainer = train(make_trainer(draws, *observers), 2)
        modes = [module.training for module in trainer.generator.modules()]
        runs.append((weights(trainer), draws.seen, modes))
    assert runs[1] == runs[0]


@each(CONTROLLERS)
def test_a_controller_changes_training(tmp_path, make):
    assert weights(train(make_trainer(make(tmp_path)), 2)) != weights(train(make_trainer(), 2))


@each(EVERY)
def test_two_fits_equal_one(tmp_path, make):
    whole = train(make_trainer(make(tmp_path / "a")), 2)
    halves = train(train(make_trainer(make(tmp_path / "b")), 1), 2)
    assert snapshot(halves) == snapshot(whole)


@each(EVERY)
def test_a_new_run_starts_afresh(tmp_path, make):
    reused, new = make(tmp_path / "a"), make(tmp_path / "b")
    train(make_trainer(reused), 2)
    again, expected = (train(make_trainer(callback), 1) for callback in (reused, new))
    assert snapshot(again) == snapshot(expected)


@each(EVERY)
def test_another_trainer_leaves_the_first_as_it_is(tmp_path, make):
    callback = make(tmp_path / "a")
    first = train(make_trainer(callback), max_steps=STEPS + 1)
    before = weights(first)
    train(make_trainer(callback), 1)
    assert weights(first) == before
    whole = train(make_trainer(make(tmp_path / "b")), 2)
    with suppress(ValueError):  # refused, and unchanged
        train(first, 2)
    assert weights(first) == before or snapshot(first) == snapshot(whole)


@each(EVERY)
def test_a_resumed_run_is_exact(tmp_path, make):
    whole = train(make_trainer(make(tmp_path / "a")), 2)
    train(make_trainer(make(tmp_path / "b")), max_steps=STEPS + 1).save(tmp_path / "half.pt")
    resumed = make_trainer(make(tmp_path / "b"))
    resumed.load(tmp_path / "half.pt")
    assert snapshot(train(resumed, 2)) == snapshot(whole)


@each(EVERY)
def test_a_state_survives_a_file(tmp_path, make):
    callback, other = make(tmp_path), make(tmp_path)
    train(make_trainer(callback))
    file = io.BytesIO()
    torch.save(callback.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.state_dict() == callback.state_dict()


@each(EVERY)
def test_a_run_continues_after_an_error(tmp_path, make):
    trainer = make_trainer(make(tmp_path), FailOnce())
    with pytest.raises(RuntimeError, match="failed"):
        train(trainer)
    assert train(trainer).progress.step == STEPS


@each(EVERY)
def test_an_error_before_the_start_is_raised(tmp_path, make):
    class NeverStarts(Callback):
        priority = -1

        def on_fit_start(self, trainer):
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        train(make_trainer(NeverStarts(), make(tmp_path)))


@pytest.mark.filterwarnings("ignore:`LRSchedule` has no effect in a loop of your own")
@pytest.mark.filterwarnings("ignore:the callbacks .* must be told of the begin and the end")
@each(EVERY)
def test_steps_without_fit_work(tmp_path, make):
    trainer = make_trainer(make(tmp_path))
    for batch in images().split(BATCH):
        trainer.train_step(batch)
    assert trainer.progress.step == STEPS


@each(EVERY)
def test_a_loop_of_ones_own_writes_what_fit_writes(tmp_path, make):
    def written(folder: str) -> set[str]:
        files = (path.name for path in (tmp_path / folder).rglob("*") if path.is_file())
        return {name.split(".tfevents")[0] for name in files}

    of_fit = make_trainer(make(tmp_path / "fit"))
    of_fit.fit(list(images().split(BATCH)), max_epochs=1)
    trainer = make_trainer(make(tmp_path / "loop"))
    trainer.progress.set_limits(1, None)
    with trainer.callbacks.running(trainer):
        for batch in images().split(BATCH):
            trainer.train_step(batch)
        trainer.progress.count_epoch()
        trainer.callbacks.on_epoch_end(trainer)
    assert written("loop") == written("fit")


@each(EVERY)
def test_a_run_of_unknown_length_works(tmp_path, make):
    trainer = make_trainer(make(tmp_path))
    trainer.fit((batch for batch in images().split(BATCH)), max_epochs=1)
    assert trainer.progress.step == STEPS


@each(MAIN_PROCESS_ONLY)
def test_other_ranks_write_and_print_nothing(tmp_path, capfd, make):
    trainer = make_trainer(make(tmp_path))
    others = CallbackList(tuple(trainer.callbacks), is_main_process=False)
    vars(trainer)["callbacks"] = others
    train(trainer)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert set(trainer.history.metrics) == {"m"}


@each({name: EVERY[name] for name in EVERY_RANK})
def test_all_other_callbacks_run_on_every_rank(tmp_path, make):
    assert make(tmp_path).main_process_only is False
