"""Text networks: Gumbel-softmax, straight-through gradients, arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from vanillagan.networks import ResidualBlock, TextDiscriminator, TextGenerator
from vanillagan.sampling import draw_samples

SHAPE = (7, 5)


def generator(**options: Any) -> TextGenerator:
    return TextGenerator(4, SHAPE, **({"channels": 8, "blocks": 1} | options))


def discriminator(**options: Any) -> TextDiscriminator:
    return TextDiscriminator(SHAPE, **({"channels": 8, "blocks": 1} | options))


def is_one_hot(samples: Tensor) -> bool:
    return bool(((samples == 0) | (samples == 1)).all() and (samples.sum(2) == 1).all())


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_networks_fit_together(blocks, num_classes):
    labels = [torch.tensor([0, 1, 2])] if num_classes else []
    options = {"blocks": blocks, "num_classes": num_classes}
    samples = generator(**options)(torch.randn(3, 4), *labels)
    logits = discriminator(**options)(samples, *labels)
    assert logits.shape == (3,)
    logits.sum().backward()


def test_a_residual_block_adds_three_tenths():
    block, x = ResidualBlock(6), torch.randn(2, 6, 9)
    torch.testing.assert_close(block(x), x + 0.3 * block.layers(x))


@pytest.mark.parametrize("training", [True, False])
def test_gumbel_samples_are_one_hot(training):
    assert is_one_hot(generator().train(training)(torch.randn(50, 4)))


def test_softmax_samples_are_one_hot_in_eval_mode_alone():
    network = generator(output="softmax")
    latents = torch.randn(9, 4)
    soft, hard = network(latents), network.eval()(latents)
    torch.testing.assert_close(soft, network.logits(latents).softmax(2))
    assert is_one_hot(hard)
    assert torch.equal(hard.argmax(2), soft.argmax(2))


def test_gumbel_tokens_follow_the_softmax_of_the_logits():
    torch.manual_seed(1)
    network = generator(temperature=0.3)
    latents = torch.randn(1, 4)
    shares = network.logits(latents).softmax(2)[0, 2].detach().double()
    counts = network(latents.expand(20_000, -1))[:, 2].sum(0).detach()
    expected = 20_000 * shares / shares.sum()
    assert chisquare(counts.tolist(), expected.tolist()).pvalue > 0.01


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_gradient_is_that_of_the_softmax(temperature):
    network = generator(temperature=temperature).double()
    latents, direction = torch.randn(6, 4).double(), torch.randn(6, *SHAPE).double()
    torch.manual_seed(5)
    (network(latents) * direction).sum().backward()
    gradient = network.layers[0].weight.grad.clone()
    network.zero_grad()
    torch.manual_seed(5)
    noise = -torch.empty(6, *SHAPE).double().exponential_().log()
    soft = ((network.logits(latents) + noise) / temperature).softmax(2)
    (soft * direction).sum().backward()
    torch.testing.assert_close(gradient, network.layers[0].weight.grad)


def test_the_temperature_may_be_annealed():
    network, latents = generator(), torch.randn(6, 4)
    gradients = []
    for network.temperature in (0.5, 5.0):
        torch.manual_seed(0)
        network.zero_grad()
        network(latents)[:, 0, 0].sum().backward()
        gradients.append(network.layers[0].weight.grad.clone())
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_eval_mode_draws_at_the_sampling_temperature(temperature):
    torch.manual_seed(1)
    network = generator().eval()
    network.sampling_temperature = temperature
    latents = torch.randn(1, 4)
    shares = (network.logits(latents)[0, 2].detach().double() / temperature).softmax(0)
    counts = network(latents.expand(20_000, -1))[:, 2].sum(0).detach()
    assert chisquare(counts.tolist(), (20_000 * shares / shares.sum()).tolist()).pvalue > 0.01


def test_a_sampling_temperature_of_0_takes_the_likeliest_tokens_in_eval_mode():
    network, latents = generator(), torch.randn(200, 4)
    network.sampling_temperature = 0.0
    likeliest = network.logits(latents).argmax(2)
    assert not torch.equal(network(latents).argmax(2), likeliest)  # training draws all the same
    assert torch.equal(network.eval()(latents).argmax(2), likeliest)


def test_an_invalid_sampling_temperature_is_refused_where_it_is_set():
    network = generator()
    with pytest.raises(ValueError, match="`sampling_temperature` must be a finite number in"):
        network.sampling_temperature = -1
    assert network.sampling_temperature == 1


def test_a_seed_repeats_latents_and_gumbel_noise():
    network = generator()
    state = torch.get_rng_state()
    assert torch.equal(network.sample(20, seed=1), network.sample(20, seed=1))
    assert not torch.equal(network.sample(20, seed=1), network.sample(20, seed=2))
    latents = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).expand(20, -1)
    drawn = draw_samples(network, 20, latents=latents, seed=3)
    assert len({tuple(row.flatten().tolist()) for row in drawn}) > 1  # the noise differs
    assert torch.equal(torch.get_rng_state(), state)


def test_the_logit_depends_on_the_position_of_tokens():
    network = discriminator()
    samples = generator()(torch.randn(6, 4)).detach()
    assert not torch.allclose(network(samples), network(samples.roll(1, dims=1)))


def test_bfloat16_generators_draw_float32_noise():
    network, latents = generator().bfloat16(), torch.randn(500, 4).bfloat16()
    torch.manual_seed(5)
    samples = network(latents)
    torch.manual_seed(5)
    noise = -torch.empty(500, *SHAPE).exponential_().log()
    assert torch.equal(samples.argmax(2), (network.logits(latents).float() + noise).argmax(2))
    assert is_one_hot(samples)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TextGenerator(4, (7,)), ValueError, r"`sample_shape` must be \(length, tokens\)"),
        (lambda: TextDiscriminator((1, 7, 5)), ValueError, r"`sample_shape` must be \(length, tok"),
        (lambda: generator(channels=0), ValueError, "`channels` must be a positive integer, got 0"),
        (lambda: generator(blocks=-1), ValueError, "`blocks` must be a non-negative integer"),
        (lambda: discriminator(channels=0), ValueError, "`channels` must be a positive integer"),
        (lambda: discriminator(blocks=1.5), TypeError, "`blocks` must be a non-negative integer"),
        (lambda: generator(output="hard"), ValueError, "`output` must be one of 'gumbel', 'soft"),
        (lambda: generator(temperature=0), ValueError, r"`temperature` must be a finite number in"),
    ],
)
def test_an_invalid_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
