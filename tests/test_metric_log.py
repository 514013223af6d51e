"""MetricLog, and the values that History keeps for it."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from vanillagan import EMA, Callback, GANTrainer
from vanillagan.callbacks import Checkpoint, ConsoleLog, LRSchedule, MetricLog, TensorBoardLog
from vanillagan.data import ByteImages
from vanillagan.progress import History

STEPS_PER_EPOCH = 4


def fit(trainer: GANTrainer, points: Tensor, **totals: int) -> GANTrainer:
    trainer.fit(points, batch_size=50, **totals)
    return trainer


def log(metric: Callable[[Tensor], Any] = torch.mean, **options: Any) -> MetricLog:
    return MetricLog({"m": metric}, **({"samples": 20, "every_steps": 2} | options))


def given(*values: Any) -> Callable[[Tensor], Any]:
    """A metric that gives these values in turn."""
    remaining = iter(values)
    return lambda fake: next(remaining)


def steps_of(trainer: GANTrainer, name: str = "m") -> list[int]:
    return [step for step, _ in trainer.history.metrics[name]]


class Updated:
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


# -- the history -----------------------------------------------------------------------------------


def test_the_history_keeps_named_values_across_a_state(tmp_path):
    history = History()
    history.record(3, {"a": 0.1, "b": math.inf})
    history.record(2**40, {"a": torch.tensor(2.0)})
    torch.save(history.state_dict(), tmp_path / "state")
    restored = History()
    restored.record(1, {"gone": 1.0})
    restored.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert restored.metrics == {"a": [(3, 0.1), (2**40, 2.0)], "b": [(3, math.inf)]}
    state = history.state_dict()["metrics"]["a"]
    assert (state["steps"].dtype, state["values"].dtype) == (torch.int64, torch.float64)


def test_the_metrics_of_a_history_are_a_copy():
    history = History()
    history.record(1, {"a": 1.0})
    history.metrics["a"].append((2, 2.0))
    history.metrics["b"] = []
    assert history.metrics == {"a": [(1, 1.0)]}


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "totals", "expected"),
    [
        ({"every_steps": 3}, {"epochs": 2}, [3, 6, 8]),
        ({"every_steps": 4}, {"epochs": 2}, [4, 8]),
        ({"every_epochs": 1}, {"epochs": 2}, [4, 8]),
        ({"every_epochs": 2}, {"epochs": 3}, [8, 12]),
        ({"every_epochs": 1}, {"steps": 6}, [4, 6]),
    ],
)
def test_it_evaluates_at_regular_times_and_at_the_end(
    points, make_trainer, every, totals, expected
):
    metrics = log(**({"every_steps": None} | every))
    assert steps_of(fit(make_trainer(callbacks=[metrics]), points, **totals)) == expected


def test_a_run_that_does_not_tell_its_length_is_evaluated_at_its_end(points, make_trainer):
    trainer = make_trainer(callbacks=[log(every_steps=3)])
    trainer.fit((batch for batch in points.split(50)), epochs=1)
    assert steps_of(trainer) == [3, 4]


def test_a_run_that_was_stopped_is_not_evaluated_at_its_end(points, make_trainer):
    class Stop(Callback):
        def on_step_end(self, trainer, result):
            if trainer.progress.step == 3:
                trainer.stop("enough")

    trainer = fit(make_trainer(callbacks=[Stop(), log(every_steps=2)]), points, epochs=2)
    assert steps_of(trainer) == [2]


# -- what ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [None, 0.9])
def test_metrics_get_the_samples_of_the_seed_with_the_ema_weights(points, make_trainer, ema):
    seen: list[Tensor] = []
    metrics = log(lambda fake: seen.append(fake) or 0.0, samples=30, every_steps=4, seed=5)
    ema = None if ema is None else EMA(ema)
    trainer = fit(make_trainer(callbacks=[metrics], ema=ema), points, steps=4)
    assert torch.equal(seen[0], trainer.sample(30, seed=5))


def test_a_conditional_generator_makes_its_classes_in_turn(points, make_trainer):
    seen: list[Tensor] = []
    metrics = log(lambda fake: seen.append(fake) or 0.0, samples=7, every_steps=4)
    trainer = make_trainer(callbacks=[metrics], num_classes=3)
    fit(trainer, TensorDataset(points, torch.arange(200) % 3), steps=4)
    labels = [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(seen[0], trainer.sample(7, labels=labels, seed=0))


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
def test_a_metric_may_give_one_number_or_several(points, make_trainer, value, expected):
    trainer = fit(make_trainer(callbacks=[log(given(value), every_steps=4)]), points, steps=4)
    assert trainer.history.metrics == {name: [(4, number)] for name, number in expected.items()}


@pytest.mark.parametrize("value", ["one", None, torch.ones(2), {"a": {"b": 1}}])
def test_what_is_no_number_is_an_error_that_names_the_metric(points, make_trainer, value):
    trainer = make_trainer(callbacks=[log(given(value))])
    with pytest.raises(TypeError, match=r"`metrics\['m'\]` must give numbers"):
        fit(trainer, points, steps=4)
    assert trainer.history.metrics == {}


class Pairs(Dataset[Any]):
    """A map-style dataset of (sample, label)."""

    def __init__(self, samples: Tensor) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.samples[index], index % 3


@pytest.mark.parametrize("wrap", [lambda x: x, TensorDataset, Pairs])
def test_an_updated_metric_gets_all_reals_and_all_fakes(points, make_trainer, wrap):
    real = torch.cat([points + 3] * 6)
    metric = Updated()
    metrics = MetricLog({"m": metric}, samples=1100, every_steps=4, real=wrap(real))
    trainer = fit(make_trainer(callbacks=[metrics]), points, steps=4)
    assert max(len(batch) for batch in metric.seen[True] + metric.seen[False]) <= 500
    assert torch.equal(torch.cat(metric.seen[False]), trainer.sample(1100, seed=0))
    seen = torch.cat(metric.seen[True])
    assert torch.equal(seen.sort(0).values, real.sort(0).values)
    expected = trainer.sample(1100, seed=0).double().mean() - real.double().mean()
    assert trainer.history.metrics["m"] == [(4, pytest.approx(float(expected)))]


def test_bytes_are_fed_as_floats_and_both_sides_are_transformed(points, make_trainer):
    real = ByteImages(torch.full((3, 1, 1, 1), 255, dtype=torch.uint8))
    metric = Updated()
    metrics = MetricLog(
        {"m": metric, "f": torch.max},
        samples=5,
        every_steps=4,
        real=real,
        transform=lambda x: x.flatten(1).clamp(-1, 1).add(9),
    )
    trainer = fit(make_trainer(callbacks=[metrics]), points, steps=4)
    assert torch.equal(torch.cat(metric.seen[True]), torch.full((3, 1), 10.0))
    fakes = trainer.sample(5, seed=0) + 9
    assert torch.equal(torch.cat(metric.seen[False]), fakes)
    assert trainer.history.metrics["f"] == [(4, float(fakes.max()))]


@pytest.mark.parametrize(("functions", "times"), [({}, 2), ({"f": torch.max, "g": torch.min}, 3)])
def test_fakes_are_transformed_once_for_all_functions_and_not_without_any(
    points, make_trainer, functions, times
):
    """And for the metric that is updated once more, and its reals."""
    seen: list[Tensor] = []
    metrics = MetricLog(
        {"u": Updated()} | functions,
        samples=20,
        every_steps=4,
        real=points,
        transform=lambda x: seen.append(x) or x,
    )
    fit(make_trainer(callbacks=[metrics]), points, steps=4)
    assert len(seen) == times


class Synchronised(Updated):
    """Computes as torchmetrics does, over all processes unless told otherwise."""

    _to_sync = True

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.fails = fails
        self.computed: list[bool] = []

    def compute(self) -> Tensor:
        self.computed.append(self._to_sync)
        if self.fails:
            raise ArithmeticError("no value")
        return super().compute()


@pytest.mark.parametrize("fails", [False, True])
def test_a_metric_computes_in_its_process_alone_only_while_it_is_evaluated(
    points, make_trainer, fails
):
    metric = Synchronised(fails=fails)
    trainer = make_trainer(callbacks=[log(metric, every_steps=4, real=points)])
    with pytest.raises(ArithmeticError) if fails else contextlib.nullcontext():
        fit(trainer, points, steps=4)
    assert (metric.computed, metric._to_sync) == ([False], True)


@pytest.mark.parametrize(("reset_real_features", "updates"), [(True, 3), (False, 1)])
def test_reals_are_fed_again_unless_the_metric_keeps_them(
    points, make_trainer, reset_real_features, updates
):
    metric = Updated(reset_real_features=reset_real_features)
    metrics = MetricLog({"m": metric}, samples=20, every_steps=2, real=points)
    trainer = fit(make_trainer(callbacks=[metrics]), points, steps=6)
    assert metric.real_updates == updates
    expected = float(trainer.sample(20, seed=0).double().mean() - points.double().mean())
    assert trainer.history.metrics["m"][-1] == (6, pytest.approx(expected))


class Flat(torch.nn.Module):
    """Points as their own features."""

    num_features = 2

    def forward(self, points: Tensor) -> Tensor:
        return points.flatten(1)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_metric_of_torchmetrics_gives_what_it_gives_by_hand(points, make_trainer, keeps):
    fid = pytest.importorskip("torchmetrics.image.fid")

    def make() -> Any:
        return fid.FrechetInceptionDistance(Flat(), reset_real_features=keeps)

    metrics = MetricLog({"fid": make()}, samples=60, every_steps=2, real=points, seed=3)
    trainer = fit(make_trainer(callbacks=[metrics]), points, steps=4)
    by_hand = make()
    by_hand.update(points, real=True)
    by_hand.update(trainer.sample(60, seed=3), real=False)
    expected = float(by_hand.compute())
    assert expected > 0.01
    assert trainer.history.metrics["fid"][-1] == (4, pytest.approx(expected, rel=1e-4))


# -- training is not disturbed ---------------------------------------------------------------------


class Draws(Callback):
    """What the global random states give after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, float]] = []

    def on_step_end(self, trainer, result):
        self.seen.append((float(torch.rand(1)), float(np.random.rand()), random.random()))


