"""Hooks: which are called, in which order, in which state, and what a callback keeps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from vanillagan import Callback, Discriminator, GANTrainer, Generator
from vanillagan.errors import CheckpointError

HOOKS = [
    "on_fit_start",
    "on_epoch_start",
    "on_step_start",
    "on_before_optimizer_step",
    "on_step_end",
    "on_epoch_end",
    "on_exception",
    "on_fit_end",
]


def recorder(base: type, calls: list[Any], make_entry: Any) -> type:
    """A subclass of `base` that overrides every hook to note its call."""

    def hook(name: str) -> Any:
        return lambda self, *arguments: calls.append(make_entry(self, name, *arguments))

    return type("Recorder", (base,), {name: hook(name) for name in HOOKS})


def own_hooks(calls: list[Any]) -> type[GANTrainer]:
    return recorder(GANTrainer, calls, lambda self, name, *arguments: ("trainer", name))


def step(*players: str) -> list[str]:
    moves = [f"on_before_optimizer_step {player}" for player in players]
    return ["on_step_start", *moves, "on_step_end"]


@pytest.mark.parametrize(
    ("update_order", "k", "players"),
    [
        ("generator_first", 1, ("generator", "discriminator")),
        ("discriminator_first", 1, ("discriminator", "generator")),
        ("generator_first", 2, ("generator", "discriminator", "discriminator")),
        ("discriminator_first", 2, ("discriminator", "discriminator", "generator")),
    ],
)
def test_a_run_calls_its_hooks_in_order(points, make_trainer, update_order, k, players):
    calls: list[str] = []

    def entry(self, name, trainer, argument=None):
        return f"{name} {argument.name}" if name == "on_before_optimizer_step" else name

    callback = recorder(Callback, calls, entry)()
    trainer = make_trainer(update_order=update_order, discriminator_steps=k, callbacks=[callback])
    trainer.fit(points, epochs=2, batch_size=100 // k)
    epoch = ["on_epoch_start", *step(*players), *step(*players), "on_epoch_end"]
    assert calls == ["on_fit_start", *epoch, *epoch, "on_fit_end"]


def test_a_run_that_ends_within_an_epoch_does_not_end_the_epoch(points, make_trainer):
    calls: list[str] = []
    callback = recorder(Callback, calls, lambda self, name, *arguments: name)()
    trainer = make_trainer(callbacks=[callback])
    trainer.fit(points, steps=1, batch_size=100)
    assert [name for name in calls if "step" not in name] == [
        "on_fit_start",
        "on_epoch_start",
        "on_fit_end",
    ]
    calls.clear()
    trainer.fit(points, epochs=1, batch_size=100)
    assert [name for name in calls if "step" not in name] == [
        "on_fit_start",
        "on_epoch_start",
        "on_epoch_end",
        "on_fit_end",
    ]


def test_the_trainers_own_hooks_run_first_then_the_callbacks_in_order(points):
    calls: list[tuple[str, str]] = []
    first, second = (
        recorder(Callback, calls, lambda self, name, *arguments, who=who: (who, name))()
        for who in ("first", "second")
    )
    trainer = own_hooks(calls)(
        Generator(8, (2,)), Discriminator((2,)), callbacks=[first, second], device="cpu"
    )
    trainer.fit(points, epochs=1, batch_size=100)
    names = ["on_fit_start", "on_epoch_start"]
    for _ in range(2):
        names += ["on_step_start", *["on_before_optimizer_step"] * 2, "on_step_end"]
    names += ["on_epoch_end", "on_fit_end"]
    assert calls == [(who, name) for name in names for who in ("trainer", "first", "second")]


def test_the_trainers_own_hooks_get_what_callbacks_get_but_themselves(points):
    given: dict[str, tuple[Any, ...]] = {}
    seen: dict[str, tuple[Any, ...]] = {}
    subclass = recorder(GANTrainer, [], lambda self, name, *rest: given.update({name: rest}))
    callback = recorder(Callback, [], lambda self, name, *rest: seen.update({name: rest}))()
    trainer = subclass(Generator(8, (2,)), Discriminator((2,)), callbacks=[callback], device="cpu")
    trainer.fit(points, steps=1)
    assert set(given) == set(seen) == set(HOOKS) - {"on_epoch_end", "on_exception"}
    for name, arguments in seen.items():
        assert arguments[0] is trainer
        assert all(a is b for a, b in zip(arguments[1:], given[name], strict=True))


def test_progress_counts_what_is_done_when_a_hook_is_called(points, make_trainer):
    calls: list[tuple[str, int, int, int]] = []

    def entry(self, name, trainer, *arguments):
        progress = trainer.progress
        return name, progress.step, progress.epoch, progress.batch

    callback = recorder(Callback, calls, entry)()
    make_trainer(callbacks=[callback]).fit(points, epochs=1, batch_size=100)
    assert calls == [
        ("on_fit_start", 0, 0, 0),
        ("on_epoch_start", 0, 0, 0),
        ("on_step_start", 0, 0, 0),
        ("on_before_optimizer_step", 0, 0, 0),
        ("on_before_optimizer_step", 0, 0, 0),
        ("on_step_end", 1, 0, 1),
        ("on_step_start", 1, 0, 1),
        ("on_before_optimizer_step", 1, 0, 1),
        ("on_before_optimizer_step", 1, 0, 1),
        ("on_step_end", 2, 0, 2),
        ("on_epoch_end", 2, 1, 0),
        ("on_fit_end", 2, 1, 0),
    ]


def test_a_step_starts_with_its_batch_and_ends_with_its_result(points, make_trainer):
    seen: list[Any] = []

    class Watch(Callback):
        def on_step_start(self, trainer, batch):
            seen.append(batch)

        def on_step_end(self, trainer, result):
            seen.extend([result, len(trainer.history)])

    result = make_trainer(callbacks=[Watch()], num_classes=3).train_step(
        (points[:6].double(), torch.arange(6) % 3)
    )
    batch, given, steps = seen
    assert torch.equal(batch.samples, points[:6])
    assert batch.samples.dtype == torch.float32
    assert batch.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert given is result
    assert steps == 1


def test_gradients_are_ready_before_an_optimizer_step_and_may_be_changed(points, make_trainer):
    class Stopper(Callback):
        def on_before_optimizer_step(self, trainer, player):
            for weight in player.parameters:
                norms.append(float(weight.grad.norm()))
                weight.grad.zero_()

    norms: list[float] = []
    trainer = make_trainer(
        callbacks=[Stopper()],
        generator_optimizer=lambda weights: torch.optim.SGD(weights, lr=1.0),
    )
    before = [weight.detach().clone() for weight in trainer.generator.parameters()]
    trainer.train_step(points[:8])
    assert max(norms) > 1e-3
    for weight, was in zip(trainer.generator.parameters(), before, strict=True):
        assert torch.equal(weight, was)


def test_a_trainers_own_hooks_may_call_those_of_its_base(points):
    calls: list[str] = []

    def hook(name: str) -> Any:
        def call(self, *arguments):
            calls.append(name)
            assert getattr(super(Polite, self), name)(*arguments) is None

        return call

    Polite = type("Polite", (GANTrainer,), {name: hook(name) for name in HOOKS})  # noqa: N806
    trainer = Polite(Generator(8, (2,)), Discriminator((2,)), device="cpu")
    trainer.fit(points, epochs=1)
    with pytest.raises(ValueError, match="`data`"):
        trainer.fit([], epochs=2)
    assert set(calls) == set(HOOKS) - {"on_exception"}
    trainer.on_exception(ValueError())
    assert calls[-1] == "on_exception"


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("oh"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("hook", [name for name in HOOKS if name != "on_exception"])
def test_an_error_in_any_hook_is_told_to_all_and_leaves_fit(points, make_trainer, hook, error):
    told: list[tuple[str, BaseException]] = []

    class Told(Callback):
        def __init__(self, name):
            self.name = name

        def on_exception(self, trainer, error):
            told.append((self.name, error))

    def fail(self, *arguments):
        raise error

    failing = type("Failing", (Callback,), {hook: fail})()
    trainer = make_trainer(callbacks=[Told("first"), failing, Told("second")])
    with pytest.raises(type(error)) as raised:
        trainer.fit(points, epochs=1)
    assert raised.value is error
    assert told == [("first", error), ("second", error)]


def test_after_an_error_there_is_no_fit_end_and_training_can_go_on(points, make_trainer):
    calls: list[str] = []

    class FailsOnce(Callback):
        def on_step_end(self, trainer, result):
            if trainer.progress.step == 2:
                raise RuntimeError("oh")

    watch = recorder(Callback, calls, lambda self, name, *arguments: name)()
    trainer = make_trainer(callbacks=[watch, FailsOnce()])
    with pytest.raises(RuntimeError, match="oh"):
        trainer.fit(points, epochs=1, batch_size=50)
    assert calls[-1] == "on_exception"
    assert "on_fit_end" not in calls
    trainer.fit(points, epochs=1, batch_size=50)
    assert calls[-1] == "on_fit_end"
    assert trainer.progress.step == 4


def test_a_trainers_own_hook_hears_of_an_error(points):
    class Mine(GANTrainer):
        def on_step_end(self, result):
            raise ZeroDivisionError

        def on_exception(self, error):
            heard.append(type(error))

    heard: list[type] = []
    with pytest.raises(ZeroDivisionError):
        Mine(Generator(8, (2,)), Discriminator((2,)), device="cpu").fit(points, steps=1)
    assert heard == [ZeroDivisionError]


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [Callback, GANTrainer])
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("on_epoch_finish", "on_epoch_end"),
        ("on_steps_end", "on_step_end"),
        ("on_fit_begin", "on_fit_end"),
        ("on_optimizer_step", "on_before_optimizer_step"),
    ],
)
def test_an_unknown_hook_is_an_error_where_the_class_is_made(base, wrong, right):
    with pytest.raises(TypeError) as raised:
        type("Mine", (base,), {wrong: lambda self, *arguments: None})
    message = str(raised.value)
    assert message.startswith("`Mine." + wrong + "` must be one of the hooks ")
    assert f"got `{wrong}`" in message
    assert all(name in message for name in HOOKS)
    assert f"did you mean `{right}`?" in message


def test_an_unknown_hook_unlike_all_others_gets_no_suggestion():
    with pytest.raises(TypeError, match="must be one of the hooks") as raised:

        class Mine(Callback):
            def on_xyzzy(self, trainer):
                pass

    assert "did you mean" not in str(raised.value)


def test_other_methods_may_have_any_name():
    class Mine(Callback):
        def once(self):
            return "fine"

        def _on_something(self):
            pass

        on_colour = "red"

    assert Mine().once() == "fine"
    assert Mine.on_colour == "red"


def test_a_subclass_of_a_callback_is_checked_and_heard_as_well(points, make_trainer):
    class Parent(Callback):
        steps = 0

        def on_step_end(self, trainer, result):
            self.steps += 1

    class Child(Parent):
        pass

    child = Child()
    make_trainer(callbacks=[child]).fit(points, steps=3)
    assert child.steps == 3
    with pytest.raises(TypeError, match=r"`Grandchild\.on_step_ends` must be one of the hooks"):
        type("Grandchild", (Child,), {"on_step_ends": lambda self: None})


# -- cost, processes, state ------------------------------------------------------------------------


def test_a_hook_that_nobody_overrides_is_not_called(points, make_trainer, monkeypatch):
    class Silent(Callback):
        def on_fit_end(self, trainer):
            ended.append(True)

    def fail(self, *arguments):
        raise AssertionError("called for nothing")

    ended: list[bool] = []
    for name in HOOKS:
        monkeypatch.setattr(Callback, name, fail)
        assert make_trainer()._listeners[name] == []
    make_trainer(callbacks=[Silent(), Callback()]).fit(points, epochs=1)
    assert ended == [True]


def test_a_callback_runs_in_every_process_unless_it_says_otherwise():
    class Mine(Callback):
        main_process_only = True

    assert Callback.main_process_only is False
    assert Mine().main_process_only is True


class Counter(Callback):
    """Counts steps, and remembers the last result."""

    def __init__(self) -> None:
        self.steps = 0
        self.last = torch.zeros(())

    def on_step_end(self, trainer, result):
        self.steps += 1
        self.last = result.generator_loss

    def state_dict(self):
        return {"steps": self.steps, "last": self.last}

    def load_state_dict(self, state):
        self.steps, self.last = state["steps"], state["last"]


def test_a_callbacks_state_outlives_a_resume(points, make_trainer, tmp_path):
    trainer = make_trainer(callbacks=[Counter()])
    trainer.fit(points, steps=3)
    trainer.save(tmp_path / "run.pt")
    counter = Counter()
    resumed = make_trainer(callbacks=[counter])
    resumed.load(tmp_path / "run.pt")
    assert counter.steps == 3
    assert float(counter.last) == trainer.history.generator_loss[-1]
    resumed.fit(points, steps=5)
    assert counter.steps == 5


def test_callbacks_get_their_states_whatever_stands_between_them(points, make_trainer, tmp_path):
    first, second = Counter(), Counter()
    trainer = make_trainer(callbacks=[first, second])
    first.steps, second.steps = 10, 20
    trainer.save(tmp_path / "run.pt")
    third, fourth = Counter(), Counter()
    make_trainer(callbacks=[Callback(), third, Callback(), fourth]).load(tmp_path / "run.pt")
    assert (third.steps, fourth.steps) == (10, 20)


def test_a_state_that_a_callback_cannot_read_is_an_error_that_changes_nothing(
    points, make_trainer, tmp_path
):
    class Picky(Counter):
        def state_dict(self):
            return {"best": self.steps}

        def load_state_dict(self, state):
            self.steps = state["best"]

    Picky.__name__ = "Counter"
    trainer = make_trainer(callbacks=[Counter()])
    trainer.fit(points, steps=2)
    trainer.save(tmp_path / "run.pt")
    picky = Picky()
    other = make_trainer(callbacks=[picky])
    before = copy.deepcopy(other.generator.state_dict())
    with pytest.raises(CheckpointError, match="the checkpoint's 'callbacks' doesn't fit: 'best'"):
        other.load(tmp_path / "run.pt")
    assert picky.steps == 0
    torch.testing.assert_close(other.generator.state_dict(), before, rtol=0, atol=0)
