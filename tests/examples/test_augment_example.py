"""The example of data augmentation by a conditional GAN."""

from __future__ import annotations

import json
import re
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.helpers.digits import write_mnist
from tests.helpers.scripts import Run, load_example, run_here
from vanillagan import Batch
from vanillagan.data import ByteImages
from vanillagan.datasets import mnist

pytestmark = pytest.mark.slow

SCRIPT = "examples/augment.py"
SHORT = ["--steps", "10", "--per-class", "6", "--classifier-steps", "2"]
ROWS = [
    "real",
    "real + synthetic",
    "classical",
    "classical + synthetic",
    "classical + accepted",
    "synthetic",
]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return load_example("augment")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small mnist")
    write_mnist(root, train=60, test=20)
    return root


@pytest.fixture(scope="module")
def finished(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("augment")
    options = [*SHORT, "--sizes", "20", "50", "--seeds", "0", "3"]
    return out, run_here([SCRIPT, *options, "--data", str(digits), "--out", str(out)])


def test_a_run_ends_well_and_names_its_data(finished, digits):
    _, run = finished
    assert run.code == 0
    assert f"Data: the 60 MNIST digits under {digits}; tested on 20 others\n" in run.printed


def test_all_errors_and_a_picture_per_size_are_saved(finished):
    out, _ = finished
    assert {path.name for path in out.iterdir()} == {"20.png", "50.png", "results.json"}
    results = json.loads((out / "results.json").read_text())
    runs = [(result["size"], result["seed"], result["row"]) for result in results]
    assert runs == list(product([20, 50], [0, 3], ROWS))
    assert all(0 <= result["error"] <= 100 for result in results)
    with Image.open(out / "20.png") as picture:
        assert picture.size == (3 * (8 * 86 + 2) + 2 * 12, 48 + 10 * 86 + 2)


def test_the_table_shows_mean_and_spread_over_seeds(finished):
    out, run = finished
    results = json.loads((out / "results.json").read_text())
    for row in ROWS:
        line = next(
            line for line in run.printed.splitlines() if re.match(rf"{re.escape(row)}  +\d", line)
        )
        shown = [float(word) for word in re.findall(r"\d+\.\d+", line)]
        expected = []
        for size in (20, 50):
            errors = [r["error"] for r in results if (r["size"], r["row"]) == (size, row)]
            expected += [np.mean(errors), np.std(errors, ddof=1)]
        assert shown == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ([4, 4, 3], "-27 %, lower for 3 of 3 seeds"),
        ([1, 5, 6], "-20 %, lower for 1 of 3 seeds"),
        ([4, 4, 8], "+7 %, lower for 2 of 3 seeds"),
    ],
)
def test_the_change_by_synthetic_digits_is_printed(example, capsys, after, change):
    errors = {"real": [5, 5, 5], "classical": [5, 5, 5]}
    results = [
        {"size": 500, "seed": seed, "row": row, "error": errors.get(row, after)[seed]}
        for seed, row in product(range(3), ROWS)
    ]
    example["print_changes"](results)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1 + 3  # shifts and rotations alone are not a change by synthetic digits
    assert all(line.endswith(change) for line in lines[1:])


def test_digits_are_drawn_by_seed_and_class(example, digits):
    data = mnist(digits)
    first, again, other = (example["draw"](data, 30, seed) for seed in (1, 1, 2))
    assert first.labels.bincount().tolist() == [3] * 10
    assert torch.equal(first.samples, again.samples)
    assert not torch.equal(first.samples, other.samples)
    assert len(first.samples.unique(dim=0)) == 30


def test_a_value_given_twice_is_one_run(example, monkeypatch):
    words = [SCRIPT, "--sizes", "500", "20", "500", "--seeds", "1", "0", "1"]
    monkeypatch.setattr(sys, "argv", words)
    options = example["parse_options"]()
    assert (options.sizes, options.seeds) == ([500, 20], [1, 0])


def test_all_sizes_are_checked_before_training(digits, tmp_path):
    words = [SCRIPT, "--sizes", "20", "70", "--data", str(digits), "--out", str(tmp_path / "out")]
    run = run_here(words)
    assert run.code.startswith("error: `--sizes` must be at most 60, got 70")
    assert "real digits" not in run.printed
    assert not (tmp_path / "out").exists()


def test_without_a_test_set_digits_are_held_out(example, monkeypatch, tmp_path):
    numbers = torch.arange(1200)
    images = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8).view(-1, 1, 1, 2)
    stand_in = ByteImages(images, numbers % 10)
    load = example["load"]
    monkeypatch.setitem(load.__globals__, "mnist_or_5000", lambda folder: (stand_in, "digits"))
    data, test, which = load(tmp_path)
    assert which == "digits; tested on 1,000 others"
    both = torch.cat([data.images, test.images])
    assert (len(data), len(test), len(both.unique(dim=0))) == (200, 1000, 1200)
    assert torch.equal(load(tmp_path)[1].images, test.images)


