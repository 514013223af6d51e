"""Which trouble numbers of a game's health show, and what to try against it.

A threshold lies between what healthy and failing runs have shown, of which
`python -m tests.benchmarks.health` trains some: perceptrons and convolutions on MNIST, and a ring
of 8 Gaussians. The figures beside each are medians over five looks, 100 steps apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["KINDS", "Diagnosis", "Setup", "diagnose"]

KINDS = ("saturated", "vanished", "collapse", "oscillation", "imbalance")
"""The kinds of trouble that are told apart."""

SATURATED_SEPARATION = 0.99
"""Healthy: 0.58 to 1, so that it tells something only together with the pull; saturated: 1."""

SATURATED_PULL = 0.1
"""Healthy: 0.50 and more; a discriminator at 1,000 times G's learning rate: below 0.02."""

VANISHED_GRADIENT = 0.01
"""Healthy: 0.10 (near the ring's equilibrium) to 90; minimax with a strong D: below 0.002."""

VANISHED_SEPARATION = 0.9
"""Below it a small gradient is no trouble: near an equilibrium there is nothing left to learn."""

SMALLEST_SPREAD = 0.25
"""Healthy: 0.59 and more; a ring of which one mode is left: 0.03."""

SMALLEST_NEAREST = 0.125
"""Healthy: 0.33 and more; the source's code as it is written, which collapses on MNIST: 0.05."""

LARGEST_MISSED = 0.25
"""Healthy: 0, early in a Wasserstein game on the ring 0.22; a collapsed ring: 0.38 to 0.88."""

SHRINKING = -0.05
"""What is missed is no collapse while it falls so much from the first of the looks to the last."""

LARGEST_MOVEMENT = 1.0
"""Healthy: up to 0.63, early in a Wasserstein game on the ring 0.77; G at 50 times the learning
rate: 1.3 to 1.8."""

LARGEST_RETURN = 0.5
"""What is left of a way back and forth, the distance of its ends; of a straight way it is 1."""

SLOWEST_DISCRIMINATOR = 0.25
"""Healthy: 0.35 and more; a generator at 50 times the learning rate: 0.07 to 0.24."""

FASTEST_DISCRIMINATOR = 10.0
"""Healthy: up to 3.5; at 100 times the generator's learning rate: 20 and more."""


class Diagnosis(NamedTuple):
    """A trouble: one of `KINDS`, and what to say of it."""

    kind: str
    message: str


class Setup(NamedTuple):
    """What a game already is, so that it is not advised to become it.

    Attributes:
        penalized: Whether it has a penalty.
        relativistic: Whether its loss compares fakes with reals.
        minimax: Whether G minimises log(1 - D(G(z))).
        averaged: Whether it has an EMA.
        large_eps: Whether a BatchNorm of G adds more than 1e-3 to the variance, as the source does.
        discriminator_steps: D's steps for one of G's.
    """

    penalized: bool = False
    relativistic: bool = False
    minimax: bool = False
    averaged: bool = False
    large_eps: bool = False
    discriminator_steps: int = 1

    @property
    def smoother(self) -> list[str]:
        """What keeps D smooth."""
        first = "a larger gamma" if self.penalized else "R1 (penalties=[R1(0.5, every=4)])"
        whole = self.penalized and self.relativistic
        return [first, *([] if whole else ["RelativisticLoss() with R1 and R2"])]


def diagnose(seen: Mapping[str, float], setup: Setup) -> Iterator[Diagnosis]:
    """Gives the troubles that numbers show; one that is NaN shows none.

    Args:
        seen: The numbers that `HealthMonitor` records, by name, each a median over the last looks;
            "net_movement", the distance of the ends of the samples' way, over its length; and
            "missed_change", how much the last look missed more than the first.
        setup: What the game already is.
    """
    seen = defaultdict(lambda: math.nan, seen)
    beaten = [*_of_scores(seen, setup)]
    yield from beaten
    yield from _of_speed(seen["speed"], setup)
    yield from _of_samples(seen, setup, is_beaten=bool(beaten))
    yield from _of_movement(seen, setup)