def test_training_is_the_same_bit_for_bit(points, make_trainer):
    def noisy(fake: Tensor) -> float:
        np.random.rand(3), random.random()
        return float(torch.rand(7).sum())

    runs = []
    for callbacks in ([], [MetricLog({"m": noisy, "u": Updated()}, every_steps=1, real=points)]):
        for module in (np.random, random):
            module.seed(0)
        draws = Draws()
        trainer = fit(make_trainer(callbacks=[draws, *callbacks]), points, steps=6)
        modes = [module.training for module in trainer.generator.modules()]
        states = [trainer.generator.state_dict(), trainer.discriminator.state_dict()]
        runs.append((states, draws.seen, modes))
    torch.testing.assert_close(runs[1][0], runs[0][0], rtol=0, atol=0)
    assert runs[1][1:] == runs[0][1:]


def test_a_metric_that_draws_gives_the_same_value_each_time(points, make_trainer):
    metrics = log(lambda fake: torch.rand(1), every_steps=1)
    values = fit(make_trainer(callbacks=[metrics]), points, steps=3).history.metrics["m"]
    assert len({value for _, value in values}) == 1


# -- the best --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", [3.0, 1.0, 2.0, 1.0], (1.0, 4)),
        ("max", [3.0, 1.0, 4.0, 2.0], (4.0, 6)),
        ("min", [math.nan, 2.0, math.nan, 3.0], (2.0, 4)),
        ("max", [math.nan, 2.0, math.nan, 1.0], (2.0, 4)),
        ("min", [math.nan] * 4, (None, None)),
        ("min", [math.inf, 5.0, -math.inf, 0.0], (-math.inf, 6)),
    ],
)
def test_the_best_value_and_its_step_are_kept(points, make_trainer, mode, values, best):
    metrics = log(given(*values), best="m", mode=mode)
    fit(make_trainer(callbacks=[metrics]), points, steps=8)
    assert (metrics.best_value, metrics.best_step) == best


