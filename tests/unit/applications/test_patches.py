"""Inpainting of large images by patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vanillagan.applications.blending import blend
from vanillagan.applications.patches import fill_by_patches


def membrane(patches: Tensor, masks: Tensor) -> Tensor:
    return blend(patches, torch.zeros_like(patches), masks)


@pytest.mark.parametrize("stride", [None, 15, 5])
def test_exact_patches_give_an_exact_image(stride):
    """The membrane of a plane is the plane itself, in each patch."""
    down, right = torch.meshgrid(torch.arange(50), torch.arange(37), indexing="ij")
    image = torch.stack([0.01 * down - 0.02 * right, 0.005 * right + 0.0 * down])
    mask = torch.zeros(50, 37, dtype=torch.bool)
    mask[10:17, 8:13] = True
    mask[30, 1:-1] = True
    damaged = image.where(~mask, torch.nan)
    found = fill_by_patches(membrane, damaged, mask, size=16, stride=stride)
    torch.testing.assert_close(found, image, atol=0.02, rtol=0)
    assert torch.equal(found.where(~mask, 0), image.where(~mask, 0))


def test_patches_are_averaged_without_seams():
    """Patches with different constants must not be visible as steps."""
    answers = iter(torch.linspace(-1, 1, 64))

    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        return torch.stack([torch.full_like(patch, float(next(answers))) for patch in patches])

    mask = torch.ones(16, 200, dtype=torch.bool)
    mask[::2] = False
    row = fill_by_patches(fill, torch.zeros(1, 16, 200), mask, size=16, stride=4)[0, 7]
    assert row.diff().abs().max() < 0.05
    assert row[-1] > row[0] + 0.5


def test_large_damage_is_filled_in_rounds():
    image = torch.full((1, 60, 60), 0.25)
    mask = torch.zeros(1, 60, 60)
    mask[:, 8:52, 8:52] = 1
    seen: list[float] = []

    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        seen.append(float(masks.float().mean((1, 2, 3)).max()))
        return membrane(patches, masks)

    found = fill_by_patches(fill, image, mask, size=12)
    assert len(seen) > 1
    assert max(seen) < 1
    torch.testing.assert_close(found, image, atol=0.01, rtol=0)


def test_damage_that_ends_with_a_patch_is_filled():
    mask = torch.zeros(32, 64)
    mask[:, :32] = 1
    found = fill_by_patches(membrane, torch.full((3, 32, 64), 0.25), mask, size=32, stride=31)
    torch.testing.assert_close(found, torch.full((3, 32, 64), 0.25), atol=0.01, rtol=0)


def test_only_damaged_patches_are_filled():
    seen: list[int] = []

    def fill(patches: Tensor, masks: Tensor) -> Tensor:
        seen.append(len(patches))
        assert masks.flatten(1).any(1).all()
        return patches

    mask = torch.zeros(64, 64)
    mask[5, 5] = 1
    fill_by_patches(fill, torch.rand(3, 64, 64), mask, size=16, stride=15)
    assert seen == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": torch.zeros(64, 64)},
            r"`image` must have the shape \(channels, height, width\)",
        ),
        ({"size": 65}, "`image` must be at least `size`=65 pixels high and wide, got"),
        ({"size": 1}, "`size` must be an integer of at least 2, got 1"),
        ({"stride": 16}, "`stride` must be at most 15, got 16"),
        ({"mask": torch.ones(64, 64)}, "got only ones"),
        ({"mask": torch.ones(64, 63)}, r"`mask` must have the shape \(64, 64\)"),
        (
            {"fill": lambda patches, masks: patches[:, :1]},
            "`fill` must return patches of the shape",
        ),
    ],
)
def test_invalid_arguments_are_refused(change, message):
    mask = torch.zeros(64, 64)
    mask[20:30, 20:30] = 1
    arguments = {"fill": membrane, "image": torch.zeros(3, 64, 64), "mask": mask, "size": 16}
    with pytest.raises(ValueError, match=message):
        fill_by_patches(**(arguments | change))


@pytest.mark.parametrize("image", [[1.0], torch.zeros(3, 64, 64).byte()])
def test_image_must_be_a_tensor_of_floats(image):
    with pytest.raises(TypeError, match="`image` must be a tensor of floats, got"):
        fill_by_patches(membrane, image, torch.eye(64), size=16)
