"""CSVLog and TensorBoardLog."""

from __future__ import annotations

import csv
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.callbacks import Record, train
from tests.helpers.trainers import make_trainer as make_trainer_of
from vanillagan import Callback
from vanillagan.callbacks import CSVLog, TensorBoardLog
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


def test_a_new_run_replaces_the_file(tmp_path):
    for _ in range(2):
        train(make_trainer(CSVLog(tmp_path / "log.csv", every_n_steps=2)))
    assert [row["step"] for row in rows_of(tmp_path / "log.csv")] == ["2", "4"]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_losses_and_logits(tmp_path):
    trainer = train(make_trainer(TensorBoardLog(tmp_path, every_n_steps=2)), 2)
    points = read_events(tmp_path)
    tags = {"discriminator_loss", "generator_loss", "real_logit", "fake_logit"}
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
