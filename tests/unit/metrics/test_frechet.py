"""Fréchet and kernel distance, compared with SciPy, torchmetrics and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from tests.helpers.points import gaussian_points, two_sets
from vanillagan.metrics import frechet_distance, kernel_distance

pytestmark = pytest.mark.usefixtures("block_size")

seeds = pytest.mark.parametrize("seed", [0, 1, 2])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def frechet_of_scipy(real: Tensor, fake: Tensor) -> float:
    a, b = real.double().numpy(), fake.double().numpy()
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(c1 @ c2).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root))


class Identity(nn.Module):
    """Feature extractor for torchmetrics that returns its input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, images: Tensor) -> Tensor:
        return images


def by_torchmetrics(metric: Any, real: Tensor, fake: Tensor) -> Any:
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute()


@seeds
@dtypes
@pytest.mark.parametrize("features", [2, 6, 20])
def test_frechet_matches_the_matrix_root_of_scipy(seed, dtype, features):
    real, fake = (points.to(dtype) for points in two_sets(seed, features=features))
    expected = frechet_of_scipy(real, fake)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-8)


@seeds
def test_frechet_matches_the_fid_of_torchmetrics(seed):
    real, fake = (points.float() for points in two_sets(seed))
    metric = FrechetInceptionDistance(feature=Identity(6))
    expected = by_torchmetrics(metric, real, fake).item()
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-4)


@seeds
@pytest.mark.filterwarnings("ignore:Matrix is singular")  # SciPy's root is less exact
@pytest.mark.parametrize("samples", [2, 5, 12], ids=lambda n: f"{n}-samples")
def test_frechet_is_exact_for_few_samples(seed, samples):
    """The expected value is a nuclear norm, which needs no root of a singular matrix."""
    real, fake = two_sets(seed, n=samples, m=samples + 3, features=40)
    a, b = real - real.mean(0), fake - fake.mean(0)
    a, b = a / (len(a) - 1) ** 0.5, b / (len(b) - 1) ** 0.5
    cross = np.linalg.svd((a @ b.T).numpy(), compute_uv=False).sum()
    expected = (real.mean(0) - fake.mean(0)).square().sum() + a.square().sum() + b.square().sum()
    assert frechet_distance(real, fake) == pytest.approx(expected.item() - 2 * cross, rel=1e-10)
    assert frechet_distance(real, fake) == pytest.approx(frechet_of_scipy(real, fake), rel=1e-5)


def test_frechet_of_commuting_gaussians():
    """Diagonal covariances: sum of (s1 - s2)^2 over the axes, plus the distance of the means."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    unbiased = (7 / 8) ** 0.5
    first = corners * torch.tensor([1.0, 2.0, 0.0]) * unbiased
    second = corners * torch.tensor([3.0, 2.0, 0.5]) * unbiased + torch.tensor([0.0, 4.0, 0.0])
    assert frechet_distance(first, second) == pytest.approx(4 + 0 + 0.25 + 16)


@pytest.mark.parametrize("shape", [(50, 6), (6, 50), (2, 3), (30, 1)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_frechet_of_equal_sets_is_0_and_not_negative(shape, offset):
    points = gaussian_points(*shape, 0, shift=offset)
    assert 0 <= frechet_distance(points, points) < 1e-10
    assert 0 <= frechet_distance(points, points.flip(0)) < 1e-10
    constant = torch.ones(4, 3)
    assert frechet_distance(constant, constant) == 0


def test_frechet_of_shifted_points_is_the_shift():
    points = gaussian_points(10, 30, 1)
    assert frechet_distance(points, points + 2) == pytest.approx(30 * 4)


@seeds
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_kernel_distance_is_the_sum_over_pairs(seed, degree):
    real, fake = (points.tolist() for points in two_sets(seed, n=9, m=7, features=3))

    def k(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / 3 + 1) ** degree

    def within(xs):
        pairs = [(x, y) for i, x in enumerate(xs) for j, y in enumerate(xs) if i != j]
        return sum(k(x, y) for x, y in pairs) / len(pairs)

    between = sum(k(x, y) for x in real for y in fake) / (len(real) * len(fake))
    expected = within(real) + within(fake) - 2 * between
    value = kernel_distance(
        *(torch.tensor(x, dtype=torch.float64) for x in (real, fake)), degree=degree
    )
    assert value == pytest.approx(expected, rel=1e-9)


@seeds
def test_kernel_distance_matches_the_kid_of_torchmetrics(seed):
    real, fake = (points.float() for points in two_sets(seed, n=60, m=60))
    with pytest.warns(UserWarning, match="will save all extracted features"):
        metric = KernelInceptionDistance(feature=Identity(6), subsets=1, subset_size=60)
    expected = by_torchmetrics(metric, real, fake)[0].item()
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_is_unbiased():
    """The mean over many pairs of small sets of the same distribution is 0."""
    rng = torch.Generator().manual_seed(0)
    values = torch.tensor(
        [kernel_distance(*torch.randn(2, 10, 2, generator=rng)) for _ in range(400)]
    )
    assert abs(values.mean()) < 3 * values.std() / 20
    assert values.min() < 0 < values.max()
