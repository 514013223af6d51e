"""Callbacks: the hooks of the training loop, and the list that dispatches them."""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from vanillagan.batch import Batch
from vanillagan.errors import stacklevel_of_user
from vanillagan.player import Player
from vanillagan.results import StepResult
from vanillagan.runtime.graphs import deferred_to_replay
from vanillagan.validation import check_state

if TYPE_CHECKING:
    from vanillagan.trainer import GANTrainer

__all__ = ["HOOKS", "Callback", "CallbackList", "TrainerHooks"]


class Callback:
    """Base class of everything that observes or controls training through hooks.

    Override the hooks you need; one that nobody overrides costs nothing. A subclass with an
    `on_...` method that is not a hook is a `TypeError` when the class is created.

    Attributes:
        main_process_only: If True, only rank 0 calls its hooks: for what writes files or prints.
        priority: Callbacks with a higher number run later, equal ones in the order of the list. 0
            is for all that changes training, 1 for what records metrics, 2 for what logs them to
            files and for `BestCheckpoint`, 3 for `Checkpoint` and what prints, 4 for
            `StopOnSignal`.

    Example:
        >>> class CountSteps(Callback):
        ...     steps = 0
        ...     def on_step_end(self, trainer, result):
        ...         self.steps += 1
    """

    main_process_only: ClassVar[bool] = False
    priority: ClassVar[int] = 0
    _owner: object = None  # the list that it last ran in, if it has a state

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_hook_names(cls)

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Called when `fit` begins, also after a resume."""

    def on_epoch_start(self, trainer: GANTrainer) -> None:
        """Called when an epoch begins or is resumed."""

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """Called before a step; `batch` is checked and on the device."""

    def on_before_optimizer_step(self, trainer: GANTrainer, player: Player) -> None:
        """Called when a player's gradients are complete, and averaged over the ranks."""

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Called after a step; `trainer.progress` has counted it already."""

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Called after an epoch; `trainer.progress` has counted it already."""

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """Called when an error is about to leave `fit`."""

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Called when training has ended or was stopped, but not after an error."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a resume, as tensors and primitives; {} for nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, before training goes on."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
"""Names of all hooks, in the order in which they are first called."""


def check_hook_names(cls: type) -> None:
    """Raise a `TypeError` if the class defines an `on_...` method that is not a hook."""
    for name, method in vars(cls).items():
        if name.startswith("on_") and callable(method) and name not in HOOKS:
            # Lightning and Keras call a step a batch
            close = difflib.get_close_matches(name.replace("batch", "step"), HOOKS, n=1)
            hint = f" (did you mean `{close[0]}`?)" if close else ""
            raise TypeError(
                f"`{cls.__name__}.{name}` must be one of the hooks {', '.join(HOOKS)}, "
                f"got `{name}`{hint}"
            )


class TrainerHooks:
    """The hooks of `Callback` without the argument `trainer`, for subclasses of the trainer.

    The trainer's own hook runs before those of its callbacks.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_hook_names(cls)

    def on_fit_start(self) -> None:
        """Called when `fit` begins, also after a resume."""

    def on_epoch_start(self) -> None:
        """Called when an epoch begins or is resumed."""

    def on_step_start(self, batch: Batch) -> None:
        """Called before a step; `batch` is checked and on the device."""

    def on_before_optimizer_step(self, player: Player) -> None:
        """Called when a player's gradients are complete, and averaged over the ranks."""

    def on_step_end(self, result: StepResult) -> None:
        """Called after a step; `self.progress` has counted it already."""

    def on_epoch_end(self) -> None:
        """Called after an epoch; `self.progress` has counted it already."""

    def on_exception(self, error: BaseException) -> None:
        """Called when an error is about to leave `fit`."""

    def on_fit_end(self) -> None:
        """Called when training has ended or was stopped, but not after an error."""


