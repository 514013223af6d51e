"""Common options of the examples, errors, Ctrl-C, resuming."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.scripts import ROOT, load_example, run_here
from vanillagan import GANTrainer
from vanillagan.callbacks import Checkpoint

RUNS = ("augment", "images", "mixtures", "mnist", "paper", "restore", "text")


@pytest.fixture(scope="module")
def common() -> dict[str, Any]:
    return load_example("common")


@pytest.mark.parametrize("name", RUNS)
def test_all_examples_have_the_same_options(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"examples/{name}.py"])
    options = load_example(name)["parse_options"]()
    assert options.out == Path("runs", *([name, "grammar"] if name == "text" else [name]))
    assert options.device is None
    assert getattr(options, "seed", 0) == 0
    assert getattr(options, "seeds", [0]) == [0]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--seed", "-1"], 2, "`seed` must be a non-negative integer, got -1"),
        (["--seed", str(2**63)], 2, "`seed` must be at most 9223372036854775807, got"),
        (["--seed", "one"], 2, "argument --seed"),
        (["--no-such-option"], 2, "unrecognized arguments: --no-such-option"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_explained(name, options, code, message):
    run = run_here([f"examples/{name}.py", *options])
    assert run.code == code
    assert message in run.printed
    assert "Traceback" not in run.printed


@pytest.mark.parametrize("name", RUNS)
def test_no_example_is_longer_than_300_lines(name):
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("too few"), "error: too few"),
        (FileNotFoundError("nowhere"), "error: nowhere"),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_of_users_have_no_traceback(common, error, code):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        common["run"](main)
    assert ended.value.code == code


def test_errors_of_the_program_have_a_traceback(common):
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        common["run"](main)


def test_a_stopped_run_prints_how_to_resume(common, make_trainer, monkeypatch, capsys):
    trainer = make_trainer()
    common["exit_if_stopped"](trainer)
    trainer.stop("SIGINT")
    for words in (["a b.py", "--steps", "3"], ["a b.py", "--resume", "--steps", "3"]):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            common["exit_if_stopped"](trainer)
        assert ended.value.code == 130
        assert "  python 'a b.py' --steps 3 --resume\n" in capsys.readouterr().out


def test_a_new_run_refuses_checkpoints_of_another(common, make_trainer, tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoints", every_n_steps=1)
    trainer = make_trainer(checkpoint)
    common["start_or_resume"](trainer, checkpoint, resume=False)
    trainer.save(tmp_path / "checkpoints" / "step-00000002.pt")
    with pytest.raises(ValueError, match="checkpoints of an earlier run: pass --resume"):
        common["start_or_resume"](trainer, checkpoint, resume=False)
    common["start_or_resume"](trainer, checkpoint, resume=True)


def options(**values: Any) -> argparse.Namespace:
    return argparse.Namespace(**values)


def test_a_run_is_resumed_with_the_options_that_it_had(common, make_trainer, tmp_path):
    def start(resume: bool, **values: Any) -> GANTrainer:
        fixed = common["RunOptions"](options(**values), *values)
        checkpoint = Checkpoint(tmp_path / "checkpoints", every_n_steps=1)
        trainer = make_trainer(checkpoint, fixed)
        common["start_or_resume"](trainer, checkpoint, resume=resume)
        return trainer

    before = {
        "recipe": "stable",
        "latent_dim": 8,
        "lr": None,
        "no_flip": False,
        "corpus": Path("a"),
    }
    start(False, **before).fit(torch.rand(8, 2) * 2 - 1, max_steps=2)
    assert start(True, **before).progress.step == 2
    message = (
        r"step-00000002.pt is of a run with --recipe stable, --lr not given, --no-flip not given, "
        r"but this one has --recipe conv, --lr 0.1, --no-flip: resume it with the same options"
    )
    with pytest.raises(ValueError, match=message):
        start(True, **before | {"recipe": "conv", "lr": 0.1, "no_flip": True})


def test_a_damaged_checkpoint_is_left_to_resume(common, make_trainer, tmp_path):
    fixed = common["RunOptions"](options(seed=0), "seed")
    checkpoint = Checkpoint(tmp_path, every_n_steps=1)
    trainer = make_trainer(checkpoint, fixed)
    trainer.fit(torch.rand(8, 2) * 2 - 1, max_steps=2)
    (tmp_path / "step-00000003.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="skipping"):
        common["start_or_resume"](trainer, checkpoint, resume=True)
    assert trainer.progress.step == 2
