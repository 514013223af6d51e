"""A folder of anybody's pictures, squares cut from bundled photographs, and the example."""

from __future__ import annotations

import re
import runpy
import shlex
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.test_examples import ROOT, run_here
from vanillagan import ConvDiscriminator, ConvGenerator, GANTrainer, load_generator
from vanillagan.data import ByteImages
from vanillagan.datasets import folder as folders
from vanillagan.datasets import image_folder, photo_crops, photographs
from vanillagan.errors import MissingExtraError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain(colour: object, size: tuple[int, int] = (12, 8), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def read_one(folder: Path, **options) -> Tensor:
    """The only picture of a folder, (channels, height, width)."""
    (image,) = image_folder(folder, **({"size": 4} | options)).images
    return image


def filled(colour: tuple[int, ...], side: int = 4) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(-1, 1, 1).expand(-1, side, side)


# -- a folder --------------------------------------------------------------------------------------


def test_pictures_of_nested_folders_come_in_the_order_of_their_paths(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    plain(GREEN).save(tmp_path / "b" / "deep" / "1.png")
    plain(RED, (40, 9)).save(tmp_path / "a.bmp")
    plain(BLUE, (3, 3)).save(tmp_path / "c.gif")
    data = image_folder(tmp_path, size=4)
    assert isinstance(data, ByteImages)
    assert data.labels is None
    assert data.images.dtype == torch.uint8
    expected = torch.stack([filled(colour) for colour in (RED, GREEN, BLUE)])
    assert torch.equal(data.images, expected)


def test_pictures_are_floats_within_minus_1_and_1_as_they_are_read(tmp_path):
    plain((0, 255, 51)).save(tmp_path / "1.png")
    sample = image_folder(tmp_path, size=1)[0]
    np.testing.assert_allclose(sample.flatten(), [-1, 1, -0.6], atol=1e-6)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (plain(100, mode="L"), (100, 100, 100)),
        (plain(1, mode="1"), (255, 255, 255)),
        (plain((9, 8, 7, 255), mode="RGBA"), (9, 8, 7)),
        (plain((9, 8, 7, 0), mode="RGBA"), (255, 255, 255)),
        (plain((0, 0, 0, 153), mode="RGBA"), (102, 102, 102)),
        (plain((0, 153), mode="LA"), (102, 102, 102)),
        (Image.fromarray(np.full((8, 12), 51 * 257, dtype=np.uint16)), (51, 51, 51)),
    ],
    ids=["grey", "black and white", "opaque", "transparent", "half", "grey half", "16 bits"],
)
def test_every_mode_becomes_rgb_and_what_is_transparent_shows_white(tmp_path, picture, expected):
    picture.save(tmp_path / "1.png")
    assert torch.equal(read_one(tmp_path), filled(expected))


def test_a_transparent_colour_of_a_palette_shows_white(tmp_path):
    picture = plain(RED).quantize(4)
    picture.save(tmp_path / "1.gif", transparency=int(np.array(picture)[0, 0]))
    assert torch.equal(read_one(tmp_path), filled((255, 255, 255)))


def test_inks_become_rgb(tmp_path):
    plain((0, 255, 255, 0), (32, 32), mode="CMYK").save(tmp_path / "1.tif")
    assert torch.equal(read_one(tmp_path), filled(RED))


def test_one_channel_is_grey(tmp_path):
    plain((200, 100, 50)).save(tmp_path / "1.png")
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    image = read_one(tmp_path, channels=1)
    assert image.shape == (1, 4, 4)
    np.testing.assert_allclose(image, luma, atol=1)


def test_a_picture_is_turned_as_its_exif_data_says(tmp_path):
    upright = np.zeros((20, 20, 3), dtype=np.uint8)
    upright[:10] = RED  # the upper half
    for name, turns, orientation in (("1", 0, 1), ("2", 1, 6), ("3", 3, 8), ("4", 2, 3)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.rot90(upright, turns)).save(tmp_path / f"{name}.png", exif=exif)
    data = image_folder(tmp_path, size=20)
    for image in data.images:
        np.testing.assert_array_equal(image.permute(1, 2, 0), upright)


