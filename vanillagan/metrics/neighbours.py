"""The nearest neighbours of samples in a set of data."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vanillagan.errors import check_integer
from vanillagan.metrics.distances import row_blocks, squared_distances
from vanillagan.metrics.points import as_points

__all__ = ["Neighbours", "nearest_neighbours", "neighbour_radii"]


class Neighbours(NamedTuple):
    """The nearest data of each sample, the nearest first.

    Attributes:
        distances: Euclidean distances, shape (N, k).
        indices: Places in the data, shape (N, k), int64.
    """

    distances: Tensor
    indices: Tensor


def nearest_neighbours(samples: Tensor, data: Tensor, *, k: int = 1) -> Neighbours:
    """Finds what each sample is nearest to, to see whether it is memorised.

    Whether a distance is small shows against that of held-out real samples to the same data.

    Args:
        samples: Samples, shape (N, ...), floats.
        data: Data such as the training set, shape (M, ...), floats, of the same size for each.
        k: How many neighbours, from 1 to M.

    Returns:
        `Neighbours(distances, indices)`, both (N, k), in ascending order of distance, on the
        device of the samples. Distances are computed in float64 and given in the samples' dtype,
        float32 at least; that to an exact copy is 0. Of equally near data any may come first.

    Raises:
        ValueError: A set is empty, not finite, or of another size; or k is out of its range.
        TypeError: A set is no tensor of floats, or k no integer.

    Example:
        >>> data = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> nearest_neighbours(torch.tensor([[3.0, 3.0]]), data)
        Neighbours(distances=tensor([[1.]]), indices=tensor([[1]]))
    """
    k = check_integer("k", k, minimum=1)
    points, references = as_points(samples=samples, data=data)
    if k > len(references):
        raise ValueError(f"`k` must be at most the number of data, {len(references)}, got {k}")
    distances, indices = [], []
    blocks = zip(row_blocks(points, references), squared_distances(points, references), strict=True)
    for block, squares in blocks:
        places = squares.topk(k, largest=False).indices
        exact = torch.stack([_lengths(block - references[column]) for column in places.T], 1)
        exact, order = exact.sort(1)
        distances.append(exact)
        indices.append(places.gather(1, order))
    dtype = torch.promote_types(samples.dtype, torch.float32)
    return Neighbours(
        torch.cat(distances).to(dtype).to(samples.device), torch.cat(indices).to(samples.device)
    )


def neighbour_radii(points: Tensor, k: int) -> Tensor:
    """Squared distances (N,) of points (N, F) to the k-th nearest of the others."""
    # the nearest of all is the point itself
    nearest = (
        squares.topk(k + 1, largest=False).values for squares in squared_distances(points, points)
    )
    return torch.cat([block.amax(1) for block in nearest])


def _lengths(vectors: Tensor) -> Tensor:
    return vectors.square().sum(1).sqrt_()
