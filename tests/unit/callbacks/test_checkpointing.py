"""Checkpoint and BestCheckpoint."""

from __future__ import annotations

import math
import signal
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from tests.helpers.callbacks import At, FailOnce, Record, SendSignal, poison
from tests.helpers.disk import full_disk
from tests.helpers.states import snapshot
from tests.helpers.trainers import make_trainer
from vanillagan import Callback, GANTrainer, checkpoint
from vanillagan.callbacks import BestCheckpoint, Checkpoint, LRSchedule, MetricLog, StopOnSignal
from vanillagan.errors import CheckpointError


def train(trainer: GANTrainer, steps: int) -> GANTrainer:
    """Train on 7 batches an epoch."""
    rng = torch.Generator().manual_seed(1)
    trainer.fit(torch.rand(224, 2, generator=rng) * 2 - 1, max_steps=steps, batch_size=32)
    return trainer


def name_of(step: int) -> str:
    return f"step-{step:08d}.pt"


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name[5:-3]) for path in folder.iterdir())


# -- Checkpoint: saving ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"every_n_steps": 3}, [3, 6, 9, 12, 15]),
        ({"every_n_epochs": 1}, [7, 14, 15]),
        ({"every_n_epochs": 2}, [14, 15]),
        ({}, [15]),
    ],
)
def test_it_saves_regularly_and_at_the_end(tmp_path, options, expected):
    train(make_trainer(Checkpoint(tmp_path, keep=9, **options)), 15)
    assert steps_in(tmp_path) == expected


def test_the_last_step_is_saved_once(tmp_path, monkeypatch):
    trainer = make_trainer(Checkpoint(tmp_path, every_n_steps=2))
    paths: list[Path] = []
    monkeypatch.setattr(trainer, "save", paths.append)
    for steps in (3, 4):
        train(trainer, steps)
    with pytest.warns(UserWarning, match="nothing left to do"):
        train(trainer, 4)
    assert [path.name for path in paths] == [name_of(step) for step in (2, 3, 4)]


def test_ctrl_c_saves_with_stop_on_signal(tmp_path):
    callbacks = Checkpoint(tmp_path), StopOnSignal(), SendSignal(signal.SIGINT, step=3)
    train(make_trainer(*callbacks), 9)
    assert steps_in(tmp_path) == [3]


def test_signals_are_handled_until_the_end_is_saved(tmp_path, monkeypatch):
    trainer = make_trainer(StopOnSignal(), Checkpoint(tmp_path))
    handlers: list[Any] = []
    monkeypatch.setattr(trainer, "save", lambda _: handlers.append(signal.getsignal(signal.SIGINT)))
    train(trainer, 2)
    assert handlers != [signal.default_int_handler]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_is_not_saved(tmp_path):
    with pytest.raises(RuntimeError, match="failed"):
        train(make_trainer(Checkpoint(tmp_path), FailOnce()), 3)
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_end_is_saved_after_it_is_counted(tmp_path):
    callback = Checkpoint(tmp_path, every_n_epochs=1)
    trainer = train(make_trainer(callback), 7)
    trainer.load(tmp_path / name_of(7))
    assert (trainer.progress.epoch, trainer.progress.step_in_epoch) == (1, 0)


def test_a_checkpoint_holds_the_step_of_later_callbacks(tmp_path):
    def make() -> GANTrainer:
        schedule = LRSchedule(partial(ExponentialLR, gamma=0.9), interval="step")
        return make_trainer(Checkpoint(tmp_path, every_n_steps=2), schedule)

    whole, resumed = train(make(), 4), make()
    resumed.load(tmp_path / name_of(2))
    assert snapshot(train(resumed, 4)) == snapshot(whole)


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, player):
    callback = Checkpoint(tmp_path, every_n_steps=2, keep=1)
    trainer = make_trainer(At(3, poison(player)), callback)
    with pytest.warns(UserWarning, match=r"no checkpoint at step 4: .*last good one is .*02\.pt"):
        train(trainer, 4)
    assert steps_in(tmp_path) == [2]


# -- Checkpoint: files -----------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 3])
def test_it_keeps_the_newest(tmp_path, keep):
    callback = Checkpoint(tmp_path, every_n_steps=2, keep=keep)
    train(make_trainer(callback), 9)
    assert steps_in(tmp_path) == [2, 4, 6, 8, 9][-keep:]
    assert callback.latest == tmp_path / name_of(9)


