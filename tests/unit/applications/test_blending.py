"""Poisson blending, compared with SciPy's sparse solver, and the check of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from vanillagan.applications.blending import as_mask, blend

SHAPE = (1, 8, 8)


# -- masks


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64, torch.uint8])
@pytest.mark.parametrize("dims", [2, 3, 4])
def test_one_mask_for_all_images(box, dtype, dims):
    mask = box.to(dtype).view(*[1] * (dims - 2), 8, 8)
    damaged = as_mask(mask, torch.zeros(3, 2, 8, 8))
    assert torch.equal(damaged, box.expand(3, 1, 8, 8))


def test_one_mask_per_image(box):
    mask = torch.stack([box, ~box, box.roll(1, 0)])[:, None]
    assert torch.equal(as_mask(mask, torch.zeros(3, 2, 8, 8)), mask)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mask": torch.ones(8, 8)}, ValueError, "known pixels in each image, got only ones"),
        ({"mask": torch.zeros(8, 8)}, ValueError, "known pixels in each image, got only zeros"),
        ({"mask": torch.eye(8) / 2}, ValueError, "`mask` must be 1 at damaged and 0 at known"),
        ({"mask": torch.eye(7)}, ValueError, r"`mask` must have the shape \(8, 8\), \(1, 8, 8\)"),
        ({"mask": torch.eye(8).expand(2, 1, 8, 8)}, ValueError, r"or \(3, 1, 8, 8\), got \(2, 1"),
        ({"mask": torch.eye(8).expand(3, 8, 8)}, ValueError, r"`mask` must have the shape"),
        ({"mask": np.eye(8)}, TypeError, "`mask` must be a tensor, got array"),
        ({"mask": torch.stack([torch.eye(8), torch.eye(8), torch.ones(8, 8)])[:, None]},
         ValueError, "got only ones for image 2"),
        ({"images": torch.zeros(1, 8, 8)}, ValueError, r"`images` must have the shape \(N, chan"),
        ({"images": torch.zeros(0, 1, 8, 8)}, ValueError, r"got \(0, 1, 8, 8\)"),
        ({"images": torch.zeros(3, 1, 8, 8).byte()}, TypeError, "of floats, got torch.uint8"),
        ({"images": torch.full((3, 1, 8, 8), torch.nan)}, ValueError, "finite at known pixels"),
    ],
)  # fmt: skip
def test_invalid_masks_and_images_are_refused(change, error, message):
    arguments: dict[str, Any] = {"images": torch.zeros(3, *SHAPE), "mask": torch.eye(8)} | change
    with pytest.raises(error, match=message):
        as_mask(arguments["mask"], arguments["images"])


# -- blending


def poisson(image: np.ndarray, completion: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Solve equation 7 of Pérez et al. for arrays (H, W) by SciPy's sparse solver."""
    pixels = {(i, j): k for k, (i, j) in enumerate(np.argwhere(mask))}
    matrix = scipy.sparse.lil_matrix((len(pixels), len(pixels)))
    right = np.zeros(len(pixels))
    for (i, j), k in pixels.items():
        for p in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if not (0 <= p[0] < mask.shape[0] and 0 <= p[1] < mask.shape[1]):
                continue
            matrix[k, k] += 1
            right[k] += completion[i, j] - completion[p]
            if p in pixels:
                matrix[k, pixels[p]] = -1
            else:
                right[k] += image[p]
    result = image.copy()
    result[mask] = scipy.sparse.linalg.spsolve(matrix.tocsr(), right)
    return result


def test_blending_solves_the_poisson_equation():
    rng = np.random.default_rng(0)
    images = np.cumsum(rng.normal(size=(3, 2, 9, 12)), 3) / 4
    completions = rng.normal(size=images.shape) / 4
    masks = np.zeros((3, 1, 9, 12), dtype=bool)
    masks[0, 0, 2:7, 3:9] = True
    masks[1, 0, :5, 5:] = True  # includes a corner of the image
    masks[2] = rng.random((9, 12)) < 0.5
    found = blend(*(torch.as_tensor(array) for array in (images, completions, masks)))
    for n in range(3):
        for channel in range(2):
            expected = poisson(images[n, channel], completions[n, channel], masks[n, 0])
            span = np.concatenate([np.where(masks[n], completions[n], images[n]), completions[n]])
            expected = expected.clip(span.min(), span.max())
            expected[~masks[n, 0]] = images[n, channel][~masks[n, 0]]
            np.testing.assert_allclose(found[n, channel], expected, atol=1e-3)


def test_constant_offsets_of_completions_vanish(box):
    image = torch.rand(4, 3, 8, 8)
    damaged = image.where(~box, torch.nan)
    completions = image + torch.tensor([-0.3, 0.2, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(blend(damaged, completions, box), image, atol=1e-3, rtol=0)


def test_known_pixels_and_range_are_kept(box):
    images, completions = torch.rand(2, 5, 3, 8, 8)
    result = blend(images, completions, box)
    assert torch.equal(result.where(~box, 0), images.where(~box, 0))
    assert result.min() >= 0
    assert result.max() <= 1
    assert result.dtype == images.dtype


def test_completions_can_have_another_precision(box):
    images, completions = torch.rand(2, 5, 3, 8, 8)
    found = blend(images, completions.double(), box)
    assert torch.equal(found, blend(images, completions, box))


def test_images_are_blended_independently(box):
    images, completions = torch.rand(2, 3, 1, 8, 8)
    together = blend(images, completions, box)
    alone = torch.cat([blend(images[n, None], completions[n, None], box) for n in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("completions", "error", "message"),
    [
        (
            torch.zeros(3, 1, 8, 7),
            ValueError,
            r"`completions` .* \(3, 1, 8, 8\), got \(3, 1, 8, 7\)",
        ),
        (None, TypeError, "`completions` must be a tensor of floats, got NoneType"),
        (torch.zeros(3, *SHAPE).int(), TypeError, "tensor of floats, got torch.int32"),
        (torch.full((3, 1, 8, 8), torch.nan), ValueError, "`completions` must be finite"),
    ],
)
def test_invalid_completions_are_refused(box, completions, error, message):
    with pytest.raises(error, match=message):
        blend(torch.zeros(3, *SHAPE), completions, box)
