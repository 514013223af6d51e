"""Products and distances of all pairs of points, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["row_blocks", "squared_distances", "tie_slack"]

BLOCK = 2**22
"""So many pairs are looked at at once: 32 MB in float64."""


def row_blocks(rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """Splits the rows (N, ...) so that the matrix of a block against all columns is small."""
    return torch.split(rows, max(1, BLOCK // len(columns)))


def squared_distances(rows: Tensor, columns: Tensor, *, slack: float = 0.0) -> Iterator[Tensor]:
    """Squared Euclidean distances of each row to each column, in the blocks of `row_blocks`.

    They are |x|^2 + |y|^2 - 2 xy, after the mean of the columns is taken from both, so that little
    is lost where all points are far from the origin.

    Args:
        rows: Points (N, F).
        columns: Points (M, F).
        slack: This share of |x|^2 + |y|^2 is added; see `tie_slack`.

    Yields:
        Blocks (n, M), at least 0, all in one buffer: the caller's to overwrite until the next.
    """
    centre = columns.mean(0)
    columns = columns - centre
    column_norms = columns.square().sum(1).mul_(1 + slack)
    blocks = row_blocks(rows, columns)
    buffer = rows.new_empty(len(blocks[0]), len(columns))
    for block in blocks:
        points = block - centre
        row_norms = points.square().sum(1, keepdim=True).mul_(1 + slack)
        squares = buffer[: len(block)]
        torch.addmm(column_norms, points, columns.T, alpha=-2, out=squares)
        yield squares.add_(row_norms).clamp_(min=0)


def tie_slack(points: Tensor) -> float:
    """A bound on what rounding does to `squared_distances`, as a share of |x|^2 + |y|^2.

    One and the same distance may come out differently in two blocks. Where it is compared with
    another one, equal distances count as smaller if this share is taken away from one side, and as
    larger if it is added.
    """
    return 8 * (points.shape[1] + 2) * torch.finfo(points.dtype).eps
