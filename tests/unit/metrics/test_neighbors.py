"""Nearest neighbors, compared with scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from tests.helpers.points import two_sets
from vanillagan.metrics import nearest_neighbors

pytestmark = pytest.mark.usefixtures("block_size")

seeds = pytest.mark.parametrize("seed", [0, 1, 2])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@seeds
@dtypes
@pytest.mark.parametrize("k", [1, 4, 55])
def test_neighbors_match_scikit_learn(seed, dtype, k):
    samples, data = (points.to(dtype) for points in two_sets(seed))
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(data.double().numpy())
    distances, indices = model.kneighbors(samples.double().numpy())
    found = nearest_neighbors(samples, data, k=k)
    assert found.distances.shape == found.indices.shape == (70, k)
    assert found.distances.dtype == dtype
    assert found.indices.dtype == torch.int64
    np.testing.assert_array_equal(found.indices.numpy(), indices)
    np.testing.assert_allclose(
        found.distances, distances, rtol=1e-6 if dtype != torch.float64 else 1e-12
    )


@pytest.mark.parametrize("offset", [0.0, 1e3])
@dtypes
def test_distance_is_0_for_exact_copies_only(dtype, offset):
    data = torch.rand(40, 1, 28, 28, dtype=dtype) + offset
    samples = data.flip(0).clone()
    samples[0, 0, 0, 0] += 0.01
    found = nearest_neighbors(samples, data)
    assert found.distances[0].item() == pytest.approx(0.01, rel=0.01)
    assert (found.distances[1:] == 0).all()
    assert found.indices[:, 0].tolist() == list(range(39, -1, -1))


def test_half_precision_gives_float32_distances():
    samples, data = torch.randn(5, 3).half(), torch.randn(9, 3).half()
    found = nearest_neighbors(samples, data)
    assert found.distances.dtype == torch.float32
    expected = cdist(samples.double().numpy(), data.double().numpy()).min(1, keepdims=True)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-6)
