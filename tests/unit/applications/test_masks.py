"""Samplers of masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from vanillagan.applications.masks import boxes, lost_pixels, mixed, scratches

SAMPLERS = {
    "boxes": boxes((20, 30)),
    "lost pixels": lost_pixels((20, 30)),
    "scratches": scratches((20, 30)),
    "mixed": mixed([boxes((20, 30), 0.3), lost_pixels((20, 30))]),
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SAMPLERS)
def test_masks_are_binary_repeatable_and_varied(name):
    sampler = SAMPLERS[name]
    masks = sampler(50, rng())
    assert masks.shape == (50, 1, 20, 30)
    assert masks.unique().tolist() == [0, 1]
    assert torch.equal(masks, sampler(50, rng()))
    assert len(masks.unique(dim=0)) > 40
    shares = masks.mean((1, 2, 3))
    assert shares.min() > 0
    assert shares.max() < 1


def test_centered_box_has_half_of_both_sides():
    mask = boxes((28, 28), centered=True)(3, rng())
    expected = torch.zeros(28, 28)
    expected[7:21, 7:21] = 1
    assert torch.equal(mask, expected.expand(3, 1, 28, 28))


def test_size_can_be_one_number():
    assert torch.equal(boxes(28)(3, rng()), boxes((28, 28))(3, rng()))


def test_boxes_are_at_random_positions():
    masks = boxes((6, 8), 0.5)(500, rng())
    assert (masks.sum((1, 2, 3)) == 12).all()
    assert (masks.amax(0) == 1).all()
    for mask in masks[:20]:
        (box,) = ndimage.find_objects(mask[0].int().numpy())
        assert [part.stop - part.start for part in box] == [3, 4]
        assert (mask[0][box] == 1).all()


def test_share_of_lost_pixels():
    assert float(lost_pixels((20, 30), 0.3)(100, rng()).mean()) == pytest.approx(0.3, abs=0.01)


def test_scratches_are_lines_between_borders():
    for mask in scratches((40, 60), count=1, width=2.0)(30, rng())[:, 0]:
        assert ndimage.label(mask.numpy(), structure=np.ones((3, 3)))[1] == 1
        border = mask.clone()
        border[1:-1, 1:-1] = 0
        assert border.sum() >= 2
        # a line of 2 pixels contains no square of 4 x 4
        assert not ndimage.binary_erosion(mask.numpy(), np.ones((4, 4))).any()


@pytest.mark.parametrize(
    "sampler",
    [
        boxes((28, 28), 0.99),
        boxes((1, 9), 0.9),
        lost_pixels((4, 4), 0.01),
        lost_pixels((4, 4), 0.99),
        scratches((8, 8), count=9, width=7.9),
    ],
)
def test_masks_are_never_empty_or_full(sampler):
    damaged = sampler(100, rng()).flatten(1)
    assert (damaged == 1).any(1).all()
    assert (damaged == 0).any(1).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: boxes((8,)),
            ValueError,
            r"`size` must be a number or \(height, width\), got \(8,\)",
        ),
        (lambda: boxes((8, 0)), ValueError, r"`size\[1\]` must be a positive integer, got 0"),
        (lambda: boxes((8, 8), 1.0), ValueError, r"`share` must be a finite number in \(0, 1\)"),
        (lambda: lost_pixels((8, 8), 0), ValueError, "`share` must be a finite number in"),
        (lambda: scratches((8, 8), 0), ValueError, "`count` must be a positive integer, got 0"),
        (lambda: scratches((8, 8), width=0.5), ValueError, "`width` must be a finite number in"),
        (lambda: scratches((8, 9), width=8), ValueError, r"`width` .* in \[1, 8\), got 8"),
        (lambda: boxes((1, 1)), ValueError, r"`size` must have at least two pixels, got \(1, 1\)"),
        (lambda: mixed([]), ValueError, "`samplers` must have at least one entry, got none"),
        (lambda: mixed(boxes((8, 8))), TypeError, "`samplers` must be a list of samplers such as"),
        (lambda: mixed([boxes((8, 8)), 3]), TypeError, r"`samplers\[1\]` must be .* got 3"),
        (
            lambda: mixed([boxes((8, 8)), boxes((8, 9))])(2, rng()),
            ValueError,
            r"`samplers` must draw masks of the same shape, got \[\(2, 1, 8, 8\), \(2, 1, 8, 9\)\]",
        ),
    ],
)
def test_invalid_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
