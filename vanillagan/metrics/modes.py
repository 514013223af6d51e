"""Coverage of the known modes of a data distribution."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vanillagan.theory import TOTAL_TOLERANCE, kl_divergence
from vanillagan.validation import (
    check_finite,
    check_float_tensor,
    check_integer,
    check_integer_tensor,
)

__all__ = ["ModeCoverage", "mode_coverage"]


class ModeCoverage(NamedTuple):
    """Number of modes found, and divergence of their proportions.

    Attributes:
        found: Number of modes with enough samples.
        kl: KL(p_samples || p_data) over the modes, in nats, at least 0.
    """

    found: int
    kl: float


def mode_coverage(
    modes: Tensor, true_proportions: int | Tensor, *, minimum: int = 1
) -> ModeCoverage:
    """Count the modes that samples cover and compare their proportions with those of the data.

    The divergence is KL(p_samples || p_data) over the modes, the "reverse KL" that VEEGAN and
    PacGAN report. A missing mode changes it little, by log(K / (K - 1)) for one of K equally
    frequent modes; `found` shows it. For N samples of the data itself the divergence is about
    (K - 1) / 2N, not 0.

    Args:
        modes: Mode of each sample, shape (N,), integers from 0 to K - 1, such as the argmax of a
            classifier. -1 marks a sample of no mode (of low quality): it counts for no mode and is
            left out of the divergence.
        true_proportions: Proportions of the modes in the data, shape (K,), floats, at least 0, with
            a total of 1; or the number K of equally frequent modes.
        minimum: Number of samples from which on a mode counts as found.

    Returns:
        `ModeCoverage(found, kl)`. The divergence is infinite if a sample is of a mode that the data
        does not have, or if no sample is of any mode. Modes that the data does not have are never
        counted as found.

    Raises:
        ValueError: A mode is out of its range, a shape is invalid, or the proportions do not have
            a total of 1.
        TypeError: `modes` is not a tensor of integers, or `true_proportions` not one of floats.

    Source: Srivastava et al., 2017 (VEEGAN, arXiv 1705.07761); Lin et al., 2018 (PacGAN, arXiv
    1712.04086).

    Example:
        >>> mode_coverage(torch.tensor([0, 0, 1, 1, -1]), 4)  # the KL is log 2
        ModeCoverage(found=2, kl=0.6931471805599453)
    """
    minimum = check_integer("minimum", minimum, minimum=1)
    truth = _as_proportions(true_proportions)
    _check_modes(modes, len(truth))
    counts = modes[modes >= 0].bincount(minlength=len(truth)).cpu().double()
    found = int(((counts >= minimum) & (truth > 0)).sum())
    if not counts.any():
        return ModeCoverage(found, math.inf)
    return ModeCoverage(found, max(0.0, float(kl_divergence(counts / counts.sum(), truth))))


def _as_proportions(proportions: Any) -> Tensor:
    """Return the proportions on the CPU, in float64."""
    if isinstance(proportions, Integral):
        count = check_integer("true_proportions", proportions, minimum=1)
        return torch.full((count,), 1 / count, dtype=torch.float64)
    check_float_tensor("true_proportions", proportions, "an integer or a tensor of floats")
    if proportions.dim() != 1 or not len(proportions):
        raise ValueError(
            f"`true_proportions` must have the shape (K,), got {tuple(proportions.shape)}"
        )
    check_finite("true_proportions", proportions)
    truth: Tensor = proportions.detach().cpu().double()
    if truth.min() < 0 or abs(truth.sum().item() - 1) > TOTAL_TOLERANCE:
        raise ValueError(
            "`true_proportions` must be at least 0 with a total of 1, got a minimum of "
            f"{truth.min().item():g} and a total of {truth.sum().item():g}"
        )
    return truth / truth.sum()


def _check_modes(modes: Tensor, count: int) -> None:
    check_integer_tensor("modes", modes)
    if modes.dim() != 1 or not len(modes):
        raise ValueError(f"`modes` must have the shape (N,), got {tuple(modes.shape)}")
    low, high = int(modes.min()), int(modes.max())
    if low < -1 or high >= count:
        raise ValueError(f"`modes` must lie in [-1, {count - 1}], got modes from {low} to {high}")
