"""The code in the documentation does what the text says."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_datasets import write_mnist
from vanillagan import Batch, Discriminator, GANTrainer, Generator

DOCS = Path(__file__).parents[1] / "docs"


def blocks_of(page: str) -> list[str]:
    """The code on a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


# -- extending.md ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extending() -> dict[str, Any]:
    """What the code of `extending.md` defines."""
    names: dict[str, Any] = {}
    for block in blocks_of("extending.md"):
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


# -- evaluation.md ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the code of `evaluation.md` defines, with few images and samples, after one epoch."""
    fid = pytest.importorskip("torchmetrics.image.fid")
    flatten = torch.nn.Flatten()  # in the place of Inception, which would be downloaded
    flatten.num_features = 3 * 28 * 28
    folder = tmp_path_factory.mktemp("evaluation")
    write_mnist(folder / "data", train=130, test=30)
    names: dict[str, Any] = {
        "classifier": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)),
        "trainer": GANTrainer(Generator(), Discriminator()),
        "held_out": torch.rand(10, 1, 28, 28) * 2 - 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        inception = functools.partial(fid.FrechetInceptionDistance, flatten)
        patch.setattr(fid, "FrechetInceptionDistance", inception)
        for block in blocks_of("evaluation.md"):
            exec(block.replace("10_000", "100").replace("epochs=20", "epochs=1"), names)
        names["checkpoint"] = Path("best.pt").exists()
    return names


def test_the_images_of_the_papers_estimate_have_pixels_in_0_1(evaluation):
    expected = (evaluation["test_images"] + 1) / 2
    torch.testing.assert_close(evaluation["data"], expected)
    assert (float(expected.min()), float(expected.max())) == (0, 1)
    for images in (evaluation["samples"], evaluation["validation"]):
        assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert len(evaluation["samples"]) == 100
    assert evaluation["estimate"].sigma > 0


def test_the_metric_log_keeps_the_best_and_its_checkpoint(evaluation):
    log, history = evaluation["log"], evaluation["trainer"].history
    assert history.metrics == {"frechet": [(log.best_step, log.best_value)]}
    assert evaluation["checkpoint"]


def test_the_inception_network_gets_three_colours_in_0_1(evaluation):
    images = evaluation["fid"].transform(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
    assert images.tolist() == [[[[0.0]]] * 3, [[[1.0]]] * 3]


def test_rejection_gives_as_many_as_asked_for(evaluation):
    assert evaluation["better"].shape == (1_000, 1, 28, 28)
