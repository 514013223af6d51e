"""What others attach to the trainer: callbacks, and what their hooks are given."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vanillagan.data import Batch

if TYPE_CHECKING:
    from vanillagan.trainer import GANTrainer

__all__ = ["HOOKS", "Callback", "Player", "StepResult"]


class StepResult(NamedTuple):
    """What a training step has seen: detached tensors, which nothing has waited for yet.

    Attributes:
        discriminator_loss: D's adversarial loss, a scalar, without penalties.
        generator_loss: G's adversarial loss, a scalar.
        penalty: What penalties have added to D's loss in this step, a scalar; None without any.
        real_scores: D's scores of the real samples, shape (N,).
        fake_scores: D's scores of the fakes, shape (N,).
    """

    discriminator_loss: Tensor
    generator_loss: Tensor
    penalty: Tensor | None
    real_scores: Tensor
    fake_scores: Tensor


@dataclass(frozen=True)
class Player:
    """One side of the game.

    Attributes:
        name: "generator" or "discriminator".
        network: The network itself, which checkpoints hold and penalties run on.
        forward: The network as training calls it: compiled, where the trainer compiles.
        parameters: The weights that are trained.
        optimizer: Its optimizer.
    """

    name: Literal["generator", "discriminator"]
    network: nn.Module
    forward: Callable[..., Tensor]
    parameters: tuple[nn.Parameter, ...]
    optimizer: Optimizer

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights, which samples are brought to."""
        return self.parameters[0].dtype

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Spares the player's weights their gradients while the other one moves."""
        moving = [weight for weight in self.parameters if weight.requires_grad]
        for weight in moving:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in moving:
                weight.requires_grad_(True)


class Callback:
    """Something that watches or steers training, through the hooks that it overrides.

    A trainer's subclass overrides the same hooks, without the argument `trainer`; its own run
    first, then those of the callbacks in order. A hook that nobody overrides costs nothing. A
    subclass with an `on_...` method that is no hook is a `TypeError` where the class is made.

    Attributes:
        main_process_only: Whether, of several processes, only the first one calls its hooks: for
            what writes files or to the console.
        order: Hooks of a higher number run later; those of the same in the order of the list. What
            evaluates has 1, what saves 2, what shows metrics 3.

    Example:
        >>> class Count(Callback):
        ...     steps = 0
        ...     def on_step_end(self, trainer, result):
        ...         self.steps += 1
    """

    main_process_only: ClassVar[bool] = False
    order: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_hook_names(cls)

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Training begins, or goes on after a resume."""

    def on_epoch_start(self, trainer: GANTrainer) -> None:
        """An epoch begins, or goes on after a resume."""

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """A step begins; `batch` is checked and on the device."""

    def on_before_optimizer_step(self, trainer: GANTrainer, player: Player) -> None:
        """A player's gradients are ready, and averaged over the processes."""

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """A step is done; `trainer.progress` counts it already."""

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """An epoch is done; `trainer.progress` counts it already."""

    def on_exception(self, trainer: GANTrainer, error: BaseException) -> None:
        """An error is about to leave `fit`."""

    def on_fit_end(self, trainer: GANTrainer) -> None:
        """Training has come to its end or was stopped; not called after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What must outlive a resume: tensors and primitives; {} for nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, before training goes on."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
"""The names of all hooks, in the order in which they are first called."""


def _nothing(self: object, *arguments: object) -> None:
    """A hook that does nothing."""


class OwnHooks:
    """What a trainer's subclass overrides: the hooks of `Callback`, without `trainer`."""


for _hook in HOOKS:
    setattr(OwnHooks, _hook, _nothing)


def find_listeners(
    trainer: GANTrainer, callbacks: Sequence[Callback]
) -> dict[str, list[Callable[..., None]]]:
    """Who is called at each hook: the trainer's subclass, then the callbacks that override it."""
    listeners: dict[str, list[Callable[..., None]]] = {}
    for name in HOOKS:
        overridden = getattr(type(trainer), name) is not _nothing
        listeners[name] = [getattr(trainer, name)] if overridden else []
        listeners[name] += [
            partial(getattr(callback, name), trainer)
            for callback in sorted(callbacks, key=lambda callback: callback.order)
            if getattr(type(callback), name) is not getattr(Callback, name)
        ]
    return listeners


class CallbackStates:
    """The states of a trainer's callbacks, by class, those with nothing to keep left out."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        names: Counter[str] = Counter()
        self._callbacks: dict[str, Callback] = {}
        for callback in callbacks:
            name = type(callback).__name__
            names[name] += 1
            self._callbacks[f"{name}#{names[name]}"] = callback

    def state_dict(self) -> dict[str, Any]:
        """The states, {} for callbacks that have none."""
        return {name: callback.state_dict() for name, callback in self._callbacks.items()}

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Restores what `state_dict` gave; callbacks may have come, but none may be gone."""
        kept = {name for name, state in states.items() if state}
        unexpected = sorted(kept - set(self._callbacks))
        if unexpected:
            raise ValueError(
                f"it has states of the callbacks {unexpected}, which the trainer lacks"
            )
        for name in states.keys() & self._callbacks.keys():
            self._callbacks[name].load_state_dict(states[name])


def check_hook_names(cls: type) -> None:
    """Raises where the class defines an `on_...` method that is no hook."""
    for name, method in vars(cls).items():
        if name.startswith("on_") and callable(method) and name not in HOOKS:
            close = difflib.get_close_matches(name, HOOKS, n=1)
            hint = f" (did you mean `{close[0]}`?)" if close else ""
            raise TypeError(
                f"`{cls.__name__}.{name}` must be one of the hooks {', '.join(HOOKS)}, "
                f"got `{name}`{hint}"
            )
