"""Fidelity and diversity apart: precision and recall, density and coverage."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.errors import check_integer
from vanillagan.metrics.distances import row_blocks, squared_distances, tie_slack
from vanillagan.metrics.neighbours import neighbour_radii
from vanillagan.metrics.points import as_features

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "precision_recall"]


class PrecisionRecall(NamedTuple):
    """How much of each set lies on the manifold of the other.

    Attributes:
        precision: The share of fakes that lie where real samples do, in [0, 1].
        recall: The share of real samples that lie where fakes do, in [0, 1].
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """How densely and how widely fakes lie where real samples do.

    Attributes:
        density: Fakes in the balls of real samples, against k each; at least 0, may exceed 1.
        coverage: The share of real samples with a fake in their ball, in [0, 1].
    """

    density: float
    coverage: float


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall.

    A set's manifold is estimated as the union of balls, one around each sample, that reach to its
    k-th nearest neighbour in the set; a ball holds its border. One outlier among the real samples
    makes a large ball, and so raises precision: `density_coverage` suffers less from it.

    Args:
        real: Features, shape (N, F), floats.
        fake: Features, shape (M, F), floats; as many as real ones for figures that compare.
        k: Balls reach to the k-th nearest other sample; below N and M.

    Returns:
        `PrecisionRecall(precision, recall)`, floats in [0, 1]; both 1 for identical sets.

    Raises:
        ValueError: A set has another shape, not more than k samples, or a value that is not finite.
        TypeError: A set is no tensor of floats, or k no integer.

    Source: Kynkaanniemi et al., 2019 (arXiv 1904.06991), equations 1 and 2.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> precision_recall(real, real[:2] + 0.25, k=1)
        PrecisionRecall(precision=1.0, recall=0.75)
    """
    real_points, fake_points = _as_sets(real, fake, k)
    _check_k(k, "fake", fake_points)
    real_radii, fake_radii = neighbour_radii(real_points, k), neighbour_radii(fake_points, k)
    fakes_inside = []
    real_inside = torch.zeros_like(real_radii, dtype=torch.bool)
    slack = -tie_slack(real_points)
    blocks = squared_distances(fake_points, real_points, slack=slack)
    radii = row_blocks(fake_radii, real_points)
    for squares, radius in zip(blocks, radii, strict=True):
        fakes_inside.append((squares <= real_radii).any(1))
        real_inside |= (squares <= radius[:, None]).any(0)
    return PrecisionRecall(_share(torch.cat(fakes_inside)), _share(real_inside))


def density_coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> DensityCoverage:
    """Density and coverage, which stand in for precision and recall and suffer less from outliers.

    Around each real sample is a ball that reaches to its k-th nearest neighbour among the real
    ones. Density counts the balls that fakes lie in, divided by k times the number of fakes;
    coverage is the share of balls that hold a fake. Balls are without their border, as in the
    authors' code, so that the density of a set against itself is 1, or less where distances are
    equal: the balls of more than k samples that coincide are empty, and hold not even themselves.
    For large sets of one size and one distribution the expectation of density is 1, and that of
    coverage is 1 - 2^-k.

    Args:
        real: Features, shape (N, F), floats.
        fake: Features, shape (M, F), floats; as many as real ones for figures that compare.
        k: Balls reach to the k-th nearest other real sample; below N.

    Returns:
        `DensityCoverage(density, coverage)`, floats.

    Raises:
        ValueError: A set has another shape, real ones are not more than k, or a value is not
            finite.
        TypeError: A set is no tensor of floats, or k no integer.

    Source: Naeem et al., 2020 (arXiv 2002.09797).

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [3.0], [4.0]])
        >>> density_coverage(real, real[:2] + 0.25, k=1)
        DensityCoverage(density=1.5, coverage=0.5)
    """
    real_points, fake_points = _as_sets(real, fake, k)
    radii = neighbour_radii(real_points, k)
    count = 0
    covered = torch.zeros_like(radii, dtype=torch.bool)
    for squares in squared_distances(fake_points, real_points, slack=tie_slack(real_points)):
        inside = squares < radii
        count += int(inside.sum())
        covered |= inside.any(0)
    return DensityCoverage(count / (k * len(fake_points)), _share(covered))


def _as_sets(real: Tensor, fake: Tensor, k: int) -> list[Tensor]:
    check_integer("k", k, minimum=1)
    sets = as_features(real=real, fake=fake)
    _check_k(k, "real", sets[0])
    return sets


def _check_k(k: int, name: str, points: Tensor) -> None:
    if k >= len(points):
        raise ValueError(
            f"`k` must be below the number of `{name}` samples, {len(points)}, got {k}"
        )


def _share(inside: Tensor) -> float:
    return inside.double().mean().item()
