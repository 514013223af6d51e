"""Additional training samples from a conditional generator, and the example that measures them."""

from __future__ import annotations

import json
import re
import runpy
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from tests.test_datasets import write_mnist
from tests.test_examples import ROOT, Run, run_here
from vanillagan import (
    Batch,
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    GANTrainer,
    Generator,
)
from vanillagan.applications import synthesize
from vanillagan.data import ByteImages, uniform_latent
from vanillagan.datasets import mnist


@pytest.fixture
def generator() -> Generator:
    return Generator(4, (2,), hidden=(8, 8), num_classes=3)


class Normals(nn.Module):
    """A generator whose class c is N(3 c, 1)."""

    num_classes = 3
    latent_dim = 1

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        return latent + 3 * labels[:, None]


class LogRatio(nn.Module):
    """D* as a logit, where the data of class c is N(3 c + 1/2, 1/2)."""

    def forward(self, samples: Tensor, labels: Tensor) -> Tensor:
        x = samples.squeeze(1) - 3 * labels
        return np.log(2) - 2 * (x - 0.5).square() + x.square() / 2


# -- what comes out --------------------------------------------------------------------------------


def test_one_count_is_that_of_each_class(generator):
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
def test_each_class_may_have_a_count_of_its_own_and_a_class_may_have_none(generator, counts):
    _, labels = synthesize(generator, counts).tensors
    assert labels.tolist() == [0, 0, 0, 2]


def test_each_sample_is_made_for_its_label():
    samples, labels = synthesize(Normals(), 2000, seed=0).tensors
    for label in range(3):
        of_class = samples[labels == label, 0].numpy()
        assert scipy.stats.kstest(of_class, scipy.stats.norm(3 * label, 1).cdf).pvalue > 0.05


def test_the_samples_are_the_generators_own_in_eval_mode(generator):
    samples, labels = synthesize(generator, 5, seed=3).tensors
    assert generator.training
    latent = torch.randn(15, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(samples, generator.eval()(latent, labels))


def test_latents_may_come_from_elsewhere():
    samples, labels = synthesize(Normals(), 500, latent_sampler=uniform_latent(1)).tensors
    assert (samples[:, 0] - 3 * labels).abs().max() <= 1


@pytest.mark.parametrize("filtered", [False, True])
def test_a_seed_makes_the_data_repeatable(filtered):
    options = {"discriminator": LogRatio(), "burn_in": 100} if filtered else {}
    first, second, third = (synthesize(Normals(), 20, seed=s, **options).tensors for s in (1, 1, 2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], third[0])


def test_a_loader_mixes_the_data_with_real_images():
    generator = ConvGenerator(4, (1, 8, 8), width=4, num_classes=3)
    bytes_ = torch.randint(256, (7, 1, 8, 8), dtype=torch.uint8)
    real = ByteImages(bytes_, torch.arange(7) % 3)
    loader = DataLoader(ConcatDataset([real, synthesize(generator, 3)]), batch_size=16)
    samples, labels = next(iter(loader))
    assert samples.shape == (16, 1, 8, 8)
    assert labels.bincount().tolist() == [3 + 3, 2 + 3, 2 + 3]


def test_what_an_uneven_data_set_lacks_is_a_count_for_each_class(generator):
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    counts = labels.bincount(minlength=3)
    _, added = synthesize(generator, counts.max() - counts).tensors
    assert torch.cat([labels, added]).bincount().tolist() == [4, 4, 4]


@pytest.mark.parametrize("filtered", [False, True])
def test_an_even_data_set_lacks_nothing_and_gets_an_empty_one(generator, filtered):
    counts = torch.tensor([0, 1, 2]).bincount(minlength=3)
    options = {"discriminator": Discriminator((2,), num_classes=3)} if filtered else {}
    added = synthesize(generator, counts.max() - counts, **options)
    samples, labels = added.tensors
    assert (len(added), samples.shape, labels.dtype) == (0, (0, 2), torch.int64)
    real = TensorDataset(torch.zeros(5, 2), torch.zeros(5))
    assert len(ConcatDataset([real, added])) == 5


def test_a_trainer_reads_the_data_in_memory(generator, make_trainer):
    trainer = make_trainer(num_classes=3)
    assert len(trainer.fit(synthesize(generator, 10), epochs=1, batch_size=10)) == 3


# -- the filter ------------------------------------------------------------------------------------


def test_what_the_discriminator_keeps_is_each_classs_data():
    options = {"discriminator": LogRatio(), "percentile": None, "burn_in": 1000, "seed": 0}
    samples, labels = synthesize(Normals(), (3000, 0, 3000), **options).tensors
    assert labels.bincount().tolist() == [3000, 0, 3000]
    for label in (0, 2):
        of_class = samples[labels == label, 0].numpy()
        target = scipy.stats.norm(3 * label + 0.5, 0.5)
        assert scipy.stats.kstest(of_class, target.cdf).pvalue > 0.05


def test_a_higher_percentile_keeps_samples_of_a_higher_ratio():
    def mean_logit(**options) -> float:
        samples, labels = synthesize(Normals(), 500, burn_in=500, seed=0, **options).tensors
        return float(LogRatio()(samples, labels).mean())

    plain = mean_logit()
    mild, strict = (mean_logit(discriminator=LogRatio(), percentile=p) for p in (20, 95))
    assert plain < mild < strict


def test_the_librarys_conditional_players_go_together():
    generator = ConvGenerator(4, (1, 8, 8), width=4, num_classes=3)
    discriminator = ConvDiscriminator((1, 8, 8), width=4, num_classes=3)
    data = synthesize(generator, 2, discriminator=discriminator, burn_in=10, seed=0)
    assert data.tensors[0].shape == (6, 1, 8, 8)


def test_an_end_of_draws_is_an_error_and_not_a_smaller_data_set():
    with pytest.raises(RuntimeError, match="`max_draws`=10 draws"):
        synthesize(Normals(), 100, discriminator=LogRatio(), burn_in=10, max_draws=10)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"per_class": -1}, ValueError, "`per_class` must be a non-negative integer, got -1"),
        ({"per_class": 2.5}, TypeError, "`per_class` must be a non-negative integer, got 2.5"),
        ({"per_class": "9"}, TypeError, "`per_class` must be a non-negative integer, got '9'"),
        ({"per_class": [1, 2]}, ValueError, "`per_class` must hold a count for each of 3 classes"),
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
def test_a_wrong_argument_is_named(generator, change, error, message):
    with pytest.raises(error, match=re.escape(message)):
        synthesize(**({"generator": generator, "per_class": 2} | change))