def test_the_best_may_be_one_of_several_values(points, make_trainer):
    metrics = log(given(Pair(0.5, 1.0), Pair(0.7, 0.0)), best="m.precision", mode="max")
    fit(make_trainer(callbacks=[metrics]), points, steps=4)
    assert (metrics.best_value, metrics.best_step) == (0.7, 4)


def test_a_best_that_the_metric_does_not_give_is_an_error(points, make_trainer):
    trainer = make_trainer(callbacks=[log(best="m.recall")])
    with pytest.raises(ValueError, match=r"`best` must be one of \['m'\], got 'm.recall'"):
        fit(trainer, points, steps=4)


def test_the_best_survives_a_resume(tmp_path, points, make_trainer):
    first = make_trainer(callbacks=[log(given(1.0, 2.0), best="m")])
    fit(first, points, steps=4).save(tmp_path / "run.pt")
    metrics = log(given(1.5, 1.2), best="m")
    second = make_trainer(callbacks=[metrics])
    second.load(tmp_path / "run.pt")
    fit(second, points, steps=8)
    assert (metrics.best_value, metrics.best_step) == (1.0, 2)
    assert second.history.metrics["m"] == [(2, 1.0), (4, 2.0), (6, 1.5), (8, 1.2)]


def halving() -> LRSchedule:
    return LRSchedule(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5), interval="step")


