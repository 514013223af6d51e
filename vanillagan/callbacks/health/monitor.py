"""Monitor of known failures of GAN training."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vanillagan.batch import Batch
from vanillagan.callback import Callback
from vanillagan.callbacks.health.statistics import (
    count_sketch,
    discriminator_auc,
    diversity,
    logit_gradient,
    total_norm,
)
from vanillagan.callbacks.health.thresholds import find_issues
from vanillagan.errors import TrainingHealthWarning, stacklevel_of_user
from vanillagan.player import Player
from vanillagan.results import StepResult
from vanillagan.sampling.draw import draw_samples
from vanillagan.trainer import GANTrainer
from vanillagan.validation import check_integer, check_state

__all__ = ["HealthMonitor"]

NUM_SAMPLES = 256
"""Number of fakes in an evaluation, and largest number of reals."""

MIN_REALS = 4
"""Number of reals below which diversity and mean shift are not evaluated."""


class HealthMonitor(Callback):
    """Warn of known failures of GAN training, with the observed values and what to try.

    It evaluates a run every `every_n_steps` steps. An issue that persists, by the medians of the
    last `patience` evaluations, raises one `TrainingHealthWarning` per run, also across a resume:

    - saturation: the discriminator separates all samples and its loss has no gradient left.
    - vanishing_gradient: the generator's gradient is gone while the discriminator separates the
      samples.
    - mode_collapse: samples are alike, or do not cover the data.
    - oscillation: the samples' mean moves back and forth.
    - imbalance: one player's weights change much faster than the other's. The paper warns of it: "G
      must not be trained too much without updating D".

    The statistics are in `trainer.history.metrics`, under "health/" and these names:

    - discriminator_auc: Area under the discriminator's ROC curve; 1/2 for a guess.
    - logit_gradient: Norm of the gradient of the discriminator's loss by its logits, relative to
      that for equal logits; always 1 for `WassersteinLoss`.
    - gradient_ratio: Norm of the generator's gradient, relative to that of the first step.
    - update_ratio: Relative change of the discriminator's weights in one of its steps, over that of
      the generator's.
    - std_ratio: Standard deviation of samples over that of the data.
    - nearest_ratio: Distance of a sample to the nearest other, over the same of the data.
    - coverage: Fraction of the data with a sample nearby.
    - mean_shift: Shift of the samples' mean since the last evaluation, over the data's standard
      deviation.

    Training does not change. Samples are those of the generator in training, without EMA, in eval
    mode, and always from the same latents. Reals are those of the step's batch; with fewer than
    about 32 the last four statistics are rough. In a distributed run rank 0 evaluates its own shard
    of the batch.

    Args:
        every_n_steps: Steps between two evaluations, at least 1. Only an evaluation synchronizes
            with the device.
        patience: Evaluations over which medians are taken, at least 1. The first warning can come
            at step `every_n_steps * (patience + 1)`, 600 by default. With fewer, the first steps of
            a run may raise warnings.

    Attributes:
        warned: Kinds of issues that the run has been warned of.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), section 6; Arjovsky and Bottou, 2017 (arXiv
    1701.04862), for saturation and vanishing gradients.
    """

    main_process_only = True

    def __init__(self, *, every_n_steps: int = 100, patience: int = 5) -> None:
        self.every_n_steps = check_integer("every_n_steps", every_n_steps, minimum=1)
        self.patience = check_integer("patience", patience, minimum=1)
        self.warned: list[str] = []
        self._recent: dict[str, list[float]] = {}
        self._means: list[list[float]] = []
        self._first_gradient: Tensor | None = None
        self._evaluation: _Evaluation | None = None

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Forget the run before if a new one begins."""
        if trainer.progress.step == 0:
            self.warned, self._recent, self._means, self._first_gradient = [], {}, [], None

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """Begin an evaluation if one is due."""
        is_due = (trainer.progress.step + 1) % self.every_n_steps == 0
        self._evaluation = _Evaluation(batch.samples) if is_due else None

    def on_before_optimizer_step(self, trainer: GANTrainer, player: Player) -> None:
        """Keep the generator's first gradient norm, and what an evaluation compares with."""
        if self._first_gradient is None and player.name == "generator":
            self._first_gradient = _gradient_norm(player)
        if self._evaluation is not None:
            self._evaluation.before_update(player)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """End the evaluation: record the statistics, and warn of issues that persist."""
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is None or self._first_gradient is None:
            return
        step = trainer.progress.step
        values, mean, real_std = evaluation.read(trainer, result, self._first_gradient)
        # those of a stranger's checkpoint may be of other samples
        earlier = [other for other in self._means if len(other) == len(mean)]
        self._means = [*earlier, mean][-self.patience - 1 :]
        if len(self._means) > 1:
            is_known = real_std > 0 and len(evaluation.real) >= MIN_REALS
            shift = math.dist(*self._means[-2:])
            values["mean_shift"] = shift / real_std if is_known else math.nan
        trainer.history.record(step, {f"health/{name}": value for name, value in values.items()})
        for name, value in values.items():
            self._recent[name] = [*self._recent.get(name, []), value][-self.patience :]
        if len(self._means) <= self.patience:
            return
        for kind, message in find_issues(self._persistent()):
            if kind not in self.warned:
                self.warned.append(kind)
                warnings.warn(
                    f"at step {step:,}: {message}", TrainingHealthWarning, stacklevel_of_user()
                )

    def state_dict(self) -> dict[str, Any]:
        """Return the recent statistics, and what the run has been warned of."""
        first = self._first_gradient
        return {
            "warned": list(self.warned),
            "recent": dict(self._recent),
            "means": list(self._means),
            "first_gradient": None if first is None else float(first),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        numbers = {int: float}
        form = {"warned": {int: str}, "recent": {str: numbers}, "means": {int: numbers}}
        check_state("state", state, form | {"first_gradient": (float, None)})
        if not all(state["recent"].values()):
            raise ValueError("`recent` must have values of each statistic")
        self.warned = list(state["warned"])
        self._recent = dict(state["recent"])
        self._means = list(state["means"])
        first = state["first_gradient"]
        self._first_gradient = None if first is None else torch.tensor(first, device="cpu")

    def _persistent(self) -> dict[str, float]:
        """Return the median of each statistic over the recent evaluations, NaN if one is NaN."""
        persistent = {
            name: math.nan if any(map(math.isnan, values)) else median(values)
            for name, values in self._recent.items()
        }
        if "coverage" in self._recent:
            coverage = self._recent["coverage"]
            persistent["coverage_change"] = coverage[-1] - coverage[0]
        length = sum(math.dist(*ends) for ends in pairwise(self._means))
        net = math.dist(self._means[0], self._means[-1])
        return persistent | {"net_shift": net / length if length else math.nan}


class _Evaluation:
    """Values that one step keeps for its evaluation."""

    def __init__(self, real: Tensor) -> None:
        self.real = real[:NUM_SAMPLES]
        self.weights: dict[str, list[Tensor]] = {}
        self.gradient: Tensor = real.new_tensor(math.nan, dtype=torch.float32)

    def before_update(self, player: Player) -> None:
        """Keep a player's first weights in the step, and the generator's gradient norm."""
        if player.name not in self.weights:
            self.weights[player.name] = [weight.detach().clone() for weight in player.parameters]
        if player.name == "generator":
            self.gradient = _gradient_norm(player)

    @torch.no_grad()
    def read(
        self, trainer: GANTrainer, result: StepResult, first_gradient: Tensor
    ) -> tuple[dict[str, float], list[float], float]:
        """Return statistics, the samples' mean and the data's standard deviation.

        All are read from the device at once.
        """
        # always from the same latents
        fake = draw_samples(
            trainer.generator,
            NUM_SAMPLES,
            labels=trainer.sample_labels(NUM_SAMPLES),
            latent_sampler=trainer.latent_sampler,
            seed=0,
            run=trainer.run_generator,
        )
        fake = fake.flatten(1).float()
        real = self.real.flatten(1).float()
        real_logits = result.discriminator.real_logits.flatten()[:NUM_SAMPLES]
        fake_logits = result.discriminator.fake_logits.flatten()[:NUM_SAMPLES]
        update_ratio = self._relative_update(trainer.d) / self._relative_update(trainer.g)
        statistics = {
            "discriminator_auc": discriminator_auc(real_logits, fake_logits),
            "logit_gradient": logit_gradient(trainer.loss, real_logits, fake_logits),
            "gradient_ratio": self.gradient / first_gradient.to(self.gradient),
            "update_ratio": update_ratio / trainer.discriminator_steps,
        }
        if len(real) >= MIN_REALS:
            statistics |= diversity(real, fake[: len(real)])._asdict()
        scalars = [*statistics.values(), real.var(0, correction=0).sum().sqrt()]
        stacked = torch.stack([scalar.float() for scalar in scalars])
        values = torch.cat([stacked, count_sketch(fake.mean(0))]).tolist()
        mean, real_std = values[len(scalars) :], values[len(statistics)]
        return dict(zip(statistics, values, strict=False)), mean, real_std

    def _relative_update(self, player: Player) -> Tensor:
        if player.name not in self.weights:  # a subclass may leave a player's update out
            return torch.tensor(math.nan, device=player.parameters[0].device)
        weights = [weight.detach() for weight in player.parameters]
        change = torch._foreach_sub(weights, self.weights[player.name])
        return total_norm(change) / total_norm(weights)


def _gradient_norm(player: Player) -> Tensor:
    return total_norm(weight.grad for weight in player.parameters if weight.grad is not None)
