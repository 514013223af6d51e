"""Inpainting by GAN inversion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.linear_gan import LinearGenerator, MeanDiscriminator
from vanillagan import ConvGenerator, Discriminator, Generator
from vanillagan.applications.inversion import GANInversion, inpaint
from vanillagan.applications.inversion.inpainting import context_weights
from vanillagan.data import uniform_latents

SHAPE = (1, 8, 8)
PLAIN = GANInversion(restarts=2, candidates=20, steps=300, prior_weight=0, norm_weight=0)


def test_a_sample_is_recovered_from_its_known_pixels(box):
    generator = LinearGenerator()
    truth = generator(torch.randn(5, 3)).detach()
    damaged = truth.where(~box, torch.nan)
    for blending in (True, False):
        found = inpaint(
            generator, MeanDiscriminator(), damaged, box, blending=blending, inversion=PLAIN, seed=0
        )
        torch.testing.assert_close(found, truth, atol=0.02, rtol=0)


def test_masks_can_differ_between_images(box):
    generator = LinearGenerator()
    truth = generator(torch.randn(3, 3)).detach()
    mask = torch.stack([box, box.roll(2, 0), torch.rand(8, 8) < 0.5])[:, None]
    found = inpaint(
        generator, MeanDiscriminator(), truth.where(~mask, 9.0), mask, inversion=PLAIN, seed=0
    )
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)


def test_images_are_inverted_independently(box):
    generator, images = LinearGenerator(), torch.rand(3, *SHAPE)
    together = inpaint(generator, MeanDiscriminator(), images, box, inversion=PLAIN, seed=0)
    for n in range(3):
        alone = inpaint(
            generator, MeanDiscriminator(), images[n, None], box, inversion=PLAIN, seed=0
        )
        torch.testing.assert_close(together[n, None], alone, atol=1e-3, rtol=0)


def test_probabilities_are_converted_to_logits(box):
    generator, images = LinearGenerator(), torch.rand(3, *SHAPE)
    inversion = GANInversion(candidates=20, steps=20, prior_weight=0.5)
    expected = inpaint(generator, MeanDiscriminator(), images, box, inversion=inversion, seed=0)
    found = inpaint(
        generator,
        nn.Sequential(MeanDiscriminator(), nn.Sigmoid()),
        images,
        box,
        inversion=inversion,
        seed=0,
    )
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_images_must_have_the_shape_of_samples(box):
    networks = Generator(4, (1, 8, 9)), Discriminator((1, 8, 9))
    with pytest.raises(ValueError, match=r"samples \(1, 8, 9\), got \(1, 8, 8\)"):
        inpaint(*networks, torch.zeros(2, *SHAPE), box)


class NoisyGenerator(LinearGenerator):
    """Generator that adds noise to its samples."""

    def forward(self, latents: Tensor) -> Tensor:
        samples = super().forward(latents)
        return samples + torch.randn_like(samples)


def test_seed_makes_the_result_repeatable(box):
    networks = NoisyGenerator(), Discriminator(SHAPE)
    images = torch.rand(3, *SHAPE)
    inversion = GANInversion(candidates=20, steps=3)
    first, second, third, fourth = (
        inpaint(*networks, images, box, inversion=inversion, seed=seed) for seed in (1, 1, 2, None)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(third, fourth)


def test_networks_images_and_random_state_do_not_change(box):
    generator, discriminator = ConvGenerator(4, SHAPE, base_channels=4), Discriminator(SHAPE)
    generator.layers.eval()
    networks = nn.ModuleList([generator, discriminator])
    next(generator.parameters()).requires_grad_(False)
    images = torch.full((2, *SHAPE), 0.5).where(~box, torch.nan)
    modes = [module.training for module in networks.modules()]
    trainable = [weight.requires_grad for weight in networks.parameters()]
    weights = {name: value.clone() for name, value in networks.state_dict().items()}
    state = torch.get_rng_state()
    found = inpaint(*networks, images, box, inversion=GANInversion(candidates=9, steps=2))
    assert found.isfinite().all()
    assert not found.requires_grad
    assert [module.training for module in networks.modules()] == modes
    assert [weight.requires_grad for weight in networks.parameters()] == trainable
    assert all(weight.grad is None for weight in networks.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(dict(networks.state_dict()), weights, rtol=0, atol=0)
    assert images[:, :, 2:6, 2:6].isnan().all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inpainting_works_without_grad_mode(box, mode):
    generator = LinearGenerator()
    latents = torch.randn(2, 3)
    with mode():
        truth = generator(latents)
        found = inpaint(generator, MeanDiscriminator(), truth, box, inversion=PLAIN, seed=0)
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)
    assert not found.requires_grad


def test_float64_networks_and_uniform_latents(box):
    networks = Generator(4, SHAPE).double(), Discriminator(SHAPE).double()
    inversion = GANInversion(candidates=9, steps=2, norm_weight=0)
    found = inpaint(
        *networks,
        torch.rand(2, *SHAPE),
        box,
        inversion=inversion,
        latent_sampler=uniform_latents(4),
    )
    assert found.dtype == torch.float64


def test_networks_can_differ_in_precision(box):
    networks = Generator(4, SHAPE).double(), Discriminator(SHAPE)
    inversion = GANInversion(candidates=9, steps=2)
    assert (
        inpaint(*networks, torch.rand(2, *SHAPE), box, inversion=inversion).dtype == torch.float64
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"generator": len}, TypeError, "`generator` must be a torch.nn.Module"),
        ({"mask": torch.ones(8, 8)}, ValueError, "`mask` must have damaged and known pixels"),
        ({"images": torch.zeros(1, 8, 8)}, ValueError, r"`images` must have the shape \(N, chan"),
        ({"inversion": {"steps": 1}}, TypeError, "`inversion` must be a GANInversion, got {'steps"),
    ],
)
def test_invalid_arguments_are_refused(change, error, message):
    arguments: dict[str, Any] = {
        "generator": Generator(4, SHAPE),
        "discriminator": Discriminator(SHAPE),
        "images": torch.zeros(3, *SHAPE),
        "mask": torch.eye(8),
    }
    with pytest.raises(error, match=message):
        inpaint(**(arguments | change))


# -- weights of known pixels


def test_weights_are_shares_of_damaged_neighbors():
    mask = (torch.rand(2, 1, 6, 9) < 0.3).float()
    found = context_weights(mask, window=5)
    for n, i, j in np.ndindex(2, 6, 9):
        neighbors = mask[n, 0, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
        expected = 0.0 if mask[n, 0, i, j] else float(neighbors.mean())
        assert float(found[n, 0, i, j]) == pytest.approx(expected)


@pytest.mark.parametrize("window", [1, 4])
def test_window_must_be_odd_and_at_least_3(box, window):
    with pytest.raises(ValueError, match="`window` must be an"):
        context_weights(box[None, None], window=window)


def test_weights_need_masks_with_one_channel(box):
    with pytest.raises(ValueError, match=r"`mask` must have the shape \(N, 1, .* got \(8, 8\)"):
        context_weights(box)
