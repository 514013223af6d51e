"""Synthesis of labeled data by a conditional generator."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from vanillagan import ConvDiscriminator, ConvGenerator, Discriminator, Generator
from vanillagan.applications import synthesize
from vanillagan.data import ByteImages, uniform_latents


@pytest.fixture
def generator() -> Generator:
    return Generator(4, (2,), hidden=(8, 8), num_classes=3)


class Normals(nn.Module):
    """Generator of samples of class c from N(3 c, 1)."""

    num_classes = 3
    latent_dim = 1

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return latents + 3 * labels[:, None]


class LogRatio(nn.Module):
    """Logit of the optimal discriminator if the data of class c is N(3 c + 1/2, 1/2)."""

    def forward(self, samples: Tensor, labels: Tensor) -> Tensor:
        x = samples.squeeze(1) - 3 * labels
        return np.log(2) - 2 * (x - 0.5).square() + x.square() / 2


# -- samples


def test_one_count_for_all_classes(generator):
    samples, labels = synthesize(generator, 2).tensors
    assert samples.shape == (6, 2)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert labels.dtype == torch.int64
    assert not samples.requires_grad


@pytest.mark.parametrize(
    "counts",
    [[3, 0, 1], (3, 0, 1), torch.tensor([3, 0, 1]), np.array([3, 0, 1], dtype=np.uint8)],
    ids=repr,
)
def test_one_count_per_class(generator, counts):
    _, labels = synthesize(generator, counts).tensors
    assert labels.tolist() == [0, 0, 0, 2]


def test_samples_belong_to_their_labels():
    samples, labels = synthesize(Normals(), 2000, seed=0).tensors
    for label in range(3):
        of_class = samples[labels == label, 0].numpy()
        assert scipy.stats.kstest(of_class, scipy.stats.norm(3 * label, 1).cdf).pvalue > 0.05


def test_samples_are_drawn_in_eval_mode(generator):
    samples, labels = synthesize(generator, 5, seed=3).tensors
    assert generator.training
    latents = torch.randn(15, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(samples, generator.eval()(latents, labels))


def test_latent_sampler_can_be_given():
    samples, labels = synthesize(Normals(), 500, latent_sampler=uniform_latents(1)).tensors
    assert (samples[:, 0] - 3 * labels).abs().max() <= 1


@pytest.mark.parametrize("filtered", [False, True])
def test_seed_makes_the_data_repeatable(filtered):
    options = {"discriminator": LogRatio(), "burn_in": 100} if filtered else {}
    first, second, third = (synthesize(Normals(), 20, seed=s, **options).tensors for s in (1, 1, 2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], third[0])


def test_data_can_be_mixed_with_real_images():
    generator = ConvGenerator(4, (1, 8, 8), base_channels=4, num_classes=3)
    bytes_ = torch.randint(256, (7, 1, 8, 8), dtype=torch.uint8)
    real = ByteImages(bytes_, torch.arange(7) % 3)
    loader = DataLoader(ConcatDataset([real, synthesize(generator, 3)]), batch_size=16)
    samples, labels = next(iter(loader))
    assert samples.shape == (16, 1, 8, 8)
    assert labels.bincount().tolist() == [3 + 3, 2 + 3, 2 + 3]


def test_counts_can_balance_a_dataset(generator):
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    counts = labels.bincount(minlength=3)
    _, added = synthesize(generator, counts.max() - counts).tensors
    assert torch.cat([labels, added]).bincount().tolist() == [4, 4, 4]


@pytest.mark.parametrize("filtered", [False, True])
def test_counts_of_0_give_an_empty_dataset(generator, filtered):
    counts = torch.tensor([0, 1, 2]).bincount(minlength=3)
    options = {"discriminator": Discriminator((2,), num_classes=3)} if filtered else {}
    added = synthesize(generator, counts.max() - counts, **options)
    samples, labels = added.tensors
    assert (len(added), samples.shape, labels.dtype) == (0, (0, 2), torch.int64)
    real = TensorDataset(torch.zeros(5, 2), torch.zeros(5))
    assert len(ConcatDataset([real, added])) == 5


def test_trainer_accepts_the_data(generator, make_trainer):
    trainer = make_trainer(num_classes=3)
    assert len(trainer.fit(synthesize(generator, 10), max_epochs=1, batch_size=10)) == 3


# -- filter


def test_accepted_samples_follow_the_data():
    options = {"discriminator": LogRatio(), "percentile": None, "burn_in": 1000, "seed": 0}
    samples, labels = synthesize(Normals(), (3000, 0, 3000), **options).tensors
    assert labels.bincount().tolist() == [3000, 0, 3000]
    for label in (0, 2):
        of_class = samples[labels == label, 0].numpy()
        target = scipy.stats.norm(3 * label + 0.5, 0.5)
        assert scipy.stats.kstest(of_class, target.cdf).pvalue > 0.05


def test_higher_percentiles_keep_higher_logits():
    def mean_logit(**options) -> float:
        samples, labels = synthesize(Normals(), 500, burn_in=500, seed=0, **options).tensors
        return float(LogRatio()(samples, labels).mean())

    plain = mean_logit()
    mild, strict = (mean_logit(discriminator=LogRatio(), percentile=p) for p in (20, 95))
    assert plain < mild < strict


def test_conditional_networks_of_the_library_fit():
    generator = ConvGenerator(4, (1, 8, 8), base_channels=4, num_classes=3)
    discriminator = ConvDiscriminator((1, 8, 8), base_channels=4, num_classes=3)
    data = synthesize(generator, 2, discriminator=discriminator, burn_in=10, seed=0)
    assert data.tensors[0].shape == (6, 1, 8, 8)


def test_max_draws_is_an_error_if_reached():
    with pytest.raises(RuntimeError, match="`max_draws`=10 draws"):
        synthesize(Normals(), 100, discriminator=LogRatio(), burn_in=10, max_draws=10)


# -- errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"per_class": -1}, ValueError, "`per_class` must be a non-negative integer, got -1"),
        ({"per_class": 2.5}, TypeError, "`per_class` must be a non-negative integer, got 2.5"),
        ({"per_class": "9"}, TypeError, "`per_class` must be a non-negative integer, got '9'"),
        ({"per_class": [1, 2]}, ValueError, "`per_class` must have one count for each of 3 cl"),
        ({"per_class": [1, -2, 3]}, ValueError, "`per_class[1]` must be a non-negative integer"),
        (
            {"per_class": np.ones((3, 1), int)},
            TypeError,
            "`per_class[0]` must be a non-negative in",
        ),
        ({"per_class": torch.ones(3)}, TypeError, "`per_class[0]` must be a non-negative integer"),
        ({"generator": Generator(4, (2,))}, ValueError, "`generator` must be conditioned on class"),
        ({"generator": nn.Linear(1, 1)}, ValueError, "got Linear with num_classes=0"),
        ({"generator": len}, TypeError, "`generator` must be a torch.nn.Module"),
        ({"discriminator": len}, TypeError, "`discriminator` must be a torch.nn.Module"),
        (
            {"discriminator": Discriminator((2,))},
            ValueError,
            "`discriminator` must have the generator's num_classes 3, got 0",
        ),
        ({"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
    ],
)
def test_invalid_arguments_are_refused(generator, change, error, message):
    with pytest.raises(error, match=re.escape(message)):
        synthesize(**({"generator": generator, "per_class": 2} | change))