def test_it_keeps_as_many_after_a_resume(tmp_path):
    first, second = (Checkpoint(tmp_path, every_n_steps=2, keep=2) for _ in range(2))
    train(make_trainer(first), 5)
    trainer = make_trainer(second)
    second.resume(trainer)
    train(trainer, 6)
    assert steps_in(tmp_path) == [5, 6]


def test_a_run_loaded_from_elsewhere_deletes_nothing(tmp_path):
    train(make_trainer(Checkpoint(tmp_path / "old", every_n_steps=1, keep=9)), 3)
    start = Checkpoint(tmp_path / "start")
    train(make_trainer(start), 5)
    trainer = make_trainer(Checkpoint(tmp_path / "old", every_n_steps=1, keep=1))
    trainer.load(start.latest)
    train(trainer, 7)
    assert steps_in(tmp_path / "old") == [1, 2, 3, 7]


class Memory(Callback):
    kept: Any = 0

    def state_dict(self):
        return {"kept": self.kept}


def test_a_failed_save_deletes_nothing(tmp_path):
    callback, memory = Checkpoint(tmp_path, every_n_steps=2, keep=1), Memory()
    trainer = train(make_trainer(callback, memory), 2)
    memory.kept = object()
    with pytest.raises(TypeError, match="must hold tensors and primitives"):
        train(trainer, 4)
    assert steps_in(tmp_path) == [2]
    assert callback.latest == tmp_path / name_of(2)


def test_a_foreign_checkpoint_deletes_no_files(tmp_path):
    victim = tmp_path / "thesis.tex"
    victim.write_text("x")
    first = Checkpoint(tmp_path / "first")
    train(make_trainer(first), 2)
    content = checkpoint.read(first.latest)
    assert content["states"]["callbacks"]["Checkpoint#1"] == {}
    # as versions before 0.2 wrote it
    content["states"]["callbacks"]["Checkpoint#1"] = {"saved": [str(victim), "../thesis.tex"]}
    checkpoint.write(tmp_path / "foreign.pt", content)
    trainer = make_trainer(Checkpoint(tmp_path / "second", every_n_steps=2, keep=1))
    with pytest.raises(CheckpointError, match=r"states of the callbacks \['Checkpoint#1'\]"):
        trainer.load(tmp_path / "foreign.pt")
    train(trainer, 6)
    assert victim.exists()
    assert steps_in(tmp_path / "second") == [6]


def test_only_files_of_its_own_names_are_deleted(tmp_path):
    others = ["step-00000001.pt.bak", "step-1.pt", "my-step-00000001.pt", "step-final.pt"]
    for name in others:
        (tmp_path / name).write_text("x")
    (tmp_path / name_of(0)).mkdir()
    train(make_trainer(Checkpoint(tmp_path, every_n_steps=1, keep=1)), 3)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {*others, name_of(0), name_of(3)}


def test_a_new_run_leaves_files_of_an_earlier_one(tmp_path):
    train(make_trainer(Checkpoint(tmp_path, every_n_steps=3, keep=9)), 12)
    callback = Checkpoint(tmp_path, every_n_steps=4, keep=1)
    assert callback.latest is None
    trainer = make_trainer(callback)
    for steps in (2, 4, 8):  # a second and a third `fit` are no resumes
        train(trainer, steps)
        assert callback.latest == tmp_path / name_of(steps)
    assert steps_in(tmp_path) == [3, 6, 8, 9, 12]


def test_going_back_forgets_the_later_files(tmp_path):
    callback = Checkpoint(tmp_path, every_n_steps=2, keep=2)
    trainer = train(make_trainer(callback), 8)
    trainer.load(tmp_path / name_of(6))
    train(trainer, 7)
    assert callback.latest == tmp_path / name_of(7)
    train(trainer, 10)
    assert steps_in(tmp_path) == [8, 10]


