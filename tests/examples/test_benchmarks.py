"""Benchmarks: all of them can be imported, and parts of them run."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.benchmarks import gpu
from tests.benchmarks.digits import Judge
from tests.benchmarks.limit import limit
from tests.benchmarks.loops import Options, plain_loader
from tests.benchmarks.recipes import RECIPES, make_trainer
from tests.benchmarks.stopwatch import Stopwatch
from tests.benchmarks.time_to_quality import same_batches
from tests.helpers.digits import write_mnist
from tests.helpers.scripts import ROOT
from vanillagan.datasets import mnist
from vanillagan.runtime import graphs


class Ticked(Exception):  # noqa: N818 - it is no error
    """Raised after the first step of a row."""


def stop() -> None:
    raise Ticked


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py"))
)
def test_each_module_can_be_imported(name):
    importlib.import_module(f"tests.benchmarks.{name}")


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_has_a_trainer(recipe):
    trainer = make_trainer(recipe, seed=0)
    assert (trainer.generator.config.get("norm_eps") == 0.8) == (recipe == "reference")
    assert (trainer.ema is None) == (recipe in ("default", "reference"))
    assert (trainer.lr_schedule is None) == (recipe in ("default", "reference"))
    assert (trainer.precision == "bf16") == (recipe == "stable-bf16")


def test_a_stopwatch_does_not_count_evaluations(make_trainer):
    seen = []

    def evaluate(trainer, seconds):
        seen.append((trainer.progress.step, seconds))
        time.sleep(0.3)

    trainer = make_trainer(Stopwatch({1, 3}, evaluate))
    trainer.fit(torch.rand(64, 2) * 2 - 1, max_steps=4, batch_size=16)
    (first, early), (last, late) = seen
    assert (first, last) == (1, 3)
    assert 0 < early < late < 0.3


@pytest.mark.parametrize("networks", ["mlp", "conv"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_limit_makes_a_step(networks, precision):
    options = Options(Path(), batch_size=4, precision=precision, networks=networks)
    with pytest.raises(Ticked):
        limit(options, stop)


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_on_the_cpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(graphs, "CUDAGraphs", graphs.CUDAGraphs)  # is replaced: restore it
    path = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--quick", "--json", str(path)])
    assert gpu.main() == 0, capsys.readouterr().out
    figures = json.loads(path.read_text())["figures"]
    assert len(figures) == 1 + 2 * 6
    assert {row["ms"] > 0 for row in figures[1:]} == {True}


def test_batches_from_memory_equal_those_of_the_loader(tmp_path):
    write_mnist(tmp_path, train=150)
    torch.manual_seed(0)
    plain = [images for images, _labels in plain_loader(Options(tmp_path))]
    torch.manual_seed(0)
    read = [images for images, _labels in same_batches(mnist(tmp_path))]
    assert [len(images) for images in read] == [64, 64, 22]
    for from_memory, images in zip(read, plain, strict=True):
        assert torch.equal(from_memory, images)


def test_digits_are_judged_by_the_class_that_was_asked_for():
    labels = torch.arange(10).repeat(40)
    images = labels[:, None] + torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    judge = object.__new__(Judge)
    judge._features, judge._labels = images, labels
    same = judge._by_label(images, labels, labels)
    assert same["as_labeled"] == 1
    assert same["frechet_by_class"] == pytest.approx(0, abs=1e-6)
    shifted = (labels + 1) % 10
    assert judge._by_label(images, labels, shifted)["as_labeled"] == 0
    moved = judge._by_label(images + 1, labels, labels)
    assert moved["frechet_by_class"] == pytest.approx(3, abs=1e-4)  # a distance of 1 in 3 features
