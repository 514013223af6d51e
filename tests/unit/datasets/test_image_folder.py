"""Folders of images, compared with Pillow."""

from __future__ import annotations

import os
import re
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vanillagan import ConvDiscriminator, ConvGenerator, GANTrainer
from vanillagan.data import ByteImages
from vanillagan.datasets import image_folder

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain_image(color: object, size: tuple[int, int] = (12, 8), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, color)


def read_one(folder: Path, **options) -> Tensor:
    """Return the only image of a folder, shape (channels, height, width)."""
    (image,) = image_folder(folder, **({"size": 4} | options)).images
    return image


def filled(color: tuple[int, ...], side: int = 4) -> Tensor:
    return torch.tensor(color, dtype=torch.uint8).view(-1, 1, 1).expand(-1, side, side)


# -- images


def test_images_are_sorted_by_path(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    plain_image(GREEN).save(tmp_path / "b" / "deep" / "1.png")
    plain_image(RED, (40, 9)).save(tmp_path / "a.bmp")
    plain_image(BLUE, (3, 3)).save(tmp_path / "c.gif")
    data = image_folder(tmp_path, size=4)
    assert isinstance(data, ByteImages)
    assert data.labels is None
    assert data.images.dtype == torch.uint8
    expected = torch.stack([filled(color) for color in (RED, GREEN, BLUE)])
    assert torch.equal(data.images, expected)


def test_items_are_floats_within_minus_1_and_1(tmp_path):
    plain_image((0, 255, 51)).save(tmp_path / "1.png")
    sample = image_folder(tmp_path, size=1)[0]
    np.testing.assert_allclose(sample.flatten(), [-1, 1, -0.6], atol=1e-6)


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (plain_image(100, mode="L"), (100, 100, 100)),
        (plain_image(1, mode="1"), (255, 255, 255)),
        (plain_image((9, 8, 7, 255), mode="RGBA"), (9, 8, 7)),
        (plain_image((9, 8, 7, 0), mode="RGBA"), (255, 255, 255)),
        (plain_image((0, 0, 0, 153), mode="RGBA"), (102, 102, 102)),
        (plain_image((0, 153), mode="LA"), (102, 102, 102)),
        (Image.fromarray(np.full((8, 12), 51 * 257, dtype=np.uint16)), (51, 51, 51)),
    ],
    ids=["gray", "black and white", "opaque", "transparent", "half", "gray half", "16 bits"],
)
def test_modes_become_rgb_on_white(tmp_path, original, expected):
    original.save(tmp_path / "1.png")
    assert torch.equal(read_one(tmp_path), filled(expected))


