"""Mode coverage, compared with SciPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from vanillagan.metrics import mode_coverage


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_divergence_matches_scipy(seed):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(12))
    modes = rng.integers(0, 12, 90)
    shares = np.bincount(modes, minlength=12) / 90
    coverage = mode_coverage(torch.from_numpy(modes), torch.from_numpy(truth))
    assert coverage.kl == pytest.approx(rel_entr(shares, truth).sum(), rel=1e-9)
    assert coverage.found == (shares > 0).sum()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_divergence_of_half_the_modes_is_log_2(dtype):
    modes = torch.arange(500, dtype=torch.int64) % 50
    found, kl = mode_coverage(modes.to(dtype), 100)
    assert found == 50
    assert kl == pytest.approx(math.log(2))


def test_divergence_of_equal_proportions_is_0():
    modes = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2])
    truth = torch.tensor([0.125, 0.25, 0.625])
    assert mode_coverage(modes, truth) == (3, 0.0)


def test_modes_are_found_from_the_minimum_on():
    modes = torch.tensor([0, 0, 0, 1, 1, 2])
    assert [mode_coverage(modes, 5, minimum=n).found for n in (1, 2, 3, 4)] == [3, 2, 1, 0]


def test_samples_of_no_mode_are_not_counted():
    with_none = torch.tensor([-1, 0, -1, 1, 1, -1])
    assert mode_coverage(with_none, 2) == mode_coverage(torch.tensor([0, 1, 1]), 2)
    assert mode_coverage(torch.tensor([-1, -1]), 2) == (0, math.inf)


def test_divergence_of_an_absent_mode_is_infinite():
    assert mode_coverage(torch.tensor([0, 1]), torch.tensor([1.0, 0.0])) == (1, math.inf)
