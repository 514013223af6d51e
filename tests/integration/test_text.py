"""Training of text networks."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import Tensor

from vanillagan import (
    EMA,
    R1,
    R2,
    GANTrainer,
    GradientPenalty,
    RelativisticLoss,
    WassersteinLoss,
    load_generator,
)
from vanillagan.applications.text import TextDiscriminator, TextGenerator, Vocabulary
from vanillagan.player import adam


def make_text_trainer() -> GANTrainer:
    torch.manual_seed(0)
    return GANTrainer(
        TextGenerator(4, (7, 5), channels=8, blocks=1),
        TextDiscriminator((7, 5), channels=8, blocks=1),
        loss=WassersteinLoss(),
        penalties=[GradientPenalty(10)],
        discriminator_steps=2,
        update_order="discriminator_first",
        ema=EMA(0.9),
        device="cpu",
    )


@pytest.fixture
def samples() -> Tensor:
    vocabulary = Vocabulary("abcd")
    rng = random.Random(0)
    texts = ["".join(rng.choices("abcd", k=rng.randrange(8))) for _ in range(64)]
    return vocabulary.one_hot(vocabulary.encode(texts, 7))


def test_runs_resume_exactly_with_token_noise(samples, tmp_path):
    whole, first, second = make_text_trainer(), make_text_trainer(), make_text_trainer()
    torch.manual_seed(7)
    whole.fit(samples, max_steps=6, batch_size=8)
    torch.manual_seed(7)
    first.fit(samples, max_steps=3, batch_size=8)
    first.save(tmp_path / "text.pt")
    torch.manual_seed(8)
    second.load(tmp_path / "text.pt")
    second.fit(samples, max_steps=6, batch_size=8)
    for mine, other in zip(
        whole.generator.parameters(), second.generator.parameters(), strict=True
    ):
        assert torch.equal(mine, other)


def test_generator_is_loaded_from_a_checkpoint(samples, tmp_path):
    trainer = make_text_trainer()
    trainer.fit(samples, max_steps=2, batch_size=8)
    trainer.save(tmp_path / "text.pt")
    loaded = load_generator(tmp_path / "text.pt")
    assert isinstance(loaded, TextGenerator)
    assert torch.equal(loaded.sample(9, seed=1), trainer.sample(9, seed=1))


@pytest.mark.slow
def test_two_texts_are_learned():
    vocabulary = Vocabulary("ab")
    real = vocabulary.one_hot(vocabulary.encode(["aab", "bb"] * 64, 4))
    torch.manual_seed(0)
    trainer = GANTrainer(
        TextGenerator(8, (4, 3), channels=32, blocks=1),
        TextDiscriminator((4, 3), channels=32, blocks=1),
        loss=RelativisticLoss(),
        penalties=[R1(0.5, every=4), R2(0.5, every=4)],
        generator_optimizer=adam(1e-3, (0.0, 0.99)),
        discriminator_optimizer=adam(2e-3, (0.0, 0.99)),
        ema=EMA(0.98),
        device="cpu",
    )
    trainer.fit(real, max_steps=500, batch_size=32)
    counts = Counter(vocabulary.decode(trainer.sample(500, seed=0)))
    assert (counts["aab"] + counts["bb"]) / 500 > 0.75
    assert min(counts["aab"], counts["bb"]) > 100