def place_of(images: Tensor) -> np.ndarray:
    """Return the center of each image's light, in pixels from the image's center: right, down."""
    light = (images[:, 0] + 1).double().numpy()
    axis = np.arange(light.shape[1]) - (light.shape[1] - 1) / 2
    total = light.sum((1, 2))
    return np.stack([(light.sum(1) @ axis) / total, (light.sum(2) @ axis) / total], 1)


def spot(right: int) -> Tensor:
    images = torch.full((500, 1, 28, 28), -1.0)
    images[:, :, 12:16, 12 + right : 16 + right] = 1.0
    return images


def test_jitter_shifts_by_at_most_two_pixels(example, monkeypatch):
    monkeypatch.setitem(example["jittered"].__globals__, "DEGREES", 0.0)
    moved = example["jittered"](spot(0))
    assert moved.shape == (500, 1, 28, 28)
    assert moved.min() == -1
    reach = np.abs(place_of(moved)).max(0)
    assert np.all((reach > 1.9) & (reach <= 2.0 + 1e-4))


def test_jitter_rotates_by_at_most_15_degrees(example, monkeypatch):
    monkeypatch.setitem(example["jittered"].__globals__, "SHIFT", 0.0)
    right, down = place_of(example["jittered"](spot(8))).T
    np.testing.assert_allclose(np.hypot(right, down), 8, atol=0.1)
    degrees = np.degrees(np.arctan2(down, right))
    assert 14 < degrees.max() < 15.2
    assert -15.2 < degrees.min() < -14


def test_all_inputs_of_the_discriminator_are_jittered(
    example,
):
    seen = []
    real = Batch(torch.rand(10, 1, 28, 28) * 2 - 1, torch.arange(10))
    trainer = example["train_gan"](real, steps=1, seed=0)
    trainer.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    before = [weight.clone() for weight in trainer.generator.parameters()]
    trainer.progress.step = 0  # a step with the penalty
    trainer.train_step(real)
    assert len(seen) == 3
    shown = torch.cat(seen).flatten(1)
    assert torch.cdist(shown, real.samples.flatten(1)).min() > 0.1
    pairs = zip(before, trainer.generator.parameters(), strict=True)
    assert all(not torch.equal(*pair) for pair in pairs)


def test_batches_have_the_share_of_synthetic_digits(example):
    real, synthetic, accepted = (Batch(torch.full((1,), v)) for v in (0.0, 1.0, 2.0))
    rows = example["mixes"](real, synthetic, accepted, share=0.2)
    fed = {row: ([(int(d.samples), n) for d, n in parts], c) for row, (parts, c) in rows.items()}
    assert fed == {
        "real": ([(0, 100)], False),
        "real + synthetic": ([(0, 80), (1, 20)], False),
        "classical": ([(0, 100)], True),
        "classical + synthetic": ([(0, 80), (1, 20)], True),
        "classical + accepted": ([(0, 80), (2, 20)], True),
        "synthetic": ([(1, 100)], False),
    }


def test_a_run_is_repeatable(digits, finished, tmp_path):
    options = [*SHORT, "--sizes", "20", "--seeds", "3"]
    run_here([SCRIPT, *options, "--data", str(digits), "--out", str(tmp_path)])
    again = json.loads((tmp_path / "results.json").read_text())
    before = json.loads((finished[0] / "results.json").read_text())
    assert again == [r for r in before if (r["size"], r["seed"]) == (20, 3)]


def test_an_interrupted_run_exits_with_130(digits, tmp_path):
    words = [SCRIPT, *SHORT, "--sizes", "20", "--data", str(digits), "--out", str(tmp_path)]
    run = run_here(words, interrupt=True)
    assert run.code == 130
    assert run.printed.endswith("\nInterrupted\n")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--sizes", "25"], 2, "argument --sizes: must be a positive multiple of 10, got 25"),
        (["--share", "0.001"], 2, "--share: must be a number in [0.01, 0.99], got 0.001"),
        (["--device", "nowhere"], 1, "error: `device` must be a device that is available here"),
        (["--sizes", "70"], 1, "error: `--sizes` must be at most 60, got"),
    ],
)
def test_a_wrong_option_is_explained(digits, tmp_path, options, code, message):
    run = run_here([SCRIPT, *options, "--data", str(digits), "--out", str(tmp_path)])
    assert message in (run.printed if code == 2 else run.code)
    assert "Traceback" not in run.printed
