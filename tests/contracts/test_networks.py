"""Contract of the library's generators and discriminators."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vanillagan import ConvDiscriminator, ConvGenerator, Discriminator, Generator
from vanillagan.networks import DiffAugment, TextDiscriminator, TextGenerator
from vanillagan.traits import has_independent_samples, outputs_probabilities, sample_shape_of

LATENT_DIM = 6


def augmented(sample_shape: tuple[int, ...], **options: Any) -> DiffAugment:
    return DiffAugment(ConvDiscriminator(sample_shape, base_channels=4, **options))


GENERATORS = {
    "mlp": partial(Generator, LATENT_DIM, hidden=(8, 12)),
    "conv": partial(ConvGenerator, LATENT_DIM, base_channels=4),
    "text-gumbel": partial(TextGenerator, LATENT_DIM, channels=4, blocks=1),
    "text-softmax": partial(TextGenerator, LATENT_DIM, channels=4, blocks=1, output="softmax"),
}
DISCRIMINATORS = {
    "mlp": partial(Discriminator, hidden=(8, 12)),
    "conv": partial(ConvDiscriminator, base_channels=4),
    "text": partial(TextDiscriminator, channels=4, blocks=1),
    "diffaugment": augmented,
}
SHAPES = {
    "mlp": [(1, 4, 5), (2,), (1, 28, 28), (3, 20, 30), (2, 1, 3, 4)],
    "conv": [(1, 4, 5), (1, 28, 28), (3, 20, 30), (1, 1, 1), (1, 2, 64)],
    "text": [(7, 5), (1, 3)],
    "diffaugment": [(1, 4, 5), (3, 20, 30)],
}


def cases(networks: dict[str, Any], *, all_shapes: bool = False, start: str = "") -> list[Any]:
    """Return (class, sample shape) for the first shape, or for all shapes, of each network."""
    return [
        pytest.param(network, shape, id=f"{start}{name}-{'x'.join(map(str, shape))}")
        for name, network in networks.items()
        for shape in SHAPES[name.partition("-")[0]][: None if all_shapes else 1]
    ]


def every(pairs: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("network", "shape"), pairs)


every_generator = every(cases(GENERATORS))
every_generator_and_shape = every(cases(GENERATORS, all_shapes=True))
every_discriminator = every(cases(DISCRIMINATORS))
every_discriminator_and_shape = every(cases(DISCRIMINATORS, all_shapes=True))
every_network = every(
    cases(GENERATORS, start="generator-") + cases(DISCRIMINATORS, start="discriminator-")
)
every_network_and_shape = every(
    cases(GENERATORS, all_shapes=True, start="generator-")
    + cases(DISCRIMINATORS, all_shapes=True, start="discriminator-")
)
every_output_range = every(cases({name: GENERATORS[name] for name in ("mlp", "conv")}))
conditional_or_not = pytest.mark.parametrize(
    "num_classes", [0, 3], ids=["unconditional", "conditional"]
)


def is_generator(network: nn.Module) -> bool:
    return hasattr(network, "latent_dim")


def inputs_of(network: nn.Module, n: int = 5) -> tuple[Tensor, ...]:
    """Return latents or samples, with labels for a conditional network."""
    shape = (LATENT_DIM,) if is_generator(network) else network.sample_shape
    first = torch.randn(n, *shape)
    labels = torch.arange(n) % max(network.num_classes, 1)
    return (first, labels) if network.num_classes else (first,)


# -- generators ------------------------------------------------------------------------------------


@every_generator_and_shape
@conditional_or_not
def test_a_generator_maps_latents_to_samples(network, shape, num_classes):
    generator = network(shape, num_classes=num_classes)
    latents, *labels = inputs_of(generator)
    samples = generator(latents * 100, *labels)
    assert samples.shape == (5, *shape)
    assert samples.dtype == torch.float32
    assert samples.abs().max() <= 1


@every_output_range
def test_a_linear_output_is_unbounded(network, shape):
    generator = network(shape, output="linear").eval()
    assert generator(1e4 * torch.randn(5, LATENT_DIM)).abs().max() > 1


@every_output_range
def test_a_tanh_output_is_tanh_of_the_linear_one(network, shape):
    bounded, linear = network(shape).eval(), network(shape, output="linear").eval()
    linear.load_state_dict(bounded.state_dict())
    latents = torch.randn(5, LATENT_DIM)
    torch.testing.assert_close(bounded(latents), linear(latents).tanh())


@every_generator
def test_latents_of_another_shape_are_refused(network, shape):
    generator = network(shape)
    for wrong in [(5, LATENT_DIM + 1), (LATENT_DIM,), (5, LATENT_DIM, 1), ()]:
        with pytest.raises(ValueError, match=r"`latents` must have the shape \(N, 6\), got"):
            generator(torch.zeros(wrong))
    with pytest.raises(TypeError, match="`latents` must be a tensor of floats, got list"):
        generator([[0.0] * LATENT_DIM])


@every_generator
def test_a_generator_draws_samples(network, shape):
    generator = network(shape, num_classes=3)
    samples = generator.sample(4, labels=[0, 1, 2, 0], seed=1)
    assert samples.shape == (4, *shape)
    assert not samples.requires_grad
    assert torch.equal(samples, generator.sample(4, labels=[0, 1, 2, 0], seed=1))
    assert generator.training


# -- discriminators --------------------------------------------------------------------------------


@every_discriminator_and_shape
@conditional_or_not
def test_a_discriminator_returns_one_logit_per_sample(network, shape, num_classes):
    discriminator = network(shape, num_classes=num_classes)
    logits = discriminator(*inputs_of(discriminator))
    assert logits.shape == (5,)
    assert logits.dtype == torch.float32
    assert not outputs_probabilities(discriminator)


@every_discriminator
@conditional_or_not
def test_a_probability_is_the_sigmoid_of_the_logit(network, shape, num_classes):
    discriminator = network(shape, num_classes=num_classes).eval()
    inputs = inputs_of(discriminator)
    expected = [1 / (1 + math.exp(-logit)) for logit in discriminator(*inputs).tolist()]
    assert discriminator.probability(*inputs).tolist() == pytest.approx(expected)


@every_discriminator
def test_declared_independence_of_samples_holds(network, shape):
    discriminator = network(shape).eval()
    assert has_independent_samples(discriminator)
    (samples,) = inputs_of(discriminator)
    alone = torch.cat([discriminator(sample[None]) for sample in samples])
    torch.testing.assert_close(discriminator(samples), alone)


@every_discriminator
def test_samples_of_another_shape_are_refused(network, shape):
    discriminator = network(shape).eval()
    expected = ", ".join(["N", *map(str, shape)])
    for wrong in [(5, *shape[:-1], shape[-1] + 1), shape, (5, 20), ()]:
        with pytest.raises(ValueError, match=rf"`samples` must have the shape \({expected}\), got"):
            discriminator(torch.zeros(wrong))
    with pytest.raises(TypeError, match="`samples` must be a tensor of floats, got NoneType"):
        discriminator(None)


# -- both ------------------------------------------------------------------------------------------


@every_network_and_shape
@conditional_or_not
def test_the_gradient_reaches_every_weight(network, shape, num_classes):
    player = network(shape, num_classes=num_classes)
    output = player(*inputs_of(player, n=16))
    (output * torch.randn_like(output)).sum().backward()
    for name, weight in player.named_parameters():
        assert weight.grad.isfinite().all(), name
        if weight.dim() > 1:
            assert weight.grad.abs().sum() > 0, name


@every_network
def test_the_gradient_reaches_the_input(network, shape):
    player = network(shape)
    if isinstance(player, DiffAugment):
        player.eval()  # cutout may cover an image of 4 x 5 pixels
    (inputs,) = inputs_of(player)
    inputs.requires_grad_()
    player(inputs).square().sum().backward()
    assert (inputs.grad.flatten(1).abs().sum(1) > 0).all()


@every_network
def test_a_network_declares_its_sizes(network, shape):
    player = network(shape, num_classes=3)
    assert sample_shape_of(player) == shape
    assert player.num_classes == 3
    if is_generator(player):
        assert player.latent_dim == LATENT_DIM


@every_network
@pytest.mark.parametrize("kind", [list, torch.Size])
def test_a_sample_shape_may_be_any_sequence(network, shape, kind):
    assert network(kind(shape)).sample_shape == shape


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (GENERATORS["mlp"], {}),
        (GENERATORS["mlp"], {"num_classes": 3, "output": "linear"}),
        (GENERATORS["mlp"], {"norm_eps": 0.8, "norm_momentum": 0.1}),
        (GENERATORS["mlp"], {"hidden": (), "num_classes": 3}),
        (GENERATORS["conv"], {"num_classes": 3, "output": "linear"}),
        (GENERATORS["text-softmax"], {"num_classes": 3, "temperature": 0.5}),
        (DISCRIMINATORS["mlp"], {"num_classes": 3, "dropout": 0.25}),
        (DISCRIMINATORS["mlp"], {"hidden": ()}),
        (DISCRIMINATORS["conv"], {"num_classes": 3}),
        (DISCRIMINATORS["text"], {"num_classes": 3}),
    ],
)
def test_a_config_rebuilds_the_network(network, options):
    shape = (7, 5) if "Text" in network.func.__name__ else (1, 4, 5)
    original = network(shape, **options)
    rebuilt = network.func(**original.config)
    assert str(rebuilt) == str(original)
    assert rebuilt.config == original.config
    rebuilt.load_state_dict(original.state_dict())
    inputs = inputs_of(original)
    assert torch.equal(rebuilt.eval()(*inputs), original.eval()(*inputs))


@every_network
def test_float64_stays_float64(network, shape):
    player = network(shape, num_classes=3).double()
    inputs, labels = inputs_of(player)
    assert player(inputs.double(), labels).dtype == torch.float64


# -- labels ----------------------------------------------------------------------------------------


def evaluate(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the output without randomness: for text the logits of the tokens."""
    network.eval()
    called = network.logits if isinstance(network, TextGenerator) else network
    return called(inputs, labels)