@pytest.mark.parametrize("upright", [False, True])
def test_the_middle_of_a_long_picture_is_kept(tmp_path, upright):
    bands = np.array([[RED, GREEN, GREEN, BLUE]], dtype=np.uint8).repeat(2, 0).repeat(10, 0)
    bands = bands.repeat(10, 1)  # 20 high, 40 wide
    Image.fromarray(bands.transpose(1, 0, 2) if upright else bands).save(tmp_path / "1.png")
    assert torch.equal(read_one(tmp_path, size=20), filled(GREEN, 20))


def test_height_and_width_may_differ(tmp_path):
    left_half_red = np.zeros((30, 60, 3), dtype=np.uint8)
    left_half_red[:, :30] = RED
    Image.fromarray(left_half_red).save(tmp_path / "1.png")
    image = read_one(tmp_path, size=(10, 20))
    assert image.shape == (3, 10, 20)
    assert (image[0, :, :8] == 255).all()
    assert (image[0, :, 12:] == 0).all()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_fine_detail_is_averaged_not_sampled(tmp_path, suffix):
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / f"1.{suffix}")
    np.testing.assert_allclose(read_one(tmp_path, size=16).float(), 127.5, atol=3)


def test_a_large_jpeg_looks_as_it_does_when_it_is_decoded_whole(tmp_path):
    ramp = np.linspace(0, 255, 800)[:, None, None] * np.ones((1, 600, 3))
    ramp[..., 1] = np.linspace(255, 0, 600)[None]
    picture = Image.fromarray(ramp.astype(np.uint8))
    picture.save(tmp_path / "1.jpg", quality=95)
    whole = picture.crop((0, 100, 600, 700)).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(
        read_one(tmp_path, size=16).permute(1, 2, 0).float(), np.float32(whole), atol=4
    )


