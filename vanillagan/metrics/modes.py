"""Which of the known modes of the data a generator has found, and in what proportions."""

from __future__ import annotations

import math
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.errors import check_integer, check_kind
from vanillagan.metrics.points import check_finite
from vanillagan.theory import TOTAL_TOLERANCE, kl_divergence

__all__ = ["ModeCoverage", "mode_coverage"]


class ModeCoverage(NamedTuple):
    """The modes that samples cover.

    Attributes:
        found: How many modes have enough samples.
        kl: KL(samples || data) over the modes, in nats, at least 0.
    """

    found: int
    kl: float


def mode_coverage(
    modes: Tensor, true_proportions: int | Tensor, *, minimum: int = 1
) -> ModeCoverage:
    """Counts the modes that samples cover, and how far their proportions are from the data's.

    The divergence is KL(p_samples || p_data) over the modes, the "reverse KL" that VEEGAN and
    PacGAN report. It forgives a missing mode: log(K / (K - 1)) for one of K equal ones; `found` is
    what shows it. It also is above 0, by about (K - 1) / 2N, for N samples of the data itself.

    Args:
        modes: The mode that each sample belongs to, shape (N,), integers from 0 to K - 1, such as
            the argmax of a classifier. -1 is a sample of none (not of high quality): it is counted
            for no mode and left out of the divergence.
        true_proportions: The data's proportions, shape (K,), floats, at least 0, of total 1; or
            the number K of modes that are equally frequent.
        minimum: A mode is found if so many samples or more belong to it.

    Returns:
        `ModeCoverage(found, kl)`. The divergence is infinite where samples are of a mode that the
        data does not have, or where all are of none. Only modes that the data has are found.

    Raises:
        ValueError: A mode is out of its range, shapes are wrong, or proportions don't have the
            total 1.
        TypeError: `modes` are no integers, or proportions no floats.

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


def _as_proportions(proportions: int | Tensor) -> Tensor:
    """The proportions on the CPU, in float64."""
    if isinstance(proportions, Integral):
        count = check_integer("true_proportions", proportions, minimum=1)
        return torch.full((count,), 1 / count, dtype=torch.float64)
    if not isinstance(proportions, Tensor) or not proportions.is_floating_point():
        got = proportions.dtype if isinstance(proportions, Tensor) else f"{proportions!r:.80}"
        raise TypeError(
            f"`true_proportions` must be an integer or a tensor of floating point, got {got}"
        )
    if proportions.dim() != 1 or not len(proportions):
        raise ValueError(
            f"`true_proportions` must have the shape (K,), got {tuple(proportions.shape)}"
        )
    check_finite("true_proportions", proportions)
    truth = proportions.detach().cpu().double()
    if truth.min() < 0 or abs(truth.sum().item() - 1) > TOTAL_TOLERANCE:
        raise ValueError(
            "`true_proportions` must be at least 0 and have a total of 1, got a minimum of "
            f"{truth.min().item():g} and a total of {truth.sum().item():g}"
        )
    return truth / truth.sum()


def _check_modes(modes: Tensor, count: int) -> None:
    check_kind("modes", modes, Tensor, "a tensor of integers")
    if modes.is_floating_point() or modes.is_complex() or modes.dtype == torch.bool:
        raise TypeError(f"`modes` must be a tensor of integers, got {modes.dtype}")
    if modes.dim() != 1 or not len(modes):
        raise ValueError(f"`modes` must have the shape (N,), got {tuple(modes.shape)}")
    low, high = int(modes.min()), int(modes.max())
    if low < -1 or high >= count:
        raise ValueError(f"`modes` must be from -1 to {count - 1}, got {low} to {high}")
