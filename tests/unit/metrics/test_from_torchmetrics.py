"""from_torchmetrics."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers.data import Rows
from tests.helpers.trainers import make_trainer
from vanillagan.callbacks import MetricLog
from vanillagan.data import ByteImages
from vanillagan.metrics import from_torchmetrics


class MeanDifference:
    """A metric with the interface of torchmetrics: the difference of two means."""

    def __init__(self, *, reset_real_features: bool = True) -> None:
        self.reset_real_features = reset_real_features
        self.seen: dict[bool, list[Tensor]] = {True: [], False: []}
        self.real_updates = 0

    def update(self, images: Tensor, real: bool) -> None:
        self.seen[real].append(images)
        self.real_updates += real

    def compute(self) -> Tensor:
        real, fake = (torch.cat(self.seen[kind]) for kind in (True, False))
        return fake.double().mean() - real.double().mean()

    def reset(self) -> None:
        self.seen[False].clear()
        if self.reset_real_features:
            self.seen[True].clear()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        TensorDataset,
        lambda x: Rows([(sample, 1) for sample in x]),
        lambda x: DataLoader(TensorDataset(x), batch_size=7),
        lambda x: x.split(7),
    ],
    ids=["tensor", "TensorDataset", "Dataset", "DataLoader", "batches"],
)
def test_a_metric_gets_all_reals_and_all_fakes(points, wrap):
    metric, fake = MeanDifference(), torch.rand(1100, 2)
    value = from_torchmetrics(metric, wrap(points + 3))(fake)
    assert float(value) == pytest.approx(float(fake.double().mean() - (points + 3).mean()))
    assert max(len(batch) for batch in metric.seen[True] + metric.seen[False]) <= 500
    assert torch.equal(torch.cat(metric.seen[False]), fake)
    seen = torch.cat(metric.seen[True])
    assert torch.equal(seen.sort(0).values, (points + 3).sort(0).values)


def test_reals_and_fakes_are_transformed():
    real = ByteImages(torch.full((3, 1, 1, 1), 255, dtype=torch.uint8))
    metric = MeanDifference()
    fake = torch.zeros(5, 1, 1, 1)
    from_torchmetrics(metric, real, transform=lambda x: x.flatten(1) + 9)(fake)
    assert torch.equal(torch.cat(metric.seen[True]), torch.full((3, 1), 10.0))
    assert torch.equal(torch.cat(metric.seen[False]), torch.full((5, 1), 9.0))


@pytest.mark.parametrize(("reset_real_features", "updates"), [(True, 3), (False, 1)])
def test_reals_are_read_once_if_the_metric_keeps_them(points, reset_real_features, updates):
    metric = MeanDifference(reset_real_features=reset_real_features)
    evaluate = from_torchmetrics(metric, points)
    for shift in range(3):
        value = evaluate(points + shift)
        assert float(value) == pytest.approx(shift, abs=1e-6)
    assert metric.real_updates == updates


def test_reals_of_before_do_not_count(points):
    metric = MeanDifference(reset_real_features=False)
    metric.update(torch.ones(7, 2), real=True)
    from_torchmetrics(metric, points)(points)
    assert sum(len(batch) for batch in metric.seen[True]) == len(points)


def test_an_update_that_failed_does_not_count(points):
    fails = [True, False]

    def transform(x: Tensor) -> Tensor:
        if len(metric.seen[True]) == 1 and fails.pop(0):
            raise ArithmeticError("failed")
        return x

    metric = MeanDifference(reset_real_features=False)
    evaluate = from_torchmetrics(metric, points.repeat(5, 1), transform)
    with pytest.raises(ArithmeticError, match="failed"):
        evaluate(points)
    evaluate(points)
    assert sum(len(batch) for batch in metric.seen[True]) == 5 * len(points)


class Synchronized(MeanDifference):
    """Computes as torchmetrics does: over all ranks unless told otherwise."""

    _to_sync = True

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.fails = fails
        self.synchronized: list[bool] = []

    def compute(self) -> Tensor:
        self.synchronized.append(self._to_sync)
        if self.fails:
            raise ArithmeticError("no value")
        return super().compute()


@pytest.mark.parametrize("fails", [False, True])
def test_a_metric_does_not_wait_for_other_ranks(points, fails):
    metric = Synchronized(fails=fails)
    with pytest.raises(ArithmeticError) if fails else contextlib.nullcontext():
        from_torchmetrics(metric, points)(points)
    assert (metric.synchronized, metric._to_sync) == ([False], True)


class Flat(nn.Module):
    """Points as their own features."""

    num_features = 2

    def forward(self, points: Tensor) -> Tensor:
        return points.flatten(1)


@pytest.mark.parametrize("reset_real_features", [True, False])
def test_the_fid_of_a_run_equals_the_fid_by_hand(points, reset_real_features):
    fid = pytest.importorskip("torchmetrics.image.fid")

    def make() -> Any:
        return fid.FrechetInceptionDistance(Flat(), reset_real_features=reset_real_features)

    evaluate = from_torchmetrics(make(), points)
    log = MetricLog({"fid": evaluate}, num_samples=60, every_n_steps=2, seed=3)
    trainer = make_trainer(log)
    trainer.fit(points, max_steps=4)
    by_hand = make()
    by_hand.update(points, real=True)
    by_hand.update(trainer.sample(60, seed=3), real=False)
    expected = float(by_hand.compute())
    assert expected > 0.01
    assert trainer.history.metrics["fid"][-1] == (4, pytest.approx(expected, rel=1e-4))


def test_torchmetrics_has_the_private_name_in_use():
    torchmetrics = pytest.importorskip("torchmetrics")
    assert torchmetrics.MeanMetric()._to_sync is True


class OfFakes(MeanDifference):
    """A metric such as the Inception score."""

    def update(self, images: Tensor) -> None:
        self.seen[False].append(images)


@pytest.mark.parametrize(
    ("metric", "real", "transform", "error", "message"),
    [
        (torch.mean, torch.ones(2, 2), None, TypeError, "`metric` must have `update`, `compute`"),
        (OfFakes(), torch.ones(2, 2), None, TypeError, r"`metric` must have `update\(images, real"),
        (
            MeanDifference(),
            torch.ones(2, 2),
            2,
            TypeError,
            "`transform` must be a function",
        ),
        (MeanDifference(), 3, None, TypeError, "`real` must be a tensor, a Dataset, .* got int"),
        (MeanDifference(), torch.ones(0, 2), None, ValueError, "`real` must"),
    ],
)
def test_a_bad_argument_is_refused(metric, real, transform, error, message):
    with pytest.raises(error, match=message):
        from_torchmetrics(metric, real, transform)


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (torch.zeros(8, 2, dtype=torch.uint8), "`real` must hold floats .* got torch.uint8"),
        (iter([]), "`real` must yield samples at each evaluation"),
    ],
)
def test_reals_must_be_like_the_fakes(points, real, message):
    with pytest.raises(ValueError, match=message):
        from_torchmetrics(MeanDifference(), real)(points)
