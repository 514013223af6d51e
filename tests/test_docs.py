"""The code in the documentation does what the text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vanillagan import Batch, Discriminator, GANTrainer, Generator

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def extending() -> dict[str, Any]:
    """What the code of `extending.md` defines."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL):
        exec(block, names)
    return names


def sgd(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.1)


def make(kind: type[GANTrainer], **options: Any) -> GANTrainer:
    torch.manual_seed(0)
    return kind(
        Generator(3, (2,), hidden=(), output="linear"),
        Discriminator((2,), hidden=(8,)),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd,
        device="cpu",
        **options,
    )


def test_the_rewritten_step_also_descends_to_the_mean_of_the_data(extending, points):
    rewritten, plain = make(extending["MeanMatching"]), make(GANTrainer)
    step, other = (trainer.generator_step(Batch(points)) for trainer in (rewritten, plain))
    assert torch.equal(step.loss, other.loss)
    assert torch.equal(step.fake, other.fake)
    # d/d bias of the mean over features of (mean of fakes - mean of data)^2, times the rate
    matching = 0.1 * (step.fake.mean(0) - points.mean(0))
    torch.testing.assert_close(
        rewritten.generator.layers[0].bias, plain.generator.layers[0].bias - matching
    )
    assert len(rewritten.fit(points, epochs=1, batch_size=50)) == 4


def test_the_callback_stops_at_its_step(extending, points):
    trainer = make(GANTrainer, callbacks=[extending["StopAtStep"](3)])
    trainer.fit(points, epochs=1, batch_size=50)
    assert (trainer.progress.step, trainer.stop_reason) == (3, "step 3")


def test_the_trainer_reads_batches_of_its_own_form(extending, points):
    trainer = make(extending["Inpainter"])
    trainer.fit([{"pixels": points, "kind": torch.zeros(200, dtype=torch.long)}], epochs=1)
    assert trainer.progress.step == 1


def test_the_penalty_is_applied_lazily(extending, points):
    trainer = make(GANTrainer, penalties=[extending["LazyLogit"]()])
    penalties = [trainer.train_step(points).penalty for _ in range(5)]
    assert [penalty is None for penalty in penalties] == [False, True, True, True, False]
