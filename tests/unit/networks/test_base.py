"""Base classes, for generators and discriminators of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.traits import outputs_probabilities


class Scale(GeneratorBase):
    def __init__(self) -> None:
        super().__init__(2, (2,), num_classes=0)
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check_latents(latents)
        return self.scale * latents


class Total(DiscriminatorBase):
    def __init__(self) -> None:
        super().__init__((2,), num_classes=0)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check_samples(samples)
        return samples.sum(1)


def test_a_subclass_has_a_config():
    assert Scale().config == {"latent_dim": 2, "sample_shape": (2,), "num_classes": 0}
    assert Total().config == {"sample_shape": (2,), "num_classes": 0}


def test_a_subclass_draws_samples_in_eval_mode():
    generator = Scale()
    modes = []
    generator.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    samples = generator.sample(4, seed=0)
    assert (samples.shape, samples.requires_grad) == ((4, 2), False)
    assert (modes, generator.training) == ([False], True)


def test_a_subclass_returns_logits_and_probabilities():
    discriminator = Total()
    assert not outputs_probabilities(discriminator)
    assert discriminator.probability(torch.tensor([[1.0, -1.0]])).tolist() == [0.5]


def test_a_subclass_checks_its_inputs():
    with pytest.raises(ValueError, match=r"`latents` must have the shape \(N, 2\), got \(4, 3\)"):
        Scale()(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"`samples` must have the shape \(N, 2\), got \(4, 3\)"):
        Total()(torch.zeros(4, 3))
