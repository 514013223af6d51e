"""The four networks: what they share, the source's layers, and the blocks alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vanillagan import ConvDiscriminator, ConvGenerator, Discriminator, Generator
from vanillagan.networks import (
    DownBlock,
    Linear,
    LinearBlock,
    TextDiscriminator,
    TextGenerator,
    UpBlock,
)
from vanillagan.networks.blocks import ends_in_sigmoid, has_batch_norm, scores_samples_alone

LATENT_DIM = 6
GENERATORS = {Generator: {"hidden": (8, 12)}, ConvGenerator: {"width": 4}}
DISCRIMINATORS = {Discriminator: {"hidden": (8, 12)}, ConvDiscriminator: {"width": 4}}
SHAPES = {
    "perceptron": [(2,), (1, 28, 28), (3, 20, 30), (2, 1, 3, 4)],
    "convolutional": [(1, 28, 28), (3, 20, 30), (1, 1, 1), (1, 2, 64)],
}


def each(networks: dict[type[nn.Module], Any]) -> list[Any]:
    """A pair (class, sample shape) for each shape that the class is tried on."""
    return [
        pytest.param(network, shape, id=f"{network.__name__}-{'x'.join(map(str, shape))}")
        for network in networks
        for shape in SHAPES["convolutional" if "Conv" in network.__name__ else "perceptron"]
    ]


every_generator = pytest.mark.parametrize("network", GENERATORS)
every_discriminator = pytest.mark.parametrize("network", DISCRIMINATORS)
every_generator_and_shape = pytest.mark.parametrize(("network", "shape"), each(GENERATORS))
every_discriminator_and_shape = pytest.mark.parametrize(("network", "shape"), each(DISCRIMINATORS))
conditional_or_not = pytest.mark.parametrize(
    "num_classes", [0, 3], ids=["unconditional", "conditional"]
)


def make(
    network: type[nn.Module], shape: tuple[int, ...] = (1, 4, 5), *, num_classes: int = 0, **options
) -> nn.Module:
    """A small network of the class."""
    if network in GENERATORS:
        options = GENERATORS[network] | options
        return network(LATENT_DIM, shape, num_classes=num_classes, **options)
    return network(shape, num_classes=num_classes, **(DISCRIMINATORS[network] | options))


def inputs_of(network: nn.Module, n: int = 5) -> tuple[Tensor, ...]:
    """Latents or samples, and labels where the network takes them."""
    shape = getattr(network, "latent_dim", None)
    first = torch.randn(n, *(network.sample_shape if shape is None else (shape,)))
    labels = torch.arange(n) % max(network.num_classes, 1)
    return (first, labels) if network.num_classes else (first,)


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


# -- the contract of generators --------------------------------------------------------------------


@every_generator_and_shape
@conditional_or_not
def test_a_generator_turns_latents_into_samples_within_minus_1_and_1(network, shape, num_classes):
    generator = make(network, shape, num_classes=num_classes)
    latent, *labels = inputs_of(generator)
    samples = generator(latent * 100, *labels)
    assert samples.shape == (5, *shape)
    assert samples.dtype == torch.float32
    assert samples.abs().max() <= 1


@every_generator
def test_a_linear_output_has_no_bounds(network):
    generator = make(network, output="linear").eval()
    assert generator(1e4 * torch.randn(5, LATENT_DIM)).abs().max() > 1


@every_generator
def test_a_tanh_output_is_the_tanh_of_the_linear_one(network):
    squashed, linear = make(network).eval(), make(network, output="linear").eval()
    linear.load_state_dict(squashed.state_dict())
    latent = torch.randn(5, LATENT_DIM)
    torch.testing.assert_close(squashed(latent), linear(latent).tanh())


@every_generator
def test_a_generator_refuses_latents_of_another_shape(network):
    generator = make(network)
    for shape in [(5, LATENT_DIM + 1), (LATENT_DIM,), (5, LATENT_DIM, 1), ()]:
        with pytest.raises(ValueError, match=r"`latent` must have the shape \(N, 6\), got"):
            generator(torch.zeros(shape))
    with pytest.raises(TypeError, match="`latent` must be a tensor, got list"):
        generator([[0.0] * LATENT_DIM])


@every_generator
def test_a_generator_draws_its_own_samples(network):
    generator = make(network, num_classes=3)
    samples = generator.sample(4, labels=[0, 1, 2, 0], seed=1)
    assert samples.shape == (4, 1, 4, 5)
    assert not samples.requires_grad


# -- the contract of discriminators ----------------------------------------------------------------


@every_discriminator_and_shape
@conditional_or_not
def test_a_discriminator_gives_one_logit_for_each_sample(network, shape, num_classes):
    discriminator = make(network, shape, num_classes=num_classes)
    logits = discriminator(*inputs_of(discriminator))
    assert logits.shape == (5,)
    assert logits.dtype == torch.float32


@every_discriminator
@conditional_or_not
def test_a_probability_is_the_logistic_function_of_the_logit(network, num_classes):
    discriminator = make(network, num_classes=num_classes)
    inputs = inputs_of(discriminator)
    expected = [1 / (1 + math.exp(-logit)) for logit in discriminator(*inputs).tolist()]
    assert discriminator.probability(*inputs).tolist() == pytest.approx(expected)


@every_discriminator
def test_a_logit_is_that_of_its_sample_alone(network):
    discriminator = make(network)
    (samples,) = inputs_of(discriminator)
    alone = torch.cat([discriminator(sample[None]) for sample in samples])
    torch.testing.assert_close(discriminator(samples), alone)


@every_discriminator
def test_a_discriminator_refuses_samples_of_another_shape(network):
    discriminator = make(network)
    for shape in [(5, 1, 5, 4), (1, 4, 5), (5, 20), ()]:
        with pytest.raises(ValueError, match=r"`samples` must have the shape \(N, 1, 4, 5\), got"):
            discriminator(torch.zeros(shape))
    with pytest.raises(TypeError, match="`samples` must be a tensor, got NoneType"):
        discriminator(None)


def test_dropout_is_drawn_in_training_alone():
    discriminator = Discriminator((3, 4), hidden=(64,), dropout=0.5)
    samples = torch.randn(5, 3, 4)
    assert not torch.equal(discriminator(samples), discriminator(samples))
    discriminator.eval()
    assert torch.equal(discriminator(samples), discriminator(samples))


# -- the contract of both --------------------------------------------------------------------------

ALL = {**GENERATORS, **DISCRIMINATORS}
every_network = pytest.mark.parametrize("network", ALL)


@pytest.mark.parametrize(("network", "shape"), each(ALL))
@conditional_or_not
def test_the_gradient_reaches_every_weight(network, shape, num_classes):
    player = make(network, shape, num_classes=num_classes)
    output = player(*inputs_of(player, n=8))
    (output * torch.randn_like(output)).sum().backward()
    for name, weight in player.named_parameters():
        assert weight.grad.isfinite().all(), name
        if weight.dim() > 1:
            assert weight.grad.abs().sum() > 0, name


@every_network
def test_the_gradient_reaches_the_input(network):
    player = make(network)
    (inputs,) = inputs_of(player)
    inputs.requires_grad_()
    player(inputs).square().sum().backward()
    assert (inputs.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (Generator, {}),
        (Generator, {"num_classes": 3, "output": "linear"}),
        (Generator, {"norm_eps": 0.8, "norm_momentum": 0.1}),
        (ConvGenerator, {"num_classes": 3, "output": "linear"}),
        (Discriminator, {"num_classes": 3, "dropout": 0.25}),
        (Generator, {"hidden": (), "num_classes": 3}),
        (Discriminator, {"hidden": ()}),
        (ConvDiscriminator, {"num_classes": 3}),
    ],
)
def test_a_config_rebuilds_the_same_network(network, options):
    original = make(network, **options)
    rebuilt = network(**original.config)
    assert str(rebuilt) == str(original)
    assert rebuilt.config == original.config
    rebuilt.load_state_dict(original.state_dict())
    inputs = inputs_of(original)
    assert torch.equal(rebuilt.eval()(*inputs), original.eval()(*inputs))


@pytest.mark.parametrize(
    ("sides", "patch", "maps"),
    [
        ((32, 32), 1, [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((64, 64), 2, [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((128, 128), 1, [(128, 128), (64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]),
        ((20, 30), 1, [(20, 30), (10, 15), (5, 8), (3, 4)]),
        ((20, 30), 2, [(10, 15), (5, 8), (3, 4)]),
    ],
)
def test_convolutional_networks_are_as_deep_as_the_size_asks_for(sides, patch, maps):
    generator = ConvGenerator(4, (3, *sides), width=2, patch=patch)
    discriminator = ConvDiscriminator((3, *sides), width=2, patch=patch)
    seen = {generator: [], discriminator: []}
    for network, shapes in seen.items():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(
                    lambda _module, _inputs, output, shapes=shapes: shapes.append(output.shape[2:])
                )
    discriminator(generator(torch.randn(2, 4)))
    assert seen[discriminator] == maps
    assert seen[generator] == [*maps[-2::-1], maps[0]]


def test_a_patch_is_moved_between_pixels_and_channels_unchanged():
    images = torch.randn(2, 3, 8, 12)
    discriminator = ConvDiscriminator((3, 8, 12), width=4, patch=2)
    patches = discriminator.layers[0](images)
    assert torch.equal(patches[:, :4, 1, 2].flatten(1), images[:, 0, 2:4, 4:6].flatten(1))
    shuffled = ConvGenerator(5, (3, 8, 12), width=4, patch=2).layers[-2](patches)
    assert torch.equal(shuffled, images)
    assert discriminator(images).shape == (2,)
    assert str(ConvDiscriminator(**discriminator.config)) == str(discriminator)


def test_perceptrons_without_hidden_layers_are_linear():
    generator = Generator(3, (2, 2), hidden=(), output="linear")
    discriminator = Discriminator((2, 2), hidden=())
    latent, samples = torch.randn(5, 3), torch.randn(5, 2, 2)
    weight, bias = generator.parameters()
    torch.testing.assert_close(generator(latent), (latent @ weight.T + bias).view(5, 2, 2))
    weight, bias = discriminator.parameters()
    torch.testing.assert_close(discriminator(samples), samples.flatten(1) @ weight[0] + bias)


@every_network
def test_a_network_tells_its_sizes(network):
    player = make(network, (1, 4, 5), num_classes=3)
    assert player.sample_shape == (1, 4, 5)
    assert player.num_classes == 3
    assert getattr(player, "latent_dim", None) == (LATENT_DIM if network in GENERATORS else None)


@every_network
def test_a_sample_shape_may_be_any_sequence_of_sizes(network):
    assert make(network, [1, 4, 5]).sample_shape == (1, 4, 5)
    assert make(network, torch.Size([1, 4, 5])).config["sample_shape"] == (1, 4, 5)


@every_network
def test_float64_stays_float64(network):
    player = make(network, num_classes=3).double()
    inputs, labels = inputs_of(player)
    assert player(inputs.double(), labels).dtype == torch.float64


@every_network
def test_the_class_matters_to_a_conditional_network(network):
    player = make(network, num_classes=3).eval()
    inputs, _ = inputs_of(player)
    zeros = torch.zeros(len(inputs), dtype=torch.long)
    assert not torch.allclose(player(inputs, zeros), player(inputs, zeros + 1))


@every_network
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str
)
def test_labels_may_be_integers_of_any_width(network, dtype):
    player = make(network, num_classes=3).eval()
    inputs, labels = inputs_of(player)
    assert torch.equal(player(inputs, labels.to(dtype)), player(inputs, labels))


@every_network
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "`labels` must be given to a network conditioned on 3 classes, got"),
        (torch.zeros(5), TypeError, "`labels` must be a tensor of integers, got torch.float32"),
        (torch.zeros(5) > 0, TypeError, "`labels` must be a tensor of integers, got torch.bool"),
        ([0, 1, 2, 0, 1], TypeError, "`labels` must be a tensor of integers, got"),
        (torch.arange(4) % 3, ValueError, r"`labels` must have the shape \(5,\), got \(4,\)"),
        (torch.eye(5).long(), ValueError, r"`labels` must have the shape \(5,\), got \(5, 5\)"),
        (torch.arange(5), ValueError, r"`labels` must lie in \[0, 2\], got labels from 0 to 4"),
        (torch.arange(5) - 3, ValueError, r"`labels` must lie in \[0, 2\], got labels from -3"),
    ],
    ids=["none", "floats", "bools", "list", "too-few", "one-hot", "too-high", "negative"],
)
def test_a_conditional_network_refuses_wrong_labels(network, labels, error, message):
    player = make(network, num_classes=3)
    with pytest.raises(error, match=message):
        player(inputs_of(player)[0], labels)


@every_network
def test_an_unconditional_network_refuses_labels(network):
    player = make(network)
    with pytest.raises(ValueError, match="`labels` must be None for an unconditional network"):
        player(*inputs_of(player), torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize(
    ("network", "arguments", "error", "message"),
    [
        (Generator, {"latent_dim": 0}, ValueError, "`latent_dim` must be a positive integer"),
        (Generator, {"latent_dim": 1.5}, TypeError, "`latent_dim` must be a positive integer"),
        (Generator, {"latent_dim": True}, TypeError, "`latent_dim` must be a positive integer"),
        (Generator, {"hidden": (8, 0)}, ValueError, r"`hidden\[1\]` must be a positive integer"),
        (
            LinearBlock,
            {"in_features": 2, "out_features": 2, "normalize": False, "norm_eps": -1},
            ValueError,
            "`norm_eps` must be a finite number",
        ),
        (ConvGenerator, {"sample_shape": ()}, ValueError, "`sample_shape` must have at least one"),
        (Generator, {"hidden": 128}, TypeError, "`hidden` must be a tuple of positive integers"),
        (Generator, {"output": "sigmoid"}, ValueError, "`output` must be one of 'tanh', 'linear'"),
        (Generator, {"norm_eps": 0}, ValueError, "`norm_eps` must be a finite number"),
        (Generator, {"norm_momentum": 1.2}, ValueError, "`norm_momentum` must be a finite number"),
        (Generator, {"num_classes": -1}, ValueError, "`num_classes` must be a non-negative int"),
        (Discriminator, {"sample_shape": (1, -28, 28)}, ValueError, r"`sample_shape\[1\]` must be"),
        (Discriminator, {"sample_shape": ()}, ValueError, "`sample_shape` must have at least one"),
        (Discriminator, {"sample_shape": 784}, TypeError, "`sample_shape` must be a tuple of"),
        (Discriminator, {"dropout": 1.0}, ValueError, r"`dropout` must be .* \[0, 1\), got 1.0"),
        (ConvGenerator, {"width": 0}, ValueError, "`width` must be a positive integer, got 0"),
        (ConvGenerator, {"sample_shape": (784,)}, ValueError, "`sample_shape` must be .channels"),
        (ConvGenerator, {"patch": 0}, ValueError, "`patch` must be a positive integer, got 0"),
        (ConvGenerator, {"patch": 3}, ValueError, "`patch` must divide .* got 3 for .1, 28, 28"),
        (ConvDiscriminator, {"patch": 8}, ValueError, "`patch` must divide the height and width"),
        (ConvGenerator, {"output": "none"}, ValueError, "`output` must be one of 'tanh', 'linear'"),
        (ConvDiscriminator, {"width": 2.0}, TypeError, "`width` must be a positive integer"),
        (ConvDiscriminator, {"sample_shape": (2, 2)}, ValueError, "`sample_shape` must be .chann"),
    ],
)
def test_a_wrong_argument_is_named(network, arguments, error, message):
    with pytest.raises(error, match=message):
        network(**arguments)


# -- export ----------------------------------------------------------------------------------------

EXPORTED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Generator": (lambda c: Generator(6, (1, 4, 5), hidden=(8, 12), num_classes=c), (6,)),
    "ConvGenerator": (lambda c: ConvGenerator(6, (3, 8, 6), width=4, num_classes=c), (6,)),
    "ConvGenerator of patches": (
        lambda c: ConvGenerator(6, (1, 16, 16), width=4, patch=2, num_classes=c),
        (6,),
    ),
    "TextGenerator": (
        lambda c: TextGenerator(6, (5, 3), width=4, blocks=1, num_classes=c, output="softmax"),
        (6,),
    ),
    "Discriminator": (lambda c: Discriminator((1, 4, 5), hidden=(8,), num_classes=c), (1, 4, 5)),
    "wide Discriminator": (
        lambda c: Discriminator((1, 32, 32), hidden=(512,), num_classes=c),
        (1, 32, 32),
    ),
    "ConvDiscriminator": (
        lambda c: ConvDiscriminator((3, 8, 6), width=4, num_classes=c),
        (3, 8, 6),
    ),
    "TextDiscriminator": (
        lambda c: TextDiscriminator((5, 3), width=4, blocks=1, num_classes=c),
        (5, 3),
    ),
}


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("name", EXPORTED)
@conditional_or_not
def test_an_exported_network_takes_batches_of_any_size(name, num_classes, strict):
    make_network, shape = EXPORTED[name]
    network = make_network(num_classes).eval()

    def inputs(count: int) -> tuple[Tensor, ...]:
        labels = torch.arange(count) % max(num_classes, 1)
        return (torch.randn(count, *shape), labels)[: 2 if num_classes else 1]

    first = "latent" if "Generator" in name else "samples"
    free = {0: torch.export.Dim("n")}
    program = torch.export.export(
        network,
        inputs(3),
        dynamic_shapes={first: free, "labels": free} if num_classes else {first: free},
        strict=strict,
    )
    exported = program.module()
    for count in (2, 7):
        batch = inputs(count)
        torch.testing.assert_close(exported(*batch), network(*batch))


def test_labels_out_of_range_are_still_refused_outside_an_export():
    network = Generator(6, (2,), hidden=(8,), num_classes=3).eval()
    free = {0: torch.export.Dim("n")}
    example = (torch.randn(3, 6), torch.tensor([0, 1, 2]))
    torch.export.export(network, example, dynamic_shapes={"latent": free, "labels": free})
    with pytest.raises(ValueError, match=r"`labels` must lie in \[0, 2\]"):
        network(torch.randn(2, 6), torch.tensor([0, 3]))


# -- the source's networks -------------------------------------------------------------------------


def source_generator(*norm: float) -> nn.Sequential:
    """The layers of the source's generator, `nn.BatchNorm1d(width, *norm)`."""
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
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        mine.data.copy_(theirs.data)


