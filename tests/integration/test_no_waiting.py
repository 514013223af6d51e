"""Nothing in a training step synchronizes with the device: values are read only for logs.

Copies to the device are no operators on the CPU: `pretended_device.py` counts those that block.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.trainers import make_trainer
from vanillagan import EMA, R1, Callback, GANTrainer
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
    display,
)

STEPS = 100

SYNCHRONIZING = (
    "aten::_local_scalar_dense",  # .item(), float(), int(), bool()
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique",
    "aten::unique",
)
"""Prefixes of operators whose result, or its size, the host needs: they synchronize with a GPU."""

READING = ("tolist", "numpy", "cpu", "__array__")
"""Methods that copy a tensor to the host; on the CPU they call no operator."""

CONFIGURATIONS: dict[str, Any] = {
    "plain": {},
    "R1 and EMA": {"penalties": [R1(0.5)]},
    "Algorithm 1, k = 2": {"update_order": "discriminator_first", "discriminator_steps": 2},
}


class Reads(Callback):
    """Record the reads of each step; a step ends after the hooks of all other callbacks."""

    priority = 9

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
        if function._schema.name.startswith(SYNCHRONIZING):
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


def make(name: str, callbacks: list[Callback], **options: Any) -> GANTrainer:
    ema = EMA() if "EMA" in name else None
    options = CONFIGURATIONS[name] | {"ema": ema, "callbacks": callbacks} | options
    return make_trainer(shape=(1, 4, 4), **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(320, 1, 4, 4) * 2 - 1


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the checks of batches, which read them in the memory of the host."""
    monkeypatch.setattr("vanillagan.validation.is_finite", lambda tensor: True)
    monkeypatch.setattr("vanillagan.compatibility._warn_of_range", lambda *arguments: None)


def read_steps(
    name: str, callbacks: list[Callback], images: torch.Tensor, *, steps: int = STEPS
) -> dict[int, set[str]]:
    """Return what is read within the steps of a run on the CPU."""
    reads = Reads()
    trainer = make(name, [*callbacks, reads], device="cpu")
    with WatchMethods(reads), WatchOperators(reads):
        trainer.fit(images, max_steps=steps, batch_size=16)
    return {step: names for step, names in reads.by_step.items() if 1 <= step <= steps}


@pytest.mark.parametrize(
    "read", [float, bool, torch.nonzero, lambda x: x.tolist(), torch.Tensor.cpu]
)
def test_reads_are_noticed(read):
    reads = Reads()
    with WatchMethods(reads), WatchOperators(reads):
        read(torch.ones(1))
    assert reads.by_step


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.usefixtures("unchecked")
def test_bare_steps_read_nothing(name, images):
    assert read_steps(name, [], images) == {}


@pytest.mark.usefixtures("unchecked")
def test_history_reads_256_steps_at_once(images):
    assert set(read_steps("plain", [], images, steps=520)) == {256, 512}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.usefixtures("unchecked")
def test_callbacks_read_only_in_the_steps_they_are_due(name, images, tmp_path, monkeypatch):
    clock = SimpleNamespace(time=0.0)
    monkeypatch.setattr(
        display,
        "time",
        SimpleNamespace(perf_counter=lambda: clock.time, monotonic=lambda: clock.time),
    )

    class Clock(Callback):
        """A clock at 50 steps per second."""

        priority = -1

        def on_step_end(self, trainer, result):
            clock.time = trainer.progress.step / 50

    due = {
        ProgressBar(): range(25, STEPS + 1, 25),
        ConsoleLog(seconds=1.0): range(50, STEPS + 1, 50),
        CSVLog(tmp_path / "log.csv", every_n_steps=20): range(20, STEPS + 1, 20),
        NaNGuard(every_n_steps=30): [*range(30, STEPS + 1, 30), STEPS],
        SampleGrid(tmp_path, every_n_steps=35): range(35, STEPS + 1, 35),
        HealthMonitor(every_n_steps=40): range(40, STEPS + 1, 40),
        Checkpoint(tmp_path, every_n_steps=45): range(45, STEPS + 1, 45),
        GradientClip(1.0): [],
        StopOnSignal(): [],
    }
    steps = read_steps(name, [Clock(), *due], images)
    assert set(steps) == {step for steps_of_one in due.values() for step in steps_of_one}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_steps_run_on_a_device_that_cannot_be_read(name, images):
    def sgd(weights):  # there is no fused Adam for such a device
        return torch.optim.SGD(weights, lr=0.1)

    options = {"device": "meta", "generator_optimizer": sgd, "discriminator_optimizer": sgd}
    make(name, [], **options).fit(images, max_steps=20, batch_size=16)
    with pytest.raises(RuntimeError, match="meta"):
        make(name, [NaNGuard(every_n_steps=1)], **options).fit(images, max_steps=1, batch_size=16)
