"""Plain draws from a generator, which leave the training state unchanged."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vanillagan import ConvGenerator, Generator
from vanillagan.data import uniform_latents
from vanillagan.sampling import classes_in_turn, draw_samples


@pytest.fixture
def generator() -> Generator:
    return Generator(4, (2,), hidden=(8, 8))


@pytest.fixture
def conditional() -> Generator:
    return Generator(4, (2,), hidden=(8, 8), num_classes=3)


@pytest.mark.parametrize("n", [1, 7, 1000, 2501])
def test_as_many_samples_as_asked_for(generator, n):
    assert generator.sample(n).shape == (n, 2)


def test_latents_run_through_the_network_in_eval_mode(generator):
    latent = torch.randn(1500, 4)
    generator(latent)
    samples = draw_samples(generator, 1500, latents=latent)
    torch.testing.assert_close(samples, generator.eval()(latent))


def test_a_seed_makes_samples_repeatable(generator):
    assert torch.equal(generator.sample(5, seed=1), generator.sample(5, seed=1))
    assert not torch.equal(generator.sample(5, seed=1), generator.sample(5, seed=2))


def test_the_global_seed_does_not_repeat_samples(generator):
    torch.manual_seed(0)
    first = generator.sample(5)
    torch.manual_seed(0)
    assert not torch.equal(first, generator.sample(5))


def test_default_latents_are_normal(generator):
    latent = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(generator.sample(5, seed=3), draw_samples(generator, 5, latents=latent))


def test_latent_sampler_replaces_the_default(generator):
    latent = torch.rand(5, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    assert torch.equal(
        draw_samples(generator, 5, latent_sampler=uniform_latents(4), seed=3),
        draw_samples(generator, 5, latents=latent),
    )


class Noisy(nn.Module):
    """A generator that draws from every global random state."""

    def forward(self, latent: Tensor) -> Tensor:
        return torch.rand(len(latent), 2) + random.random() + np.random.rand()


@pytest.mark.parametrize("seed", [None, 5])
def test_drawing_keeps_the_global_random_states(seed):
    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), random.random(), np.random.rand()

    def seed_all() -> None:
        torch.manual_seed(9)
        random.seed(9)
        np.random.seed(9)

    seed_all()
    undisturbed = draw()
    seed_all()
    draw_samples(Noisy(), 3, latents=torch.zeros(3, 1), seed=seed)
    assert draw() == undisturbed


def test_a_seed_repeats_the_networks_own_noise():
    latent = torch.zeros(3, 1)
    first, second = (draw_samples(Noisy(), 3, latents=latent, seed=2) for _ in range(2))
    assert torch.equal(first, second)


def test_modes_of_modules_are_restored(generator):
    generator.layers[1].eval()
    modes = [module.training for module in generator.modules()]
    generator.sample(5)
    assert [module.training for module in generator.modules()] == modes
    assert set(modes) == {True, False}


def test_modes_of_modules_are_restored_after_an_error(generator):
    with pytest.raises(ValueError, match="must have the shape"):
        draw_samples(generator, 5, latents=torch.zeros(5, 3))
    assert all(module.training for module in generator.modules())


def test_drawing_changes_no_weights_or_statistics(generator):
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    samples = generator.sample(50)
    assert not samples.requires_grad
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_float64_generators_give_float64_samples(generator):
    assert generator.double().sample(3).dtype == torch.float64


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2, 1], (0, 1, 2, 1), torch.tensor([0, 1, 2, 1]), np.array([0, 1, 2, 1])],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_give_each_sample_its_class(conditional, labels):
    latent = torch.randn(4, 4)
    samples = draw_samples(conditional, 4, labels=labels, latents=latent)
    torch.testing.assert_close(samples, conditional.eval()(latent, torch.tensor([0, 1, 2, 1])))


@pytest.mark.parametrize("label", [2, torch.tensor(2)], ids=["int", "tensor"])
def test_one_label_is_the_class_of_all_samples(conditional, label):
    latent = torch.randn(1200, 4)
    samples = draw_samples(conditional, 1200, labels=label, latents=latent)
    expected = conditional.eval()(latent, torch.full((1200,), 2))
    torch.testing.assert_close(samples, expected)


def test_convolutional_generators_draw_images():
    generator = ConvGenerator(4, (3, 5, 6), base_channels=4, num_classes=2)
    assert generator.sample(3, labels=[0, 1, 1]).shape == (3, 3, 5, 6)


def test_integer_latents_stay_integers():
    words = nn.Embedding(10, 3)
    latent = torch.tensor([3, 1])
    assert torch.equal(draw_samples(words, 2, latents=latent), words.weight[latent])


@pytest.mark.parametrize(
    ("n", "options", "error", "message"),
    [
        (0, {}, ValueError, "`n` must be a positive integer, got 0"),
        (-3, {}, ValueError, "`n` must be a positive integer, got -3"),
        (2.0, {}, TypeError, "`n` must be a positive integer, got 2.0"),
        (2, {"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
        (2, {"latents": torch.zeros(3, 4)}, ValueError, "`latents` must hold n=2 latents, got 3"),
        (2, {"labels": 1}, ValueError, "`labels` must be None for an unconditional network"),
        (2, {"run": 5}, TypeError, "`run` must be a function of the generator and its inputs"),
    ],
)
def test_invalid_arguments_are_named(generator, n, options, error, message):
    with pytest.raises(error, match=message):
        draw_samples(generator, n, **options)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "`labels` must be given to a generator of 3 classes, got None"),
        ([0, 1, 2], ValueError, "`labels` must hold n=2 classes or one for all, got 3"),
        (3, ValueError, r"`labels` must lie in \[0, 2\], got labels from 3 to 3"),
        ([0.0, 1.0], TypeError, "`labels` must be a tensor of integers, got torch.float32"),
        ("ab", TypeError, "`labels` must be"),
    ],
)
def test_invalid_labels_are_named(conditional, labels, error, message):
    with pytest.raises(error, match=message):
        conditional.sample(2, labels=labels)


def test_latent_sampler_is_needed_without_latent_dim():
    generator = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="`latent_sampler` must be given for Linear"):
        draw_samples(generator, 2)
    assert draw_samples(generator, 2, latent_sampler=uniform_latents(3)).shape == (2, 2)


def test_classes_in_turn(generator, conditional):
    assert classes_in_turn(conditional, 5).tolist() == [0, 1, 2, 0, 1]
    assert classes_in_turn(generator, 5) is None


@pytest.mark.parametrize("generator", [None, "generator.pt", Generator], ids=repr)
def test_a_generator_must_be_a_network(generator):
    with pytest.raises(TypeError, match=r"`generator` must be a torch\.nn\.Module"):
        draw_samples(generator, 2)


@pytest.mark.parametrize("label", [-1, 3])
def test_classes_are_checked_before_they_reach_the_device(label):
    generator = Generator(4, (2,), num_classes=3).to("meta")
    with pytest.raises(ValueError, match=r"`labels` must lie in \[0, 2\]"):
        draw_samples(generator, 2, labels=label)