@pytest.mark.parametrize("white", [255, 1023, 4095, 65535])
def test_16_bit_images_are_scaled_by_the_depth_that_they_use(tmp_path, white):
    rows = np.arange(256)[:, None] * np.ones((1, 256))
    Image.fromarray((rows / 255 * white).astype(np.uint16)).save(tmp_path / "1.png")
    # one scale for the folder, and 8-bit images as they are
    Image.fromarray((rows / 255 * (white // 4)).astype(np.uint16)).save(tmp_path / "2.png")
    Image.fromarray(rows.astype(np.uint8)).save(tmp_path / "3.png")
    images = image_folder(tmp_path, size=256, channels=3).images
    for image, expected in zip(images, (rows, rows / 4, rows), strict=True):
        assert image.shape == (3, 256, 256)
        np.testing.assert_allclose(image, np.stack([expected] * 3), atol=1.6)


def test_resizing_does_not_change_the_scale_of_16_bit_images(tmp_path):
    pixels = np.zeros((64, 64), dtype=np.uint16)
    pixels[0, 0] = 4095  # gone after the resizing
    pixels[32:] = 1000
    Image.fromarray(pixels).save(tmp_path / "1.png")
    bottom = read_one(tmp_path, size=8, channels=1)[0, -1]
    np.testing.assert_allclose(bottom, 1000 / 4095 * 255, atol=0.6)


@pytest.mark.parametrize(("low", "high"), [(-1024, 3071), (0, 70_000)])
def test_integers_of_unknown_range_are_refused(tmp_path, low, high):
    Image.fromarray(np.array([[low, high]], dtype=np.int32)).save(tmp_path / "1.tif")
    with pytest.raises(
        ValueError, match=rf"'1\.tif' \(ValueError: pixels are .* {low} to {high}, of"
    ):
        image_folder(tmp_path, size=1)


def test_transparent_palette_colors_become_white(tmp_path):
    original = plain_image(RED).quantize(4)
    original.save(tmp_path / "1.gif", transparency=int(np.array(original)[0, 0]))
    assert torch.equal(read_one(tmp_path), filled((255, 255, 255)))


def test_cmyk_becomes_rgb(tmp_path):
    plain_image((0, 255, 255, 0), (32, 32), mode="CMYK").save(tmp_path / "1.tif")
    assert torch.equal(read_one(tmp_path), filled(RED))


def test_one_channel_is_grayscale(tmp_path):
    plain_image((200, 100, 50)).save(tmp_path / "1.png")
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    image = read_one(tmp_path, channels=1)
    assert image.shape == (1, 4, 4)
    np.testing.assert_allclose(image, luma, atol=1)


def test_exif_orientation_is_applied(tmp_path):
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
def test_long_images_are_cropped_to_the_center(tmp_path, upright):
    bands = np.array([[RED, GREEN, GREEN, BLUE]], dtype=np.uint8).repeat(2, 0).repeat(10, 0)
    bands = bands.repeat(10, 1)  # 20 high, 40 wide
    Image.fromarray(bands.transpose(1, 0, 2) if upright else bands).save(tmp_path / "1.png")
    assert torch.equal(read_one(tmp_path, size=20), filled(GREEN, 20))


def test_height_and_width_can_differ(tmp_path):
    left_half_red = np.zeros((30, 60, 3), dtype=np.uint8)
    left_half_red[:, :30] = RED
    Image.fromarray(left_half_red).save(tmp_path / "1.png")
    image = read_one(tmp_path, size=(10, 20))
    assert image.shape == (3, 10, 20)
    assert (image[0, :, :8] == 255).all()
    assert (image[0, :, 12:] == 0).all()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_resizing_is_antialiased(tmp_path, suffix):
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / f"1.{suffix}")
    np.testing.assert_allclose(read_one(tmp_path, size=16).float(), 127.5, atol=3)


def test_large_jpegs_match_a_full_decoding(tmp_path):
    ramp = np.linspace(0, 255, 800)[:, None, None] * np.ones((1, 600, 3))
    ramp[..., 1] = np.linspace(255, 0, 600)[None]
    original = Image.fromarray(ramp.astype(np.uint8))
    original.save(tmp_path / "1.jpg", quality=95)
    whole = original.crop((0, 100, 600, 700)).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(
        read_one(tmp_path, size=16).permute(1, 2, 0).float(), np.float32(whole), atol=4
    )


# -- other files and invalid arguments


def png_chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def break_files(folder: Path) -> int:
    """Write files that cannot be read as images, and return their number."""
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
        "named wrongly.jpg": b"not an image",
        "notes.txt": b"holidays",
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
    return len(whole) + len(others)


def test_unreadable_files_are_skipped_with_one_warning(tmp_path):
    broken = break_files(tmp_path)
    plain_image(GREEN).save(tmp_path / "good.png")
    with pytest.warns(UserWarning, match="skipped") as warned:
        data = image_folder(tmp_path, size=4)
    assert torch.equal(data.images, filled(GREEN)[None])
    (warning,) = warned
    assert re.fullmatch(
        rf"skipped {broken} of {broken + 1} files under .* that cannot be read as images, the "
        r"first of them 'bomb\.png' \(DecompressionBombError: .*\)",
        str(warning.message),
    )
    assert warning.filename == __file__


def reason_to_skip(folder: Path) -> str:
    """Return the message about the only file of a folder, which cannot be read."""
    with pytest.raises(ValueError, match="`root` must contain images") as raised:
        image_folder(folder, size=4)
    return str(raised.value)


def test_images_of_too_many_pixels_are_skipped_without_decoding_them(tmp_path):
    # below the number at which Pillow itself refuses
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 1, 0, 0, 0, 0)
    content = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert "(ValueError: 12000 x 12000 pixels, more than 134,217,728)" in reason_to_skip(tmp_path)


@pytest.mark.parametrize("size", [(4000, 4000), (16, 16)])
def test_large_images_are_read_by_one_thread(tmp_path, monkeypatch, size):
    here = []
    module = sys.modules[image_folder.__module__]
    convert = module._convert

    def look(image: Image.Image, mode: str) -> Image.Image:
        here.append(threading.current_thread() is threading.main_thread())
        return convert(image, mode)

    monkeypatch.setattr(module, "_convert", look)
    for name in "ab":
        plain_image(RED, size).save(tmp_path / f"{name}.png")
    assert len(image_folder(tmp_path, size=4)) == 2
    assert here == [size != (16, 16)] * 2


def test_postscript_is_not_handed_to_a_program(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)  # an error if it is called
    picture = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF"
    (tmp_path / "cat.png").write_bytes(picture)
    assert "'cat.png' (UnidentifiedImageError" in reason_to_skip(tmp_path)


def test_files_that_are_skipped_take_no_memory(tmp_path):
    for number in range(300):
        (tmp_path / f"{number}.txt").write_bytes(b"notes")
    plain_image(GREEN).save(tmp_path / "good.png")
    with pytest.warns(UserWarning, match="skipped 300 of 301"):
        images = image_folder(tmp_path, size=1000).images
    assert images.untyped_storage().nbytes() == 3 * 1000**2


def test_control_characters_in_names_are_escaped(tmp_path):
    (tmp_path / "\x1b[2J.png").write_bytes(b"")
    message = reason_to_skip(tmp_path)
    assert "'\\x1b[2J.png'" in message
    assert message.isprintable()


def test_links_that_lead_nowhere_and_pipes_are_skipped_and_counted(tmp_path):
    plain_image(GREEN).save(tmp_path / "good.png")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere.png").symlink_to("missing.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.warns(UserWarning, match=r"skipped 3 of 4 files .* 'loop' \("):
        assert torch.equal(read_one(tmp_path), filled(GREEN))


def test_float_images_are_skipped(tmp_path):
    plain_image(GREEN).save(tmp_path / "1.png")
    Image.fromarray(np.full((8, 12), 0.5, dtype=np.float32)).save(tmp_path / "2.tif")
    with pytest.warns(UserWarning, match=r"'2\.tif' \(ValueError: pixels are floats of"):
        assert torch.equal(read_one(tmp_path), filled(GREEN))


def test_memory_errors_are_not_caught(tmp_path, monkeypatch):
    def read(*arguments: object) -> Tensor:
        raise MemoryError

    plain_image(GREEN).save(tmp_path / "1.png")
    monkeypatch.setattr(sys.modules[image_folder.__module__], "_opened", read)
    with pytest.raises(MemoryError):
        image_folder(tmp_path, size=4)


def test_hidden_files_and_folders_are_ignored(tmp_path):
    (tmp_path / ".thumbnails").mkdir()
    plain_image(RED).save(tmp_path / ".thumbnails" / "1.png")
    (tmp_path / ".DS_Store").write_bytes(b"none")
    plain_image(GREEN).save(tmp_path / "1.png")
    assert torch.equal(read_one(tmp_path), filled(GREEN))


def test_links_are_followed(tmp_path):
    for folder, color in (("data/dogs", RED), ("disk/cats", GREEN), ("disk/other", BLUE)):
        (tmp_path / folder).mkdir(parents=True)
        plain_image(color).save(tmp_path / folder / "1.png")
    root = tmp_path / "data"
    (root / "cats").symlink_to(tmp_path / "disk" / "cats", target_is_directory=True)
    (root / "single.png").symlink_to(tmp_path / "disk" / "other" / "1.png")
    (root / "dogs" / "loop").symlink_to(root, target_is_directory=True)
    images = image_folder(root, size=4).images
    assert torch.equal(images, torch.stack([filled(color) for color in (GREEN, RED, BLUE)]))


def test_root_can_be_hidden(tmp_path):
    (tmp_path / ".mine").mkdir()
    plain_image(GREEN).save(tmp_path / ".mine" / "1.png")
    assert torch.equal(read_one(tmp_path / ".mine"), filled(GREEN))


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`root` must contain images, got .* with 0 files"):
        image_folder(tmp_path, size=4)
    (tmp_path / "1.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"with 1 files, none of which can be read as an"):
        image_folder(tmp_path, size=4)


@pytest.mark.parametrize("name", ["missing", "file.png"])
def test_root_must_be_a_folder(tmp_path, name):
    plain_image(RED).save(tmp_path / "file.png")
    with pytest.raises(NotADirectoryError, match=r"`root` must be a folder of images, got '.*'"):
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
def test_invalid_arguments_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        image_folder(tmp_path, **options)


def test_root_must_be_a_path():
    with pytest.raises(TypeError, match="`root` must be a path, got None"):
        image_folder(None, size=4)


def test_trainer_accepts_the_data(tmp_path):
    for number in range(6):
        plain_image((number * 40, 0, 0)).save(tmp_path / f"{number}.png")
    trainer = GANTrainer(
        ConvGenerator(4, (3, 6, 10), base_channels=4),
        ConvDiscriminator((3, 6, 10), base_channels=4),
        device="cpu",
    )
    trainer.fit(image_folder(tmp_path, size=(6, 10)), max_epochs=1, batch_size=3)
    assert trainer.progress.step == 2
    assert trainer.sample(2).shape == (2, 3, 6, 10)


# -- classes


def test_labels_are_numbered_folders_as_in_torchvision(tmp_path):
    from torchvision.datasets import ImageFolder

    for index, name in enumerate(["dogs/a", "cats/deep/b", "birds/c", "dogs/d"]):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        plain_image((index, 0, 0)).save(path)
    (tmp_path / "birds" / "broken.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="skipped 1 of 5 files"):
        data = image_folder(tmp_path, size=4, labels=True)
    assert data.classes == ("birds", "cats", "dogs")
    assert list(data.classes) == ImageFolder(tmp_path).classes
    assert data.labels is not None
    pairs = zip(data.images[:, 0, 0, 0].tolist(), data.labels.tolist(), strict=True)
    assert dict(pairs) == {0: 2, 1: 1, 2: 0, 3: 2}
    networks = (
        ConvGenerator(4, (3, 4, 4), base_channels=4, num_classes=3),
        ConvDiscriminator((3, 4, 4), base_channels=4, num_classes=3),
    )
    assert len(GANTrainer(*networks, device="cpu").fit(data, max_epochs=1, batch_size=4)) == 1


def test_images_in_no_class_folder_are_skipped_with_a_warning(tmp_path):
    (tmp_path / "cats").mkdir()
    plain_image(RED).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"`root` must .* .a.png. .in no class folder"):
        image_folder(tmp_path, size=4, labels=True)
    plain_image(RED).save(tmp_path / "cats" / "b.png")
    with pytest.warns(UserWarning, match=r"skipped 1 of 2 .* .a.png. .in no class folder"):
        assert len(image_folder(tmp_path, size=4, labels=True)) == 1
    assert image_folder(tmp_path, size=4).labels is None
