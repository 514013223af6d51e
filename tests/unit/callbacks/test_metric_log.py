"""MetricLog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from tests.helpers.callbacks import At
from tests.helpers.trainers import make_trainer
from vanillagan import EMA, GANTrainer
from vanillagan.callbacks import MetricLog


def fit(trainer: GANTrainer, points: Tensor, **limits: int) -> GANTrainer:
    """Train on 4 batches an epoch."""
    trainer.fit(points, batch_size=50, **limits)
    return trainer


def log(metric: Callable[[Tensor], Any] = torch.mean, **options: Any) -> MetricLog:
    return MetricLog({"m": metric}, **({"num_samples": 20, "every_n_steps": 2} | options))


def constant(value: Any) -> Callable[[Tensor], Any]:
    return lambda fake: value


def steps_of(trainer: GANTrainer) -> list[int]:
    return [step for step, _ in trainer.history.metrics["m"]]


# -- schedule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "limits", "expected"),
    [
        ({"every_n_steps": 3}, {"max_epochs": 2}, [3, 6, 8]),
        ({"every_n_steps": 4}, {"max_epochs": 2}, [4, 8]),
        ({"every_n_epochs": 1}, {"max_epochs": 2}, [4, 8]),
        ({"every_n_epochs": 2}, {"max_epochs": 3}, [8, 12]),
        ({"every_n_epochs": 1}, {"max_steps": 6}, [4, 6]),
    ],
)
def test_it_evaluates_regularly_and_at_the_end(points, every, limits, expected):
    metrics = log(**({"every_n_steps": None} | every))
    assert steps_of(fit(make_trainer(metrics), points, **limits)) == expected


def test_the_end_of_a_run_of_unknown_length_is_evaluated(points):
    trainer = make_trainer(log(every_n_steps=3))
    trainer.fit((batch for batch in points.split(50)), max_epochs=1)
    assert steps_of(trainer) == [3, 4]


def test_a_stopped_run_is_not_evaluated_at_its_end(points):
    trainer = make_trainer(At(3, lambda trainer: trainer.stop("enough")), log())
    assert steps_of(fit(trainer, points, max_epochs=2)) == [2]


def test_a_new_run_is_evaluated_at_the_same_step(points):
    metrics = log(every_n_steps=100)
    for _ in range(2):
        assert steps_of(fit(make_trainer(metrics), points, max_steps=2)) == [2]


# -- samples and values ----------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [None, 0.9])
def test_metrics_get_the_samples_of_the_seed(points, ema):
    seen: list[Tensor] = []
    metrics = log(lambda fake: seen.append(fake) or 0.0, num_samples=30, every_n_steps=4, seed=5)
    trainer = make_trainer(metrics, ema=None if ema is None else EMA(ema))
    fit(trainer, points, max_steps=4)
    assert torch.equal(seen[0], trainer.sample(30, seed=5))


def test_classes_are_drawn_in_turn(points):
    seen: list[Tensor] = []
    metrics = log(lambda fake: seen.append(fake) or 0.0, num_samples=7, every_n_steps=4)
    trainer = make_trainer(metrics, num_classes=3)
    fit(trainer, TensorDataset(points, torch.arange(200) % 3), max_steps=4)
    assert torch.equal(seen[0], trainer.sample(7, labels=[0, 1, 2, 0, 1, 2, 0], seed=0))


def test_a_metric_that_draws_gives_the_same_value_each_time(points):
    trainer = make_trainer(log(lambda fake: torch.rand(1), every_n_steps=1))
    values = fit(trainer, points, max_steps=3).history.metrics["m"]
    assert len({value for _, value in values}) == 1


class Pair(NamedTuple):
    precision: float
    recall: Tensor


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, {"m": 1.0}),
        (0.5, {"m": 0.5}),
        (torch.tensor(0.25), {"m": 0.25}),
        (np.float64(3), {"m": 3.0}),
        (Pair(0.1, torch.tensor(0.5)), {"m.precision": 0.1, "m.recall": 0.5}),
        ({"a": 1, "b": 2.0}, {"m.a": 1.0, "m.b": 2.0}),
        ((torch.tensor(1.0), torch.tensor(2.0)), {"m.0": 1.0, "m.1": 2.0}),
    ],
)
def test_a_metric_may_return_one_number_or_several(points, value, expected):
    trainer = fit(make_trainer(log(constant(value), every_n_steps=4)), points, max_steps=4)
    assert trainer.history.metrics == {name: [(4, number)] for name, number in expected.items()}


@pytest.mark.parametrize("value", ["one", None, torch.ones(2), {"a": {"b": 1}}])
def test_a_value_that_is_no_number_is_an_error(points, value):
    trainer = make_trainer(log(constant(value)))
    with pytest.raises(TypeError, match=r"`metrics\['m'\]` must return numbers"):
        fit(trainer, points, max_steps=4)
    assert trainer.history.metrics == {}


# -- ranks -----------------------------------------------------------------------------------------


def test_other_ranks_record_the_values_of_rank_0(points, monkeypatch):
    trainer = make_trainer(log(constant(None)))
    monkeypatch.setattr(trainer.distributed, "on_rank_0", lambda function: {"m": 0.5})
    fit(trainer, points, max_steps=4)
    assert trainer.history.metrics == {"m": [(2, 0.5), (4, 0.5)]}


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every_n_epochs": 1}, ValueError, "`every_n_steps` or `every_n_epochs` must be given"),
        ({"every_n_steps": None}, ValueError, "`every_n_steps` or `every_n_epochs` must be given"),
        ({"every_n_steps": 0}, ValueError, "`every_n_steps` must be a positive integer, got 0"),
        ({"num_samples": 0}, ValueError, "`num_samples` must be a positive integer, got 0"),
        ({"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
    ],
)
def test_a_bad_argument_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        log(**options)


class Updated:
    """A metric with the interface of torchmetrics."""

    def update(self, images, real):
        pass

    def compute(self):
        pass


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ({}, ValueError, "`metrics` must have at least one metric, got {}"),
        (torch.mean, TypeError, "`metrics` must be a mapping of names to functions"),
        ({1: torch.mean}, TypeError, "`metrics` must be a mapping with strings as names, got 1"),
        ({"m": 3}, TypeError, r"`metrics\['m'\]` must be a function of samples, got 3"),
        ({"m": Updated()}, TypeError, r"\(wrap it in `vanillagan.metrics.from_torchmetrics`\)"),
    ],
)
def test_a_bad_metric_is_refused(metrics, error, message):
    with pytest.raises(error, match=message):
        MetricLog(metrics, every_n_steps=1)
