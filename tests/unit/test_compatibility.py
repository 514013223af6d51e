"""Errors and warnings about data and networks that do not fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vanillagan import BCEAdversarialLoss, Discriminator, GANTrainer, Generator, HingeLoss
from vanillagan.data import ByteImages, normal_latents

IMAGES = torch.zeros(4, 1, 1, 2, dtype=torch.uint8)


@pytest.mark.parametrize("make", [ByteImages, lambda x, y: TensorDataset(x / 255, y)])
def test_classes_without_samples_bring_a_warning(make):
    trainer = GANTrainer(
        Generator(4, (1, 1, 2), num_classes=4), Discriminator((1, 1, 2), num_classes=4)
    )
    message = "`data` has no samples of 2 of the generator's 4 classes, which .*: 1, 3"
    with pytest.warns(UserWarning, match=message) as seen:
        trainer.fit(make(IMAGES, torch.tensor([0, 2, 0, 2])), max_steps=1)
    assert [warning.filename for warning in seen] == [__file__]


def test_bytes_of_masks_bring_a_warning(make_trainer):
    masks = (torch.arange(8) % 2).view(2, 1, 2, 2).byte()
    with pytest.warns(UserWarning, match="as images of bytes 0 and 1 do: scale them"):
        make_trainer(shape=(1, 2, 2)).fit(masks, max_steps=1)


def test_unconditional_generators_ignore_labels(make_trainer, points):
    make_trainer().fit(TensorDataset(points, torch.full((200,), 7)), max_steps=1)


class Ending(nn.Module):
    """Network whose last operation is a function."""

    def __init__(self, inputs: int, outputs: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def messages(
    data: Any,
    *,
    generator: Callable[[Tensor], Tensor] = torch.clone,
    discriminator: Callable[[Tensor], Tensor] = torch.clone,
    outputs: int = 1,
    **options: Any,
) -> list[str]:
    """Return the warnings of three steps, all of which name this file."""
    trainer = GANTrainer(
        Ending(8, 2, generator),
        Ending(2, outputs, discriminator),
        latent_sampler=lambda n, rng: torch.randn(n, 8, generator=rng),
        device="cpu",
        **options,
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainer.fit(data, max_steps=3, batch_size=8)
    assert {warning.filename for warning in seen} <= {__file__}
    return [str(warning.message) for warning in seen]


@pytest.mark.parametrize(
    "function",
    [torch.sigmoid, lambda x: x.squeeze(1).sigmoid(), lambda x: x.sigmoid().clamp(0.01, 0.99)],
)
def test_probabilities_for_a_loss_of_logits_bring_a_warning(points, function):
    for loss in (BCEAdversarialLoss(), HingeLoss()):
        (message,) = messages(points, discriminator=function, loss=loss)
        assert "`discriminator` returns probabilities (it ends in a sigmoid)" in message
        assert "pass `loss=BCEAdversarialLoss(from_logits=False)`" in message
    loss = BCEAdversarialLoss(from_logits=False)
    assert messages(points, discriminator=function, loss=loss) == []


@pytest.mark.parametrize("function", [torch.clone, nn.Softmax(1), nn.LogSoftmax(1)])
def test_outputs_of_two_classes_bring_a_warning(points, function):
    (message,) = messages(points, discriminator=function, outputs=2)
    assert "returns 2 values for each sample, and each is taken as a logit" in message


@pytest.mark.parametrize(
    "function", [torch.clone, torch.tanh, lambda x: x.sigmoid().logit(), lambda x: x.flatten(0)]
)
def test_logits_bring_no_warning(points, function):
    assert messages(points, discriminator=function) == []
    assert messages(points, discriminator=torch.clone, outputs=4) == []


@pytest.mark.parametrize("generator", [torch.tanh, nn.Tanh(), lambda x: x.tanh().view(-1, 2)])
def test_half_of_the_range_of_a_tanh_brings_a_warning(points, generator):
    (message,) = messages(points.abs(), generator=generator)
    assert "the generator's Tanh reaches [-1, 1]: scale the data by `2 * samples - 1`" in message
    (message,) = messages(points * 3, generator=generator)
    assert "the generator's Tanh only reaches [-1, 1]: scale the data, or" in message
    assert messages(points, generator=generator) == []
    assert messages(points.abs()) == []


@pytest.mark.parametrize("channels", [2, 5])
def test_pairs_of_samples_bring_a_warning(points, channels):
    images = points.view(-1, 2, 1, 1)
    second = torch.zeros(len(images), channels, 1, 1)
    trainer = GANTrainer(Generator(8, (2, 1, 1)), Discriminator((2, 1, 1)), device="cpu")
    with pytest.warns(UserWarning, match="only the first of each pair is used") as seen:
        trainer.fit(TensorDataset(images, second), max_steps=3)
    assert [warning.filename for warning in seen] == [__file__]


@pytest.mark.parametrize("labels", [torch.zeros(200), torch.zeros(200, 4), torch.arange(200)])
def test_unused_labels_bring_no_warning(points, labels):
    assert messages(TensorDataset(points, labels)) == []


# -- networks that return something other than a tensor ------------------------------------------


class Returning(nn.Module):
    """A network of one layer that returns its output in the form that `convert` makes."""

    def __init__(self, features: int, out: int, convert: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(features, out)
        self.convert = convert

    def forward(self, x: Tensor) -> Any:
        return self.convert(self.layer(x))


FORMS = pytest.mark.parametrize(
    ("convert", "got"),
    [
        (lambda y: (y, y), "a tuple of 2"),
        (lambda y: [y, y, y], "a list of 3"),
        (lambda y: {"validity": y}, r"a dict with the keys \['validity'\]"),
        (lambda y: None, "NoneType"),
        (lambda y: y > 0, "torch.bool"),
    ],
)


@FORMS
@pytest.mark.parametrize("update_order", ["generator_first", "discriminator_first"])
def test_a_discriminator_must_return_a_tensor(points, convert, got, update_order):
    generator = Generator(4, (2,), hidden=(8, 8))
    discriminator = Returning(2, 1, convert)
    trainer = GANTrainer(generator, discriminator, device="cpu", update_order=update_order)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    rng = trainer.rng.latents.get_state()
    message = f"`discriminator` must return a tensor of floats, got {got}: .*torch.cat"
    with pytest.raises(TypeError, match=message):
        trainer.fit(points, max_epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert torch.equal(trainer.rng.latents.get_state(), rng)
    assert trainer.progress.step == 0


@FORMS
@pytest.mark.parametrize("shape", [None, (2,)])
def test_a_generator_must_return_a_tensor(points, convert, got, shape):
    generator = Returning(4, 2, convert)
    generator.sample_shape = shape
    trainer = GANTrainer(
        generator, Discriminator((2,)), latent_sampler=normal_latents(4), device="cpu"
    )
    message = f"`generator` must return a tensor of floats, got {got}"
    with pytest.raises(TypeError, match=message):
        trainer.fit(points, max_epochs=1)
    with pytest.raises(TypeError, match=message):
        trainer.sample(3)
    assert trainer.progress.step == 0


def test_single_samples_for_a_generator_without_a_shape_are_told(points):
    generator = nn.Linear(4, 2)
    trainer = GANTrainer(
        generator, Discriminator((2,)), latent_sampler=normal_latents(4), device="cpu"
    )
    with pytest.raises(ValueError, match=r"got \(2, 2\) \(join single samples by `torch.stack`"):
        trainer.fit(list(points), max_epochs=1)


def test_a_subclass_may_join_what_its_discriminator_returns(points):
    class Joining(GANTrainer):
        def discriminate(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
            return torch.cat([part.flatten(1) for part in self.d.forward(samples)], dim=1)

    discriminator = Returning(2, 1, lambda y: [y, 2 * y])
    trainer = Joining(Generator(4, (2,), hidden=(8,)), discriminator, device="cpu")
    trainer.fit(points, max_steps=2)
    assert trainer.train_step(points).discriminator.real_logits.shape == (200, 2)


def test_steps_of_a_subclass_may_read_a_tuple(points):
    class OwnSteps(GANTrainer):
        def generator_step(self, batch):
            raise KeyError("reached")

    trainer = OwnSteps(Generator(4, (2,)), Returning(2, 1, lambda y: (y, y)), device="cpu")
    with pytest.raises(KeyError, match="reached"):
        trainer.fit(points, max_steps=1)


@pytest.mark.parametrize("own", ["generator", "discriminator", "both"])
def test_swapped_networks_are_told(own):
    generator = Generator(4, (2,)) if own == "discriminator" else nn.Linear(4, 2)
    discriminator = Discriminator((2,)) if own == "generator" else nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"swap them|swapped"):
        GANTrainer(discriminator, generator)


def test_networks_that_share_weights_are_refused_unless_they_are_frozen():
    shared = nn.Linear(2, 2)
    networks = nn.Sequential(shared, nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), shared)
    with pytest.raises(ValueError, match=r"`discriminator` must have weights .* got `1\.weight`"):
        GANTrainer(*networks, latent_sampler=normal_latents(2), device="cpu")
    shared.requires_grad_(False)
    GANTrainer(*networks, latent_sampler=normal_latents(2), device="cpu")


def test_a_classifier_of_one_output_is_an_unconditional_discriminator():
    models = pytest.importorskip("torchvision.models")
    options = {"image_size": 8, "patch_size": 4, "num_layers": 1, "num_heads": 2}
    options |= {"hidden_dim": 8, "mlp_dim": 8}
    generator = Generator(4, (3, 8, 8))
    trainer = GANTrainer(generator, models.VisionTransformer(num_classes=1, **options))
    trainer.fit(torch.zeros(8, 3, 8, 8), max_steps=1)
    with pytest.raises(
        ValueError, match=r"`discriminator` .* num_classes 0, got 1000 .* must have 1"
    ):
        GANTrainer(generator, models.VisionTransformer(num_classes=1000, **options))


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [
        (torch.uint8, "127.5"),
        (torch.bool, r"float\(\) \* 2 - 1"),
        (torch.int16, "from `low` to `high`"),
        (torch.uint16, "from `low` to `high`"),
    ],
)
def test_integers_are_told_how_they_are_scaled(make_trainer, dtype, remedy):
    with pytest.raises(TypeError, match=f"got samples of {dtype}: .*{remedy}"):
        make_trainer().train_step(torch.zeros(8, 2).to(dtype))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients_is_told(points, make_trainer, mode):
    with mode(), pytest.raises(RuntimeError, match=r"gradients are disabled: .*set_grad_enabled"):
        make_trainer().fit(points, max_steps=1)
