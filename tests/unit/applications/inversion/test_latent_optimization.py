"""GAN inversion of generators whose best latents are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.helpers.linear_gan import LinearGenerator, MeanDiscriminator
from vanillagan import Discriminator, Generator
from vanillagan.applications.inversion import GANInversion

SHAPE = (1, 8, 8)
PLAIN = GANInversion(restarts=2, candidates=20, steps=300, prior_weight=0, norm_weight=0)


@pytest.mark.parametrize(
    "degradation",
    [
        lambda samples: samples,
        lambda samples: 0.3 * samples + 0.5,
        lambda samples: F.avg_pool2d(samples, 3, stride=1),
        lambda samples: F.avg_pool2d(samples, 2),
        lambda samples: samples.flatten(1)[:, ::3],
    ],
    ids=["none", "fading", "blur", "fewer pixels", "another shape"],
)
def test_degradations_are_reverted(degradation):
    generator = LinearGenerator()
    truth = generator(torch.randn(4, 3)).detach()
    found = PLAIN(generator, MeanDiscriminator(), degradation(truth), degradation, seed=0)
    torch.testing.assert_close(found, truth, atol=0.05, rtol=0)


def loss_of(generator: nn.Module, image: Tensor, latent: Tensor, inversion: GANInversion) -> Tensor:
    """Return the loss that the docstring defines, for an image without degradation."""
    sample = generator(latent[None])
    log_one_minus_d = torch.log(1 - torch.sigmoid(MeanDiscriminator()(sample)))
    context = (sample - image).abs().mean()
    norm = latent.square().mean() / 2
    return (
        context + inversion.prior_weight * log_one_minus_d + inversion.norm_weight * norm
    ).squeeze()


def test_the_documented_loss_is_minimized():
    generator, image = LinearGenerator(), torch.rand(1, *SHAPE)
    inversion = GANInversion(restarts=1, candidates=5, steps=500, prior_weight=0.3, norm_weight=0.2)
    found = inversion(generator, MeanDiscriminator(), image, lambda x: x, seed=0)
    latent = torch.linalg.lstsq(generator.matrix, found.view(64, 1)).solution.flatten().detach()
    least = loss_of(generator, image, latent, inversion)
    for direction in torch.randn(50, 3):
        assert least <= loss_of(generator, image, latent + 0.1 * direction, inversion)


def test_the_prior_raises_the_logits_of_samples():
    generator, image = LinearGenerator(), torch.rand(4, *SHAPE)
    logits = [
        GANInversion(candidates=20, prior_weight=weight)(
            generator, MeanDiscriminator(), image, lambda x: x, seed=0
        ).mean()
        for weight in (0.0, 1.0)
    ]
    assert logits[1] > logits[0] + 0.01


class TwoMaxima(nn.Module):
    """Generator of samples 1 at z = 2, 1/2 at z = -2, and about 0 far from both."""

    latent_dim = 1

    def forward(self, latent: Tensor) -> Tensor:
        right, half = (torch.exp(-2 * (latent - position).square()) for position in (2.0, -2.0))
        return (right + 0.5 * half).view(-1, 1, 1, 1).expand(-1, *SHAPE)


def test_the_best_restart_is_returned():
    image = torch.ones(1, *SHAPE)

    def sampler(n: int, rng: torch.Generator) -> Tensor:
        return torch.tensor([[-1.9], [0.9]])[:n]

    found = [
        GANInversion(n, candidates=n, prior_weight=0, norm_weight=0)(
            TwoMaxima(), MeanDiscriminator(), image, lambda x: x, latent_sampler=sampler
        )
        for n in (1, 2)
    ]
    assert float(found[0].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(found[1].mean()) == pytest.approx(1.0, abs=0.01)


def test_temperature_weights_restarts_by_their_losses():
    def sampler(n: int, rng: torch.Generator) -> Tensor:
        return torch.tensor([[-1.9], [1.9]])

    inversion = GANInversion(2, candidates=2, prior_weight=0, norm_weight=0, temperature=0.25)
    image = torch.ones(1, *SHAPE)
    found = inversion(TwoMaxima(), MeanDiscriminator(), image, lambda x: x, latent_sampler=sampler)
    weight = 1 / (1 + np.exp(-(0.5 - 0) / 0.25))  # the losses are 0 and 1/2
    assert float(found.mean()) == pytest.approx(weight + 0.5 * (1 - weight), abs=0.01)


def test_optimization_starts_from_the_best_candidates():
    image = torch.ones(1, *SHAPE)
    inversion = GANInversion(1, candidates=200, steps=1, learning_rate=1e-6)
    found = inversion(TwoMaxima(), MeanDiscriminator(), image, lambda x: x, seed=0)
    assert float(found.mean()) > 0.95


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inversion_works_without_grad_mode(mode):
    generator = LinearGenerator()
    latents = torch.randn(2, 3)
    with mode():
        truth = generator(latents)
        found = PLAIN(generator, MeanDiscriminator(), 0.5 * truth, lambda x: 0.5 * x, seed=0)
    torch.testing.assert_close(found, truth, atol=0.05, rtol=0)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"restarts": 0}, ValueError, "`restarts` must be a positive integer, got 0"),
        ({"candidates": 3}, ValueError, "`candidates` must be at least `restarts`=8, got 3"),
        ({"candidates": 9.0}, TypeError, "`candidates` must be a positive integer, got 9.0"),
        ({"steps": 0}, ValueError, "`steps` must be a positive integer, got 0"),
        ({"learning_rate": 0.0}, ValueError, r"`learning_rate` must be a finite number in \(0"),
        ({"prior_weight": -1}, ValueError, r"`prior_weight` must be a finite number in \[0, inf"),
        ({"temperature": -0.1}, ValueError, r"`temperature` must be a finite number in \[0, inf"),
        ({"norm_weight": "1"}, TypeError, r"`norm_weight` must be a finite number in \[0, inf"),
    ],
)
def test_invalid_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        GANInversion(**options)


class WholeBatch(nn.Module):
    """Discriminator with one logit for all samples."""

    def forward(self, samples: Tensor) -> Tensor:
        return samples.mean()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"generator": len}, TypeError, "`generator` must be a torch.nn.Module"),
        ({"discriminator": len}, TypeError, "`discriminator` must be a torch.nn.Module"),
        ({"generator": Generator(4, SHAPE, num_classes=3)}, ValueError, "got one of 3 classes"),
        ({"generator": nn.Identity()}, ValueError, "`latent_sampler` must be given for Identity"),
        ({"observed": [1.0]}, TypeError, "must be a tensor of floats, got list"),
        (
            {"observed": torch.zeros(0, 3)},
            ValueError,
            r"must have the shape \(N, ...\) with at",
        ),
        ({"observed": torch.full((1, *SHAPE), torch.nan)}, ValueError, "must be finite, got NaN"),
        ({"degradation": lambda x: x[:, :, :4]}, ValueError, r"images \(3, 1, 8, 8\), got"),
        ({"degradation": lambda x: 0.0}, TypeError, "`degradation` must be a function of samples"),
        ({"degradation": lambda x: x.detach()}, ValueError, "`degradation` must be different"),
        ({"degradation": lambda x: x > 0}, TypeError, "a tensor of floats, got torch.bool"),
        ({"degradation": None}, TypeError, "`degradation` must be a function of samples"),
        ({"discriminator": nn.Conv2d(1, 1, 3)}, ValueError, r"of shape \(24, 1, 6, 6\)"),
        ({"discriminator": WholeBatch()}, ValueError, r"got logits of shape \(\)"),
        ({"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
    ],
)
def test_invalid_arguments_are_refused(change, error, message):
    arguments: dict[str, Any] = {
        "generator": Generator(4, SHAPE),
        "discriminator": Discriminator(SHAPE),
        "observed": torch.zeros(3, *SHAPE),
        "degradation": lambda x: x,
    }
    with pytest.raises(error, match=message):
        GANInversion(candidates=9, steps=1)(**(arguments | change))