# -- files that are none ---------------------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def break_files(folder: Path) -> int:
    """Writes files that can't be read as pictures, and says how many."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = {}
    for suffix in ("png", "jpg", "gif", "tif"):
        noise.save(folder / f"whole.{suffix}")
        whole[suffix] = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"whole.{suffix}").unlink()
        (folder / f"cut.{suffix}").write_bytes(whole[suffix][: len(whole[suffix]) // 2])
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"")
    others = {
        "bomb.png": bomb,
        "empty.png": b"",
        "head.jpg": whole["jpg"][:20],
        "named wrongly.jpg": b"no picture at all",
        "notes.txt": b"holidays",
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
    return len(whole) + len(others)


def test_broken_files_and_others_are_skipped_and_counted_in_one_line(tmp_path):
    broken = break_files(tmp_path)
    plain(GREEN).save(tmp_path / "good.png")
    with pytest.warns(UserWarning, match="skipped") as warned:
        data = image_folder(tmp_path, size=4)
    assert torch.equal(data.images, filled(GREEN)[None])
    (warning,) = warned
    assert re.fullmatch(
        rf"skipped {broken} of {broken + 1} files under .* that can't be read as pictures, the "
        r"first of them bomb\.png \(DecompressionBombError: .*\)",
        str(warning.message),
    )
    assert warning.filename == __file__


def test_floats_of_an_unknown_range_are_skipped_with_that_reason(tmp_path):
    plain(GREEN).save(tmp_path / "1.png")
    Image.fromarray(np.full((8, 12), 0.5, dtype=np.float32)).save(tmp_path / "2.tif")
    with pytest.warns(UserWarning, match=r"2\.tif \(ValueError: pixels are floats of an unknown"):
        assert torch.equal(read_one(tmp_path), filled(GREEN))


def test_an_end_of_memory_is_no_broken_file(tmp_path, monkeypatch):
    def read(*arguments: object) -> Tensor:
        raise MemoryError

    plain(GREEN).save(tmp_path / "1.png")
    monkeypatch.setattr(folders, "_read", read)
    with pytest.raises(MemoryError):
        image_folder(tmp_path, size=4)


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    (tmp_path / ".thumbnails").mkdir()
    plain(RED).save(tmp_path / ".thumbnails" / "1.png")
    (tmp_path / ".DS_Store").write_bytes(b"none")
    plain(GREEN).save(tmp_path / "1.png")
    assert torch.equal(read_one(tmp_path), filled(GREEN))


def test_a_hidden_folder_itself_may_be_the_root(tmp_path):
    (tmp_path / ".mine").mkdir()
    plain(GREEN).save(tmp_path / ".mine" / "1.png")
    assert torch.equal(read_one(tmp_path / ".mine"), filled(GREEN))


def test_a_folder_without_a_picture_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"`root` must hold pictures, got .* with 0 files"):
        image_folder(tmp_path, size=4)
    (tmp_path / "1.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"with 1 files, none of which can be read as one"):
        image_folder(tmp_path, size=4)


@pytest.mark.parametrize("name", ["missing", "file.png"])
def test_what_is_no_folder_is_an_error(tmp_path, name):
    plain(RED).save(tmp_path / "file.png")
    with pytest.raises(NotADirectoryError, match=r"`root` must be a folder of pictures, got '.*'"):
        image_folder(tmp_path / name, size=4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, "`size` must be a positive integer, got 0"),
        ({"size": 2.5}, TypeError, "`size` must be a positive integer, got 2.5"),
        ({"size": (4, 0)}, ValueError, r"`size\[1\]` must be a positive integer, got 0"),
        ({"size": (4, 4, 4)}, ValueError, r"`size` must be a number or \(height, width\)"),
        ({"size": 4, "channels": 2}, ValueError, "`channels` must be one of 3, 1, got 2"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        image_folder(tmp_path, **options)


def test_a_root_that_is_no_path_is_named():
    with pytest.raises(TypeError, match="`root` must be the path of a folder, got None"):
        image_folder(None, size=4)


def test_a_folder_is_data_for_the_trainer(tmp_path):
    for number in range(6):
        plain((number * 40, 0, 0)).save(tmp_path / f"{number}.png")
    trainer = GANTrainer(
        ConvGenerator(4, (3, 6, 10), width=4), ConvDiscriminator((3, 6, 10), width=4), device="cpu"
    )
    trainer.fit(image_folder(tmp_path, size=(6, 10)), epochs=1, batch_size=3)
    assert trainer.progress.step == 2
    assert trainer.sample(2).shape == (2, 3, 6, 10)


# -- squares of photographs ------------------------------------------------------------------------


def test_crops_are_of_the_photographs_in_turn_and_repeatable():
    data = photo_crops(20, size=(6, 8), seed=3)
    assert data.images.shape == (20, 3, 6, 8)
    assert data.labels.tolist() == [number % 8 for number in range(20)]
    assert torch.equal(data.images, photo_crops(20, size=(6, 8), seed=3).images)
    assert not torch.equal(data.images, photo_crops(20, size=(6, 8), seed=4).images)


@pytest.mark.parametrize("shape", [(300, 451), (512, 512), (91, 60)])
def test_no_pixel_held_out_is_in_a_training_crop_nor_the_other_way_round(monkeypatch, shape):
    held_out = np.zeros((*shape, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * 3 // side for side in shape)
    held_out[rows[:, None] == columns] = 255
    monkeypatch.setattr(photographs, "_photographs", lambda: [held_out])
    assert photo_crops(200, size=40).images.max() == 0
    assert photo_crops(50, size=40, train=False).images.min() == 255


@pytest.mark.parametrize("size", [(10, 20), (20, 10), (16, 16), (1, 40)])
def test_crops_of_any_shape_are_not_distorted(monkeypatch, size):
    down, right = np.indices((960, 960)) // 4
    photograph = np.stack([down, right, down], 2).astype(np.uint8)
    monkeypatch.setattr(photographs, "_photographs", lambda: [photograph])
    for image in photo_crops(10, size=size).images.float():
        steps = [(image[axis].amax() - image[axis].amin()) / (size[axis] - 1) for axis in (0, 1)
                 if size[axis] > 1]  # fmt: skip
        assert max(steps) - min(steps) < 0.4
        assert 140 < float(max(steps)) * max(size) * 4 < 260  # a sixth to a quarter of 960


def test_crops_of_a_photograph_have_its_colours():
    data = photo_crops(80, size=8)
    means = [data.images[data.labels == label].float().mean((0, 2, 3)) for label in range(8)]
    by_name = dict(zip(photographs.PHOTOGRAPHS, means, strict=True))
    assert by_name["hubble_deep_field"].max() < 60  # night
    assert by_name["retina"][0] > 2 * by_name["retina"][2]  # red


@pytest.mark.parametrize("package", ["skimage", "sklearn"])
def test_without_a_package_the_error_names_the_extra(monkeypatch, package):
    for name in (package, f"{package}.data", f"{package}.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vanillagan\[examples\]'"):
        photo_crops(8)


# -- the example -----------------------------------------------------------------------------------


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
    small = ["--size", 8, "--width", 8, "--batches", 10, "--batch-size", 8, "--sample-interval", 5]
    return ["examples/images.py", *map(str, [*small, *options, "--out", out])]


def test_the_example_learns_a_folder_and_leaves_pictures_to_look_at(folder, tmp_path):
    run = run_here(example("--data", folder, out=tmp_path))
    assert run.code == 0
    assert run.printed.startswith(
        f"Note: skipped 1 of 21 files under {folder} that can't be read as pictures, the first of "
        "them notes.txt (UnidentifiedImageError: cannot identify image file 'notes.txt')\n"
        f"Data: 20 pictures under {folder}\n"
    )
    assert "Distance to the nearest of 20 training pictures" in run.printed
    assert re.search(r"against training pictures +precision [01]\.\d+, recall [01]\.", run.printed)
    names = ["data.png", "neighbours.png", "film_strip.png", "images/0.png", "images/10.png"]
    for name in names:
        with Image.open(tmp_path / name) as image:
            image.load()
    assert load_generator(tmp_path / "images.pt").sample(2).shape == (2, 3, 8, 8)


def test_the_example_goes_on_after_ctrl_c_to_the_same_end(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_here(example("--data", folder, "--no-flip", out=whole))
    stopped = run_here(example("--data", folder, "--no-flip", out=parts), interrupt=True)
    assert stopped.code == 130
    assert stopped.printed.endswith(f" --resume {parts / 'images.pt'}\n")
    words = example("--data", folder, "--no-flip", "--resume", out=parts)
    stopped = run_here(words, interrupt=True)
    assert stopped.printed.endswith(f"Go on with:\n  python {shlex.join(words)}\n")
    assert run_here(example("--data", folder, "--no-flip", "--resume", out=parts)).code == 0
    assert (whole / "images" / "10.png").read_bytes() == (parts / "images" / "10.png").read_bytes()


def test_without_a_folder_the_example_cuts_photographs_and_measures_against_what_is_held_out(
    tmp_path,
):
    run = run_here(example("--batches", 2, out=tmp_path))
    assert run.code == 0
    assert "Data: 4,000 squares cut from eight photographs" in run.printed
    assert "training against held-out" in run.printed


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the example defines."""
    return runpy.run_path(str(ROOT / "examples" / "images.py"))


