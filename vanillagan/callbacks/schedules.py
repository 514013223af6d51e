"""Learning rates that change over a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from vanillagan.errors import check_choice
from vanillagan.hooks import Callback, StepResult
from vanillagan.trainer import GANTrainer

__all__ = ["LRSchedule"]


class LRSchedule(Callback):
    """Runs any scheduler of `torch.optim.lr_scheduler`, exactly on after a resume.

    `ReduceLROnPlateau` watches the loss of the player whose rate it sets.

    Args:
        scheduler: Makes the scheduler of an optimizer:
            `lambda optimizer: CosineAnnealingLR(optimizer, T_max=20)`.
        player: Whose rate: "generator", "discriminator" or "both".
        interval: Whether the scheduler steps each "epoch" or each "step".

    Raises:
        ValueError: An argument is none of its choices.
        TypeError: `scheduler` isn't a function, or doesn't make a scheduler (at `fit`).
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
                f"`scheduler` must be a function that makes a scheduler, got {scheduler!r:.80}"
            )
        check_choice("player", player, ("generator", "discriminator", "both"))
        self.interval = check_choice("interval", interval, ("epoch", "step"))
        self.players = ("generator", "discriminator") if player == "both" else (player,)
        self._make = scheduler
        self._schedulers: dict[str, LRScheduler] = {}
        self._restored: dict[str, Any] = {}

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Makes the schedulers, and puts them where a checkpoint left them."""
        for name in self.players:
            optimizer = trainer.players[name].optimizer
            rates = [_without_weights(group) for group in optimizer.param_groups]
            if name not in self._schedulers:
                self._schedulers[name] = self._make(optimizer)
                if not isinstance(self._schedulers[name], LRScheduler):
                    made = self._schedulers.pop(name)
                    raise TypeError(f"`scheduler` must make a scheduler, got {made!r:.80}")
            if name in self._restored:
                self._schedulers[name].load_state_dict(self._restored.pop(name))
                # making the scheduler has set the rates of its first step
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group.update(rate)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Steps the schedulers, if they step by steps."""
        if self.interval == "step":
            self._step(trainer)

    def on_epoch_end(self, trainer: GANTrainer) -> None:
        """Steps the schedulers, if they step by epochs."""
        if self.interval == "epoch":
            self._step(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The schedulers' states."""
        return {
            name: scheduler.state_dict() for name, scheduler in self._schedulers.items()
        } | self._restored

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keeps what `state_dict` gave until the schedulers are made."""
        self._restored = dict(state)
        if not state:
            self._schedulers.clear()

    def _step(self, trainer: GANTrainer) -> None:
        for name, scheduler in self._schedulers.items():
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(trainer.history.last(name))
            else:
                scheduler.step()


def _without_weights(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
