"""Learning rate schedulers of PyTorch."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from vanillagan.batch import Batch
from vanillagan.callback import Callback
from vanillagan.errors import CheckpointError, stacklevel_of_user
from vanillagan.results import StepResult
from vanillagan.trainer import GANTrainer
from vanillagan.validation import check_choice, check_state, is_like

__all__ = ["LRSchedule"]


class LRSchedule(Callback):
    """Run any scheduler of `torch.optim.lr_scheduler`; it resumes exactly.

    `ReduceLROnPlateau` monitors the loss of the player whose learning rate it sets. For a decay
    over the whole run `GANTrainer(lr_schedule=linear_decay(0.5))` is simpler.

    Args:
        scheduler: Creates the scheduler of an optimizer:
            `lambda optimizer: CosineAnnealingLR(optimizer, T_max=20)`.
        player: Player whose learning rate is set: "generator", "discriminator" or "both".
        interval: When the scheduler steps: after each "epoch" or each "step".

    Raises:
        ValueError: An argument is none of its choices, or the trainer has an `lr_schedule` (raised
            by `fit`).
        TypeError: `scheduler` is not a function, or does not create a scheduler (raised by `fit`).
    """

    def __init__(
        self,
        scheduler: Callable[[Optimizer], LRScheduler],
        *,
        player: Literal["generator", "discriminator", "both"] = "both",
        interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        if not callable(scheduler):
            raise TypeError(
                f"`scheduler` must be a function that creates a scheduler, got {scheduler!r:.80}"
            )
        check_choice("player", player, ("generator", "discriminator", "both"))
        self.interval = check_choice("interval", interval, ("epoch", "step"))
        self.players = ("generator", "discriminator") if player == "both" else (player,)
        self._create = scheduler
        self._schedulers: dict[str, LRScheduler] = {}
        self._restored: dict[str, Any] = {}

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Create the schedulers, or restore them from a checkpoint."""
        if trainer.progress.step == 0:
            self._restored.clear()  # of another trainer, which did not train with them
        self._prepare(trainer)

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """Create the schedulers in a loop of your own, which calls `train_step` without `fit`."""
        # a callback may have served another trainer before
        served = {id(scheduler.optimizer) for scheduler in self._schedulers.values()}
        needed = {id(p.optimizer) for p in trainer.players if p.name in self.players}
        if served == needed and not self._restored:
            return
        self._prepare(trainer)
        if self.interval == "epoch":
            warnings.warn(
                "`LRSchedule` has no effect in a loop of your own, which has no epochs: pass "
                "`interval='step'`, or call `trainer.callbacks.on_epoch_end(trainer)` after each",
                stacklevel=stacklevel_of_user(),
            )

    def _prepare(self, trainer: GANTrainer) -> None:
        if trainer.lr_schedule is not None:
            raise ValueError(
                "`lr_schedule` of the trainer must be None with the callback `LRSchedule`, which "
                "sets the same learning rates"
            )
        for name, optimizer in ((p.name, p.optimizer) for p in trainer.players):
            if name in self.players:
                self._schedulers[name] = self._scheduler_of(optimizer, name)

    def _scheduler_of(self, optimizer: Optimizer, name: str) -> LRScheduler:
        """Create the scheduler of a player's optimizer, unless it is there, and restore it."""
        groups = optimizer.param_groups
        options = [{k: v for k, v in group.items() if k != "params"} for group in groups]
        scheduler = self._schedulers.get(name)
        if scheduler is None or scheduler.optimizer is not optimizer:
            scheduler = self._create(optimizer)
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"`scheduler` must create a scheduler, got {scheduler!r:.80}")
        for group, before in zip(groups, options, strict=True):
            # as other schedulers note it, but not `ReduceLROnPlateau`
            group.setdefault("initial_lr", before["lr"])
        if name in self._restored:
            state, mine = self._restored.pop(name), scheduler.state_dict()
            # a state sets attributes: only those that are known, which the version decides
            state = {key: state[key] for key in state.keys() & mine.keys()}
            if "last_epoch" not in state or not is_like(mine, state):
                raise CheckpointError(f"the checkpoint's scheduler does not fit: {state}")
            _warn_of_settings(scheduler, state)
            scheduler.load_state_dict(state)
            # a new scheduler has set the learning rates of its first step
            for group, before in zip(groups, options, strict=True):
                group.update(before)
        return scheduler

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Step the schedulers if they step by steps."""
        if self.interval == "step":
            self._step(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Step the schedulers if they step by epochs."""
        if self.interval == "epoch":
            self._step(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the schedulers."""
        states = {name: scheduler.state_dict() for name, scheduler in self._schedulers.items()}
        return states | self._restored

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep what `state_dict` returned until the schedulers are created."""
        check_state("state", state, {n: {str: object} for n in state.keys() & {*self.players}})
        self._restored = dict(state)
        if not state:
            self._schedulers.clear()

    def _step(self, trainer: GANTrainer) -> None:
        for name, scheduler in self._schedulers.items():
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(trainer.history.last_loss(name))
            else:
                scheduler.step()


def _warn_of_settings(scheduler: LRScheduler, restored: dict[str, Any]) -> None:
    """Warn if a checkpoint replaces arguments of a scheduler."""
    mine = scheduler.state_dict()
    arguments = inspect.signature(type(scheduler)).parameters.keys() - {"last_epoch"}
    for name in sorted(arguments & mine.keys() & restored.keys()):
        if mine[name] != restored[name]:
            warnings.warn(
                f"`LRSchedule` goes on with {name}={restored[name]} of the checkpoint, not with "
                f"{name}={mine[name]} of its `scheduler`; to begin that anew, call "
                "`load_state_dict({})` of the callback after `load`",
                stacklevel=stacklevel_of_user(),
            )