IMAGES = torch.zeros(4, 1, 1, 2, dtype=torch.uint8)


@pytest.mark.parametrize("make", [ByteImages, lambda x, y: TensorDataset(x / 255, y)])
def test_training_on_data_without_images_of_a_class_brings_a_warning_that_names_it(make):
    trainer = GANTrainer(
        Generator(4, (1, 1, 2), num_classes=4), Discriminator((1, 1, 2), num_classes=4)
    )
    message = "`data` has no samples of 2 of the generator's 4 classes, which .*: 1, 3"
    with pytest.warns(UserWarning, match=message) as seen:
        trainer.fit(make(IMAGES, torch.tensor([0, 2, 0, 2])), steps=1)
    assert [warning.filename for warning in seen] == [__file__]


def test_an_unconditional_generator_needs_no_class(make_trainer, points):
    make_trainer().fit(TensorDataset(points, torch.full((200,), 7)), steps=1)


# -- the example -----------------------------------------------------------------------------------

SCRIPT = "examples/augment.py"
SHORT = ["--steps", "10", "--per-class", "6", "--classifier-steps", "2"]
ROWS = [
    "real",
    "real + synthetic",
    "classical",
    "classical + synthetic",
    "classical + accepted",
    "synthetic",
]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / SCRIPT))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small mnist")
    write_mnist(root, train=60, test=20)
    return root