@pytest.mark.parametrize("last", [4, 6])
def test_files_that_a_kill_left_are_deleted_when_the_run_is_resumed(tmp_path, last):
    kept = Checkpoint(tmp_path, every_n_steps=1, keep=9)
    train(make_trainer(kept), 4)
    (tmp_path / f".vanillagan-{0:016x}.tmp").write_bytes(b"half")
    callback = Checkpoint(tmp_path, every_n_steps=1, keep=2)
    trainer = make_trainer(callback)
    callback.resume(trainer)
    assert len(list(tmp_path.glob("step-*"))) == 4
    if last == 4:  # nothing is left to train or to save
        with pytest.warns(UserWarning, match="nothing left to do"):
            train(trainer, last)
        assert len(list(tmp_path.glob("step-*"))) == 2
    else:
        train(trainer, last)
        assert steps_in(tmp_path) == [5, 6]


# -- Checkpoint: files that cannot be written ------------------------------------------------------


class FullFrom(Callback):
    """Fill the disk after a step, and free it after another one."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.stack = first, last, ExitStack()

    def on_step_end(self, trainer, result):
        if trainer.progress.step == self.first:
            self.stack.enter_context(full_disk(100))
        if trainer.progress.step == self.last:
            self.stack.close()

    def on_exception(self, trainer, error):
        self.stack.close()


def test_training_goes_on_with_a_warning_when_the_disk_is_full(tmp_path):
    callback = Checkpoint(tmp_path, every_n_steps=2, keep=1)
    trainer = make_trainer(FullFrom(3, 7), callback)
    with pytest.warns(UserWarning, match=r"not written: .*step-0000000[46]\.pt") as warned:
        train(trainer, 8)
    assert len(warned) == 2
    assert steps_in(tmp_path) == [8]


def test_the_first_and_the_last_checkpoint_raise_the_error(tmp_path):
    for steps, first in ((4, 1), (5, 3)):
        trainer = make_trainer(FullFrom(first, 9), Checkpoint(tmp_path, every_n_steps=2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(OSError, match=r"step-0000000[25]\.pt"):
                train(trainer, steps)
    assert steps_in(tmp_path) == [2]


def test_a_full_disk_stops_training_by_choice(tmp_path):
    trainer = make_trainer(FullFrom(3, 9), Checkpoint(tmp_path, every_n_steps=2))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "not written")
        with pytest.raises(UserWarning, match=r"step-00000004\.pt"):
            train(trainer, 8)
    assert steps_in(tmp_path) == [2]


def test_all_ranks_know_that_a_checkpoint_could_not_be_written(tmp_path, monkeypatch):
    callback = Checkpoint(tmp_path, every_n_steps=1, keep=1)
    trainer = train(make_trainer(callback), 2)

    def fail(function: Any) -> None:  # what rank 0 tells the others
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer.distributed, "rank", 1)
    monkeypatch.setattr(trainer.distributed, "on_rank_0", fail)
    trainer.progress.step = 3
    with pytest.warns(UserWarning, match="not written"):
        callback._save(trainer)
    assert callback.latest == tmp_path / name_of(2)


def test_latest_exists(tmp_path):
    callback = Checkpoint(tmp_path, every_n_steps=2)
    train(make_trainer(callback), 4)
    callback.latest.unlink()
    assert callback.latest == tmp_path / name_of(2)


def test_both_intervals_are_refused(tmp_path):
    with pytest.raises(ValueError, match="and only one of them, got 1 and 1"):
        Checkpoint(tmp_path, every_n_steps=1, every_n_epochs=1)


@pytest.mark.parametrize("name", ["every_n_steps", "every_n_epochs", "keep"])
def test_zero_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer, got 0"):
        Checkpoint(tmp_path, **{name: 0})


# -- Checkpoint: resuming --------------------------------------------------------------------------


def test_resume_continues_exactly_from_the_newest(tmp_path, capsys):
    whole = train(make_trainer(Checkpoint(tmp_path / "a", every_n_steps=2)), 9)
    train(make_trainer(Checkpoint(tmp_path / "b", every_n_steps=2)), 5)
    callback = Checkpoint(tmp_path / "b", every_n_steps=2)
    trainer = make_trainer(callback, weights=1)
    path = callback.resume(trainer)
    assert path == callback.latest == tmp_path / "b" / name_of(5)
    assert capsys.readouterr().out == f"resumed from {path}\n"
    assert snapshot(train(trainer, 9)) == snapshot(whole)
    assert steps_in(tmp_path / "b") == [6, 8, 9]


@pytest.mark.parametrize("folder", [".", "missing"])
def test_resume_without_a_checkpoint_changes_nothing(tmp_path, folder):
    (tmp_path / "other.pt").write_text("x")
    callback = Checkpoint(tmp_path / folder)
    trainer = make_trainer(callback)
    before = snapshot(trainer)
    assert callback.resume(trainer) is None
    assert snapshot(trainer) == before


def test_resume_skips_damaged_files(tmp_path):
    train(make_trainer(Checkpoint(tmp_path, every_n_steps=2)), 6)
    damaged = [tmp_path / name_of(6), tmp_path / name_of(8)]
    damaged[0].write_bytes(damaged[0].read_bytes()[:-1])
    damaged[1].write_bytes(b"")
    callback = Checkpoint(tmp_path, every_n_steps=2, keep=2)
    trainer = make_trainer(callback)
    with pytest.warns(UserWarning, match="its checksum does not match") as warned:
        assert callback.resume(trainer) == tmp_path / name_of(4)
    skipped = [str(warning.message).partition(":")[0] for warning in warned]
    assert skipped == [f"skipping {path}" for path in reversed(damaged)]
    assert trainer.progress.step == 4
    train(trainer, 8)
    assert steps_in(tmp_path) == [6, 8]
    assert Checkpoint(tmp_path).resume(make_trainer(Checkpoint(tmp_path))) == damaged[1]


def test_resume_takes_the_run_that_wrote_last(tmp_path):
    train(make_trainer(Checkpoint(tmp_path, every_n_steps=10, keep=9)), 30)
    train(make_trainer(Checkpoint(tmp_path, every_n_steps=10), weights=1), 12)
    callback = Checkpoint(tmp_path)
    assert callback.resume(make_trainer(callback)) == tmp_path / name_of(12)


def test_resume_refuses_a_checkpoint_that_does_not_fit(tmp_path):
    train(make_trainer(Checkpoint(tmp_path)), 2)
    callback = Checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="do not fit"):
        callback.resume(make_trainer(callback, hidden=(4,)))


def test_resume_loads_what_rank_0_chose(tmp_path, monkeypatch, capsys):
    train(make_trainer(Checkpoint(tmp_path, every_n_steps=2)), 4)
    trainer = make_trainer(Checkpoint(tmp_path))
    told = iter([(2, [2, 4]), checkpoint.read(tmp_path / name_of(2))])  # by rank 0
    monkeypatch.setattr(trainer.distributed, "rank", 1)
    monkeypatch.setattr(trainer.distributed, "on_rank_0", lambda function: next(told))
    assert trainer.callbacks[0].resume(trainer) == tmp_path / name_of(2)
    assert trainer.progress.step == 2
    assert capsys.readouterr().out == ""


# -- BestCheckpoint --------------------------------------------------------------------------------


def best(folder: Path, **options: Any) -> BestCheckpoint:
    return BestCheckpoint(folder / "best.pt", monitor="m", **options)


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("min", [3.0, 1.0, 2.0, 1.0], (1.0, 2)),
        ("max", [3.0, 1.0, 4.0, 2.0], (4.0, 3)),
        ("min", [math.nan, 2.0, math.nan, 3.0], (2.0, 2)),
        ("max", [math.nan, 2.0, math.nan, 1.0], (2.0, 2)),
        ("min", [math.inf, 5.0, -math.inf, 0.0], (-math.inf, 3)),
    ],
)
def test_the_best_value_is_saved(tmp_path, mode, values, expected):
    callback = best(tmp_path, mode=mode)
    train(make_trainer(callback, Record(*values)), 4)
    assert (callback.best_value, callback.best_step) == expected
    again = best(tmp_path, mode=mode)
    trainer = make_trainer(again, Record())
    trainer.load(callback.path)
    assert (again.best_value, again.best_step) == (expected[0], trainer.progress.step)


def test_nan_is_never_best(tmp_path):
    callback = best(tmp_path)
    train(make_trainer(callback, Record(*[math.nan] * 4)), 4)
    assert (callback.best_value, callback.best_step) == (None, None)
    assert not callback.path.exists()


def test_values_of_epoch_ends_and_fit_ends_count(tmp_path):
    steps: list[int | None] = []

    class AtEnds(Callback):
        priority = 1

        def on_epoch_end(self, trainer):
            trainer.history.record(trainer.progress.step, {"m": 2.0})

        def on_fit_end(self, trainer):
            trainer.history.record(trainer.progress.step, {"m": 1.0})

    callback = best(tmp_path)
    train(make_trainer(At(8, lambda _: steps.append(callback.best_step)), callback, AtEnds()), 8)
    assert [*steps, callback.best_step] == [7, 8]


@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_of_the_step_knows_the_best(tmp_path, first):
    callbacks = [Checkpoint(tmp_path, every_n_steps=2), best(tmp_path)]
    train(make_trainer(*callbacks[:: 1 if first else -1], Record(2.0, 1.0)), 2)
    again = best(tmp_path)
    make_trainer(Checkpoint(tmp_path), again, Record()).load(tmp_path / name_of(2))
    assert (again.best_value, again.best_step) == (1.0, 2)


def test_training_resumes_exactly_from_the_best(tmp_path):
    def make(folder: str) -> GANTrainer:
        schedule = LRSchedule(partial(ExponentialLR, gamma=0.5), interval="step")
        values = Record(3.0, 1.0, 2.0, 2.5, 2.5, 0.5)
        return make_trainer(best(tmp_path / folder), values, schedule)

    whole = train(make("a"), 5)
    resumed = make("b")
    resumed.load(tmp_path / "a" / "best.pt")
    assert resumed.progress.step == 2
    assert snapshot(train(resumed, 5)) == snapshot(whole)


def test_a_failed_save_leaves_the_best_as_it_was(tmp_path):
    (tmp_path / "file").touch()
    callback = best(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        train(make_trainer(callback, Record(1.0)), 1)
    assert (callback.best_value, callback.best_step) == (None, None)


def test_a_later_best_that_cannot_be_written_is_left_out(tmp_path):
    callback = best(tmp_path)
    trainer = make_trainer(FullFrom(2, 4), callback, Record(3.0, 2.0, 4.0, 5.0, 1.0))
    with pytest.warns(UserWarning, match=r"not written: .*best\.pt") as warned:
        train(trainer, 3)
    assert len(warned) == 1  # it is not tried again with the weights of step 3
    assert checkpoint.read(callback.path)["states"]["progress"]["step"] == 1
    train(trainer, 5)
    assert checkpoint.read(callback.path)["states"]["progress"]["step"] == 5


def test_a_new_run_forgets_the_best(tmp_path):
    callback = best(tmp_path)
    for value in (1.0, 5.0):
        train(make_trainer(callback, Record(value)), 1)
        assert (callback.best_value, callback.best_step) == (value, 1)


def test_a_metric_that_nobody_records_is_warned_of(tmp_path):
    callback = BestCheckpoint(tmp_path / "best.pt", monitor="fid")
    with pytest.warns(UserWarning, match=r"`monitor` is 'fid', but .* metrics \['m'\]"):
        train(make_trainer(callback, Record()), 1)


def test_a_bad_monitor_or_mode_is_refused(tmp_path):
    with pytest.raises(TypeError, match="`monitor` must be the name of a metric, got 1"):
        BestCheckpoint(tmp_path, monitor=1)
    with pytest.raises(ValueError, match="`mode` must be one of 'min', 'max', got 'least'"):
        best(tmp_path, mode="least")


@pytest.mark.parametrize("monitor", ["frechett", "frechett.mean"])
def test_a_misspelt_monitor_is_warned_of_when_training_begins(tmp_path, monitor):
    log = MetricLog({"frechet": lambda fake: fake.mean()}, num_samples=4, every_n_epochs=1)
    callback = BestCheckpoint(tmp_path / "best.pt", monitor=monitor)
    with pytest.warns(
        UserWarning, match=r"`monitor` is 'frechett.* \(did you mean 'frechet'"
    ) as seen:
        callback.on_fit_start(make_trainer(callback, log))
    assert len(seen) == 1


@pytest.mark.parametrize("monitor", ["frechet", "frechet.mean", "health/coverage"])
def test_other_monitors_bring_no_warning(tmp_path, monitor, recwarn):
    log = MetricLog({"frechet": lambda fake: fake.mean()}, num_samples=4, every_n_epochs=1)
    callback = BestCheckpoint(tmp_path / "best.pt", monitor=monitor)
    callback.on_fit_start(make_trainer(callback, log))
    assert not recwarn.list
