"""Precision, recall, density and coverage, compared with SciPy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from tests.helpers.points import gaussian_points, two_sets
from vanillagan.metrics import density_coverage, precision_recall

pytestmark = pytest.mark.usefixtures("block_size")

seeds = pytest.mark.parametrize("seed", [0, 1, 2])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def radii_of_scikit_learn(points: Tensor, k: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=k).fit(points.numpy()).kneighbors()[0][:, -1]


@seeds
@dtypes
@pytest.mark.parametrize("k", [1, 3, 5])
def test_all_four_match_whole_distance_matrices(seed, dtype, k):
    real, fake = (points.to(dtype) for points in two_sets(seed))
    between = cdist(fake.double().numpy(), real.double().numpy())
    real_radii, fake_radii = (radii_of_scikit_learn(x.double(), k) for x in (real, fake))
    in_real = between <= real_radii
    precision, recall = precision_recall(real, fake, k=k)
    assert precision == pytest.approx(in_real.any(1).mean())
    assert recall == pytest.approx((between <= fake_radii[:, None]).any(0).mean())
    density, coverage = density_coverage(real, fake, k=k)
    assert density == pytest.approx(in_real.sum(0).sum() / (k * len(fake)))
    assert coverage == pytest.approx(in_real.any(0).mean())
    assert 0 < precision < 1
    assert 0 < coverage < 1


def test_defaults_are_those_of_the_papers():
    real, fake = two_sets(0)
    assert precision_recall(real, fake) == precision_recall(real, fake, k=3)
    assert density_coverage(real, fake) == density_coverage(real, fake, k=5)


@seeds
@dtypes
@pytest.mark.parametrize("features", [1, 30])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_all_four_are_1_for_identical_sets(seed, dtype, features, offset):
    """Each k-th neighbor is on the border of a ball: rounding must not decide."""
    points = gaussian_points(80, features, seed, shift=offset).to(dtype)
    assert precision_recall(points, points.flip(0)) == (1.0, 1.0)
    assert density_coverage(points, points.flip(0)) == (1.0, 1.0)


def test_copies_of_a_real_sample_are_on_the_manifold():
    real = gaussian_points(30, 4, 0)
    fake = real[3:4].repeat(12, 1)
    precision, recall = precision_recall(real, fake)
    assert precision == 1
    assert recall == pytest.approx(1 / 30)
    collapsed = precision_recall(fake, fake.clone())
    assert collapsed == (1.0, 1.0)


@pytest.mark.parametrize(("copies", "covered"), [(5, 85), (6, 80)])
def test_balls_of_coinciding_samples_are_empty(copies, covered):
    points = torch.cat([gaussian_points(80, 4, 0), gaussian_points(1, 4, 1).repeat(copies, 1)])
    coverage = density_coverage(points, points.flip(0), k=5).coverage
    assert coverage == pytest.approx(covered / len(points))
    same = points[-1:].repeat(12, 1)
    assert density_coverage(same, same.clone(), k=5) == (0.0, 0.0)


def test_all_four_are_0_for_distant_sets():
    real, fake = gaussian_points(30, 4, 0), gaussian_points(40, 4, 1, shift=1e3)
    assert precision_recall(real, fake) == (0.0, 0.0)
    assert density_coverage(real, fake) == (0.0, 0.0)


def test_outlier_raises_precision_but_not_density():
    """The example of Naeem et al.: the ball of the outlier contains nearly all fakes."""
    real = torch.cat(
        [gaussian_points(60, 3, 0, scale=0.1), torch.full((1, 3), 50.0, dtype=torch.float64)]
    )
    fake = gaussian_points(60, 3, 1, shift=40.0, scale=0.1)
    assert precision_recall(real, fake).precision == 1
    assert density_coverage(real, fake).density == pytest.approx(1 / 5)
    assert density_coverage(real, fake).coverage == pytest.approx(1 / 61)


def test_expectations_for_equal_distributions():
    """1 for density, and 1 - prod (N - i) / (2N - i) over i = 1..k for coverage."""
    n, k = 40, 3
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    rng = torch.Generator().manual_seed(5)
    runs = [
        density_coverage(*torch.randn(2, n, 2, generator=rng, dtype=torch.float64), k=k)
        for _ in range(200)
    ]
    values = torch.tensor(runs)
    error = 4 * values.std(0) / len(runs) ** 0.5
    assert abs(values[:, 0].mean() - 1) < error[0]
    assert abs(values[:, 1].mean() - expected) < error[1]
