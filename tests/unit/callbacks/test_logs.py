"""CSVLog and TensorBoardLog."""

from __future__ import annotations

import csv
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.callbacks import At, Record, train
from tests.helpers.disk import full_disk
from tests.helpers.trainers import make_trainer as make_trainer_of
from vanillagan import R1, Callback
from vanillagan.callbacks import Checkpoint, CSVLog, TensorBoardLog
from vanillagan.errors import MissingExtraError

make_trainer = partial(make_trainer_of, shape=(1, 4, 4))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_hold_losses_and_mean_logits(tmp_path):
    class Keep(Callback):
        def on_step_end(self, trainer, result):
            results[trainer.progress.step] = result

    results: dict[int, Any] = {}
    path = tmp_path / "new" / "log.csv"
    train(make_trainer(CSVLog(path, every_n_steps=3), Keep()), 2)
    rows = rows_of(path)
    assert [(row["step"], row["epoch"]) for row in rows] == [("3", "0"), ("6", "1")]
    for row in rows:
        result = results[int(row["step"])]
        assert float(row["discriminator_loss"]) == float(result.discriminator.loss)
        assert float(row["generator_loss"]) == float(result.generator.loss)
        assert float(row["real_logit"]) == pytest.approx(
            result.discriminator.real_logits.mean().item()
        )
        assert float(row["fake_logit"]) == pytest.approx(
            result.discriminator.fake_logits.mean().item()
        )


def test_rows_can_be_read_during_the_run(tmp_path):
    class Reader(Callback):
        priority = 3

        def on_step_end(self, trainer, result):
            lengths.append(len(rows_of(tmp_path / "log.csv")))

    lengths: list[int] = []
    train(make_trainer(CSVLog(tmp_path / "log.csv", every_n_steps=1), Reader()))
    assert lengths == [1, 2, 3, 4]


def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path):
    """Rows after the checkpoint are removed."""
    whole, halves = tmp_path / "whole.csv", tmp_path / "halves.csv"
    train(make_trainer(CSVLog(whole, every_n_steps=1)), 2)
    interrupted = make_trainer(CSVLog(halves, every_n_steps=1))
    train(interrupted, max_steps=3)
    interrupted.save(tmp_path / "run.pt")
    train(interrupted, max_steps=6)
    resumed = make_trainer(CSVLog(halves, every_n_steps=1))
    resumed.load(tmp_path / "run.pt")
    train(resumed, 2)
    assert halves.read_text() == whole.read_text()


def resumed_after(path: Path, damage: Any) -> list[dict[str, str]]:
    """Return the rows of a run of 8 steps that is resumed at step 6, after damage to the table."""
    first = train(make_trainer(CSVLog(path, every_n_steps=1)), max_steps=6)
    first.save(path.with_name("run.pt"))
    path.write_bytes(damage(path.read_bytes()))
    second = make_trainer(CSVLog(path, every_n_steps=1))
    second.load(path.with_name("run.pt"))
    train(second, 2)
    return rows_of(path)


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda table: table[:-3], [6]),  # half a row, as of 0.0002
        (lambda table: table[:-40], [6]),
        (lambda table: table + b"\0" * 20, []),  # what a power failure leaves
        (lambda table: table + b"\0" * 500_000, []),
        (lambda table: table + b'7,0,"\xff\xff', []),
        (lambda table: table.replace(b"\n4,", b"\n\0\0"), [4]),
        (lambda table: table.replace(b"\n4,", b"\n4,x"), [4]),
        (lambda table: table.replace(b"\n4,", b"\n4,4,"), [4]),
        (lambda table: table.replace(b"\n4,", b"\n\n4,"), []),
    ],
)
def test_rows_that_cannot_be_read_are_cut_off_and_the_others_kept(tmp_path, damage, lost):
    with pytest.warns(UserWarning, match=r"log\.csv: left out 1 lines that cannot be read"):
        rows = resumed_after(tmp_path / "log.csv", damage)
    assert [int(row["step"]) for row in rows] == [step for step in range(1, 9) if step not in lost]
    assert all(row["generator_lr"] == "0.0002" for row in rows)


