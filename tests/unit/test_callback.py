"""Hooks, their order, and the states of callbacks."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch

from tests.helpers.callbacks import At
from vanillagan import Callback, Discriminator, GANTrainer, Generator
from vanillagan.callback import CallbackList
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
    """Return a subclass of `base` that overrides every hook to note its call."""

    def hook(name: str) -> Any:
        return lambda self, *arguments: calls.append(make_entry(self, name, *arguments))

    return type("Recorder", (base,), {name: hook(name) for name in HOOKS})


def own_hooks(calls: list[Any]) -> type[GANTrainer]:
    return recorder(GANTrainer, calls, lambda self, name, *arguments: ("trainer", name))


def step(*players: str) -> list[str]:
    updates = [f"on_before_optimizer_step {player}" for player in players]
    return ["on_step_start", *updates, "on_step_end"]


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
    trainer.fit(points, max_epochs=2, batch_size=100 // k)
    epoch = ["on_epoch_start", *step(*players), *step(*players), "on_epoch_end"]
    assert calls == ["on_fit_start", *epoch, *epoch, "on_fit_end"]


def test_a_partial_epoch_is_not_ended(points, make_trainer):
    calls: list[str] = []
    callback = recorder(Callback, calls, lambda self, name, *arguments: name)()
    trainer = make_trainer(callbacks=[callback])
    trainer.fit(points, max_steps=1, batch_size=100)
    assert [name for name in calls if "step" not in name] == [
        "on_fit_start",
        "on_epoch_start",
        "on_fit_end",
    ]
    calls.clear()
    trainer.fit(points, max_epochs=1, batch_size=100)
    assert [name for name in calls if "step" not in name] == [
        "on_fit_start",
        "on_epoch_start",
        "on_epoch_end",
        "on_fit_end",
    ]


def test_own_hooks_run_before_those_of_callbacks(points):
    calls: list[tuple[str, str]] = []
    first, second = (
        recorder(Callback, calls, lambda self, name, *arguments, who=who: (who, name))()
        for who in ("first", "second")
    )
    trainer = own_hooks(calls)(
        Generator(8, (2,)), Discriminator((2,)), callbacks=[first, second], device="cpu"
    )
    trainer.fit(points, max_epochs=1, batch_size=100)
    names = ["on_fit_start", "on_epoch_start"]
    for _ in range(2):
        names += ["on_step_start", *["on_before_optimizer_step"] * 2, "on_step_end"]
    names += ["on_epoch_end", "on_fit_end"]
    assert calls == [(who, name) for name in names for who in ("trainer", "first", "second")]


def test_own_hooks_get_the_same_arguments(points):
    given: dict[str, tuple[Any, ...]] = {}
    seen: dict[str, tuple[Any, ...]] = {}
    subclass = recorder(GANTrainer, [], lambda self, name, *rest: given.update({name: rest}))
    callback = recorder(Callback, [], lambda self, name, *rest: seen.update({name: rest}))()
    trainer = subclass(Generator(8, (2,)), Discriminator((2,)), callbacks=[callback], device="cpu")
    trainer.fit(points, max_steps=1)
    assert set(given) == set(seen) == set(HOOKS) - {"on_epoch_end", "on_exception"}
    for name, arguments in seen.items():
        assert arguments[0] is trainer
        assert all(a is b for a, b in zip(arguments[1:], given[name], strict=True))


def test_progress_is_counted_before_end_hooks(points, make_trainer):
    calls: list[tuple[str, int, int, int]] = []

    def entry(self, name, trainer, *arguments):
        progress = trainer.progress
        return name, progress.step, progress.epoch, progress.step_in_epoch

    callback = recorder(Callback, calls, entry)()
    make_trainer(callbacks=[callback]).fit(points, max_epochs=1, batch_size=100)
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


def test_step_hooks_get_batch_and_result(points, make_trainer):
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


def test_a_hook_may_change_gradients(points, make_trainer):
    class ZeroGradients(Callback):
        def on_before_optimizer_step(self, trainer, player):
            for weight in player.parameters:
                norms.append(float(weight.grad.norm()))
                weight.grad.zero_()

    norms: list[float] = []
    trainer = make_trainer(
        callbacks=[ZeroGradients()],
        generator_optimizer=lambda weights: torch.optim.SGD(weights, lr=1.0),
    )
    before = [weight.detach().clone() for weight in trainer.generator.parameters()]
    trainer.train_step(points[:8])
    assert max(norms) > 1e-3
    for weight, was in zip(trainer.generator.parameters(), before, strict=True):
        assert torch.equal(weight, was)


def test_own_hooks_may_call_super(points):
    calls: list[str] = []

    def hook(name: str) -> Any:
        def call(self, *arguments):
            calls.append(name)
            assert getattr(super(Polite, self), name)(*arguments) is None

        return call

    Polite = type("Polite", (GANTrainer,), {name: hook(name) for name in HOOKS})  # noqa: N806
    trainer = Polite(Generator(8, (2,)), Discriminator((2,)), device="cpu")
    trainer.fit(points, max_epochs=1)
    with pytest.raises(ValueError, match="`data`"):
        trainer.fit([], max_epochs=2)
    assert set(calls) == set(HOOKS) - {"on_exception"}
    trainer.on_exception(ValueError())
    assert calls[-1] == "on_exception"


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("failed"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("hook", [name for name in HOOKS if name != "on_exception"])
def test_an_error_in_a_hook_reaches_all_and_leaves_fit(points, make_trainer, hook, error):
    seen: list[tuple[str, BaseException]] = []

    class Listener(Callback):
        def __init__(self, name):
            self.name = name

        def on_exception(self, trainer, error):
            seen.append((self.name, error))

    def fail(self, *arguments):
        raise error

    failing = type("Failing", (Callback,), {hook: fail})()
    trainer = make_trainer(callbacks=[Listener("first"), failing, Listener("second")])
    with pytest.raises(type(error)) as raised:
        trainer.fit(points, max_epochs=1)
    assert raised.value is error
    assert seen == [("first", error), ("second", error)]


def test_an_error_ends_fit_but_not_the_trainer(points, make_trainer):
    calls: list[str] = []

    class FailsOnce(Callback):
        def on_step_end(self, trainer, result):
            if trainer.progress.step == 2:
                raise RuntimeError("failed")

    watch = recorder(Callback, calls, lambda self, name, *arguments: name)()
    trainer = make_trainer(callbacks=[watch, FailsOnce()])
    with pytest.raises(RuntimeError, match="failed"):
        trainer.fit(points, max_epochs=1, batch_size=50)
    assert calls[-1] == "on_exception"
    assert "on_fit_end" not in calls
    trainer.fit(points, max_epochs=1, batch_size=50)
    assert calls[-1] == "on_fit_end"
    assert trainer.progress.step == 4


def test_the_own_exception_hook_is_called(points):
    class Mine(GANTrainer):
        def on_step_end(self, result):
            raise ZeroDivisionError

        def on_exception(self, error):
            seen.append(type(error))

    seen: list[type] = []
    with pytest.raises(ZeroDivisionError):
        Mine(Generator(8, (2,)), Discriminator((2,)), device="cpu").fit(points, max_steps=1)
    assert seen == [ZeroDivisionError]


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
def test_a_misspelt_hook_is_a_type_error(base, wrong, right):
    with pytest.raises(TypeError) as raised:
        type("Mine", (base,), {wrong: lambda self, *arguments: None})
    message = str(raised.value)
    assert message.startswith("`Mine." + wrong + "` must be one of the hooks ")
    assert f"got `{wrong}`" in message
    assert all(name in message for name in HOOKS)
    assert f"did you mean `{right}`?" in message


def test_an_unlike_name_gets_no_suggestion():
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

        on_color = "red"

    assert Mine().once() == "fine"
    assert Mine.on_color == "red"


def test_a_subclass_of_a_callback_is_checked(points, make_trainer):
    class Parent(Callback):
        steps = 0

        def on_step_end(self, trainer, result):
            self.steps += 1

    class Child(Parent):
        pass

    child = Child()
    make_trainer(callbacks=[child]).fit(points, max_steps=3)
    assert child.steps == 3
    with pytest.raises(TypeError, match=r"`Grandchild\.on_step_ends` must be one of the hooks"):
        type("Grandchild", (Child,), {"on_step_ends": lambda self: None})


# -- dispatch and state ------------------------------------------------------------------------


def test_a_hook_without_an_override_is_not_called(points, make_trainer, monkeypatch):
    class Silent(Callback):
        def on_fit_end(self, trainer):
            ended.append(True)

    def fail(self, *arguments):
        raise AssertionError("called")

    ended: list[bool] = []
    for name in HOOKS:
        monkeypatch.setattr(Callback, name, fail)
    make_trainer(callbacks=[Silent(), Callback()]).fit(points, max_epochs=1)
    assert ended == [True]


@pytest.mark.filterwarnings("ignore:the callbacks .* must be told of the begin and the end")
def test_callbacks_run_by_priority_then_in_order(points, make_trainer):
    calls: list[str] = []

    def make(name: str, number: int) -> Callback:
        cls = recorder(Callback, calls, lambda self, *arguments: name)
        cls.priority = number
        return cls()

    names = [("c", 1), ("a", 0), ("e", 3), ("d", 1), ("b", 0)]
    trainer = make_trainer(*(make(*name) for name in names))
    trainer.train_step(points[:8])
    assert calls == list("abcde") * 4


def test_a_loop_of_ones_own_tells_callbacks_that_it_begins(points, make_trainer):
    class Opens(Callback):
        is_open = False

        def on_fit_start(self, trainer):
            self.is_open = True

        def on_fit_end(self, trainer):
            self.is_open = False

    trainer = make_trainer(callback := Opens(), Callback())
    message = r"the callbacks Opens must be told .* `with trainer.callbacks.running\(trainer\):`"
    with pytest.warns(UserWarning, match=message) as seen:
        trainer.train_step(points[:8])
    trainer.train_step(points[:8])
    assert [warning.filename for warning in seen] == [__file__]
    with trainer.callbacks.running(trainer):
        trainer.train_step(points[:8])
        assert callback.is_open
    assert not callback.is_open
    with pytest.warns(UserWarning, match=message):
        trainer.train_step(points[:8])


def test_other_ranks_skip_main_process_only(points, make_trainer):
    class OnlyMain(Callback):
        main_process_only = True

        def on_step_end(self, trainer, result):
            calls.append("main")

    class EveryRank(Callback):
        def on_step_end(self, trainer, result):
            calls.append("every")

    calls: list[str] = []
    trainer = make_trainer()
    vars(trainer)["callbacks"] = CallbackList([OnlyMain(), EveryRank()], is_main_process=False)
    trainer.train_step(points[:8])
    assert calls == ["every"]


class Counter(Callback):
    """Count steps and keep the last loss."""

    def __init__(self) -> None:
        self.steps = 0
        self.last = torch.zeros(())

    def on_step_end(self, trainer, result):
        self.steps += 1
        self.last = result.generator.loss

    def state_dict(self):
        return {"steps": self.steps, "last": self.last}

    def load_state_dict(self, state):
        self.steps, self.last = state["steps"], state["last"]


def test_a_state_survives_a_resume(points, make_trainer, tmp_path):
    trainer = make_trainer(callbacks=[Counter()])
    trainer.fit(points, max_steps=3)
    trainer.save(tmp_path / "run.pt")
    counter = Counter()
    resumed = make_trainer(callbacks=[counter])
    resumed.load(tmp_path / "run.pt")
    assert counter.steps == 3
    assert float(counter.last) == trainer.history.generator_loss[-1]
    resumed.fit(points, max_steps=5)
    assert counter.steps == 5


def test_states_are_found_by_class_and_number(points, make_trainer, tmp_path):
    first, second = Counter(), Counter()
    trainer = make_trainer(callbacks=[first, second])
    first.steps, second.steps = 10, 20
    trainer.save(tmp_path / "run.pt")
    third, fourth = Counter(), Counter()
    make_trainer(callbacks=[Callback(), third, Callback(), fourth]).load(tmp_path / "run.pt")
    assert (third.steps, fourth.steps) == (10, 20)


def test_an_unreadable_state_changes_nothing(points, make_trainer, tmp_path):
    class Picky(Counter):
        def state_dict(self):
            return {"best": self.steps}

        def load_state_dict(self, state):
            self.steps = state["best"]

    Picky.__name__ = "Counter"
    trainer = make_trainer(callbacks=[Counter()])
    trainer.fit(points, max_steps=2)
    trainer.save(tmp_path / "run.pt")
    picky = Picky()
    other = make_trainer(callbacks=[picky])
    before = copy.deepcopy(other.generator.state_dict())
    with pytest.raises(CheckpointError, match="the checkpoint's 'callbacks' does not fit: 'best'"):
        other.load(tmp_path / "run.pt")
    assert picky.steps == 0
    torch.testing.assert_close(other.generator.state_dict(), before, rtol=0, atol=0)


def test_a_callback_with_a_state_may_not_be_missing(points, make_trainer, tmp_path):
    make_trainer(Counter(), Callback()).save(tmp_path / "run.pt")
    make_trainer(Counter(), LaterAdded()).load(tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"states of the callbacks \['Counter#1'\]"):
        make_trainer(Callback()).load(tmp_path / "run.pt")


class LaterAdded(Callback):
    def load_state_dict(self, state):
        raise AssertionError("the checkpoint has no state of it")


def test_on_exception_is_called_for_all_callbacks(points, make_trainer):
    told = []

    class Fails(Callback):
        def on_step_end(self, trainer, result):
            raise RuntimeError("the first error")

        def on_exception(self, trainer, error):
            raise OSError("disk full")

    class Cleans(Callback):
        def on_exception(self, trainer, error):
            told.append(str(error))

    trainer = make_trainer(callbacks=[Fails(), Cleans()])
    with (
        pytest.warns(UserWarning, match=r"`Fails.on_exception` failed: OSError\('disk full'\)"),
        pytest.raises(RuntimeError, match="the first error"),
    ):
        trainer.fit(points, max_steps=1)
    assert told == ["the first error"]


@pytest.mark.parametrize("second", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_all_are_told_of_the_first_error_whatever_fails_then(points, second):
    told = []

    class Mine(GANTrainer):
        def on_exception(self, error):
            raise second

    class Fails(Callback):
        def on_exception(self, trainer, error):
            told.append(str(error))
            raise second

    def stop(trainer):
        raise RuntimeError("the first error")

    callbacks = [At(1, stop), Fails(), Fails()]
    trainer = Mine(Generator(8, (2,)), Discriminator((2,)), callbacks=callbacks, device="cpu")
    with (
        pytest.warns(UserWarning, match="`(Mine|Fails).on_exception` failed") as warned,
        pytest.raises(RuntimeError, match="the first error"),
    ):
        trainer.fit(points, max_steps=1)
    assert told == ["the first error"] * 2
    assert len(warned) == 3


def test_all_are_told_where_a_warning_is_an_error(points, make_trainer):
    told = []

    class Fails(Callback):
        def on_exception(self, trainer, error):
            told.append(str(error))
            raise OSError("disk full")

    def stop(trainer):
        raise RuntimeError("the first error")

    trainer = make_trainer(At(1, stop), Fails(), Fails())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="disk full"):
            trainer.fit(points, max_steps=1)
    assert told == ["the first error"] * 2


def test_a_state_of_another_trainers_run_is_refused(make_trainer, points):
    class Counter(Callback):
        def state_dict(self):
            return {"n": 1}

    counter = Counter()
    first, second = make_trainer(callbacks=[counter]), make_trainer(callbacks=[counter])
    first.fit(points, max_steps=1)
    second.fit(points, max_steps=1)
    message = (
        r"`callbacks\[0\]` must be of this trainer's run, which has done 1 steps, got a Counter"
    )
    with pytest.raises(ValueError, match=message):
        first.fit(points, max_steps=2)
    second.fit(points, max_steps=2)