@pytest.mark.parametrize(
    ("norm", "options"),
    [((1e-5, 0.2), {}), ((0.8,), {"norm_eps": 0.8, "norm_momentum": 0.1})],
    ids=["as its text means it", "as its code is written"],
)
def test_the_generator_is_the_sources(norm, options):
    source, generator = source_generator(*norm), Generator(**options)
    copy_weights(source, generator)
    latent = torch.randn(16, 100)
    torch.testing.assert_close(generator(latent), source(latent).view(16, 1, 28, 28))
    torch.testing.assert_close(generator.eval()(latent).flatten(1), source.eval()(latent))


def test_the_discriminator_is_the_sources():
    source = nn.Sequential(
        nn.Linear(784, 512),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
        nn.Sigmoid(),
    )
    discriminator = Discriminator()
    copy_weights(source, discriminator)
    images = torch.rand(16, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(
        discriminator.probability(images), source(images.flatten(1)).squeeze(1)
    )


def test_the_default_networks_have_as_many_weights_as_the_sources():
    # (in + 1) * out for a Linear, 2 * width for a BatchNorm
    generator = [
        101 * 128,
        129 * 256 + 2 * 256,
        257 * 512 + 2 * 512,
        513 * 1024 + 2 * 1024,
        1025 * 784,
    ]
    assert parameters(Generator()) == sum(generator) == 1_510_032
    assert parameters(Discriminator()) == 785 * 512 + 513 * 256 + 257 == 533_505


def test_classes_widen_the_first_layer_alone():
    assert parameters(Generator(num_classes=10)) == 1_510_032 + 10 * 128
    assert parameters(Discriminator(num_classes=10)) == 533_505 + 10 * 512


# -- blocks ----------------------------------------------------------------------------------------


def test_a_linear_block_is_linear_norm_slope_dropout():
    kinds = [type(layer) for layer in LinearBlock(3, 4, dropout=0.1)]
    assert kinds == [Linear, nn.BatchNorm1d, nn.LeakyReLU, nn.Dropout]
    assert [type(layer) for layer in LinearBlock(3, 4, normalize=False)] == kinds[::2]


def test_a_linear_block_passes_its_numbers_on():
    block = LinearBlock(3, 4, norm_eps=0.8, norm_momentum=0.3, negative_slope=0.5, dropout=0.25)
    assert (block[0].in_features, block[0].out_features) == (3, 4)
    assert (block[1].eps, block[1].momentum) == (0.8, 0.3)
    assert block[2].negative_slope == 0.5
    assert block[3].p == 0.25


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (20, 31)])
def test_an_up_block_reaches_any_size(size):
    assert UpBlock(3, 5, size)(torch.randn(2, 3, 4, 5)).shape == (2, 5, *size)


