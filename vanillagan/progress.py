"""Progress of a run: steps and epochs done, and its limits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vanillagan.validation import check_integer, check_state

__all__ = ["Progress"]


@dataclass
class Progress:
    """Steps and epochs done, and the limits of the current `fit`.

    Attributes:
        step: Training steps done.
        epoch: Epochs done, which is also the index of the current epoch.
        step_in_epoch: Steps done in the current epoch.
        steps_per_epoch: Steps in an epoch; None if unknown.
        max_epochs: Epochs at which `fit` ends; None without such a limit.
        max_steps: Steps at which `fit` ends; None without such a limit.
    """

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    steps_per_epoch: int | None = None
    max_epochs: int | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        # `EpochSampler.signature` of the data that the current epoch was started with, and of the
        # data of the current `fit`
        self._epoch_signature: dict[str, int] = {}
        self._data_signature: dict[str, int] = {}
        # `step_in_epoch` changes with the first step, so that a `fit` without any changes nothing
        self._restarts_epoch = False

    @property
    def total_steps(self) -> int | None:
        """Steps at which `fit` ends; None if unknown."""
        by_epochs = None
        if self.max_epochs is not None and self.steps_per_epoch is not None:
            remaining = (self.max_epochs - self.epoch) * self.steps_per_epoch - self.resume_step
            by_epochs = self.step + max(remaining, 0)
        totals = [total for total in (self.max_steps, by_epochs) if total is not None]
        return min(totals) if totals else None

    @property
    def resume_step(self) -> int:
        """Steps of the current epoch that are done and that `fit` skips."""
        return 0 if self._restarts_epoch else self.step_in_epoch

    @property
    def fraction(self) -> float | None:
        """Fraction of the run that is done, in [0, 1]; None without a limit.

        Counted in steps, or in epochs if their length is unknown.
        """
        if self.total_steps:
            return min(self.step / self.total_steps, 1.0)
        return min(self.epoch / self.max_epochs, 1.0) if self.max_epochs else None

    @property
    def is_complete(self) -> bool:
        """True if the run has reached `max_epochs` or `max_steps`."""
        return (self.max_epochs is not None and self.epoch >= self.max_epochs) or (
            self.max_steps is not None and self.step >= self.max_steps
        )

    @property
    def at_last_step(self) -> bool:
        """True if the last step done is the last one of `fit`; False if unknown."""
        return self.step == self.total_steps

    @property
    def at_epoch_end(self) -> bool:
        """True if the last step done is the last one of its epoch; False if unknown."""
        return self.step_in_epoch == self.steps_per_epoch

    def set_limits(self, max_epochs: int | None, max_steps: int | None) -> None:
        """Set the totals at which `fit` ends; warn if the run has reached them already."""
        for name, limit in (("max_epochs", max_epochs), ("max_steps", max_steps)):
            if limit is not None:
                check_integer(name, limit, minimum=1)
        if max_epochs is None and max_steps is None:
            raise ValueError("`max_epochs` or `max_steps` must be given, got None for both")
        self.max_epochs, self.max_steps = max_epochs, max_steps
        if self.is_complete:
            warnings.warn(
                f"nothing left to do: the run has done {self.epoch} epochs and {self.step} steps, "
                f"and the limits are totals, got max_epochs={max_epochs}, max_steps={max_steps}",
                stacklevel=3,
            )

    def set_data(self, signature: Mapping[str, int], steps_per_epoch: int | None) -> None:
        """Set the length of an epoch; restart the current one if it was started with other data.

        Args:
            signature: Values that determine the batches of an epoch.
            steps_per_epoch: Steps in an epoch; None if unknown.
        """
        self._data_signature = dict(signature)
        self.steps_per_epoch = steps_per_epoch
        matches = self._data_signature == self._epoch_signature
        self._restarts_epoch = self.step_in_epoch > 0 and not matches
        if self._restarts_epoch:
            warnings.warn(
                f"restarting the current epoch: it was started with {self._epoch_signature}, but "
                f"`data`, `batch_size` and `discriminator_steps` now imply {self._data_signature}",
                stacklevel=4,
            )

    def count_step(self) -> None:
        """Count a step as done."""
        self.step += 1
        self.step_in_epoch = self.resume_step + 1
        self._restarts_epoch = False
        self._epoch_signature = self._data_signature

    def count_epoch(self) -> None:
        """Count the current epoch as done."""
        if self.step_in_epoch != self.steps_per_epoch:
            self.steps_per_epoch = None  # the length that the data told was wrong
        self.epoch += 1
        self.step_in_epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the steps and epochs done; the limits are arguments of each `fit`."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "epoch_signature": self._epoch_signature,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        form = {"step": int, "epoch": int, "step_in_epoch": int, "epoch_signature": {str: int}}
        check_state("progress", state, form)
        if state["step_in_epoch"] > state["step"]:
            raise ValueError(f"`step_in_epoch` must be at most `step`, got {state}")
        self.step, self.epoch = state["step"], state["epoch"]
        self.step_in_epoch = state["step_in_epoch"]
        self._epoch_signature = dict(state["epoch_signature"])
        self._restarts_epoch = False
