"""Separate metrics of fidelity and diversity: precision and recall, density and coverage."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.metrics.distances import row_blocks, squared_distances, tie_slack
from vanillagan.metrics.neighbors import neighbor_radii
from vanillagan.metrics.points import as_features
from vanillagan.validation import check_integer

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "precision_recall"]


class PrecisionRecall(NamedTuple):
    """Precision and recall of generated samples.

    Attributes:
        precision: Share of the fakes that lie on the manifold of the real samples, in [0, 1].
        recall: Share of the real samples that lie on the manifold of the fakes, in [0, 1].
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density and coverage of generated samples.

    Attributes:
        density: Mean number of real samples' balls that a fake lies in, divided by k; at least 0,
            can exceed 1.
        coverage: Share of the real samples with a fake in their ball, in [0, 1].
    """

    density: float
    coverage: float


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Return the improved precision and recall of generated samples.

    The manifold of a set is estimated as the union of closed balls around its samples, each with
    the distance to the k-th nearest neighbor in the set as its radius. An outlier among the real
    samples has a large ball, which raises the precision; `density_coverage` is less sensitive to
    outliers.

    Args:
        real: Features, shape (N, F), floats.
        fake: Features, shape (M, F), floats; use M = N for comparable numbers.
        k: Number of the neighbor that sets the radius, below N and M.

    Returns:
        `PrecisionRecall(precision, recall)`, floats in [0, 1]; both 1 for identical sets.

    Raises:
        ValueError: A set has another shape, at most k samples, or values that are not finite.
        TypeError: A set is not a tensor of floats, or `k` not an integer.

    Source: Kynkäänniemi et al., 2019 (arXiv 1904.06991), equations 1 and 2.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> precision_recall(real, real[:2] + 0.25, k=1)
        PrecisionRecall(precision=1.0, recall=0.75)
    """
    real_points, fake_points = _as_sets(real, fake, k)
    _check_k(k, "fake", fake_points)
    real_radii, fake_radii = neighbor_radii(real_points, k), neighbor_radii(fake_points, k)
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
    """Return density and coverage: precision and recall that are less sensitive to outliers.

    Each real sample is the center of a ball with the distance to its k-th nearest real neighbor as
    its radius. Density is the number of balls that fakes lie in, divided by k times the number of
    fakes. Coverage is the share of the balls that contain a fake. For large sets of the same size
    and distribution the expectation of density is 1, and that of coverage is 1 - 2^-k.

    The balls are open, as in the authors' code. The density of a set compared with itself is
    therefore 1, or less if distances are equal: the balls of more than k coinciding samples are
    empty.

    Args:
        real: Features, shape (N, F), floats.
        fake: Features, shape (M, F), floats; use M = N for comparable numbers.
        k: Number of the neighbor that sets the radius, below N.

    Returns:
        `DensityCoverage(density, coverage)`, floats.

    Raises:
        ValueError: A set has another shape or values that are not finite, or there are at most k
            real samples.
        TypeError: A set is not a tensor of floats, or `k` not an integer.

    Source: Naeem et al., 2020 (arXiv 2002.09797).

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [3.0], [4.0]])
        >>> density_coverage(real, real[:2] + 0.25, k=1)
        DensityCoverage(density=1.5, coverage=0.5)
    """
    real_points, fake_points = _as_sets(real, fake, k)
    radii = neighbor_radii(real_points, k)
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