@pytest.mark.parametrize(
    ("size", "half"), [((1, 1), (1, 1)), ((2, 3), (1, 2)), ((28, 7), (14, 4))], ids=str
)
def test_a_down_block_halves_both_sides_rounding_up(size, half):
    assert DownBlock(3, 5)(torch.randn(2, 3, *size)).shape == (2, 5, *half)


@pytest.mark.parametrize(
    ("block", "arguments", "message"),
    [
        (LinearBlock, (0, 4), "`in_features` must be a positive integer, got 0"),
        (LinearBlock, (4, -1), "`out_features` must be a positive integer, got -1"),
        (UpBlock, (0, 4, (2, 2)), "`in_channels` must be a positive integer, got 0"),
        (UpBlock, (4, 0, (2, 2)), "`out_channels` must be a positive integer, got 0"),
        (UpBlock, (4, 4, (0, 2)), r"`size\[0\]` must be a positive integer, got 0"),
        (DownBlock, (0, 4), "`in_channels` must be a positive integer, got 0"),
        (DownBlock, (4, 0), "`out_channels` must be a positive integer, got 0"),
    ],
)
def test_a_block_names_a_wrong_argument(block, arguments, message):
    with pytest.raises(ValueError, match=message):
        block(*arguments)


# -- what the trainer asks of a network ------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Generator(2, (2,), hidden=(4, 4)), True),
        (Generator(2, (2,), hidden=(4,)), False),
        (ConvGenerator(2, (1, 2, 2), width=2), True),
        (Discriminator((2,), hidden=(4,)), False),
        (ConvDiscriminator((1, 2, 2), width=2), False),
        (nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), True),
        (nn.SyncBatchNorm(2), True),
        (nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2)), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_batch_norm_is_found_at_any_depth(network, expected):
    assert has_batch_norm(network) is expected


