"""HealthMonitor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.data import ring
from vanillagan import (
    R1,
    BCEAdversarialLoss,
    Callback,
    Discriminator,
    GANTrainer,
    Generator,
    WassersteinLoss,
)
from vanillagan.callbacks import HealthMonitor
from vanillagan.callbacks.health.thresholds import KINDS
from vanillagan.errors import TrainingHealthWarning
from vanillagan.player import adam

STATISTICS = {
    *("discriminator_auc", "logit_gradient", "gradient_ratio", "update_ratio"),
    *("std_ratio", "nearest_ratio", "coverage", "mean_shift"),
}


def make_generator() -> nn.Module:
    return Generator(4, (2,), hidden=(32, 32), output="linear")


def make_discriminator() -> nn.Module:
    return Discriminator((2,), hidden=(32, 32))


def train(
    monitor: HealthMonitor,
    *,
    generator: Callable[[], nn.Module] = make_generator,
    discriminator: Callable[[], nn.Module] = make_discriminator,
    data: Tensor | None = None,
    steps: int = 120,
    callbacks: tuple[Callback, ...] = (),
    **options: Any,
) -> GANTrainer:
    """Train on the ring; an issue is a warning, which pytest makes an error."""
    torch.manual_seed(0)
    trainer = GANTrainer(
        generator(),
        discriminator(),
        device="cpu",
        callbacks=[monitor, *callbacks],
        **options,
    )
    trainer.fit(ring(2048) if data is None else data, max_steps=steps, batch_size=64)
    return trainer


class Mean(nn.Module):
    """A generator of samples around one point."""

    latent_dim = 2

    def __init__(self, start: float, spread: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full((2,), start))
        self.spread = spread

    def forward(self, latent: Tensor) -> Tensor:
        return self.mean + self.spread * latent


def sgd(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda weights: torch.optim.SGD(weights, lr=lr)


STILL, FAST = sgd(1e-9), adam(1e-2)
HEALTHY_RUN: dict[str, Any] = {
    "steps": 300,
    "penalties": [R1(1.0)],
    "generator_optimizer": adam(1e-3),
    "discriminator_optimizer": adam(1e-3),
}
FAILING: dict[str, dict[str, Any]] = {
    "saturation": {
        "generator": lambda: Mean(4.0, 1.0),
        "generator_optimizer": STILL,
        "discriminator_optimizer": FAST,
    },
    "vanishing_gradient": {
        "loss": BCEAdversarialLoss(generator_objective="minimax"),
        "generator": lambda: Mean(4.0, 1.0),
        "generator_optimizer": STILL,
        "discriminator_optimizer": FAST,
    },
    "mode_collapse": {"generator": lambda: Mean(1.0, 0.01)},
    # D(x) = w x against a point: without a penalty they circle (Mescheder et al., 2018, section 2)
    "oscillation": {
        "loss": WassersteinLoss(),
        "generator": lambda: Mean(1.0, 0.1),
        "discriminator": lambda: nn.Linear(2, 1),
        "data": 0.1 * torch.randn(2048, 2, generator=torch.Generator().manual_seed(0)),
        "generator_optimizer": sgd(0.05),
        "discriminator_optimizer": sgd(0.05),
    },
    "imbalance": {"generator_optimizer": adam(2e-2)},
}


def monitored(**options: Any) -> tuple[HealthMonitor, GANTrainer, list[str]]:
    monitor = HealthMonitor(every_n_steps=20, patience=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = train(monitor, **options)
    assert all(issubclass(warning.category, TrainingHealthWarning) for warning in caught)
    return monitor, trainer, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("kind", FAILING)
def test_a_failing_run_is_warned_of_once(kind):
    monitor, _, messages = monitored(**FAILING[kind])
    assert kind in monitor.warned
    assert len(messages) == len(monitor.warned) == len(set(monitor.warned))
    assert set(monitor.warned) <= set(KINDS)
    assert all(message.startswith("at step ") for message in messages)


def test_a_healthy_run_is_not_warned_of():
    monitor, trainer, messages = monitored(**HEALTHY_RUN)
    assert (messages, monitor.warned) == ([], [])
    metrics = trainer.history.metrics
    assert set(metrics) == {f"health/{name}" for name in STATISTICS}
    assert [step for step, _ in metrics["health/std_ratio"]] == list(range(20, 301, 20))
    assert [step for step, _ in metrics["health/mean_shift"]] == list(range(40, 301, 20))


def test_an_issue_within_the_patience_is_no_warning():
    monitor = HealthMonitor(every_n_steps=20, patience=3)
    trainer = train(monitor, steps=79, **FAILING["mode_collapse"])
    assert len(trainer.history.metrics["health/std_ratio"]) == 3
    with pytest.warns(TrainingHealthWarning, match="at step 80: mode collapse: the samples"):
        trainer.fit(ring(2048), max_steps=80, batch_size=64)


class Overriding(GANTrainer):
    """A trainer with one more frame between `fit` and the callbacks."""

    def train_step(self, batch: Any) -> Any:
        return super().train_step(batch)


@pytest.mark.parametrize("kind", [GANTrainer, Overriding])
def test_a_warning_names_the_line_that_called_fit(kind):
    options = FAILING["mode_collapse"]
    trainer = kind(
        options["generator"](),
        make_discriminator(),
        device="cpu",
        callbacks=[HealthMonitor(every_n_steps=1, patience=1)],
    )
    with pytest.warns(TrainingHealthWarning, match="mode collapse") as caught:
        trainer.fit(ring(256), max_steps=2, batch_size=64)
    assert {warning.filename for warning in caught} == {__file__}
    line = Path(__file__).read_text().splitlines()[caught[0].lineno - 1]
    assert "trainer.fit(ring(256)" in line


def test_without_fit_a_warning_names_the_line_that_took_the_step():
    trainer = GANTrainer(
        FAILING["mode_collapse"]["generator"](),
        make_discriminator(),
        device="cpu",
        callbacks=[HealthMonitor(every_n_steps=1, patience=1)],
    )
    trainer.train_step(ring(64))
    with pytest.warns(TrainingHealthWarning, match="mode collapse") as caught:
        trainer.train_step(ring(64))
    assert {warning.filename for warning in caught} == {__file__}


def test_a_resumed_run_is_warned_of_the_same(tmp_path):
    whole, trainer, messages = monitored(steps=160, **FAILING["mode_collapse"])
    for first in (70, 110):
        _, half, before = monitored(steps=first, **FAILING["mode_collapse"])
        half.save(tmp_path / "half.pt")
        resumed = HealthMonitor(every_n_steps=20, patience=3)
        with warnings.catch_warnings(record=True) as after:
            warnings.simplefilter("always")
            again = train(resumed, steps=1, **FAILING["mode_collapse"])
            again.load(tmp_path / "half.pt")
            again.fit(ring(2048), max_steps=160, batch_size=64)
        assert [*before, *(str(warning.message) for warning in after)] == messages
        assert resumed.state_dict() == whole.state_dict()
        assert again.history.metrics == trainer.history.metrics


def test_an_evaluation_reads_the_device_once(monkeypatch):
    """Compared with what the trainer itself reads."""
    reads: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(Tensor, name)
        return lambda self, *args: (reads.append(name), original(self, *args))[1]

    for name in ("tolist", "item", "__float__", "__bool__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, counted(name))
    counts = []
    for every, steps in ((1000, 9), (10, 9), (10, 10), (1000, 10)):
        reads.clear()
        train(HealthMonitor(every_n_steps=every), steps=steps)
        counts.append(len(reads))
    without, between, evaluation, plain = counts
    assert between == without
    assert evaluation == plain + 1


@pytest.mark.parametrize("batch", [1, 3])
def test_few_reals_give_no_diversity(batch):
    monitor = HealthMonitor(every_n_steps=1, patience=2)
    torch.manual_seed(0)
    trainer = GANTrainer(Mean(1.0, 1.0), nn.Linear(2, 1), device="cpu", callbacks=[monitor])
    trainer.fit(ring(3 * batch), max_steps=3, batch_size=batch)
    names = {name.removeprefix("health/") for name in trainer.history.metrics}
    assert names == STATISTICS - {"std_ratio", "nearest_ratio", "coverage"}


def test_a_conditional_run_is_evaluated(make_trainer, points):
    trainer = make_trainer(num_classes=3, callbacks=[HealthMonitor(every_n_steps=1)])
    labels = torch.arange(200) % 3
    trainer.fit(torch.utils.data.TensorDataset(points, labels), max_steps=2, batch_size=50)
    assert len(trainer.history.metrics["health/std_ratio"]) == 2


def test_the_update_ratio_is_of_one_discriminator_step(points):
    """With SGD on a fixed gradient three steps go three times as far as one."""

    def ratio(steps: int) -> float:
        torch.manual_seed(0)
        trainer = GANTrainer(
            Mean(0.0, 1.0),
            nn.Linear(2, 1),
            loss=WassersteinLoss(),
            discriminator_steps=steps,
            discriminator_optimizer=sgd(1e-3),
            generator_optimizer=sgd(1e-3),
            callbacks=[HealthMonitor(every_n_steps=1)],
            device="cpu",
        )
        trainer.train_step((points + 30).repeat(steps, 1))
        return trainer.history.metrics["health/update_ratio"][0][1]

    assert ratio(3) == pytest.approx(ratio(1), rel=0.1)


@pytest.mark.parametrize("name", ["every_n_steps", "patience"])
def test_a_bad_argument_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer, got 0"):
        HealthMonitor(**{name: 0})
