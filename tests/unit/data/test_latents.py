"""Samplers of latents."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn

from vanillagan import Generator
from vanillagan.data import normal_latents, uniform_latents
from vanillagan.data.latents import draw_latents, latent_sampler_of

every_sampler = pytest.mark.parametrize("make", [normal_latents, uniform_latents])


@every_sampler
@pytest.mark.parametrize("shape", [(100,), (2, 3, 4)], ids=str)
def test_latents_have_the_shape_asked_for(make, shape):
    latents = make(*shape)(5, torch.Generator())
    assert latents.shape == (5, *shape)
    assert latents.dtype == torch.float32


@every_sampler
def test_latents_come_from_the_given_generator_alone(make):
    state = torch.get_rng_state()
    first, second = (make(8)(5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@every_sampler
def test_each_call_draws_new_latents(make):
    rng = torch.Generator().manual_seed(1)
    assert not torch.equal(make(8)(5, rng), make(8)(5, rng))


@pytest.mark.parametrize(
    ("make", "distribution"),
    [(normal_latents, stats.norm(0, 1)), (uniform_latents, stats.uniform(-1, 2))],
)
def test_latents_follow_their_distribution(make, distribution):
    latents = make(100)(200, torch.Generator().manual_seed(0))
    assert stats.kstest(latents.flatten().numpy(), distribution.cdf).pvalue > 0.01


@every_sampler
@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((0,), ValueError, r"`shape\[0\]` must be a positive integer, got 0"),
        ((2, -1), ValueError, r"`shape\[1\]` must be a positive integer, got -1"),
        ((2.5,), TypeError, r"`shape\[0\]` must be a positive integer, got 2.5"),
        ((), ValueError, "`shape` must have at least one entry"),
    ],
    ids=str,
)
def test_an_invalid_shape_is_named(make, shape, error, message):
    with pytest.raises(error, match=message):
        make(*shape)


@pytest.mark.parametrize("sampler", [3, lambda n, rng: [0.0] * n], ids=["number", "list"])
def test_an_invalid_sampler_is_named(sampler):
    with pytest.raises(TypeError, match=r"`latent_sampler` must be a function \(n, torch"):
        draw_latents(sampler, 2, torch.Generator())


def test_default_sampler_is_normal_of_latent_dim():
    latents = latent_sampler_of(Generator(7, (2,)))(3, torch.Generator().manual_seed(0))
    assert torch.equal(latents, torch.randn(3, 7, generator=torch.Generator().manual_seed(0)))


def test_a_network_without_latent_dim_needs_a_sampler():
    with pytest.raises(
        ValueError, match=r"`latent_sampler` must be given for Linear.*normal_latents\(100\)"
    ):
        latent_sampler_of(nn.Linear(2, 2))
