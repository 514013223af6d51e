"""Nearest neighbors of samples in a dataset."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.metrics.distances import row_blocks, squared_distances
from vanillagan.metrics.points import as_points
from vanillagan.validation import check_integer

__all__ = ["Neighbors", "nearest_neighbors", "neighbor_radii"]


class Neighbors(NamedTuple):
    """Nearest data points of each sample, the nearest first.

    Attributes:
        distances: Euclidean distances, shape (N, k).
        indices: Indices into the data, shape (N, k), int64.
    """

    distances: Tensor
    indices: Tensor


def nearest_neighbors(samples: Tensor, data: Tensor, *, k: int = 1) -> Neighbors:
    """Find the data points nearest to each sample, for example to detect memorization.

    To judge a distance, compare it with the distances of held-out real samples to the same data.

    Args:
        samples: Samples, shape (N, ...), floats.
        data: Data such as the training set, shape (M, ...), floats, with samples of the same size.
        k: Number of neighbors, from 1 to M.

    Returns:
        `Neighbors(distances, indices)`, both (N, k), in ascending order of distance, on the device
        of the samples. Distances are computed in float64 and returned in the dtype of the samples,
        at least float32. The distance to an exact copy is 0. The order of equally near data points
        is undefined.

    Raises:
        ValueError: A set is empty or not finite, the sizes differ, or `k` is out of its range.
        TypeError: A set is not a tensor of floats, or `k` not an integer.

    Example:
        >>> data = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> nearest_neighbors(torch.tensor([[3.0, 3.0]]), data)
        Neighbors(distances=tensor([[1.]]), indices=tensor([[1]]))
    """
    k = check_integer("k", k, minimum=1)
    points, references = as_points(samples=samples, data=data)
    if k > len(references):
        raise ValueError(
            f"`k` must be at most the number of data points, {len(references)}, got {k}"
        )
    distances, indices = [], []
    blocks = zip(row_blocks(points, references), squared_distances(points, references), strict=True)
    for block, squares in blocks:
        places = squares.topk(k, largest=False).indices
        # again from the differences: |x|^2 + |y|^2 - 2 xy is not exactly 0 for a copy
        exact = torch.stack([_lengths(block - references[column]) for column in places.T], 1)
        exact, order = exact.sort(1)
        distances.append(exact)
        indices.append(places.gather(1, order))
    dtype = torch.promote_types(samples.dtype, torch.float32)
    return Neighbors(
        torch.cat(distances).to(dtype).to(samples.device), torch.cat(indices).to(samples.device)
    )


def neighbor_radii(points: Tensor, k: int) -> Tensor:
    """Return the squared distances (N,) of points (N, F) to the k-th nearest other point."""
    # k + 1, since the nearest point is the point itself
    nearest = (
        squares.topk(k + 1, largest=False).values for squares in squared_distances(points, points)
    )
    return torch.cat([block.amax(1) for block in nearest])


def _lengths(vectors: Tensor) -> Tensor:
    return vectors.square().sum(1).sqrt_()