class Centred(nn.Module):
    """A layer that mixes the samples of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class MyDiscriminator(Discriminator):
    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = super().forward(samples, labels)
        return logits - logits.mean()


class MySequential(nn.Sequential):
    pass


class SaysSo(nn.Sequential):
    independent_samples = True


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Discriminator((2,), dropout=0.5), True),
        (ConvDiscriminator((1, 2, 2), width=2), True),
        (nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.LayerNorm(2), nn.ReLU()), True),
        (LinearBlock(2, 2, normalize=False), True),
        (SaysSo(nn.Linear(2, 1)), True),
        (LinearBlock(2, 2), False),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), False),
        (nn.Sequential(nn.Linear(2, 2), Centred()), False),
        (SaysSo(nn.Linear(2, 2), Centred()), False),
        (SaysSo(nn.BatchNorm1d(2)), False),
        (MySequential(nn.Linear(2, 1)), False),
        (MyDiscriminator((2,)), False),
    ],
)
def test_samples_are_scored_together_only_where_none_surely_reads_another(network, expected):
    assert scores_samples_alone(network) is expected


class WithModel(nn.Module):
    """The shape of the source's discriminator."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, samples: Tensor) -> Tensor:
        return self.model(samples.flatten(1))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (WithModel(nn.Linear(2, 1), nn.Sigmoid()), True),
        (WithModel(nn.Linear(2, 1)), False),
        (nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), True),
        (nn.Sequential(nn.Linear(2, 1), nn.Sequential(nn.Identity(), nn.Sigmoid())), True),
        (nn.Sequential(nn.Sigmoid(), nn.Linear(2, 1)), False),
        (nn.Sequential(nn.Linear(2, 1), nn.LogSigmoid()), False),
        (nn.Linear(2, 1), False),
        (Discriminator((2,)), False),
        (ConvDiscriminator((1, 2, 2), width=2), False),
    ],
)
def test_a_sigmoid_is_found_where_the_network_ends_in_it(network, expected):
    assert ends_in_sigmoid(network) is expected


@pytest.mark.parametrize("last", [nn.Flatten(0), nn.Unflatten(1, (1, 1)), nn.Identity()], ids=str)
def test_a_sigmoid_is_found_before_a_layer_that_only_reshapes(last):
    assert ends_in_sigmoid(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid(), last))


def test_a_sigmoid_is_found_where_it_is_used_twice():
    sigmoid = nn.Sigmoid()
    network = nn.Sequential(nn.Linear(2, 3), sigmoid, nn.Linear(3, 1), sigmoid)
    assert ends_in_sigmoid(network)