@pytest.mark.parametrize("every", [{"every_steps": 2}, {"every_steps": None, "every_epochs": 1}])
def test_training_goes_on_exactly_from_the_best_checkpoint(tmp_path, points, make_trainer, every):
    """Also with callbacks listed after it, whose step must be in the checkpoint."""

    def make(name: str, *values: float) -> tuple[GANTrainer, MetricLog]:
        path = tmp_path / name / "best.pt"
        metrics = log(given(*values), best="m", checkpoint=path, **every)
        return make_trainer(callbacks=[metrics, halving()]), metrics

    whole, best = make("a", 3.0, 1.0, 2.0, 2.5, 2.5, 2.5)
    fit(whole, points, steps=12)
    resumed, other = make("b", 2.0, 2.5, 2.5, 2.5)
    resumed.load(tmp_path / "a" / "best.pt")
    assert (other.best_value, other.best_step) == (1.0, resumed.progress.step)
    assert resumed.history.metrics["m"] == whole.history.metrics["m"][:2]
    fit(resumed, points, steps=12)
    assert (other.best_value, other.best_step) == (best.best_value, best.best_step)
    assert resumed.history.metrics == whole.history.metrics
    torch.testing.assert_close(
        resumed.generator.state_dict(), whole.generator.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_of_the_step_holds_its_evaluation(tmp_path, points, make_trainer, first):
    """Wherever the Checkpoint stands in the list."""
    metrics, saves = log(given(2.0, 1.0), best="m"), Checkpoint(tmp_path, every_steps=2)
    callbacks = [saves, metrics] if first else [metrics, saves]
    fit(make_trainer(callbacks=callbacks), points, steps=4)
    again = log(best="m")
    restored = make_trainer(callbacks=[again, Checkpoint(tmp_path, every_steps=2)])
    restored.load(tmp_path / "step-00000004.pt")
    assert (again.best_value, again.best_step) == (1.0, 4)
    assert restored.history.metrics == {"m": [(2, 2.0), (4, 1.0)]}


def test_a_failed_save_leaves_the_best_as_it_was(tmp_path, points, make_trainer):
    (tmp_path / "file").touch()
    metrics = log(given(1.0), best="m", checkpoint=tmp_path / "file" / "best.pt")
    with pytest.raises(OSError, match="file"):
        fit(make_trainer(callbacks=[metrics]), points, steps=4)
    assert (metrics.best_value, metrics.best_step) == (None, None)


def test_every_process_knows_the_values_and_takes_part_in_saving(points, make_trainer, monkeypatch):
    """The second of two processes doesn't evaluate, but decides as the first one does."""

    class Second(Callback):
        def on_fit_start(self, trainer):
            monkeypatch.setattr(trainer.processes, "rank", 1)
            firsts = ({"m": 0.5}, None)
            monkeypatch.setattr(trainer.processes, "gather", lambda value: [firsts, value])
            monkeypatch.setattr(trainer, "save", saved.append)

    saved: list[Any] = []
    metrics = log(given(), best="m", checkpoint="best.pt")
    trainer = fit(make_trainer(callbacks=[Second(), metrics]), points, steps=4)
    assert [str(path) for path in saved] == ["best.pt"]
    assert trainer.history.metrics == {"m": [(2, 0.5), (4, 0.5)]}
    assert (metrics.best_value, metrics.best_step) == (0.5, 2)


# -- what shows them -------------------------------------------------------------------------------


def test_the_console_shows_the_newest_metrics(capsys, points, make_trainer):
    class Group(Callback):
        def on_fit_start(self, trainer):
            trainer.history.record(0, {"health/spread": 1.0})

    callbacks = [Group(), ConsoleLog(0.0), log(given(0.125, 12345.678))]
    fit(make_trainer(callbacks=callbacks), points, steps=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" [")[2] for line in lines[1:]] == [
        "m: 0.125]",
        "m: 0.125]",
        "m: 1.235e+04]",
    ]
    assert lines[-1].startswith("[Epoch 1")
    assert all("health" not in line for line in lines)