def _of_scores(seen: Mapping[str, float], setup: Setup) -> Iterator[Diagnosis]:
    """Whether D has beaten G: its loss is spent, or nothing of it reaches G."""
    slower = "a lower discriminator_optimizer=adam(lr=...)"
    if seen["separation"] > SATURATED_SEPARATION and seen["pull"] < SATURATED_PULL:
        yield Diagnosis(
            "saturated",
            f"the discriminator is saturated: it scores {seen['separation']:.1%} of the reals "
            f"above the fakes (expected up to {SATURATED_SEPARATION:.0%}), and its loss pulls at "
            f"its scores with {seen['pull']:.2g} of the strength that it has where real and fake "
            f"can't be told apart (expected above {SATURATED_PULL:g}). "
            + _advice(*setup.smoother, slower),
        )
    if seen["gradient"] < VANISHED_GRADIENT and seen["separation"] > VANISHED_SEPARATION:
        other = ['generator_objective="non_saturating"'] if setup.minimax else []
        yield Diagnosis(
            "vanished",
            f"the generator's gradient has vanished: its norm is {seen['gradient']:.2g} of that of "
            f"the first step (expected above {VANISHED_GRADIENT:g}), while the discriminator "
            f"scores {seen['separation']:.1%} of the reals above the fakes. "
            + _advice(*other, setup.smoother[0], slower),
        )


def _of_speed(speed: float, setup: Setup) -> Iterator[Diagnosis]:
    """Whether one player moves much faster; an infinite speed is that of a G held still."""
    if speed < SLOWEST_DISCRIMINATOR:
        yield Diagnosis(
            "imbalance",
            "the generator moves much faster than the discriminator, whose weights change by "
            f"{speed:.2g} of what the generator's do in a step, relative to their size (expected "
            f"above {SLOWEST_DISCRIMINATOR:g}). G must not be trained too much without updating D "
            "(Goodfellow et al., 2014, section 6). "
            + _advice("a lower generator_optimizer=adam(lr=...)", "more discriminator_steps"),
        )
    elif FASTEST_DISCRIMINATOR < speed < math.inf:
        fewer = ["fewer discriminator_steps"] if setup.discriminator_steps > 1 else []
        yield Diagnosis(
            "imbalance",
            "the discriminator moves much faster than the generator: its weights change by "
            f"{speed:.3g} times what the generator's do in a step, relative to their size "
            f"(expected below {FASTEST_DISCRIMINATOR:g}). "
            + _advice("a lower discriminator_optimizer=adam(lr=...)", *fewer),
        )


def _of_samples(seen: Mapping[str, float], setup: Setup, *, is_beaten: bool) -> Iterator[Diagnosis]:
    """Whether samples are alike or leave data out, which a G that is beaten does anyway."""
    signs = [
        (
            seen["spread"] < SMALLEST_SPREAD,
            "samples are all alike",
            f"their spread is {seen['spread']:.2g} of the data's (expected above "
            f"{SMALLEST_SPREAD:g})",
        ),
        (
            seen["nearest"] < SMALLEST_NEAREST,
            "many samples are nearly the same",
            f"a sample's nearest neighbour is at {seen['nearest']:.2g} of the distance among reals "
            f"(expected above {SMALLEST_NEAREST:g})",
        ),
        (
            seen["missed"] > LARGEST_MISSED
            and not seen["missed_change"] < SHRINKING
            and not is_beaten,
            "samples leave out a part of the data",
            f"{seen['missed']:.0%} of the data has no sample near (expected up to "
            f"{LARGEST_MISSED:.0%})",
        ),
    ]
    shown = [(what, number) for is_shown, what, number in signs if is_shown]
    if shown:
        eps = ["norm_eps=1e-5 in the generator"] if setup.large_eps else []
        yield Diagnosis(
            "collapse",
            f"{shown[0][0]}: {', and '.join(number for _, number in shown)}: mode collapse"
            f"{', or not there yet' if shown[0] == signs[2][1:] else ''}. "
            + _advice(*eps, *setup.smoother, "lower learning rates"),
        )


def _of_movement(seen: Mapping[str, float], setup: Setup) -> Iterator[Diagnosis]:
    movement, net = seen["movement"], seen["net_movement"]
    if movement > LARGEST_MOVEMENT and net < LARGEST_RETURN:
        average = [] if setup.averaged else ["ema=EMA(0.999), whose samples wander less"]
        yield Diagnosis(
            "oscillation",
            f"samples wander back and forth: from look to look their mean moves by {movement:.2g} "
            f"times the data's spread (expected up to {LARGEST_MOVEMENT:g}), of which {net:.0%} is "
            "left in the end. "
            + _advice("lower learning rates", "R1 and R2 (penalties=[R1(1.0), R2(1.0)])", *average),
        )


def _advice(*pieces: str) -> str:
    return f"Try {'; '.join(pieces)}"
