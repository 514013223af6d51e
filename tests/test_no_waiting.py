"""Nothing in a training step waits for the device: values are read at logging times alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vanillagan import EMA, R1, Callback, Discriminator, GANTrainer, Generator
from vanillagan.callbacks import (
    Checkpoint,
    ConsoleLog,
    CSVLog,
    GradientClip,
    HealthMonitor,
    NaNGuard,
    ProgressBar,
    SampleGrid,
    StopOnSignal,
    progress,
)

STEPS = 100

WAITING = (
    "aten::_local_scalar_dense",  # .item(), float(), int(), bool()
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique",
    "aten::unique",
)
"""How the operators begin whose result, or its size, the host needs: on a GPU they wait for it."""

READING = ("tolist", "numpy", "cpu", "__array__")
"""Methods that bring a tensor to the host; on the CPU no operator shows them."""

GAMES: dict[str, Any] = {
    "plain": {},
    "R1 and EMA": {"penalties": [R1(0.5)]},
    "Algorithm 1, k = 2": {"update_order": "discriminator_first", "discriminator_steps": 2},
}


class Reads(Callback):
    """Which steps have reads, and by what; a step ends after all that callbacks do in it."""

    order = 9

    def __init__(self) -> None:
        self.step = 0
        self.by_step: dict[int, set[str]] = {}

    def note(self, name: str) -> None:
        self.by_step.setdefault(self.step, set()).add(name)

    def on_fit_start(self, trainer: GANTrainer) -> None:
        self.step = 1

    def on_step_end(self, trainer: GANTrainer, result: object) -> None:
        self.step = trainer.progress.step + 1


class WatchOperators(TorchDispatchMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name.startswith(WAITING):
            self.reads.note(function._schema.name)
        return function(*args, **(kwargs or {}))


class WatchMethods(TorchFunctionMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", None) in READING:
            self.reads.note(function.__name__)
        return function(*args, **(kwargs or {}))


def make_trainer(game: str, callbacks: list[Callback], **options: Any) -> GANTrainer:
    return GANTrainer(
        Generator(8, (1, 4, 4), hidden=(16, 16)),
        Discriminator((1, 4, 4), hidden=(16,)),
        ema=EMA() if "EMA" in game else None,
        callbacks=callbacks,
        **GAMES[game],
        **options,
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(320, 1, 4, 4) * 2 - 1


@pytest.fixture
def unlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are looked at where they come from, in the host's memory; that is not counted."""
    monkeypatch.setattr("vanillagan.checks.is_finite", lambda tensor: True)
    monkeypatch.setattr("vanillagan.trainer.warn_of_range", lambda samples, generator: None)


def read_steps(
    game: str, callbacks: list[Callback], images: torch.Tensor, *, steps: int = STEPS
) -> dict[int, set[str]]:
    """What is read within the steps of a run on the CPU."""
    reads = Reads()
    trainer = make_trainer(game, [*callbacks, reads], device="cpu")
    with WatchMethods(reads), WatchOperators(reads):
        trainer.fit(images, steps=steps, batch_size=16)
    return {step: names for step, names in reads.by_step.items() if 1 <= step <= steps}


@pytest.mark.parametrize(
    "read", [float, bool, torch.nonzero, lambda x: x.tolist(), torch.Tensor.cpu]
)
def test_reads_are_noticed(read):
    reads = Reads()
    with WatchMethods(reads), WatchOperators(reads):
        read(torch.ones(1))
    assert reads.by_step


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.usefixtures("unlooked")
def test_bare_steps_read_nothing(game, images):
    assert read_steps(game, [], images) == {}


@pytest.mark.usefixtures("unlooked")
def test_the_history_reads_the_losses_of_256_steps_at_once(images):
    assert set(read_steps("plain", [], images, steps=600)) == {256, 512}


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.usefixtures("unlooked")
def test_with_all_callbacks_values_are_read_only_where_one_is_due(
    game, images, tmp_path, monkeypatch
):
    clock = SimpleNamespace(time=0.0)
    monkeypatch.setattr(
        progress,
        "time",
        SimpleNamespace(perf_counter=lambda: clock.time, monotonic=lambda: clock.time),
    )

    class Clock(Callback):
        """50 steps a second."""

        order = -1

        def on_step_end(self, trainer, result):
            clock.time = trainer.progress.step / 50

    due = {
        ProgressBar(): range(25, STEPS + 1, 25),
        ConsoleLog(seconds=1.0): range(50, STEPS + 1, 50),
        CSVLog(tmp_path / "log.csv", every=20): range(20, STEPS + 1, 20),
        NaNGuard(every=30): [*range(30, STEPS + 1, 30), STEPS],
        SampleGrid(tmp_path, every=35): range(35, STEPS + 1, 35),
        HealthMonitor(every=40): range(40, STEPS + 1, 40),
        Checkpoint(tmp_path, every_steps=45): range(45, STEPS + 1, 45),
        GradientClip(1.0): [],
        StopOnSignal(): [],
    }
    steps = read_steps(game, [Clock(), *due], images)
    assert set(steps) == {step for steps_of_one in due.values() for step in steps_of_one}


@pytest.mark.parametrize("game", GAMES)
def test_steps_run_on_a_device_that_cannot_be_read(game, images):
    def sgd(weights):  # the fused Adam isn't there for such a device
        return torch.optim.SGD(weights, lr=0.1)

    options = {"device": "meta", "generator_optimizer": sgd, "discriminator_optimizer": sgd}
    make_trainer(game, [], **options).fit(images, steps=STEPS, batch_size=16)
    with pytest.raises(RuntimeError, match="meta"):
        make_trainer(game, [NaNGuard(every=1)], **options).fit(images, steps=1, batch_size=16)
