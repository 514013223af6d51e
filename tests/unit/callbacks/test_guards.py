"""NaNGuard, GradientClip and StopOnSignal."""

from __future__ import annotations

import signal
import threading
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.helpers.callbacks import STEPS, At, FailOnce, SendSignal, images, poison, train
from tests.helpers.trainers import make_trainer as make_trainer_of
from vanillagan import Callback
from vanillagan.callbacks import Checkpoint, GradientClip, NaNGuard, StopOnSignal
from vanillagan.errors import DivergenceError

make_trainer = partial(make_trainer_of, shape=(1, 4, 4))


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_loss_that_is_not_finite_ends_the_run(player):
    trainer = make_trainer(NaNGuard(every_n_steps=1), At(2, poison(player)))
    with pytest.raises(DivergenceError, match=r"loss is nan at step 3; .* checkpoint: none") as e:
        train(trainer)
    assert isinstance(e.value, ArithmeticError)
    assert trainer.progress.step == 3


def test_losses_are_checked_every_n_steps():
    trainer = make_trainer(NaNGuard(every_n_steps=3), At(3, poison("generator")))
    with pytest.raises(DivergenceError, match="at step 6"):
        train(trainer, 2)


def test_the_last_step_is_always_checked():
    with pytest.raises(DivergenceError):
        train(make_trainer(NaNGuard(every_n_steps=100), At(2, poison("generator"))))


def test_the_error_names_the_last_good_checkpoint(tmp_path):
    trainer = make_trainer(
        At(3, poison("generator")), Checkpoint(tmp_path, every_n_steps=1), NaNGuard(every_n_steps=5)
    )
    with (
        pytest.warns(UserWarning, match="no checkpoint at step [34]"),
        pytest.raises(DivergenceError, match=r"checkpoint: .*step-00000002\.pt"),
    ):
        train(trainer, 2)
    trainer.load(tmp_path / "step-00000002.pt")
    assert all(weight.isfinite().all() for weight in trainer.generator.parameters())
    assert trainer.progress.step == 2


class Gradients(Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer, player):
        flat = torch.cat([weight.grad.flatten() for weight in player.parameters])
        self.seen.append((player.name, flat.clone()))


@pytest.mark.parametrize("max_norm", [1e-3, 0.3, 1e3])
def test_a_clipped_gradient_keeps_its_direction(max_norm):
    before, after = Gradients(), Gradients()
    make_trainer(before, GradientClip(max_norm), after).train_step(images())
    assert [name for name, _ in after.seen] == ["generator", "discriminator"]
    for (_, raw), (_, clipped) in zip(before.seen, after.seen, strict=True):
        expected = raw * min(1.0, max_norm / float(raw.norm()))
        torch.testing.assert_close(clipped, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("max_norm", [0, -1, float("nan"), float("inf")])
def test_a_bad_norm_is_refused(max_norm):
    with pytest.raises(ValueError, match=r"`max_norm` must be a finite number in \(0"):
        GradientClip(max_norm)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_fit_after_the_step(number):
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    trainer = make_trainer(StopOnSignal(), SendSignal(number, step=3))
    train(trainer)
    assert trainer.stop_reason == number.name
    assert trainer.progress.step == 3
    assert {s: signal.getsignal(s) for s in handlers} == handlers
    assert train(trainer).progress.step == STEPS


def test_signals_in_quick_succession_count_once():
    trainer = make_trainer(StopOnSignal(), SendSignal(signal.SIGINT, step=3, times=3))
    assert train(trainer).progress.step == 3


def test_a_late_second_signal_interrupts_the_step(monkeypatch):
    monkeypatch.setattr(StopOnSignal, "PATIENCE", -1.0)
    trainer = make_trainer(StopOnSignal(), SendSignal(signal.SIGINT, step=3, times=2))
    with pytest.raises(KeyboardInterrupt):
        train(trainer)
    assert trainer.progress.step == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_are_restored_after_an_error():
    with pytest.raises(RuntimeError, match="failed"):
        train(make_trainer(StopOnSignal(), FailOnce()))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_stop_on_signal_names_the_main_thread():
    errors = []

    def run() -> None:
        with pytest.raises(RuntimeError, match=r"`StopOnSignal` needs .* main thread") as caught:
            train(make_trainer(StopOnSignal()))
        errors.append(caught)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors
