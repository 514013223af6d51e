"""Parzen window log-likelihood, compared with scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity

from tests.helpers.points import gaussian_points, two_sets
from vanillagan.metrics import parzen_log_likelihood

pytestmark = pytest.mark.usefixtures("block_size")

seeds = pytest.mark.parametrize("seed", [0, 1, 2])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@seeds
@dtypes
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_matches_the_kernel_density_of_scikit_learn(seed, dtype, sigma):
    samples, data = (points.to(dtype) for points in two_sets(seed))
    scores = KernelDensity(bandwidth=sigma).fit(samples.numpy()).score_samples(data.numpy())
    estimate = parzen_log_likelihood(samples, data, sigma=sigma)
    assert estimate.mean == pytest.approx(scores.mean(), rel=1e-9)
    assert estimate.standard_error == pytest.approx(scores.std(ddof=1) / 55**0.5, rel=1e-8)
    assert estimate.sigma == sigma


def test_one_sample_gives_a_gaussian():
    data = gaussian_points(20, 5, 3)
    center = torch.full((1, 5), 0.25, dtype=torch.float64)
    expected = multivariate_normal(center[0].numpy(), 0.7**2 * np.eye(5)).logpdf(data.numpy())
    assert parzen_log_likelihood(center, data, sigma=0.7).mean == pytest.approx(expected.mean())


def test_float32_images_are_exact_at_a_small_width():
    """Sigma 0.1 multiplies each error of a squared distance by 50."""
    rng = torch.Generator().manual_seed(0)
    samples = torch.rand(60, 1, 28, 28, generator=rng)
    data = (samples[:40] + 0.05 * torch.randn(40, 1, 28, 28, generator=rng)).clamp(0, 1)
    a, b = (x.flatten(1).double().numpy() for x in (data, samples))
    logs = -cdist(a, b, "sqeuclidean") / (2 * 0.1**2)
    scores = logsumexp(logs, axis=1) - math.log(60) - 392 * math.log(2 * math.pi * 0.1**2)
    estimate = parzen_log_likelihood(samples, data, sigma=0.1)
    assert estimate.mean == pytest.approx(scores.mean(), abs=1e-6)


def test_result_does_not_depend_on_the_origin():
    samples, data = (
        torch.rand(60, 784, dtype=torch.float64),
        torch.rand(40, 784, dtype=torch.float64),
    )
    near = parzen_log_likelihood(samples, data, sigma=0.1)
    far = parzen_log_likelihood(samples + 1e6, data + 1e6, sigma=0.1)
    assert far.mean == pytest.approx(near.mean, abs=1e-4)


@seeds
def test_selects_the_width_that_scikit_learn_does(seed):
    sigmas = np.logspace(-1, 0, num=10)  # those of the paper
    samples, data = two_sets(seed)
    validation = gaussian_points(30, 6, seed + 20)
    scores = [
        KernelDensity(bandwidth=sigma).fit(samples.numpy()).score(validation.numpy())
        for sigma in sigmas
    ]
    best = sigmas[int(np.argmax(scores))]
    estimate = parzen_log_likelihood(samples, data, validation=validation)
    assert estimate.sigma == pytest.approx(best)
    assert estimate == parzen_log_likelihood(samples, data, sigma=estimate.sigma)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor], ids=lambda k: k.__name__)
def test_widths_can_be_any_sequence_of_numbers(kind):
    """For the middle of two points at distance 2 the best width is 1."""
    ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    middle = torch.zeros(1, 1, dtype=torch.float64)
    estimate = parzen_log_likelihood(
        ends, middle, validation=middle, sigmas=kind([0.25, 0.9, 1.0, 1.1, 4.0])
    )
    assert estimate.sigma == 1.0
    assert estimate.mean == pytest.approx(-0.5 * math.log(2 * math.pi) - 0.5)


def test_width_can_be_a_tensor():
    samples, data = two_sets(0)
    estimate = parzen_log_likelihood(samples, data, sigma=torch.tensor(0.25))
    assert estimate == parzen_log_likelihood(samples, data, sigma=0.25)


def test_standard_error_of_one_sample_is_infinite():
    estimate = parzen_log_likelihood(gaussian_points(5, 2, 0), gaussian_points(1, 2, 1), sigma=1.0)
    assert math.isfinite(estimate.mean)
    assert estimate.standard_error == math.inf


def test_no_underflow_far_from_all_samples():
    far = torch.tensor([[1e4]])
    value = parzen_log_likelihood(torch.zeros(3, 1), far, sigma=0.1).mean
    assert value == pytest.approx(-(1e8) / 0.02 - math.log(0.1) - 0.5 * math.log(2 * math.pi))


def test_samples_can_have_any_shape():
    images, data = torch.rand(9, 1, 4, 4), torch.rand(7, 1, 4, 4)
    expected = parzen_log_likelihood(images.flatten(1), data.flatten(1), sigma=0.5)
    assert parzen_log_likelihood(images, data, sigma=0.5) == expected
    assert parzen_log_likelihood(images, data.flatten(1), sigma=0.5) == expected
    column = parzen_log_likelihood(images[:, :, 0, 0], data[:, :, 0, 0], sigma=0.5)
    assert parzen_log_likelihood(images[:, 0, 0, 0], data[:, 0, 0, 0], sigma=0.5) == column
