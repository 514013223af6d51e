"""The example of repair: short runs, and a user's photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.helpers.digits import write_mnist
from tests.helpers.scripts import Run, load_example, run_here

pytestmark = pytest.mark.slow

SCRIPT = "examples/restore.py"


def run(*options: Any) -> Run:
    return run_here([SCRIPT, *map(str, options)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    torch.set_num_threads(1)
    data, out = (tmp_path_factory.mktemp(name) for name in ("digits", "out"))
    write_mnist(data, train=600)
    return out, run("--data", data, "--only", "digits", "--quick", "--out", out)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("old")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    mask = np.zeros((70, 100), dtype=np.uint8)
    mask[30:33] = 255
    Image.fromarray(pixels).save(folder / "old.png")
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(mask[:60]).save(folder / "small.png")
    Image.fromarray(np.zeros_like(mask)).save(folder / "black.png")
    Image.fromarray(np.full_like(mask, 255)).save(folder / "white.png")
    return folder, folder / "old.png", pixels


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ([], "runs/restore"),
        (["--quick"], "runs/restore-quick"),
        (["--quick", "--out", "here"], "here"),
    ],
)
def test_a_quick_run_has_a_folder_of_its_own(options, out):
    assert load_example("restore")["parse_options"](options).out == Path(out)


def test_digits_are_shown_before_damaged_and_after(finished):
    out, printed = finished
    assert printed.code == 0
    for name in ("box", "lost", "scratches", "noise", "fading", "blur"):
        assert str(out / f"digits_{name}.png") in printed.printed
        with Image.open(out / f"digits_{name}.png") as picture:
            assert picture.size == (10 * 86 + 2, 3 * (48 + 86 + 2))


def test_a_trained_network_is_used_again(finished):
    out, first = finished
    data = data_of(first)
    again = run("--data", data, "--only", "digits", "--quick", "--resume", "--out", out)
    assert again.code == 0
    assert "Training on" in first.printed
    assert "Training on" not in again.printed


def data_of(run: Run) -> str:
    return run.printed.split(" MNIST digits under ")[1].split(",")[0]


def test_held_out_digits_do_not_depend_on_the_seed(finished, tmp_path):
    first, printed = finished
    words = ["--data", data_of(printed), "--only", "digits", "--quick", "--seed", 1]
    assert run(*words, "--out", tmp_path).code == 0
    before = [np.asarray(Image.open(out / "digits_box.png"))[:136] for out in (first, tmp_path)]
    assert np.array_equal(*before)


def test_a_photograph_is_repaired_where_masked(photograph, tmp_path):
    folder, image, pixels = photograph
    options = ["--image", image, "--mask", folder / "mask.png", "--quick", "--out", tmp_path]
    assert run(*options).code == 0
    with Image.open(tmp_path / "restored_after.png") as picture:
        after = np.asarray(picture)
    assert after.shape == pixels.shape
    known = np.ones(70, dtype=bool)
    known[30:33] = False
    assert np.abs(after[known].astype(int) - pixels[known]).max() <= 1
    assert after[~known].std() < pixels[~known].std()
    with Image.open(tmp_path / "restored.png") as picture:
        assert picture.size == (3 * (100 + 4) + 2 * 12, 30 + 70 + 4)


def test_a_photograph_is_read_as_viewers_show_it(tmp_path):
    read = load_example("restore")["read_photograph"]
    depth = np.random.default_rng(0).integers(0, 2**16, (40, 50), dtype=np.uint16)
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[3] = 255
    right = Image.Exif()
    right[ExifTags.Base.Orientation] = 6  # to be turned to the right
    Image.fromarray(depth).save(tmp_path / "deep.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask).save(tmp_path / "turned.png", exif=right)
    Image.merge("RGBA", [Image.new("L", (40, 50), 0)] * 4).save(tmp_path / "clear.png")

    pixels, damaged = read(tmp_path / "deep.png", tmp_path / "mask.png")
    np.testing.assert_allclose(pixels[1], depth / 65535 * 2 - 1, atol=0.01)
    assert np.array_equal(damaged[0], mask > 0)
    pixels, damaged = read(tmp_path / "clear.png", tmp_path / "turned.png")
    assert (pixels == 1).all()
    assert np.array_equal(damaged[0], np.rot90(mask > 0, -1))


@pytest.mark.parametrize(
    ("mask", "more", "message"),
    [
        (
            "small.png",
            [],
            "error: the mask must have the size of the photograph, 100 x 70",
        ),
        ("none.png", [], "error: [Errno 2] No such file"),
        ("black.png", [], "black.png: `mask` must have damaged and known pixels"),
        ("white.png", [], "white.png: `mask` must have damaged and known pixels"),
        (None, [], "--image and --mask go together"),
        ("mask.png", ["--only", "digits"], "--image is a photograph"),
        ("mask.png", ["--steps", 0], "must be a positive integer, got 0"),
    ],
)
def test_a_wrong_option_is_explained(photograph, tmp_path, mask, more, message):
    folder, image, _ = photograph
    words = ["--image", image, "--out", tmp_path, *more]
    ended = run(*words, *([] if mask is None else ["--mask", folder / mask]))
    assert message in (ended.printed if ended.code == 2 else ended.code)
    assert "Traceback" not in ended.printed
