"""Paths that begin with `~`."""

from __future__ import annotations

from tests.helpers.callbacks import train
from tests.helpers.trainers import make_trainer
from vanillagan import load_generator
from vanillagan.callbacks import BestCheckpoint, Checkpoint, CSVLog, SampleGrid, TensorBoardLog
from vanillagan.datasets import image_folder


def test_no_folder_of_the_name_tilde_is_made(monkeypatch, tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    grid = SampleGrid("~/grids")
    trainer = make_trainer(
        BestCheckpoint("~/best.pt", monitor="m"),
        Checkpoint("~/run"),
        CSVLog("~/log.csv", every_n_steps=1),
        TensorBoardLog("~/events"),
        grid,
        shape=(1, 4, 4),
    )
    trainer.history.record(0, {"m": 1.0})
    train(trainer)
    trainer.save("~/last.pt")
    trainer.load("~/last.pt")
    grid.film_strip("~/strip.png")
    load_generator("~/last.pt")
    assert len(image_folder("~/grids", size=4)) == 2
    assert list(here.iterdir()) == []
    names = {"best.pt", "events", "grids", "last.pt", "log.csv", "run", "strip.png"}
    assert {path.name for path in home.iterdir()} == names
