"""Recipes: keyword arguments of the trainer."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.helpers.states import differences, snapshot
from tests.helpers.trainers import make_trainer
from vanillagan import (
    EMA,
    R1,
    R2,
    ConvDiscriminator,
    ConvGenerator,
    GANTrainer,
    RelativisticLoss,
    recipes,
)
from vanillagan.recipes import Recipe

RECIPES = [recipes.reference, recipes.stable, recipes.dcgan, recipes.r3gan]
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)


def adam_settings(recipe: Recipe, player: str) -> tuple[float, tuple[float, float]]:
    optimizer = recipe[f"{player}_optimizer"]([nn.Parameter(torch.zeros(1))])
    return optimizer.defaults["lr"], optimizer.defaults["betas"]


@every_recipe
def test_a_recipe_trains_with_callbacks_of_ones_own(points, recipe: Callable[[], Recipe]):
    trainer = make_trainer(**recipe(), callbacks=[])
    history = trainer.fit(points, max_steps=5, batch_size=16)
    assert len(history) == 5
    assert trainer.sample(3).isfinite().all()


@every_recipe
def test_a_recipe_holds_arguments_of_the_trainer(recipe):
    arguments = inspect.signature(GANTrainer).parameters
    assert recipe().keys() <= arguments.keys()
    assert "callbacks" not in recipe()
    assert recipe().keys() <= Recipe.__annotations__.keys()


@every_recipe
def test_each_call_returns_new_objects(points, recipe):
    first, second = recipe(), recipe()
    assert first is not second
    for name in ("ema", "penalties"):
        assert name not in first or first[name] is not second[name]
    # an EMA belongs to one trainer
    trainers = [make_trainer(**arguments) for arguments in (first, second)]
    for trainer in trainers:
        trainer.fit(points, max_steps=3, batch_size=16)
    assert differences(*map(snapshot, trainers)) == []


def test_reference_equals_the_defaults_bit_for_bit(points):
    reference, default = make_trainer(**recipes.reference()), make_trainer()
    for trainer in (reference, default):
        trainer.fit(points, max_steps=7, batch_size=16)
    assert differences(snapshot(reference), snapshot(default)) == []


def test_stable_has_its_settings():
    recipe = recipes.stable()
    assert recipe["penalties"] == [R1(1.0, every=4)]
    assert adam_settings(recipe, "generator") == (6e-4, (0.0, 0.99))
    assert adam_settings(recipe, "discriminator") == (3e-4, (0.0, 0.99))
    factors = [recipe["lr_schedule"](done) for done in (0.0, 0.8, 0.9, 1.0)]
    assert factors == pytest.approx([1, 1, 0.5, 0])
    assert recipe["update_order"] == "discriminator_first"
    assert isinstance(recipe["ema"], EMA)
    assert recipe["ema"].decay == 0.999


@pytest.mark.parametrize("recipe", [recipes.dcgan, recipes.r3gan])
def test_convolutional_networks_train(recipe):
    networks = (
        ConvGenerator(8, (1, 8, 8), base_channels=4),
        ConvDiscriminator((1, 8, 8), base_channels=4),
    )
    trainer = GANTrainer(*networks, **recipe(), device="cpu")
    trainer.fit(torch.rand(32, 1, 8, 8) * 2 - 1, max_steps=3, batch_size=8)
    assert trainer.sample(2).shape == (2, 1, 8, 8)


def test_dcgan_has_its_settings():
    assert recipes.dcgan()["penalties"] == [R1(0.5, every=4)]
    assert adam_settings(recipes.dcgan(), "generator") == (1e-3, (0.0, 0.99))
    assert adam_settings(recipes.dcgan(), "discriminator") == (2e-3, (0.0, 0.99))
    assert [recipes.dcgan()["lr_schedule"](t) for t in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]


def test_r3gan_is_dcgan_with_the_relativistic_loss_and_both_penalties():
    recipe, dcgan = recipes.r3gan(), recipes.dcgan()
    for player in ("generator", "discriminator"):
        assert adam_settings(recipe, player) == adam_settings(dcgan, player)
    assert isinstance(recipe["loss"], RelativisticLoss)
    assert recipe["penalties"] == [R1(0.5, every=4), R2(0.5, every=4)]
    assert [recipe["lr_schedule"](t) for t in (0.5, 0.75)] == [1, 0.5]
    assert recipe["ema"].decay == dcgan["ema"].decay == 0.999
    assert recipe.keys() - dcgan.keys() == {"loss"}


def test_rates_and_strength_can_be_chosen():
    for recipe in (recipes.dcgan(4e-4), recipes.r3gan(4e-4, gamma=0.05)):
        assert adam_settings(recipe, "generator") == (4e-4, (0.0, 0.99))
        assert adam_settings(recipe, "discriminator") == (8e-4, (0.0, 0.99))
    assert recipes.r3gan(gamma=0.05)["penalties"] == [R1(0.05, every=4), R2(0.05, every=4)]


@pytest.mark.parametrize("recipe", [recipes.dcgan, recipes.r3gan])
@pytest.mark.parametrize("lr", [0.0, -1e-3, float("nan"), "2e-4"])
def test_invalid_rates_are_errors(recipe, lr):
    with pytest.raises((ValueError, TypeError), match="`lr` must be"):
        recipe(lr)


def test_an_invalid_strength_is_an_error():
    with pytest.raises(ValueError, match="`gamma` must be"):
        recipes.r3gan(gamma=-0.5)
