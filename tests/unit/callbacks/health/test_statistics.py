"""Statistics of a training run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.data import ring
from vanillagan import (
    BCEAdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.callbacks.health.statistics import (
    count_sketch,
    discriminator_auc,
    diversity,
    logit_gradient,
)


def logits(n: int, shift: float) -> Tensor:
    return (torch.randn(n, generator=torch.Generator().manual_seed(n)) + shift).round(decimals=1)


@pytest.mark.parametrize("shift", [-2.0, 0.0, 0.5, 5.0])
def test_the_auc_equals_scikit_learns(shift):
    metrics = pytest.importorskip("sklearn.metrics")
    real, fake = logits(40, shift), logits(30, 0.0)
    truth = [1] * 40 + [0] * 30
    expected = metrics.roc_auc_score(truth, torch.cat([real, fake]).tolist())
    assert float(discriminator_auc(real, fake)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gap", [0.0, 1.0, 4.0])
def test_the_logit_gradient_equals_closed_forms(gap):
    real, fake = torch.tensor([gap, gap + 1]), torch.tensor([-gap, 0.5 - gap])
    gradients = {
        name: float(logit_gradient(loss, real, fake))
        for name, loss in {
            "bce": BCEAdversarialLoss(),
            "hinge": HingeLoss(),
            "squares": LeastSquaresLoss(),
            "wasserstein": WassersteinLoss(),
            "relativistic": RelativisticLoss(),
        }.items()
    }
    d_real, d_fake = torch.sigmoid(real), torch.sigmoid(fake)
    assert gradients["bce"] == pytest.approx(float((1 - d_real).mean() + d_fake.mean()), rel=1e-5)
    active = (real < 1).sum() + (fake > -1).sum()
    assert gradients["hinge"] == pytest.approx(int(active) / int((real < 1).sum() + 2), abs=1e-6)
    squares = (real - 1).abs().sum() + fake.abs().sum()
    assert gradients["squares"] == pytest.approx(
        float(squares / ((real - 1).abs().sum() + real.abs().sum())), rel=1e-5
    )
    assert gradients["wasserstein"] == 1
    assert gradients["relativistic"] == pytest.approx(
        float(torch.sigmoid(fake - real).mean() / 0.5), rel=1e-5
    )


@pytest.mark.parametrize("modes", [1, 2, 4, 6, 8])
def test_coverage_is_the_share_of_covered_modes(modes):
    measured = diversity(ring(), ring(modes=modes, seed=1))
    inside = ring()[:, 1].atan2(ring()[:, 0]).div(math.pi / 4).round().remainder(8) < modes
    assert float(measured.coverage) == pytest.approx(float(inside.double().mean()))


def test_diversity_equals_a_naive_loop():
    rng = np.random.default_rng(0)
    for dimensions in (3, 100):
        real, fake = rng.normal(size=(30, dimensions)), rng.normal(size=(30, dimensions)) * 0.4
        std_ratio, nearest_ratio, coverage = diversity(
            torch.tensor(real + 5).float(), torch.tensor(fake + 5).float()
        )

        def nearest_of(a, b, skip):
            return [
                min(np.linalg.norm(x - y) for j, y in enumerate(b) if not (skip and i == j))
                for i, x in enumerate(a)
            ]

        among = nearest_of(real, real, True)
        pairs = sorted(np.linalg.norm(x - y) for x in real for y in real)
        middle = pairs[(len(pairs) - 1) // 2]
        near = np.quantile(among, 0.9) + middle / 4
        variances = fake.var(axis=0).sum() / real.var(axis=0).sum()
        assert float(std_ratio) == pytest.approx(math.sqrt(variances), rel=1e-4)
        low = sorted(nearest_of(fake, fake, True))[14] / sorted(among)[14]
        assert float(nearest_ratio) == pytest.approx(low, rel=1e-3)
        expected = np.mean(np.array(nearest_of(real, fake, False)) <= near)
        assert float(coverage) == pytest.approx(expected, abs=1e-6)


def test_equal_fakes_have_no_diversity():
    std_ratio, nearest_ratio, coverage = diversity(ring(), torch.full((256, 2), 9.0))
    assert (float(std_ratio), float(nearest_ratio), float(coverage)) == (0, 0, 0)


def test_a_sketch_preserves_distances():
    rng = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 5000, generator=rng)
    kept = (count_sketch(a) - count_sketch(b)).norm() / (a - b).norm()
    assert float(kept) == pytest.approx(1, abs=0.25)
    assert torch.equal(count_sketch(a[:64]), a[:64])