def test_tensorboard_gets_each_point_once(tmp_path, points, make_trainer):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = make_trainer(callbacks=[TensorBoardLog(tmp_path, every=3), log(given(4.0, 3.0, 2.0))])
    fit(trainer, points, steps=4)
    fit(trainer, points, steps=6)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("m")
    assert [(event.step, event.value) for event in events] == [(2, 4.0), (4, 3.0), (6, 2.0)]


# -- bad arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every_epochs": 1}, ValueError, "`every_steps` or `every_epochs` must be given"),
        ({"every_steps": None}, ValueError, "`every_steps` or `every_epochs` must be given"),
        ({"every_steps": 0}, ValueError, "`every_steps` must be a positive integer, got 0"),
        ({"samples": 0}, ValueError, "`samples` must be a positive integer, got 0"),
        ({"seed": -1}, ValueError, "`seed` must be a non-negative integer, got -1"),
        ({"mode": "least"}, ValueError, "`mode` must be one of 'min', 'max', got 'least'"),
        ({"best": "n"}, ValueError, r"`best` must be a value of \['m'\], got 'n'"),
        ({"best": 1}, ValueError, r"`best` must be a value of \['m'\], got 1"),
        ({"checkpoint": "best.pt"}, ValueError, "`best` must be given for `checkpoint`, got None"),
        ({"transform": 2}, TypeError, "`transform` must be a function of samples, got 2"),
        ({"metric": Updated(), "real": 3}, TypeError, "`data` must be a tensor"),
        ({"real": torch.ones(2, 2)}, ValueError, "`real` must be None .* functions .*got Tensor"),
    ],
)
def test_a_bad_argument_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        log(**options)


class OfFakes(Updated):
    """A metric such as the Inception score."""

    def update(self, images: Tensor) -> None:
        self.seen[False].append(images)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ({}, ValueError, "`metrics` must have at least one metric, got {}"),
        (torch.mean, TypeError, "`metrics` must be a mapping of names to metrics"),
        ({1: torch.mean}, TypeError, "`metrics` must have strings as names, got 1"),
        ({"m": 3}, TypeError, r"`metrics\['m'\]` must be a function of samples, or have `update`"),
        ({"m": Updated()}, ValueError, r"`real` must be given for \['m'\] of `metrics`"),
        ({"m": OfFakes()}, TypeError, r"`metrics\['m'\]` must have `update\(images, real=...\)`"),
    ],
)
def test_a_bad_metric_is_refused(metrics, error, message):
    with pytest.raises(error, match=message):
        MetricLog(metrics, every_steps=1)


def test_a_new_run_begins_anew(points, make_trainer):
    kept = log(given(1.0, 5.0), every_steps=100, best="m")
    for value in (1.0, 5.0):
        trainer = make_trainer(callbacks=[kept])
        fit(trainer, points, steps=2)
        assert trainer.history.metrics["m"] == [(2, value)]
        assert (kept.best_value, kept.best_step) == (value, 2)


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (
            torch.zeros(8, 2, dtype=torch.uint8),
            "`real` must hold floats like the fakes', got torch.uint8",
        ),
        (iter([]), "`real` must give samples each time, got none"),
    ],
)
def test_reals_must_be_like_the_fakes(points, make_trainer, real, message):
    trainer = make_trainer(callbacks=[log(Updated(), every_steps=1, real=real)])
    with pytest.raises(ValueError, match=message):
        fit(trainer, points, steps=1)


def test_reals_that_were_fed_before_are_not_counted_twice(points, make_trainer):
    metric = Updated(reset_real_features=False)
    metric.update(torch.ones(7, 2), real=True)
    fit(make_trainer(callbacks=[log(metric, every_steps=1, real=points)]), points, steps=1)
    assert sum(len(batch) for batch in metric.seen[True]) == len(points)
