"""Squared distances between all pairs of points, one block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["row_blocks", "squared_distances", "tie_slack"]

BLOCK = 2**22
"""Number of pairs in a block: 32 MB in float64."""


def row_blocks(rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """Split rows (N, ...) into blocks of at most `BLOCK` pairs with the columns."""
    return torch.split(rows, max(1, BLOCK // len(columns)))


def squared_distances(rows: Tensor, columns: Tensor, *, slack: float = 0.0) -> Iterator[Tensor]:
    """Yield the squared Euclidean distances of each row to all columns, in blocks of rows.

    Distances are computed as |x|^2 + |y|^2 - 2 xy. The mean of the columns is subtracted from both
    sets first, which keeps the precision for points far from the origin.

    Args:
        rows: Points (N, F).
        columns: Points (M, F).
        slack: Share of |x|^2 + |y|^2 to add to each distance; see `tie_slack`.

    Yields:
        Blocks (n, M) in the order of `row_blocks`, at least 0. They share one buffer: a block may
        be overwritten, and is valid until the next one.
    """
    center = columns.mean(0)
    columns = columns - center
    column_norms = columns.square().sum(1).mul_(1 + slack)
    blocks = row_blocks(rows, columns)
    buffer = rows.new_empty(len(blocks[0]), len(columns))
    for block in blocks:
        points = block - center
        row_norms = points.square().sum(1, keepdim=True).mul_(1 + slack)
        squares = buffer[: len(block)]
        torch.addmm(column_norms, points, columns.T, alpha=-2, out=squares)
        yield squares.add_(row_norms).clamp_(min=0)


def tie_slack(points: Tensor) -> float:
    """Return a bound on the rounding error of `squared_distances`, relative to |x|^2 + |y|^2.

    The same distance can differ by rounding between two blocks. To compare distances in spite of
    that, subtract this share from one side, so that equal distances count as smaller, or add it, so
    that they count as larger.
    """
    return 8 * (points.shape[1] + 2) * torch.finfo(points.dtype).eps
