"""Issues that statistics of a run indicate, and what to try against them.

Each threshold lies between the values of healthy and of failing runs, measured by
`python -m tests.benchmarks.health` on MLPs and convolutions for MNIST, and on a ring of 8
Gaussians. The values in the docstrings are medians over five evaluations, 100 steps apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["DOCS", "KINDS", "Issue", "find_issues"]

KINDS = ("saturation", "vanishing_gradient", "mode_collapse", "oscillation", "imbalance")
"""Kinds of issues."""

DOCS = "https://github.com/vanillagan/vanillagan/blob/main/docs/use/health.md"
"""Page that every message refers to."""

SATURATED_AUC = 0.99
"""Healthy: 0.58 to 1, so that it counts only together with the gradient; saturated: 1."""

SATURATED_LOGIT_GRADIENT = 0.1
"""Healthy: 0.50 and more; discriminator at 1,000 times the generator's rate: below 0.02."""

VANISHED_GRADIENT_RATIO = 0.01
"""Healthy: 0.10 (near the ring's equilibrium) to 90; minimax with a strong D: below 0.002."""

VANISHED_AUC = 0.9
"""A small gradient is an issue only above it: near an equilibrium there is nothing to learn."""

MIN_STD_RATIO = 0.25
"""Healthy: 0.59 and more; a ring of which one mode is left: 0.03."""

MIN_NEAREST_RATIO = 0.125
"""Healthy: 0.33 and more; the reference implementation, which collapses on MNIST: 0.05."""

MIN_COVERAGE = 0.75
"""Healthy: 1, early in a WGAN on the ring 0.78; a collapsed ring: 0.12 to 0.62."""

COVERAGE_GROWTH = 0.05
"""Low coverage that grows by more from the first to the last evaluation is no collapse."""

MAX_MEAN_SHIFT = 1.0
"""Healthy: up to 0.63, early in a WGAN on the ring 0.77; generator at 50 times the learning rate:
1.3 to 1.8."""

MAX_NET_SHIFT = 0.5
"""Distance of the ends of an oscillating path over its length; 1 for a straight path."""

MIN_UPDATE_RATIO = 0.25
"""Healthy: 0.35 and more; generator at 50 times the learning rate: 0.07 to 0.24."""

MAX_UPDATE_RATIO = 10.0
"""Healthy: up to 3.5; discriminator at 100 times the generator's learning rate: 20 and more."""


class Issue(NamedTuple):
    """An issue of a run.

    Attributes:
        kind: One of `KINDS`.
        message: Observed and expected values, and what to try.
    """

    kind: str
    message: str


def find_issues(statistics: Mapping[str, float]) -> Iterator[Issue]:
    """Yield the issues that statistics indicate; missing ones and NaN indicate none.

    Args:
        statistics: Medians of what `HealthMonitor` records, by name; "coverage_change", the last
            coverage minus the first; and "net_shift", the distance between the ends of the path of
            the samples' mean, over its length.
    """
    values = defaultdict(lambda: math.nan, statistics)
    dominated = [*_discriminator_dominates(values)]
    yield from dominated
    yield from _imbalance(values["update_ratio"])
    yield from _mode_collapse(values, is_dominated=bool(dominated))
    yield from _oscillation(values)


def _discriminator_dominates(values: Mapping[str, float]) -> Iterator[Issue]:
    auc, gradient = values["discriminator_auc"], values["gradient_ratio"]
    if auc > SATURATED_AUC and values["logit_gradient"] < SATURATED_LOGIT_GRADIENT:
        yield _issue(
            "saturation",
            f"the discriminator's AUC is {auc:.3f} (expected up to {SATURATED_AUC:g}) and the "
            f"gradient of its loss {values['logit_gradient']:.2g} of that for equal logits "
            f"(expected above {SATURATED_LOGIT_GRADIENT:g})",
            "R1 or a larger gamma, a lower discriminator learning rate",
        )
    if gradient < VANISHED_GRADIENT_RATIO and auc > VANISHED_AUC:
        yield _issue(
            "vanishing_gradient",
            f"the generator's gradient norm is {gradient:.2g} of that at the first step (expected "
            f"above {VANISHED_GRADIENT_RATIO:g}) at a discriminator AUC of {auc:.3f}",
            "the non-saturating loss, R1, a lower discriminator learning rate",
        )


def _imbalance(ratio: float) -> Iterator[Issue]:
    observed = (
        f"a discriminator step changes its weights {ratio:.3g} times as much as the generator's"
    )
    if ratio < MIN_UPDATE_RATIO:
        yield _issue(
            "imbalance",
            f"{observed} (expected above {MIN_UPDATE_RATIO:g})",
            "a lower generator learning rate, more discriminator_steps",
        )
    elif MAX_UPDATE_RATIO < ratio < math.inf:  # infinite for a generator that does not train
        yield _issue(
            "imbalance",
            f"{observed} (expected below {MAX_UPDATE_RATIO:g})",
            "a lower discriminator learning rate, fewer discriminator_steps",
        )


def _mode_collapse(values: Mapping[str, float], *, is_dominated: bool) -> Iterator[Issue]:
    observed = []
    if values["std_ratio"] < MIN_STD_RATIO:
        observed.append(
            f"the samples' standard deviation is {values['std_ratio']:.2g} of the data's "
            f"(expected above {MIN_STD_RATIO:g})"
        )
    if values["nearest_ratio"] < MIN_NEAREST_RATIO:
        observed.append(
            f"the distance to the nearest sample is {values['nearest_ratio']:.2g} of that among "
            f"the data (expected above {MIN_NEAREST_RATIO:g})"
        )
    # samples far from the data are what a dominated or new generator has, too
    is_new = values["coverage_change"] > COVERAGE_GROWTH
    if values["coverage"] < MIN_COVERAGE and not is_new and not is_dominated:
        observed.append(
            f"{values['coverage']:.0%} of the data has a sample nearby "
            f"(expected at least {MIN_COVERAGE:.0%})"
        )
    if observed:
        yield _issue(
            "mode_collapse",
            " and ".join(observed),
            "R1 or a larger gamma, RelativisticLoss with R1 and R2, lower learning rates, "
            "norm_eps=1e-5",
        )


def _oscillation(values: Mapping[str, float]) -> Iterator[Issue]:
    shift, net_shift = values["mean_shift"], values["net_shift"]
    if shift > MAX_MEAN_SHIFT and net_shift < MAX_NET_SHIFT:
        yield _issue(
            "oscillation",
            f"the samples' mean shifts by {shift:.2g} times the data's standard deviation between "
            f"evaluations (expected up to {MAX_MEAN_SHIFT:g}), back and forth",
            "lower learning rates, R1 and R2, ema=EMA(0.999)",
        )


def _issue(kind: str, observed: str, advice: str) -> Issue:
    return Issue(kind, f"{kind.replace('_', ' ')}: {observed}. Try {advice}; see {DOCS}")
