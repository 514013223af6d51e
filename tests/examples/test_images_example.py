"""The example of a folder of images, and the photographs that it cuts up by default."""

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
def photographs() -> dict[str, Any]:
    return load_example("photographs")


@pytest.fixture(scope="module")
def images() -> dict[str, Any]:
    return load_example("images")


# -- crops of photographs


def test_crops_take_photographs_in_turn_by_seed(photographs):
    photo_crops = photographs["photo_crops"]
    data = photo_crops(20, size=(6, 8), seed=3)
    assert data.images.shape == (20, 3, 6, 8)
    assert data.labels.tolist() == [number % 8 for number in range(20)]
    assert torch.equal(data.images, photo_crops(20, size=(6, 8), seed=3).images)
    assert not torch.equal(data.images, photo_crops(20, size=(6, 8), seed=4).images)


def replace_photographs(monkeypatch, photographs, pixels):
    names = photographs["photo_crops"].__globals__
    monkeypatch.setitem(names, "photographs", lambda names: [pixels])


@pytest.mark.parametrize("shape", [(300, 451), (512, 512), (91, 60)])
def test_training_and_held_out_crops_share_no_pixel(monkeypatch, photographs, shape):
    held_out = np.zeros((*shape, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * 3 // side for side in shape)
    held_out[rows[:, None] == columns] = 255
    replace_photographs(monkeypatch, photographs, held_out)
    photo_crops = photographs["photo_crops"]
    assert photo_crops(200, size=(40, 40)).images.max() == 0
    assert photo_crops(50, size=(40, 40), train=False).images.min() == 255


@pytest.mark.parametrize("size", [(10, 20), (20, 10), (16, 16), (1, 40)])
def test_crops_of_any_shape_are_not_distorted(monkeypatch, photographs, size):
    down, right = np.indices((960, 960)) // 4
    replace_photographs(monkeypatch, photographs, np.stack([down, right, down], 2).astype(np.uint8))
    for image in photographs["photo_crops"](10, size=size).images.float():
        steps = [(image[axis].amax() - image[axis].amin()) / (size[axis] - 1) for axis in (0, 1)
                 if size[axis] > 1]  # fmt: skip
        assert max(steps) - min(steps) < 0.4
        assert 140 < float(max(steps)) * max(size) * 4 < 260  # a sixth to a quarter of 960


def test_crops_have_the_colors_of_their_photograph(photographs):
    data = photographs["photo_crops"](80, size=(8, 8))
    means = [data.images[data.labels == label].float().mean((0, 2, 3)) for label in range(8)]
    by_name = dict(zip(photographs["PHOTOGRAPHS"], means, strict=True))
    assert by_name["hubble_deep_field"].max() < 60  # night
    assert by_name["retina"][0] > 2 * by_name["retina"][2]  # red


@pytest.mark.parametrize("package", ["skimage", "sklearn"])
def test_without_a_package_the_error_names_the_extra(monkeypatch, photographs, package):
    for name in (package, f"{package}.data", f"{package}.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vanillagan\[examples\]'"):
        photographs["photo_crops"](8)


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
    names = ["data.png", "neighbors.png", "film_strip.png", "images/0.png", "images/10.png"]
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


def test_without_a_folder_photographs_are_cropped(tmp_path):
    run = run_here(example("--steps", 2, out=tmp_path))
    assert run.code == 0
    assert "Data: 4,000 crops of eight photographs" in run.printed
    assert "training compared with held-out" in run.printed


def test_pictures_are_drawn_from_all_of_the_data(images):
    data = ByteImages(torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1))
    some = images["pixels"](data, 60)
    assert torch.equal(some, images["pixels"](data, 60))
    assert len(some.unique()) == 60
    assert min((some < 0).sum(), (some >= 0).sum()) > 10
    assert len(images["pixels"](data, 900).unique()) == 200


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
