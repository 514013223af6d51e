"""Attributes and layers that the trainer reads of a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vanillagan import ConvDiscriminator, ConvGenerator, Discriminator, Generator
from vanillagan.networks import DiffAugment, LinearBlock
from vanillagan.traits import (
    has_batch_norm,
    has_independent_samples,
    num_classes_of,
    outputs_probabilities,
    sample_shape_of,
)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Generator(2, (2,), hidden=(4, 4)), True),
        (Generator(2, (2,), hidden=(4,)), False),
        (ConvGenerator(2, (1, 2, 2), base_channels=2), True),
        (Discriminator((2,), hidden=(4,)), False),
        (ConvDiscriminator((1, 2, 2), base_channels=2), False),
        (nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), True),
        (nn.SyncBatchNorm(2), True),
        (nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2)), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_batch_norm_is_found_at_any_depth(network, expected):
    assert has_batch_norm(network) is expected


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_batch_norm_is_batch_norm():
    assert has_batch_norm(nn.Sequential(nn.LazyBatchNorm1d()))


class Inheriting(Discriminator):
    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = super().forward(samples, labels)
        return logits - logits.mean()


class Declaring(nn.Sequential):
    independent_samples = True


def declared_for_the_instance() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 1))
    network.independent_samples = True
    return network


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Discriminator((2,), dropout=0.5), True),
        (ConvDiscriminator((1, 2, 2), base_channels=2), True),
        (Declaring(nn.Linear(2, 1)), True),
        (declared_for_the_instance(), True),
        (DiffAugment(ConvDiscriminator((1, 2, 2), base_channels=2)), True),
        (Inheriting((2,)), False),
        (Declaring(nn.BatchNorm1d(2)), False),
        (DiffAugment(nn.Sequential(nn.Linear(2, 1))), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(2, 1)), False),
        (LinearBlock(2, 2, normalize=False), False),
    ],
    ids=[
        "mlp",
        "conv",
        "declaring-class",
        "declaring-instance",
        "wrapper-of-independent",
        "inherited",
        "batch-norm",
        "wrapper-of-undeclared",
        "plain-torch-modules",
        "block",
    ],
)
def test_independence_of_samples_must_be_declared(network, expected):
    assert has_independent_samples(network) is expected


class ReferenceDiscriminator(nn.Module):
    """The structure of the reference implementation's discriminator."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, samples: Tensor) -> Tensor:
        return self.model(samples.flatten(1))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (ReferenceDiscriminator(nn.Linear(2, 1), nn.Sigmoid()), True),
        (ReferenceDiscriminator(nn.Linear(2, 1)), False),
        (nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), True),
        (nn.Sequential(nn.Linear(2, 1), nn.Sequential(nn.Identity(), nn.Sigmoid())), True),
        (nn.Sequential(nn.Sigmoid(), nn.Linear(2, 1)), False),
        (nn.Sequential(nn.Linear(2, 1), nn.LogSigmoid()), False),
        (nn.Linear(2, 1), False),
        (Discriminator((2,)), False),
        (ConvDiscriminator((1, 2, 2), base_channels=2), False),
    ],
)
def test_a_last_sigmoid_means_probabilities(network, expected):
    assert outputs_probabilities(network) is expected


@pytest.mark.parametrize("last", [nn.Flatten(0), nn.Unflatten(1, (1, 1)), nn.Identity()], ids=str)
def test_layers_that_reshape_may_follow_the_sigmoid(last):
    assert outputs_probabilities(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid(), last))


def test_a_sigmoid_that_is_used_twice_is_found():
    sigmoid = nn.Sigmoid()
    network = nn.Sequential(nn.Linear(2, 3), sigmoid, nn.Linear(3, 1), sigmoid)
    assert outputs_probabilities(network)


@pytest.mark.parametrize("outputs_logits", [True, False])
def test_outputs_logits_outweighs_the_last_layer(outputs_logits):
    for network in (nn.Sequential(nn.Sigmoid()), nn.Sequential(nn.Linear(2, 1))):
        network.outputs_logits = outputs_logits
        assert outputs_probabilities(network) is not outputs_logits


def test_sizes_are_read_if_they_are_declared():
    network = nn.Linear(2, 1)
    assert (num_classes_of(network), sample_shape_of(network)) == (0, None)
    network.num_classes, network.sample_shape = None, torch.Size([3, 4])
    assert (num_classes_of(network), sample_shape_of(network)) == (0, (3, 4))
    network.num_classes = 5
    assert num_classes_of(network) == 5


def test_an_instance_may_withdraw_the_declaration():
    discriminator = Discriminator((2,))
    assert has_independent_samples(discriminator)
    discriminator.independent_samples = False
    assert not has_independent_samples(discriminator)
