"""Pictures of several images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from vanillagan.callbacks.pictures import caption, scale_of, tile


@pytest.mark.parametrize(
    ("size", "scale"), [(14, 6), (28, 3), (32, 3), (40, 2), (64, 1), (128, 1), (500, 1)]
)
def test_small_images_get_about_84_pixels(size, scale):
    assert scale_of(torch.zeros(1, size, size - 4)) == scale


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (2, 1), (3, 2)])
def test_images_have_a_gap_around_them(n, rows):
    picture = np.asarray(tile(torch.ones(n, 1, 4, 4), columns=2, scale=2))
    assert picture.shape == (rows * 10 + 2, min(n, 2) * 10 + 2, 3)
    assert picture[2:10, 2:10].min() == 255
    assert picture[:2].max() == picture[:, :2].max() == picture[-2:].max() == 0


def test_values_are_clamped():
    picture = np.asarray(
        tile(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).view(5, 1, 1, 1), columns=5)
    )
    assert picture[50, 50::86, 0].tolist() == [0, 0, 128, 255, 255]


def columns_with_text(picture: Image.Image, height: int) -> np.ndarray:
    return np.flatnonzero((np.asarray(picture)[:height] < 128).any(axis=(0, 2)))


def test_texts_are_above_the_middle_of_their_parts():
    captioned = caption(Image.new("RGB", (200, 20), "blue"), ["step 0", "step 100"])
    assert captioned.size == (200, 50)
    assert np.asarray(captioned)[30:].reshape(-1, 3).tolist() == [[0, 0, 255]] * 200 * 20
    dark = columns_with_text(captioned, 30)
    for part in (dark[dark < 100], dark[dark >= 100] - 100):
        assert abs((part.min() + part.max()) / 2 - 49.5) < 3


def test_texts_that_are_too_wide_are_shortened_or_left_out():
    narrow = Image.new("RGB", (60, 20))
    assert caption(narrow, ["step 12,345"], ["12,345"]).size == (60, 50)
    assert caption(narrow, ["step 12,345,678,901"], ["12,345,678"]).size == (60, 40)
    assert caption(narrow, ["step 12,345,678,901,234"]) is narrow


def test_a_pillow_without_font_sizes_is_enough(monkeypatch):
    def load_default():
        return bitmap

    bitmap = ImageFont.load_default_imagefont()
    monkeypatch.setattr(ImageFont, "load_default", load_default)
    captioned = caption(Image.new("RGB", (200, 20)), ["real"])
    assert len(columns_with_text(captioned, captioned.height - 20)) > 5