class CallbackList(Callback, Sequence[Callback]):
    """The callbacks of a trainer: calls their hooks in order, and keeps their states.

    Args:
        callbacks: The callbacks.
        is_main_process: False on ranks other than 0, where hooks of callbacks with
            `main_process_only` are not called.
    """

    def __init__(self, callbacks: Sequence[Callback] = (), *, is_main_process: bool = True) -> None:
        self._callbacks = tuple(callbacks)
        called = [c for c in self._callbacks if is_main_process or not c.main_process_only]
        called.sort(key=lambda callback: callback.priority)
        self._listeners = {
            hook: [c for c in called if getattr(type(c), hook) is not getattr(Callback, hook)]
            for hook in HOOKS
        }
        self._run = object()  # identity of the run, which copies and files need not keep
        self._is_running = False

    def __repr__(self) -> str:
        return f"CallbackList({', '.join(self._by_name())})"

    def __len__(self) -> int:
        return len(self._callbacks)

    def __getitem__(self, index: Any) -> Any:
        return self._callbacks[index]

    @contextmanager
    def running(self, trainer: GANTrainer) -> Iterator[None]:
        """Call `on_fit_start`, then `on_fit_end`, or `on_exception` if an error occurs."""
        try:
            self.on_fit_start(trainer)
            yield
            self.on_fit_end(trainer)
        except BaseException as error:
            self.on_exception(trainer, error)
            raise

    @override
    def on_fit_start(self, trainer: GANTrainer) -> None:
        self._take_over(trainer)
        self._is_running = True
        self._call("on_fit_start", trainer)

    @override
    def on_epoch_start(self, trainer: GANTrainer) -> None:
        self._call("on_epoch_start", trainer)

    @override
    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        if not self._is_running:
            self._warn_of_own_loop()
        self._call("on_step_start", trainer, batch)

    @override
    def on_before_optimizer_step(self, trainer: GANTrainer, player: Player) -> None:
        hook = "on_before_optimizer_step"
        own = getattr(trainer.on_before_optimizer_step, "__func__", None)
        is_heard = own is not TrainerHooks.on_before_optimizer_step or self._listeners[hook]
        if is_heard and not deferred_to_replay(self._call, hook, trainer, player):
            self._call(hook, trainer, player)

    @override
    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        self._call("on_step_end", trainer, result)

    @override
    def on_epoch_end(self, trainer: GANTrainer) -> None:
        self._call("on_epoch_end", trainer)

    @override
    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        self._is_running = False
        failed: list[str] = []
        listeners: list[Any] = [trainer, *self._listeners["on_exception"]]
        for one in listeners:
            try:
                one.on_exception(error) if one is trainer else one.on_exception(trainer, error)
            # all are told, also after a further Ctrl-C, and the first error is raised
            except BaseException as second:  # noqa: PERF203
                failed.append(f"`{type(one).__name__}.on_exception` failed: {second!r}")
        for message in failed:  # at the end: a warning may be an error
            warnings.warn(message, stacklevel=stacklevel_of_user())

    @override
    def on_fit_end(self, trainer: GANTrainer) -> None:
        self._is_running = False
        self._call("on_fit_end", trainer)

    def _call(self, hook: str, trainer: GANTrainer, *arguments: Any) -> None:
        getattr(trainer, hook)(*arguments)
        for callback in self._listeners[hook]:
            getattr(callback, hook)(trainer, *arguments)

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the states by class name and number, {} for callbacks that have none."""
        return {name: callback.state_dict() for name, callback in self._by_name().items()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; callbacks may be added to a run, but not removed."""
        check_state("callbacks", state, {str: object})
        callbacks = self._by_name()
        stateless = Callback.state_dict
        have_states = {n for n, c in callbacks.items() if type(c).state_dict is not stateless}
        unexpected = sorted({name for name, kept in state.items() if kept} - have_states)
        if unexpected:
            raise ValueError(
                f"it has states of the callbacks {unexpected}, which the trainer lacks"
            )
        for name in state.keys() & callbacks.keys():
            callbacks[name].load_state_dict(state[name])
            callbacks[name]._owner = self._run

    def _warn_of_own_loop(self) -> None:
        """Warn if callbacks miss the call of `on_fit_start`, in which they open a file or so."""
        self._is_running = True  # warned once
        ending = self._listeners["on_fit_end"]
        names = [type(c).__name__ for c in self._listeners["on_fit_start"] if c in ending]
        if names:
            warnings.warn(
                f"the callbacks {', '.join(names)} must be told of the begin and the end of a loop "
                "of your own: run it in `with trainer.callbacks.running(trainer):`",
                stacklevel=stacklevel_of_user(),
            )

    def _take_over(self, trainer: GANTrainer) -> None:
        """Note that the callbacks serve this run; refuse one with the state of another."""
        for index, callback in enumerate(self._callbacks):
            if type(callback).state_dict is Callback.state_dict:
                continue
            # at step 0 callbacks forget the run before
            if trainer.progress.step > 0 and callback._owner not in (None, self._run):
                raise ValueError(
                    f"`callbacks[{index}]` must be of this trainer's run, which has done "
                    f"{trainer.progress.step} steps, got a {type(callback).__name__} that another "
                    "trainer has used since: give each trainer callbacks of its own"
                )
            callback._owner = self._run

    def _by_name(self) -> dict[str, Callback]:
        counts: Counter[str] = Counter()
        by_name: dict[str, Callback] = {}
        for callback in self._callbacks:
            name = type(callback).__name__
            counts[name] += 1
            by_name[f"{name}#{counts[name]}"] = callback
        return by_name
