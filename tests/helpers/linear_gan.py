"""Networks whose inversion has a known solution."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearGenerator(nn.Module):
    """Generator of samples A z of shape (1, 8, 8), so that the best latent is known."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(64, 3) / 3)

    def forward(self, latents: Tensor) -> Tensor:
        return (latents @ self.matrix.T).view(-1, 1, 8, 8)


class MeanDiscriminator(nn.Module):
    """Discriminator whose logit is the mean of a sample."""

    def forward(self, samples: Tensor) -> Tensor:
        return samples.mean((1, 2, 3))
