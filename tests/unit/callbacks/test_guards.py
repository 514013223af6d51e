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
from vanillagan import EMA, Batch, Callback, Discriminator, GANTrainer, Generator
from vanillagan.callbacks import Checkpoint, GradientClip, NaNGuard, StopOnSignal
from vanillagan.divergence import find_divergence
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_gradient_that_is_not_finite_is_named(player, value):
    trainer = make_trainer(NaNGuard(every_n_steps=1), Spike(value, player=player))
    with pytest.raises(DivergenceError, match=f"the {player}'s gradient of layers.*at step 2"):
        train(trainer)


def test_statistics_and_averages_are_checked():
    for name, spoil in {
        "generator's buffer layers.1.1.running_var": lambda t: t.generator.layers[1][1].running_var,
        "EMA's weight layers.0.0.weight": lambda t: next(t.ema.network.parameters()),
    }.items():
        spoiled = At(3, lambda t, spoil=spoil: spoil(t).fill_(float("inf")))
        trainer = make_trainer(spoiled, NaNGuard(every_n_steps=1), ema=EMA())
        with pytest.raises(DivergenceError, match=f"^the {name} is inf at step 3; "):
            train(trainer)


def test_data_that_the_trainer_does_not_check_is_named():
    class Unchecked(GANTrainer):  # as data on a GPU
        def prepare_batch(self, batch):
            return Batch(batch.samples.index_fill(0, torch.tensor([1]), float("nan")))

    networks = Generator(8, (1, 4, 4)), Discriminator((1, 4, 4))
    trainer = Unchecked(*networks, callbacks=[NaNGuard(every_n_steps=1)], device="cpu")
    with pytest.raises(DivergenceError, match=r"^the data is nan at step 1"):
        train(trainer)


def test_a_penalty_is_checked():
    class Bad:
        every = 1

        def __call__(self, critic, real, fake):
            return critic(real).sum() * float("inf")

    trainer = make_trainer(NaNGuard(every_n_steps=1), penalties=[Bad()])
    with pytest.raises(DivergenceError, match=r"^the discriminator's penalty is -?(inf|nan) at"):
        train(trainer)


@pytest.mark.parametrize("value", [1e14, 1e20, 1e38])
def test_gradients_after_which_adam_cannot_move_end_the_run(value):
    trainer = make_trainer(NaNGuard(every_n_steps=1), Spike(value))
    message = r"(exp_avg_sq .* \(gradients were too large|gradient of).*GradientClip may help"
    with pytest.raises(DivergenceError, match=message):
        train(trainer)


def test_gradient_clip_spares_adam():
    trainer = make_trainer(Spike(1e20), GradientClip(1.0), NaNGuard(every_n_steps=1))
    train(trainer)
    before = trainer.g.parameters[0].clone()
    assert not torch.equal(train(trainer, 2).g.parameters[0], before)


class Spike(Callback):
    """Replace the gradients of step 2 by a value."""

    def __init__(self, value: float, *, player: str = "generator") -> None:
        self.value, self.player = value, player

    def on_before_optimizer_step(self, trainer, player):
        if trainer.progress.step == 1 and player.name == self.player:
            for weight in player.parameters:
                weight.grad.fill_(self.value)


def test_a_run_goes_on_from_the_last_good_checkpoint_with_a_lower_rate(tmp_path):
    factor, rates = 1.0, []

    def diverge(trainer: GANTrainer) -> None:
        rates.append(trainer.g.optimizer.param_groups[0]["lr"])
        if rates[-1] > 6e-5:
            poison("generator")(trainer)

    checkpoint = Checkpoint(tmp_path, every_n_steps=2)
    callbacks = [checkpoint, At(3, diverge), NaNGuard(every_n_steps=1)]
    trainer = make_trainer(*callbacks, lr_schedule=lambda done: factor)
    for retries_left in (3, 2, 1, 0):
        try:
            train(trainer)
            break
        except DivergenceError:
            assert retries_left
            assert checkpoint.resume(trainer) == tmp_path / "step-00000002.pt"
            factor /= 2
    assert rates == [2e-4, 1e-4, 5e-5]
    assert trainer.progress.step == STEPS
    assert find_divergence(trainer.state_objects()) is None


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


@pytest.mark.parametrize("hook", ["on_fit_start", "on_fit_end", "on_exception"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("base", [Callback, GANTrainer])
@pytest.mark.filterwarnings("ignore:.*on_exception:UserWarning")
def test_handlers_are_restored_whatever_fails(hook, error, base):
    def fail(self, *arguments):
        raise error

    before = [signal.getsignal(number) for number in StopOnSignal.SIGNALS]
    failing = type("Failing", (base,), {hook: fail})
    callbacks = [StopOnSignal(), FailOnce()] if hook == "on_exception" else [StopOnSignal()]
    if base is Callback:
        trainer = make_trainer(failing(), *callbacks, failing())
    else:
        networks = Generator(8, (1, 4, 4)), Discriminator((1, 4, 4))
        trainer = failing(*networks, callbacks=callbacks, device="cpu")
    with pytest.raises(RuntimeError if hook == "on_exception" else error):
        train(trainer)
    assert [signal.getsignal(number) for number in StopOnSignal.SIGNALS] == before


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
