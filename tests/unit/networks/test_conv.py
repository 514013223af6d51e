"""Convolutional networks: sizes of feature maps, patches, projection."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vanillagan import ConvDiscriminator, ConvGenerator


@pytest.mark.parametrize(
    ("sides", "patch_size", "maps"),
    [
        ((32, 32), 1, [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((64, 64), 2, [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((128, 128), 1, [(128, 128), (64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]),
        ((20, 30), 1, [(20, 30), (10, 15), (5, 8), (3, 4)]),
        ((20, 30), 2, [(10, 15), (5, 8), (3, 4)]),
    ],
)
def test_depth_follows_from_the_size_of_images(sides, patch_size, maps):
    generator = ConvGenerator(4, (3, *sides), base_channels=2, patch_size=patch_size)
    discriminator = ConvDiscriminator((3, *sides), base_channels=2, patch_size=patch_size)
    sizes = {generator: [], discriminator: []}
    for network, shapes in sizes.items():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(
                    lambda _module, _inputs, output, shapes=shapes: shapes.append(output.shape[2:])
                )
    discriminator(generator(torch.randn(2, 4)))
    assert sizes[discriminator] == maps
    assert sizes[generator] == [*maps[-2::-1], maps[0]]


@pytest.mark.parametrize(
    ("base_channels", "expected"), [(64, [64, 128, 256, 512, 512]), (600, [600] * 5)]
)
def test_channels_double_up_to_512(base_channels, expected):
    with torch.device("meta"):
        network = ConvDiscriminator((1, 64, 64), base_channels=base_channels)
    channels = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert channels == expected


def test_patches_are_rearranged_pixels():
    images = torch.randn(2, 3, 8, 12)
    discriminator = ConvDiscriminator((3, 8, 12), base_channels=4, patch_size=2)
    patches = discriminator.layers[0](images)
    assert torch.equal(patches[:, :4, 1, 2].flatten(1), images[:, 0, 2:4, 4:6].flatten(1))
    shuffled = ConvGenerator(5, (3, 8, 12), base_channels=4, patch_size=2).layers[-2](patches)
    assert torch.equal(shuffled, images)
    assert discriminator(images).shape == (2,)
    assert str(ConvDiscriminator(**discriminator.config)) == str(discriminator)


def test_a_class_adds_the_projection_of_its_embedding():
    network = ConvDiscriminator((1, 8, 8), base_channels=4, num_classes=3)
    samples, labels = torch.randn(5, 1, 8, 8), torch.tensor([2, 0, 1, 1, 2])
    features = network.layers(samples)
    assert features.shape == (5, 8 * 4 * 4)
    projection = (network.embedding.weight[labels] * features).sum(1) / (8 * 4 * 4) ** 0.5
    expected = features @ network.head.weight[0] + network.head.bias + projection
    torch.testing.assert_close(network(samples, labels), expected)


@pytest.mark.parametrize(
    ("network", "arguments", "error", "message"),
    [
        (ConvGenerator, {"base_channels": 0}, ValueError, "`base_channels` must be a positive int"),
        (ConvGenerator, {"sample_shape": ()}, ValueError, "`sample_shape` must have at least one"),
        (ConvGenerator, {"sample_shape": (784,)}, ValueError, "`sample_shape` must be .channels"),
        (ConvGenerator, {"patch_size": 0}, ValueError, "`patch_size` must be a positive integer"),
        (ConvGenerator, {"patch_size": 3}, ValueError, "`patch_size` must .* got 3 for .1, 28, 28"),
        (ConvGenerator, {"output": "none"}, ValueError, "`output` must be one of 'tanh', 'linear'"),
        (ConvDiscriminator, {"patch_size": 8}, ValueError, "`patch_size` must divide the height"),
        (ConvDiscriminator, {"base_channels": 2.0}, TypeError, "`base_channels` must be a positi"),
        (ConvDiscriminator, {"sample_shape": (2, 2)}, ValueError, "`sample_shape` must be .chann"),
    ],
)
def test_an_invalid_argument_is_named(network, arguments, error, message):
    with pytest.raises(error, match=message):
        network(**arguments)