@pytest.fixture(scope="module")
def finished(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("augment")
    options = [*SHORT, "--sizes", "20", "50", "--seeds", "0", "3"]
    return out, run_here([SCRIPT, *options, "--data", str(digits), "--out", str(out)])


def test_a_run_ends_well_and_says_what_it_learns_from_and_is_tested_on(finished, digits):
    _, run = finished
    assert run.code == 0
    assert f"Data: the 60 MNIST digits under {digits}; tested on 20 others\n" in run.printed


def test_a_run_leaves_the_errors_of_all_rows_sizes_and_seeds_and_a_picture_a_size(finished):
    out, _ = finished
    assert {path.name for path in out.iterdir()} == {"20.png", "50.png", "results.json"}
    results = json.loads((out / "results.json").read_text())
    runs = [(result["size"], result["seed"], result["row"]) for result in results]
    assert runs == list(product([20, 50], [0, 3], ROWS))
    assert all(0 <= result["error"] <= 100 for result in results)
    with Image.open(out / "20.png") as picture:
        assert picture.size == (3 * (8 * 30 + 2) + 2 * 12, 10 * 30 + 2)


def test_the_table_shows_the_mean_over_seeds_and_the_spread(finished):
    out, run = finished
    results = json.loads((out / "results.json").read_text())
    for row in ROWS:
        line = next(
            line for line in run.printed.splitlines() if re.match(rf"{re.escape(row)}  +\d", line)
        )
        shown = [float(word) for word in re.findall(r"\d+\.\d+", line)]
        expected = []
        for size in (20, 50):
            errors = [r["error"] for r in results if (r["size"], r["row"]) == (size, row)]
            expected += [np.mean(errors), np.std(errors, ddof=1)]
        assert shown == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ([4, 4, 3], "down by 27 %, better for 3 of 3 seeds: helps, and reaches the goal"),
        ([4, 5, 4.5], "down by 10 %, better for 2 of 3 seeds: helps, but misses the goal"),
        ([1, 5, 6], "down by 20 %, better for 1 of 3 seeds: does NOT help"),
        ([4, 4, 8], "up by 7 %, better for 2 of 3 seeds: does NOT help"),
    ],
)
def test_the_verdict_says_plainly_where_synthetic_digits_help(example, capsys, after, says):
    errors = {"real": [5, 5, 5], "classical": [5, 5, 5]}
    results = [
        {"size": 500, "seed": seed, "row": row, "error": errors.get(row, after)[seed]}
        for seed, row in product(range(3), ROWS)
    ]
    example["print_verdicts"](results)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1 + 3  # what the shifts and rotations bring is not theirs
    assert all(line.endswith(says) for line in lines[1:])


def test_digits_are_drawn_by_seed_as_many_of_each_class(example, digits):
    data = mnist(digits)
    first, again, other = (example["draw"](data, 30, seed) for seed in (1, 1, 2))
    assert first.labels.bincount().tolist() == [3] * 10
    assert torch.equal(first.samples, again.samples)
    assert not torch.equal(first.samples, other.samples)
    assert len(first.samples.unique(dim=0)) == 30


def test_a_size_or_a_seed_that_is_named_twice_is_one_run(example, monkeypatch):
    words = [SCRIPT, "--sizes", "500", "20", "500", "--seeds", "1", "0", "1"]
    monkeypatch.setattr(sys, "argv", words)
    options = example["parse_options"]()
    assert (options.sizes, options.seeds) == ([500, 20], [1, 0])


def test_all_sizes_are_checked_before_anything_is_trained(digits, tmp_path):
    words = [SCRIPT, "--sizes", "20", "70", "--data", str(digits), "--out", str(tmp_path / "out")]
    run = run_here(words)
    assert run.code.startswith("error: `--sizes` must be at most 60, as many of each class, got 70")
    assert "real digits" not in run.printed
    assert not (tmp_path / "out").exists()


def test_without_test_digits_some_are_held_out_and_never_drawn(example, monkeypatch, tmp_path):
    numbers = torch.arange(1200)
    images = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8).view(-1, 1, 1, 2)
    stand_in = ByteImages(images, numbers % 10)
    load = example["load"]
    monkeypatch.setitem(load.__globals__, "mnist_or_5000", lambda folder: (stand_in, "digits"))
    data, test, which = load(tmp_path)
    assert which == "digits; tested on 1,000 others"
    both = torch.cat([data.images, test.images])
    assert (len(data), len(test), len(both.unique(dim=0))) == (200, 1000, 1200)
    assert torch.equal(load(tmp_path)[1].images, test.images)


def place_of(images: Tensor) -> np.ndarray:
    """The centre of each image's light, in pixels from its middle: right and down."""
    light = (images[:, 0] + 1).double().numpy()
    axis = np.arange(light.shape[1]) - (light.shape[1] - 1) / 2
    total = light.sum((1, 2))
    return np.stack([(light.sum(1) @ axis) / total, (light.sum(2) @ axis) / total], 1)


