"""Properties that hold for all valid values, by hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vanillagan import losses, metrics, theory
from vanillagan.applications import blend, masks
from vanillagan.sampling import interpolate

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32)
densities = st.floats(1e-100, 1e100)
LOSSES = [
    losses.BCEAdversarialLoss(),
    losses.BCEAdversarialLoss(generator_objective="minimax", real_label=0.9),
    losses.HingeLoss(),
    losses.LeastSquaresLoss(),
    losses.RelativisticLoss(),
    losses.WassersteinLoss(),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)


def rng_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- the optimal discriminator


@few
@given(densities, densities)
def test_the_optimal_discriminator_is_a_probability_and_symmetric(p, q):
    of_data, of_fakes = theory.optimal_discriminator(p, q), theory.optimal_discriminator(q, p)
    assert 0 <= of_data <= 1
    assert of_data + of_fakes == pytest.approx(1, rel=1e-15)
    assert (of_data > 0.5) <= (p > q)


@few
@given(densities, densities, st.floats(1e-100, 1e100))
def test_the_optimal_discriminator_is_free_of_scale(p, q, scale):
    scaled = theory.optimal_discriminator(p * scale, q * scale)
    assert scaled == pytest.approx(theory.optimal_discriminator(p, q), rel=1e-12)


@few
@given(seeds, st.integers(2, 8))
def test_divergences_are_in_their_ranges(seed, n):
    p, q = torch.rand(2, n, generator=rng_of(seed), dtype=torch.float64).softmax(1)
    divergence = float(theory.jensen_shannon_divergence(p, q))
    assert -1e-15 <= divergence <= -theory.GLOBAL_MINIMUM / 2
    assert divergence == pytest.approx(float(theory.jensen_shannon_divergence(q, p)), abs=1e-15)
    assert float(theory.kl_divergence(p, q)) >= -1e-15


# -- losses


def both(loss: Any, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    return loss.discriminator(real, fake), loss.generator(fake, real)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@few
@given(data=st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6))
def test_losses_and_gradients_are_finite_for_large_logits(loss, dtype, data):
    for values in (data, [-1e4, 1e4]):
        real = torch.tensor(values, dtype=dtype, requires_grad=True)
        fake = torch.tensor(values[::-1], dtype=dtype, requires_grad=True)
        for value in both(loss, real, fake):
            assert value.isfinite()
            (gradient,) = torch.autograd.grad(value, fake)
            assert gradient.isfinite().all()


@every_loss
@few
@given(seed=seeds)
def test_gradients_of_losses_are_those_of_finite_differences(loss, seed):
    real, fake = 3 * torch.randn(2, 5, generator=rng_of(seed), dtype=torch.float64)
    # a hinge has no derivative at its corner
    real, fake = (x + 1e-3 * (x.abs() - 1).abs().lt(1e-3) for x in (real, fake))
    inputs = real.requires_grad_(), fake.requires_grad_()
    assert torch.autograd.gradcheck(lambda *logits: both(loss, *logits), inputs)


# -- metrics


def order_free(metric: Callable[[Tensor, Tensor], Any]) -> Any:
    def check(seed: int) -> None:
        rng = rng_of(seed)
        real, fake = torch.randn(2, 12, 3, generator=rng)
        shuffled = (x[torch.randperm(12, generator=rng)] for x in (real, fake))
        expected, actual = metric(real, fake), metric(*shuffled)
        assert actual == pytest.approx(expected, rel=1e-9, abs=1e-12)

    return check


@pytest.mark.parametrize(
    "metric",
    [
        metrics.frechet_distance,
        metrics.kernel_distance,
        metrics.precision_recall,
        metrics.density_coverage,
        lambda real, fake: metrics.parzen_log_likelihood(fake, real, sigma=0.5),
        lambda real, fake: metrics.nearest_neighbors(fake, real).distances.double().mean().item(),
        lambda real, fake: metrics.mode_coverage((fake[:, 0] > 0).long(), 2),
    ],
    ids=["frechet", "kernel", "precision", "density", "parzen", "neighbors", "modes"],
)
@few
@given(seed=seeds)
def test_metrics_do_not_depend_on_the_order_of_samples(metric, seed):
    order_free(metric)(seed)


# -- interpolation, masks, blending


class Identity(nn.Module):
    """A generator that returns its latents."""

    latent_dim = 4

    def forward(self, latents: Tensor) -> Tensor:
        return latents


@few
@given(seeds, st.integers(2, 9), st.booleans())
def test_interpolation_begins_and_ends_at_its_latents(seed, n, spherical):
    start, end = torch.randn(2, 4, generator=rng_of(seed))
    path = interpolate(Identity(), start, end, n, spherical=spherical)
    torch.testing.assert_close(path[0], start)
    torch.testing.assert_close(path[-1], end)
    assert (path.norm(dim=1) <= max(start.norm(), end.norm()) + 1e-5).all()


@few
@given(seeds, st.integers(2, 12), st.integers(2, 12), st.floats(0.01, 0.99))
def test_masks_have_damaged_and_known_pixels(seed, height, width, share):
    samplers = [masks.boxes((height, width), share), masks.lost_pixels((height, width), share)]
    for sampler in (*samplers, masks.mixed(samplers)):
        drawn = sampler(3, rng_of(seed))
        assert drawn.shape == (3, 1, height, width)
        assert set(drawn.unique().tolist()) == {0.0, 1.0}
        assert drawn.flatten(1).any(1).all()
        assert not drawn.flatten(1).all(1).any()


@few
@given(seeds, st.floats(0.05, 0.95))
def test_blending_keeps_known_pixels_and_the_range(seed, share):
    rng = rng_of(seed)
    images, completions = torch.rand(2, 2, 1, 7, 6, generator=rng)
    mask = masks.lost_pixels((7, 6), share)(2, rng)
    filled = blend(images, completions, mask)
    assert torch.equal(filled[mask == 0], images[mask == 0])
    assert filled.min() >= min(images.min(), completions.min())
    assert filled.max() <= max(images.max(), completions.max())
