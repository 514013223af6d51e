"""Distances between two sets of features: Fréchet distance (FID) and kernel distance (KID)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vanillagan.metrics.distances import row_blocks
from vanillagan.metrics.points import as_features
from vanillagan.validation import check_integer

__all__ = ["frechet_distance", "kernel_distance"]


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to two sets of features.

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    Here m are the means and C the covariances (with N - 1 degrees of freedom) of the two sets. With
    features of the Inception network this is the FID. Compare distances only for the same feature
    extractor and the same number of samples, since the distance falls with that number.

    The trace of the matrix root is computed as the sum of the singular values of R1 R2^T, where
    R^T R = C comes from a QR decomposition of the centered features. No covariance is formed, so
    the result is exact up to rounding for singular covariances too, for example those of fewer
    samples than features.

    Args:
        real: Features, shape (N, F), floats, N at least 2.
        fake: Features, shape (M, F), floats, M at least 2.

    Returns:
        Distance, at least 0, computed in float64.

    Raises:
        ValueError: A set has another shape, fewer than 2 samples, or values that are not finite.
        TypeError: A set is not a tensor of floats.

    Source: Heusel et al., 2017 (arXiv 1706.08500); Dowson and Landau, 1982.

    Example:
        >>> real = torch.tensor([[0.0], [2.0]])
        >>> round(frechet_distance(real, real + 3), 6)
        9.0
    """
    points = as_features(2, real=real, fake=fake)
    (real_mean, fake_mean), roots = [p.mean(0) for p in points], [_root(p) for p in points]
    means = (real_mean - fake_mean).square().sum()
    traces = roots[0].square().sum() + roots[1].square().sum()
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max(0.0, float(means + traces - 2 * cross))


def _root(points: Tensor) -> Tensor:
    """Return R of shape (min(N, F), F), where R^T R is the covariance of the points (N, F)."""
    centered = (points - points.mean(0)).div_((len(points) - 1) ** 0.5)
    return centered if len(centered) <= centered.shape[1] else torch.linalg.qr(centered, mode="r").R


def kernel_distance(real: Tensor, fake: Tensor, *, degree: int = 3) -> float:
    """Return the unbiased squared maximum mean discrepancy (MMD) with a polynomial kernel.

        E k(x, x') + E k(y, y') - 2 E k(x, y),    k(x, y) = (x.y / F + 1)^degree

    The means are over all pairs of different samples, not over random subsets. With features of the
    Inception network this is the KID. Unlike that of the Fréchet distance, its expectation does not
    depend on the number of samples.

    Args:
        real: Features x, shape (N, F), floats, N at least 2.
        fake: Features y, shape (M, F), floats, M at least 2.
        degree: Degree of the kernel, at least 1.

    Returns:
        Estimate, computed in float64. For equal distributions its mean is 0, so it can be
        negative.

    Raises:
        ValueError: A set has another shape, fewer than 2 samples, or values that are not finite;
            or the values are so large that the kernel is not finite.
        TypeError: A set is not a tensor of floats.

    Source: Bińkowski et al., 2018 (arXiv 1801.01401); Gretton et al., 2012, lemma 6.

    Example:
        >>> real, fake = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]])
        >>> kernel_distance(real, fake, degree=1)  # 1 + 4 - 2 * mean(1, 1, 3, 7)
        -1.0
    """
    degree = check_integer("degree", degree, minimum=1)
    x, y = as_features(2, real=real, fake=fake)
    between = _kernel_sum(x, y, degree) / (len(x) * len(y))
    distance = _mean_of_others(x, degree) + _mean_of_others(y, degree) - 2 * between
    if not math.isfinite(distance):
        largest = max(float(points.abs().max()) for points in (x, y))
        raise ValueError(
            f"`real` and `fake` must be small enough for the kernel of degree {degree} to be "
            f"finite in float64, got values up to {largest:g}"
        )
    return distance


def _mean_of_others(points: Tensor, degree: int) -> float:
    """Return the mean of the kernel over all pairs of two different points."""
    itself = points.square().mean(1).add_(1).pow_(degree).sum().item()
    return (_kernel_sum(points, points, degree) - itself) / (len(points) * (len(points) - 1))


def _kernel_sum(first: Tensor, second: Tensor, degree: int) -> float:
    """Return the sum of the kernel over all pairs."""
    scaled = second.T / second.shape[1]
    blocks = row_blocks(first, second)
    return sum((block @ scaled).add_(1).pow_(degree).sum().item() for block in blocks)
