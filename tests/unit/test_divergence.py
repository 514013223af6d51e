"""The part of a run that has diverged."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.trainers import make_trainer
from vanillagan import EMA, Discriminator, GANTrainer, Generator
from vanillagan.divergence import find_divergence


def trained(**options: Any) -> GANTrainer:
    """Return a trainer that has taken a step, so that it has gradients and moments."""
    trainer = make_trainer(ema=EMA(), **options)
    trainer.train_step(torch.rand(8, 2) * 2 - 1)
    return trainer


def moments(trainer: GANTrainer) -> dict[str, Tensor]:
    return trainer.g.optimizer.state[trainer.g.parameters[0]]


PLACES: dict[str, Any] = {
    "the generator's weight layers.0.0.weight": lambda t: t.g.parameters[0],
    "the discriminator's weight layers.1.bias": lambda t: t.d.parameters[-1],
    "the generator's buffer layers.1.1.running_var": lambda t: t.generator.layers[1][1].running_var,
    "the generator optimizer's exp_avg of layers.0.0.weight": lambda t: moments(t)["exp_avg"],
    "the generator optimizer's exp_avg_sq of layers.0.0.weight": lambda t: moments(t)["exp_avg_sq"],
    "the EMA's weight layers.0.0.weight": lambda t: next(t.ema.network.parameters()),
    "the EMA's buffer layers.1.1.running_mean": lambda t: t.ema.network.layers[1][1].running_mean,
}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", PLACES)
def test_a_value_that_is_not_finite_is_found_and_named(name, value):
    trainer = trained()
    assert find_divergence(trainer.state_objects(), {}) is None
    PLACES[name](trainer).data.view(-1)[-1] = value
    found = find_divergence(trainer.state_objects())
    assert found is not None
    assert found.startswith(f"{name} is ")


def test_gradients_and_given_tensors_are_checked_only_with_a_step():
    trainer = trained()
    trainer.d.parameters[0].grad[0, 0] = math.nan
    assert find_divergence(trainer.state_objects()) is None
    name = "the discriminator's gradient of layers.0.0.weight is nan"
    assert find_divergence(trainer.state_objects(), {}) == name
    losses = {"the loss": torch.tensor(math.inf), "the penalty": None}
    assert find_divergence(trainer.state_objects(), losses) == "the loss is inf"


@pytest.mark.parametrize(("value", "found"), [(9e17, None), (1e30, "is 1e+30"), (3e38, "is 3e+38")])
def test_weights_whose_square_overflows_have_diverged(value, found):
    trainer = trained()
    trainer.g.parameters[0].data.fill_(value)
    name = "the generator's weight layers.0.0.weight"
    assert find_divergence(trainer.state_objects(), {}) == (found and f"{name} {found}")


def test_large_float16_weights_are_finite():
    networks = Generator(4, (2,), hidden=(8, 400)).half(), Discriminator((2,)).half()
    networks[0].layers[1][0].weight.data.fill_(6e4)
    assert find_divergence(dict(zip("gd", networks, strict=True))) is None
    networks[1].layers[0][0].weight.data[0, 0] = math.nan
    name = "the d's weight layers.0.0.weight"
    assert find_divergence({"d": networks[1]}) == f"{name} is nan"


@pytest.mark.parametrize(("value", "is_stuck"), [(1e10, False), (1e30, True), (math.inf, True)])
def test_huge_second_moments_are_found(value, is_stuck):
    trainer = trained()
    moments(trainer)["exp_avg_sq"][0, 0] = value
    found = find_divergence(trainer.state_objects())
    assert (found is not None) == is_stuck
    assert not is_stuck or "gradients were too large: steps stay near 0" in found


def test_an_attention_mask_may_be_infinite_but_not_nan():
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))
    network.register_buffer("counts", torch.zeros(2, dtype=torch.long))
    assert find_divergence({"generator": network}) is None
    network.mask[0, 0] = math.nan
    found = find_divergence({"generator": network})
    assert found == "the generator's buffer mask is nan"


def test_networks_and_optimizers_of_a_subclass_are_checked():
    encoder = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1.0, momentum=0.9)
    encoder(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    objects = {"encoder": encoder, "encoder_optimizer": optimizer, "other": object()}
    assert find_divergence(objects) is None
    optimizer.state[encoder.weight]["momentum_buffer"].fill_(math.nan)
    name = "the encoder optimizer's momentum_buffer of weight"
    assert find_divergence(objects) == f"{name} is nan"