def test_an_empty_table_is_continued(tmp_path):
    rows = resumed_after(tmp_path / "log.csv", lambda table: b"")
    assert [row["step"] for row in rows] == ["7", "8"]


def test_rows_are_kept_if_the_table_cannot_be_replaced(tmp_path, monkeypatch):
    """As if it was killed there."""
    path = tmp_path / "log.csv"
    first = train(make_trainer(CSVLog(path, every_n_steps=1)), max_steps=6)
    first.save(tmp_path / "run.pt")
    before = path.read_bytes()
    second = make_trainer(CSVLog(path, every_n_steps=1))
    second.load(tmp_path / "run.pt")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=str(path)):
        train(second, 2)
    assert path.read_bytes() == before


def test_a_metric_that_the_checkpoint_has_not_yet_has_one_row(tmp_path):
    path = tmp_path / "log.csv"

    def make() -> Any:
        return make_trainer(Record(*range(9)), CSVLog(path, every_n_steps=3))

    trainer = make()
    trainer.callbacks[0].on_step_end = lambda *_: None
    train(trainer, max_steps=3)
    trainer.save(tmp_path / "run.pt")
    # recorded and written after the checkpoint, of its last step
    trainer.history.record(3, {"m": 2.0})
    trainer.callbacks[1].on_fit_start(trainer)
    trainer.callbacks[1].on_fit_end(trainer)
    resumed = make()
    resumed.load(tmp_path / "run.pt")
    resumed.history.record(3, {"m": 2.0})
    train(resumed, max_steps=4)
    rows = [(row["step"], row["m"]) for row in rows_of(path)]
    assert rows == [("3", ""), ("3", "2.0"), ("4", "3.0")]


def test_training_goes_on_if_rows_cannot_be_written(tmp_path):
    path = tmp_path / "log.csv"
    log = CSVLog(path, every_n_steps=1)
    with ExitStack() as stack:
        fill = At(2, lambda _: stack.enter_context(full_disk(path.stat().st_size + 20)))
        free = At(5, lambda _: stack.close())
        with pytest.warns(UserWarning, match=r"not written: .*log\.csv: File too large"):
            train(make_trainer(fill, free, log), max_steps=8)
    rows = rows_of(path)
    assert {"1", "2", "6", "7", "8"} <= {row["step"] for row in rows}
    assert all(row["generator_lr"] == "0.0002" for row in rows)


def test_the_row_of_a_step_is_written_before_its_checkpoint(tmp_path):
    log, checkpoint = CSVLog(tmp_path / "log.csv"), Checkpoint(tmp_path)
    assert log.priority < checkpoint.priority
    assert TensorBoardLog.priority < checkpoint.priority


def test_a_new_run_replaces_the_file(tmp_path):
    for _ in range(2):
        train(make_trainer(CSVLog(tmp_path / "log.csv", every_n_steps=2)))
    assert [row["step"] for row in rows_of(tmp_path / "log.csv")] == ["2", "4"]