def test_pictures_are_compared_with_some_of_all_folders(names):
    data = ByteImages(torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1))
    some = names["pixels"](data, 60)
    assert torch.equal(some, names["pixels"](data, 60))
    assert len(some.unique()) == 60
    assert min((some < 0).sum(), (some >= 0).sum()) > 10
    assert len(names["pixels"](data, 900).unique()) == 200


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--seed", -1], "error: `seed` must be a non-negative integer, got -1"),
        (["--device", "nowhere"], "error: `device` must be a device that is available here"),
    ],
)
def test_a_wrong_option_is_seen_before_pictures_are_read(folder, tmp_path, option, message):
    run = run_here(example("--data", folder, *option, out=tmp_path))
    assert run.code.startswith(message)
    assert run.printed == ""


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_pictures_end_the_example_in_one_line(tmp_path, count):
    for number in range(count):
        plain(RED).save(tmp_path / f"{number}.png")
    code = run_here(example("--data", tmp_path, out=tmp_path / "out")).code
    assert re.fullmatch(r"error: .* must hold .*", code)


def test_the_largest_maps_have_at_most_32_points_and_half_the_pixels_a_side_where_they_can(names):
    patch_of = names["patch_of"]
    sizes = {8: 2, 32: 2, 64: 2, 66: 2, 100: 4, 128: 4, 256: 8, 512: 8, 45: 1}
    assert {size: patch_of(size) for size in sizes} == sizes