@every_network
def test_the_output_depends_on_the_class(network, shape):
    player = network(shape, num_classes=3)
    inputs, _ = inputs_of(player)
    zeros = torch.zeros(len(inputs), dtype=torch.long)
    of_class_0, of_class_1 = evaluate(player, inputs, zeros), evaluate(player, inputs, zeros + 1)
    assert not torch.allclose(of_class_0, of_class_1)


@every_network
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str
)
def test_labels_may_be_integers_of_any_width(network, shape, dtype):
    player = network(shape, num_classes=3)
    inputs, labels = inputs_of(player)
    outputs = evaluate(player, inputs, labels.to(dtype))
    assert torch.equal(outputs, evaluate(player, inputs, labels))


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
def test_wrong_labels_are_refused(network, shape, labels, error, message):
    player = network(shape, num_classes=3)
    with pytest.raises(error, match=message):
        player(inputs_of(player)[0], labels)


@every_network
def test_unconditional_networks_refuse_labels(network, shape):
    player = network(shape)
    with pytest.raises(ValueError, match="`labels` must be None for an unconditional network"):
        player(*inputs_of(player), torch.zeros(5, dtype=torch.long))


# -- export ----------------------------------------------------------------------------------------

EXPORTED = {
    "Generator": partial(GENERATORS["mlp"], (1, 4, 5)),
    "ConvGenerator": partial(GENERATORS["conv"], (3, 8, 6)),
    "ConvGenerator-patch_size-2": partial(GENERATORS["conv"], (1, 16, 16), patch_size=2),
    "TextGenerator": partial(GENERATORS["text-softmax"], (5, 3)),
    "Discriminator": partial(DISCRIMINATORS["mlp"], (1, 4, 5)),
    # large enough for oneDNN's product
    "Discriminator-wide": partial(Discriminator, (1, 32, 32), hidden=(512,)),
    "ConvDiscriminator": partial(DISCRIMINATORS["conv"], (3, 8, 6)),
    "TextDiscriminator": partial(DISCRIMINATORS["text"], (5, 3)),
}


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("network", EXPORTED.values(), ids=EXPORTED)
@conditional_or_not
def test_an_export_takes_batches_of_any_size(network, num_classes, strict):
    player = network(num_classes=num_classes).eval()
    first = "latents" if is_generator(player) else "samples"
    free = {0: torch.export.Dim("n")}
    program = torch.export.export(
        player,
        inputs_of(player, 3),
        dynamic_shapes={first: free, "labels": free} if num_classes else {first: free},
        strict=strict,
    )
    exported = program.module()
    for count in (2, 7):
        batch = inputs_of(player, count)
        torch.testing.assert_close(exported(*batch), player(*batch))


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("network", EXPORTED.values(), ids=EXPORTED)
@conditional_or_not
@pytest.mark.filterwarnings("ignore")
def test_onnx_takes_batches_of_any_size(network, num_classes, dynamo, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    player = network(num_classes=num_classes).eval()
    names = ["x", "labels"] if num_classes else ["x"]
    path, example = str(tmp_path / "network.onnx"), inputs_of(player, 3)
    options = {"input_names": names, "output_names": ["y"], "dynamo": dynamo}
    if dynamo:
        options["dynamic_shapes"] = tuple({0: torch.export.Dim("n")} for _ in names)
    else:
        options["dynamic_axes"] = {name: {0: "n"} for name in [*names, "y"]}
    torch.onnx.export(player, example, path, **options)
    session = runtime.InferenceSession(path)
    for count in (2, 7):
        batch = inputs_of(player, count)
        inputs = {name: part.numpy() for name, part in zip(names, batch, strict=True)}
        got = torch.from_numpy(session.run(None, inputs)[0])
        torch.testing.assert_close(got, player(*batch).detach())


def test_labels_are_checked_after_an_export_too():
    network = GENERATORS["mlp"]((2,), num_classes=3).eval()
    free = {0: torch.export.Dim("n")}
    example = inputs_of(network, 3)
    torch.export.export(network, example, dynamic_shapes={"latents": free, "labels": free})
    with pytest.raises(ValueError, match=r"`labels` must lie in \[0, 2\]"):
        network(torch.randn(2, LATENT_DIM), torch.tensor([0, 3]))