def events_of(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = events_of(folder)
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_losses_and_logits(tmp_path):
    trainer = train(make_trainer(TensorBoardLog(tmp_path, every_n_steps=2)), 2)
    points = read_events(tmp_path)
    tags = {"discriminator_loss", "generator_loss", "real_logit", "fake_logit"}
    tags |= {"generator_lr", "discriminator_lr"}
    assert set(points) == tags
    assert all([step for step, _ in points[tag]] == [2, 4, 6, 8] for tag in tags)
    losses = trainer.history.generator_loss
    assert points["generator_loss"] == [(step, losses[step - 1]) for step in (2, 4, 6, 8)]


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    interrupted = make_trainer(TensorBoardLog(tmp_path / "events", every_n_steps=1))
    train(interrupted, max_steps=3)
    interrupted.save(tmp_path / "run.pt")
    train(interrupted, max_steps=6)
    resumed = make_trainer(TensorBoardLog(tmp_path / "events", every_n_steps=1))
    resumed.load(tmp_path / "run.pt")
    train(resumed, 2)
    points = read_events(tmp_path / "events")["generator_loss"]
    assert points == list(enumerate(resumed.history.generator_loss, start=1))


def test_tensorboard_gets_each_metric_once(tmp_path):
    log = TensorBoardLog(tmp_path, every_n_steps=3)
    trainer = make_trainer(log, Record(5.0, 4.0, 3.0, 2.0, 1.0))
    for steps in (4, 5):
        train(trainer, max_steps=steps)
    assert read_events(tmp_path)["m"] == [(step, 6.0 - step) for step in range(1, 6)]


def test_a_missing_tensorboard_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vanillagan\[tensorboard\]'"):
        TensorBoardLog("events")


def test_rows_hold_penalty_learning_rates_and_metrics(tmp_path):
    class Metric(Callback):
        def on_step_end(self, trainer, result):
            if trainer.progress.step in (3, 4):
                trainer.history.record(trainer.progress.step, {"m": trainer.progress.step / 2})

    path = tmp_path / "log.csv"
    options = {"penalties": [R1(0.5, every=4)], "lr_schedule": lambda done: 0.5}
    train(make_trainer(CSVLog(path, every_n_steps=2), Metric(), **options), 2)
    rows = rows_of(path)
    assert [row["step"] for row in rows] == ["2", "3", "4", "6", "8"]
    assert [row["m"] for row in rows] == ["", "1.5", "2.0", "", ""]
    assert [bool(row["generator_loss"]) for row in rows] == [True, False, True, True, True]
    assert [row["generator_lr"] for row in rows] == ["0.0001", "", "0.0001", "0.0001", "0.0001"]
    assert not any(row["penalty"] for row in rows)  # step 5 has the second one
    train(make_trainer(CSVLog(path, every_n_steps=1), **options), 2)
    assert [bool(row["penalty"]) for row in rows_of(path)] == [True, False, False, False] * 2


def test_metrics_after_the_last_row_survive_a_resume(tmp_path):
    def make() -> Any:
        return make_trainer(CSVLog(tmp_path / "log.csv", every_n_steps=2), Record(*range(9)))

    trainer = make()
    train(trainer, max_steps=3)
    trainer.save(tmp_path / "run.pt")
    whole = rows_of(tmp_path / "log.csv")
    # a killed process writes no more rows
    lines = (tmp_path / "log.csv").read_text().splitlines(keepends=True)
    (tmp_path / "log.csv").write_text("".join(lines[:-1]))
    resumed = make()
    resumed.load(tmp_path / "run.pt")
    train(resumed, max_steps=4)
    assert rows_of(tmp_path / "log.csv")[: len(whole) - 1] == whole[:-1]
    assert [row["m"] for row in rows_of(tmp_path / "log.csv")][2] == whole[2]["m"]


def test_tensorboard_gets_images_and_the_writer_is_public(tmp_path):
    class Extra(Callback):
        def on_step_end(self, trainer, result):
            log.writer.add_scalar("mine", 1.0, trainer.progress.step)

    log = TensorBoardLog(tmp_path, every_n_steps=10, images_every_n_steps=2)
    train(make_trainer(log, Extra()), 1)
    events = events_of(tmp_path)
    assert [event.step for event in events.Images("samples")] == [2, 4]
    assert len(events.Scalars("mine")) == 4
    assert log.writer is None
    points = make_trainer_of(TensorBoardLog(tmp_path, images_every_n_steps=1))
    with pytest.raises(ValueError, match="`images_every_n_steps` must be None"):
        points.fit(torch.zeros(8, 2), max_steps=1)
