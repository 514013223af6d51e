"""Is this collapse, and what to do? A watch over a game's health."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from vanillagan.callbacks.diagnoses import Setup, diagnose
from vanillagan.callbacks.vitals import (
    discriminator_pull,
    diversity,
    separation,
    sketch,
    total_norm,
)
from vanillagan.data import Batch
from vanillagan.errors import TrainingHealthWarning, check_integer
from vanillagan.hooks import Callback, Player, StepResult
from vanillagan.sampling import classes_in_turn, draw_samples
from vanillagan.trainer import GANTrainer

__all__ = ["HealthMonitor"]

SAMPLES = 256
"""So many fakes are looked at, and reals as far as the batch has them."""

FEWEST = 4
"""Of fewer reals nothing is said about the samples' diversity and movement."""


LARGE_EPS = 1e-3
"""A BatchNorm that adds more to the variance shrinks what it should normalise."""


class HealthMonitor(Callback):
    """Warns of a run that goes wrong: what is seen, what was expected, and what to try.

    It looks each `every` steps. A trouble that lasts, by the medians of the last `patience` looks,
    brings one `TrainingHealthWarning` in a run, also across a resume:

    - saturated: D tells all samples apart, and its loss is spent;
    - vanished: hardly anything is left of G's gradient, though D tells the samples apart;
    - collapse: samples are alike, or miss a part of the data;
    - oscillation: samples wander back and forth;
    - imbalance: one player moves much faster than the other. The paper warns of it: "G must not be
      trained too much without updating D".

    What a look sees is in `trainer.history.metrics`, under "health/" and these names:

    - separation: The share of pairs in which D scores the real sample above the fake; 1/2 where it
      can't tell.
    - pull: How hard D's loss pulls at its scores, against where it can't tell; always 1 for
      `WassersteinLoss`.
    - gradient: The norm of G's gradient against that of the first step.
    - speed: How much D's weights change in one of its steps, relative to their size, over the same
      for G.
    - spread: The standard deviation of samples over that of the data.
    - nearest: The distance of a sample to its nearest one, over the same among reals.
    - missed: The share of the data that has no sample near.
    - movement: The way of the samples' mean since the last look, over the data's spread.

    Training is not changed by it. Samples are those of the generator as it is trained, without EMA,
    in eval mode, and always from the same noise. Reals are those of the step's batch; in batches of
    less than 32 or so the last numbers are rough. Of several processes the first one looks, at its
    own part of the batch.

    Args:
        every: Steps between two looks, at least 1. The device is waited for at those steps alone.
        patience: Looks over which medians are taken, at least 1; the first warning can come at
            `every * (patience + 1)` steps, 600 by default. With fewer a run's first steps, in which
            D wins and samples are alike, may bring warnings.

    Attributes:
        warned: The kinds of trouble that the run has been warned of.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), section 6; Arjovsky and Bottou, 2017 (arXiv
    1701.04862), for saturation and vanishing gradients.
    """

    main_process_only = True

    def __init__(self, *, every: int = 100, patience: int = 5) -> None:
        self.every = check_integer("every", every, minimum=1)
        self.patience = check_integer("patience", patience, minimum=1)
        self.warned: list[str] = []
        self._seen: dict[str, list[float]] = {}
        self._means: list[list[float]] = []
        self._first_gradient: Tensor | None = None
        self._look: _Look | None = None

    def on_fit_start(self, trainer: GANTrainer) -> None:
        """Forgets the run before, if a new one begins."""
        if trainer.progress.step == 0:
            self.warned, self._seen, self._means, self._first_gradient = [], {}, [], None

    def on_step_start(self, trainer: GANTrainer, batch: Batch) -> None:
        """Begins a look, if it is time."""
        is_time = (trainer.progress.step + 1) % self.every == 0
        self._look = _Look(batch.samples) if is_time else None

    def on_before_optimizer_step(self, trainer: GANTrainer, player: Player) -> None:
        """Keeps the norm of G's first gradient, and in a look what the players step from."""
        if self._first_gradient is None and player.name == "generator":
            self._first_gradient = _gradient_norm(player)
        if self._look is not None:
            self._look.before_step(player)

    def on_step_end(self, trainer: GANTrainer, result: StepResult) -> None:
        """Ends the look: records what was seen, and warns of what has lasted."""
        look, self._look = self._look, None
        if look is None or self._first_gradient is None:
            return
        step = trainer.progress.step
        values, mean, unit = look.read(trainer, result, self._first_gradient)
        self._means = [*self._means, mean][-self.patience - 1 :]
        if len(self._means) > 1:
            known = unit > 0 and len(look.real) >= FEWEST
            values["movement"] = math.dist(*self._means[-2:]) / unit if known else math.nan
        trainer.history.record(step, {f"health/{name}": value for name, value in values.items()})
        for name, value in values.items():
            self._seen[name] = [*self._seen.get(name, []), value][-self.patience :]
        if len(self._means) <= self.patience:
            return
        for kind, message in diagnose(self._lasting(), _setup_of(trainer)):
            if kind not in self.warned:
                self.warned.append(kind)
                warnings.warn(f"at step {step:,} {message}", TrainingHealthWarning, stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """What the last looks have seen, and of what the run has been warned."""
        first = self._first_gradient
        return {
            "warned": list(self.warned),
            "seen": dict(self._seen),
            "means": list(self._means),
            "first_gradient": None if first is None else float(first),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.warned = list(state["warned"])
        self._seen = dict(state["seen"])
        self._means = list(state["means"])
        first = state["first_gradient"]
        self._first_gradient = None if first is None else torch.tensor(first)

    def _lasting(self) -> dict[str, float]:
        """The median of each number over the last looks, NaN if one of them is."""
        lasting = {
            name: math.nan if any(map(math.isnan, values)) else median(values)
            for name, values in self._seen.items()
        }
        if "missed" in self._seen:
            lasting["missed_change"] = self._seen["missed"][-1] - self._seen["missed"][0]
        way = sum(math.dist(*ends) for ends in pairwise(self._means))
        net = math.dist(self._means[0], self._means[-1])
        return lasting | {"net_movement": net / way if way else math.nan}


class _Look:
    """What is kept within one step, and what is computed of it at its end."""

    def __init__(self, real: Tensor) -> None:
        self.real = real[:SAMPLES]
        self.before: dict[str, list[Tensor]] = {}
        self.gradient: Tensor = real.new_tensor(math.nan, dtype=torch.float32)

    def before_step(self, player: Player) -> None:
        """Keeps the weights that a player has at first, and the norm of G's gradient."""
        if player.name not in self.before:
            self.before[player.name] = [weight.detach().clone() for weight in player.parameters]
        if player.name == "generator":
            self.gradient = _gradient_norm(player)

    @torch.no_grad()
    def read(
        self, trainer: GANTrainer, result: StepResult, first_gradient: Tensor
    ) -> tuple[dict[str, float], list[float], float]:
        """Reads the numbers, the samples' mean and the data's spread from the device, at once."""
        fake = _draw(trainer).flatten(1).float()
        real = self.real.flatten(1).float()
        real_scores = result.real_scores.flatten()[:SAMPLES]
        fake_scores = result.fake_scores.flatten()[:SAMPLES]
        numbers = {
            "separation": separation(real_scores, fake_scores),
            "pull": discriminator_pull(trainer.loss, real_scores, fake_scores),
            "gradient": self.gradient / first_gradient.to(self.gradient),
            "speed": self._way(trainer, "discriminator")
            / self._way(trainer, "generator")
            / trainer.discriminator_steps,
        }
        if len(real) >= FEWEST:
            numbers |= diversity(real, fake[: len(real)])._asdict()
        scalars = [*numbers.values(), real.var(0, correction=0).sum().sqrt()]
        stacked = torch.stack([scalar.float() for scalar in scalars])
        read = torch.cat([stacked, sketch(fake.mean(0))]).tolist()
        mean, unit = read[len(scalars) :], read[len(numbers)]
        return dict(zip(numbers, read, strict=False)), mean, unit

    def _way(self, trainer: GANTrainer, name: str) -> Tensor:
        """How far a player's weights have gone in the round, relative to their size."""
        if name not in self.before:  # a trainer of one's own may leave a player's step out
            return torch.tensor(math.nan, device=trainer.device)
        weights = [weight.detach() for weight in trainer.players[name].parameters]
        return total_norm(torch._foreach_sub(weights, self.before[name])) / total_norm(weights)


def _setup_of(trainer: GANTrainer) -> Setup:
    """What the game already is."""
    norms = [module for module in trainer.generator.modules() if isinstance(module, _BatchNorm)]
    return Setup(
        penalized=bool(trainer.penalties),
        relativistic=trainer.loss.needs_real,
        minimax=getattr(trainer.loss, "generator_objective", None) == "minimax",
        averaged=trainer.ema is not None,
        large_eps=any(norm.eps > LARGE_EPS for norm in norms),
        discriminator_steps=trainer.discriminator_steps,
    )


def _draw(trainer: GANTrainer) -> Tensor:
    """Samples of the generator as it is trained, always from the same noise."""
    labels = classes_in_turn(trainer.generator, SAMPLES)
    return draw_samples(
        trainer.generator, SAMPLES, labels=labels, latent_sampler=trainer.latent, seed=0
    )


def _gradient_norm(player: Player) -> Tensor:
    return total_norm(weight.grad for weight in player.parameters if weight.grad is not None)