def spot(right: int) -> Tensor:
    images = torch.full((500, 1, 28, 28), -1.0)
    images[:, :, 12:16, 12 + right : 16 + right] = 1.0
    return images


def test_jitter_shifts_by_two_pixels_at_most(example, monkeypatch):
    monkeypatch.setitem(example["jittered"].__globals__, "DEGREES", 0.0)
    moved = example["jittered"](spot(0))
    assert moved.shape == (500, 1, 28, 28)
    assert moved.min() == -1
    reach = np.abs(place_of(moved)).max(0)
    assert np.all((reach > 1.9) & (reach <= 2.0 + 1e-4))


def test_jitter_turns_by_fifteen_degrees_at_most(example, monkeypatch):
    monkeypatch.setitem(example["jittered"].__globals__, "SHIFT", 0.0)
    right, down = place_of(example["jittered"](spot(8))).T
    np.testing.assert_allclose(np.hypot(right, down), 8, atol=0.1)
    degrees = np.degrees(np.arctan2(down, right))
    assert 14 < degrees.max() < 15.2
    assert -15.2 < degrees.min() < -14


def test_the_discriminator_never_sees_an_image_as_it_is_and_the_generator_learns_all_the_same(
    example,
):
    seen = []
    real = Batch(torch.rand(10, 1, 28, 28) * 2 - 1, torch.arange(10))
    trainer = example["train_gan"](real, steps=1, seed=0)
    trainer.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    before = [weight.clone() for weight in trainer.generator.parameters()]
    trainer.progress.step = 0  # a step with the penalty
    trainer.train_step(real)
    assert len(seen) == 3
    shown = torch.cat(seen).flatten(1)
    assert torch.cdist(shown, real.samples.flatten(1)).min() > 0.1
    pairs = zip(before, trainer.generator.parameters(), strict=True)
    assert all(not torch.equal(*pair) for pair in pairs)


def test_a_classifier_is_fed_with_the_share_of_synthetic_digits_that_is_asked_for(example):
    real, synthetic, accepted = (Batch(torch.full((1,), v)) for v in (0.0, 1.0, 2.0))
    diets = example["diets"](real, example["Additions"](synthetic, accepted), share=0.2)
    fed = {row: ([(int(d.samples), n) for d, n in parts], c) for row, (parts, c) in diets.items()}
    assert fed == {
        "real": ([(0, 100)], False),
        "real + synthetic": ([(0, 80), (1, 20)], False),
        "classical": ([(0, 100)], True),
        "classical + synthetic": ([(0, 80), (1, 20)], True),
        "classical + accepted": ([(0, 80), (2, 20)], True),
        "synthetic": ([(1, 100)], False),
    }


def test_a_run_is_repeatable(digits, finished, tmp_path):
    options = [*SHORT, "--sizes", "20", "--seeds", "3"]
    run_here([SCRIPT, *options, "--data", str(digits), "--out", str(tmp_path)])
    again = json.loads((tmp_path / "results.json").read_text())
    before = json.loads((finished[0] / "results.json").read_text())
    assert again == [r for r in before if (r["size"], r["seed"]) == (20, 3)]


def test_an_interrupted_run_says_so(digits, tmp_path):
    words = [SCRIPT, *SHORT, "--sizes", "20", "--data", str(digits), "--out", str(tmp_path)]
    run = run_here(words, interrupt=True)
    assert run.code == 130
    assert run.printed.endswith("\nInterrupted\n")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--sizes", "25"], 2, "argument --sizes: must be a positive multiple of 10, got 25"),
        (["--share", "0.001"], 2, "--share: must be a number in [0.01, 0.99], got 0.001"),
        (["--device", "nowhere"], 1, "error: `device` must be a device that is available here"),
        (["--steps", "0"], 2, "argument --steps: must be a positive integer, got 0"),
        (["--sizes", "70"], 1, "error: `--sizes` must be at most 60, as many of each class, got"),
        (["--seeds", "-1"], 1, "error: `seed` must be a non-negative integer, got -1"),
        (["--seeds", str(2**63)], 1, "error: `seed` must be at most 9223372036854775807, got"),
    ],
)
def test_a_wrong_option_is_explained_without_a_traceback(digits, tmp_path, options, code, message):
    run = run_here([SCRIPT, *options, "--data", str(digits), "--out", str(tmp_path)])
    assert message in (run.printed if code == 2 else run.code)
    assert "Traceback" not in run.printed
