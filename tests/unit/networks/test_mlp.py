"""MLP generator and discriminator against the reference implementation's layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vanillagan import Discriminator, Generator


def reference_generator(*norm: float) -> nn.Sequential:
    """Return the layers of the reference's generator, with `nn.BatchNorm1d(width, *norm)`."""
    return nn.Sequential(
        nn.Linear(100, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 256),
        nn.BatchNorm1d(256, *norm),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 512),
        nn.BatchNorm1d(512, *norm),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 1024),
        nn.BatchNorm1d(1024, *norm),
        nn.LeakyReLU(0.2),
        nn.Linear(1024, 784),
        nn.Tanh(),
    )


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    for copied, weight in zip(target.parameters(), source.parameters(), strict=True):
        copied.data.copy_(weight.data)


def count_parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("norm", "options"),
    [((1e-5, 0.2), {}), ((0.8,), {"norm_eps": 0.8, "norm_momentum": 0.1})],
    ids=["momentum-as-meant", "eps-as-written"],
)
def test_the_generator_equals_the_reference(norm, options):
    reference, generator = reference_generator(*norm), Generator(**options)
    copy_weights(reference, generator)
    latents = torch.randn(16, 100)
    torch.testing.assert_close(generator(latents), reference(latents).view(16, 1, 28, 28))
    torch.testing.assert_close(generator.eval()(latents).flatten(1), reference.eval()(latents))


def test_the_discriminator_equals_the_reference():
    reference = nn.Sequential(
        nn.Linear(784, 512),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
        nn.Sigmoid(),
    )
    discriminator = Discriminator()
    copy_weights(reference, discriminator)
    images = torch.rand(16, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(
        discriminator.probability(images), reference(images.flatten(1)).squeeze(1)
    )


def test_the_numbers_of_parameters_are_the_reference_s():
    # (in + 1) * out for a Linear, 2 * width for a BatchNorm
    generator = [
        101 * 128,
        129 * 256 + 2 * 256,
        257 * 512 + 2 * 512,
        513 * 1024 + 2 * 1024,
        1025 * 784,
    ]
    assert count_parameters(Generator()) == sum(generator) == 1_510_032
    assert count_parameters(Discriminator()) == 785 * 512 + 513 * 256 + 257 == 533_505


def test_classes_widen_the_first_layer_alone():
    assert count_parameters(Generator(num_classes=10)) == 1_510_032 + 10 * 128
    assert count_parameters(Discriminator(num_classes=10)) == 533_505 + 10 * 512


def test_mlps_without_hidden_layers_are_linear():
    generator = Generator(3, (2, 2), hidden=(), output="linear")
    discriminator = Discriminator((2, 2), hidden=())
    latents, samples = torch.randn(5, 3), torch.randn(5, 2, 2)
    weight, bias = generator.parameters()
    torch.testing.assert_close(generator(latents), (latents @ weight.T + bias).view(5, 2, 2))
    weight, bias = discriminator.parameters()
    torch.testing.assert_close(discriminator(samples), samples.flatten(1) @ weight[0] + bias)


def test_dropout_applies_in_training_alone():
    discriminator = Discriminator((3, 4), hidden=(64,), dropout=0.5)
    samples = torch.randn(5, 3, 4)
    assert not torch.equal(discriminator(samples), discriminator(samples))
    discriminator.eval()
    assert torch.equal(discriminator(samples), discriminator(samples))


@pytest.mark.parametrize(
    ("network", "arguments", "error", "message"),
    [
        (Generator, {"latent_dim": 0}, ValueError, "`latent_dim` must be a positive integer"),
        (Generator, {"latent_dim": 1.5}, TypeError, "`latent_dim` must be a positive integer"),
        (Generator, {"latent_dim": True}, TypeError, "`latent_dim` must be a positive integer"),
        (Generator, {"hidden": (8, 0)}, ValueError, r"`hidden\[1\]` must be a positive integer"),
        (Generator, {"hidden": 128}, TypeError, "`hidden` must be a tuple of positive integers"),
        (Generator, {"output": "sigmoid"}, ValueError, "`output` must be one of 'tanh', 'linear'"),
        (Generator, {"norm_eps": 0}, ValueError, "`norm_eps` must be a finite number"),
        (Generator, {"norm_momentum": 1.2}, ValueError, "`norm_momentum` must be a finite number"),
        (Generator, {"num_classes": -1}, ValueError, "`num_classes` must be a non-negative int"),
        (Discriminator, {"sample_shape": (1, -28, 28)}, ValueError, r"`sample_shape\[1\]` must be"),
        (Discriminator, {"sample_shape": ()}, ValueError, "`sample_shape` must have at least one"),
        (Discriminator, {"sample_shape": 784}, TypeError, "`sample_shape` must be a tuple of"),
        (Discriminator, {"dropout": 1.0}, ValueError, r"`dropout` must be .* \[0, 1\), got 1.0"),
    ],
)
def test_an_invalid_argument_is_named(network, arguments, error, message):
    with pytest.raises(error, match=message):
        network(**arguments)
