"""Samples on the path between two latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp
from torch import Tensor, nn

from vanillagan.sampling import draw_samples, interpolate


class Echo(nn.Module):
    """A generator that returns its latents."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, latent: Tensor) -> Tensor:
        return self.weight * latent


def test_straight_path_has_even_steps():
    start, end = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([4.0, 0.0, 6.0])
    samples = interpolate(Echo(), start, end, 5, spherical=False)
    expected = np.linspace(start.numpy(), end.numpy(), 5)
    np.testing.assert_allclose(samples.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("length", [1.0, 3.0])
def test_spherical_path_has_even_angles_and_lengths(length):
    start, end = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, length, 0.0])
    samples = interpolate(Echo(), start, end, 7).numpy()
    angles, lengths = np.linspace(0, np.pi / 2, 7), np.linspace(1, length, 7)
    expected = np.stack([lengths * np.cos(angles), lengths * np.sin(angles), 0 * angles], axis=1)
    np.testing.assert_allclose(samples, expected, atol=1e-12)


def test_spherical_path_is_scipys_slerp():
    rng = np.random.default_rng(0)
    start, end = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    samples = interpolate(Echo(), torch.from_numpy(start), torch.from_numpy(end), 9).numpy()
    expected = geometric_slerp(start, end, np.linspace(0, 1, 9))
    np.testing.assert_allclose(samples, expected, atol=1e-12)


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-5])
def test_nearly_parallel_latents_are_exact(turn):
    ends = torch.tensor([[1, 0, 0], [2, 2 * turn, 0]], dtype=torch.float64)
    samples = interpolate(Echo(), ends[0], ends[1], 3).numpy()
    np.testing.assert_allclose(samples[1], [1.5, 0.75 * turn, 0.0], rtol=1e-9)


@pytest.mark.parametrize("spherical", [True, False])
def test_path_includes_both_ends(generator, spherical):
    ends = torch.randn(2, 4)
    samples = interpolate(generator, ends[0], ends[1], 6, spherical=spherical)
    expected = draw_samples(generator, 2, latents=ends)
    torch.testing.assert_close(samples[[0, -1]], expected)
    assert not samples.requires_grad
    assert all(module.training for module in generator.modules())


def test_path_of_a_class_and_of_any_latent_shape(conditional):
    ends = torch.randn(2, 4)
    samples = interpolate(conditional, ends[0], ends[1], 3, labels=2)
    expected = draw_samples(conditional, 1, latents=ends[1:], labels=2)
    torch.testing.assert_close(samples[-1:], expected)
    ends = torch.randn(2, 2, 3, 3)
    assert interpolate(nn.Identity(), ends[0], ends[1], 4).shape == (4, 2, 3, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 1}, ValueError, "`n` must be an integer of at least 2, got 1"),
        ({"start": [1.0, 0.0, 0.0]}, TypeError, "`start` must be a tensor of floats"),
        ({"end": torch.tensor([1, 0, 0])}, TypeError, "`end` must be a tensor of floats"),
        ({"end": torch.ones(2)}, ValueError, r"`end` must be a single latent of shape \(3,\), got"),
        ({"start": torch.zeros(3)}, ValueError, "`start` must have a length above 0"),
        ({"end": torch.full((3,), torch.nan)}, ValueError, "`end` must be finite, got NaN"),
        ({"start": torch.ones(1, 3)}, ValueError, r"`start` must be a single latent of shape"),
        ({"end": torch.tensor([-2.0, 0, 0])}, ValueError, "`end` must not point in the dir"),
    ],
)
def test_invalid_paths_are_named(change, error, message):
    ends = {"start": torch.tensor([1.0, 0.0, 0.0]), "end": torch.tensor([0.0, 1.0, 0.0])}
    with pytest.raises(error, match=message):
        interpolate(Echo(), **(ends | {"n": 3} | change))


def test_straight_path_may_start_at_zero():
    samples = interpolate(Echo(), torch.zeros(3), torch.ones(3), 3, spherical=False)
    torch.testing.assert_close(samples[1], torch.full((3,), 0.5, dtype=torch.float64))
