"""Checkpoints of earlier versions load, resume and sample as they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import stored_checkpoint
from tests.helpers.stored_checkpoint import STEPS, describe, make_stored_trainer
from vanillagan import checkpoint, load_discriminator, load_generator

PATHS = sorted(stored_checkpoint.FOLDER.glob("checkpoint-v*.pt"))

every_checkpoint = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def numbers_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def assert_described(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare with what another version and another CPU may have computed."""
    actual = json.loads(json.dumps(actual))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if name == "metrics":
            assert actual[name] == value
        else:
            found, wanted = torch.tensor(actual[name]), torch.tensor(value)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5, msg=name)


def test_the_current_format_is_stored():
    assert f"checkpoint-v{checkpoint.VERSION}" in {path.stem for path in PATHS}
    assert all(path.stat().st_size < 60_000 for path in PATHS)


@every_checkpoint
def test_a_stored_checkpoint_resumes(path):
    trainer = make_stored_trainer(weights=9)
    trainer.load(path)
    numbers = numbers_of(path)
    assert_described(describe(trainer), numbers["saved"])
    stored_checkpoint.fit(trainer, 2 * STEPS)
    assert_described(describe(trainer), numbers["resumed"])


@every_checkpoint
def test_networks_of_a_stored_checkpoint_load_alone(path):
    generator, discriminator = load_generator(path), load_discriminator(path)
    labels = torch.arange(6) % 3
    samples = generator.sample(6, labels=labels, seed=0)
    expected = torch.tensor(numbers_of(path)["saved"]["samples"])
    torch.testing.assert_close(samples, expected)
    assert discriminator(samples, labels).shape == (6,)
