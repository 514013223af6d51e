"""Densities in one dimension, and the discriminator on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from vanillagan import GANTrainer, optimal_discriminator


class Grid(NamedTuple):
    """Even bins of a line, and their midpoints, which are the points of a quadrature."""

    edges: Tensor
    x: Tensor
    dx: float

    @staticmethod
    def of(bound: float, bins: int) -> Grid:
        edges = torch.linspace(-bound, bound, bins + 1, dtype=torch.float64)
        return Grid(edges, (edges[1:] + edges[:-1]) / 2, 2 * bound / bins)


def mixture(means: list[float], deviations: list[float], shares: list[float]) -> Distribution:
    normals = Normal(torch.tensor(means), torch.tensor(deviations))
    return MixtureSameFamily(Categorical(torch.tensor(shares)), normals)


def central(p_data: Tensor, p_g: Tensor) -> Tensor:
    """Mark the points in the central 99 % of the mass of both densities together."""
    below = (p_data + p_g).cumsum(0) / (p_data + p_g).sum()
    return (below > 0.005) & (below < 0.995)


def distance_to_optimum(d: Tensor, p_data: Tensor, p_g: Tensor) -> float:
    """Return sup |D - D*| over the central 99 % of the mass."""
    best = optimal_discriminator(p_data, p_g)
    return float((d - best)[central(p_data, p_g)].abs().max())


@torch.no_grad()
def logits_at(trainer: GANTrainer, x: Tensor) -> Tensor:
    """Return the discriminator's logits at points (N,)."""
    return trainer.discriminator(x.view(-1, 1).float().to(trainer.device)).double().cpu()


def draw_densities(axes: Any, x: Tensor, p_data: Tensor, p_g: Tensor, d: Tensor) -> None:
    """Draw p_data, p_g and D with the lines of the paper's figure 1, and D*."""
    best = optimal_discriminator(p_data, p_g)
    axes.plot(x, best, color="orange", linewidth=4, alpha=0.5, label="D*")
    axes.plot(x, d, color="blue", linestyle="--", linewidth=1.2, label="D, learned")
    axes.plot(x, p_data, color="black", linestyle=":", linewidth=2, label="p_data")
    axes.plot(x, p_g, color="green", label="p_g")
    axes.set_ylim(0, 1.02)
