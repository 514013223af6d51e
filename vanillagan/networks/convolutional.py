"""Convolutional peers of the two perceptrons, for images of any height and width."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vanillagan.errors import check_choice, check_integer
from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.networks.blocks import DownBlock, UpBlock, check_labels, join_labels
from vanillagan.networks.linear import Linear

__all__ = ["ConvDiscriminator", "ConvGenerator"]

SMALLEST_SIDE = 4
"""Images are halved until neither side is longer than this."""

WIDEST = 512
"""No layer has more channels than this."""


class ConvGenerator(GeneratorBase):
    """A convolutional generator: Linear to a small map, then blocks that double its sides.

    Args:
        latent_dim: Size of the noise vector, at least 1.
        sample_shape: (channels, height, width), any of them at least 1.
        width: Channels of the largest map; each smaller one has twice as many, up to 512.
        patch: Side of the squares of pixels that the largest map has one point for. The layers at
            full size cost the most: with 2 the whole network is several times faster. It must
            divide height and width.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the noise.
        output: "tanh" for samples in [-1, 1], "linear" for samples without bounds.

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Source: Radford et al., 2016 (DCGAN, arXiv 1511.06434), with upsampling and convolution in place
    of the transposed convolution.

    Example:
        >>> import torch
        >>> ConvGenerator(64, (3, 20, 30), width=8)(torch.randn(2, 64)).shape
        torch.Size([2, 3, 20, 30])
    """

    def __init__(
        self,
        latent_dim: int = 100,
        sample_shape: tuple[int, ...] = (1, 28, 28),
        *,
        width: int = 64,
        patch: int = 1,
        num_classes: int = 0,
        output: Literal["tanh", "linear"] = "tanh",
    ) -> None:
        super().__init__(latent_dim, sample_shape, num_classes=num_classes)
        check_choice("output", output, ("tanh", "linear"))
        self.config |= {"width": width, "patch": patch, "output": output}
        sizes, widths = pyramid(self.sample_shape, width, patch)
        small = (widths[-1], *sizes[-1])
        self.project = nn.Sequential(
            Linear(self.latent_dim + num_classes, small[0] * small[1] * small[2]),
            nn.Unflatten(1, small),
            nn.BatchNorm2d(small[0]),
            nn.LeakyReLU(0.2, inplace=True),
        )
        levels = reversed(range(len(sizes) - 1))
        self.layers = nn.Sequential(
            *(UpBlock(widths[i + 1], widths[i], sizes[i]) for i in levels),
            nn.Conv2d(widths[0], self.sample_shape[0] * patch**2, kernel_size=3, padding=1),
        )
        if patch > 1:
            self.layers.append(nn.PixelShuffle(patch))
        if output == "tanh":
            self.layers.append(nn.Tanh())

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Turns latents (N, latent_dim) and labels (N,) into samples (N, *sample_shape)."""
        self.check_latent(latent)
        samples: Tensor = self.layers(self.project(join_labels(latent, labels, self.num_classes)))
        return samples


class ConvDiscriminator(DiscriminatorBase):
    """A convolutional discriminator: blocks that halve the sides, then one logit.

    It has no BatchNorm, so that penalties on its gradient are those of each sample alone.

    Args:
        sample_shape: (channels, height, width), any of them at least 1.
        width: Channels of the first map; each smaller one has twice as many, up to 512.
        patch: Side of the squares of pixels that the first map has one point for, as in
            `ConvGenerator`.
        num_classes: Number of classes to condition on, 0 for none. The label's embedding is
            projected on the features (Miyato and Koyama, 2018, arXiv 1802.05637); the projection is
            divided by the square root of their number, with which it would grow otherwise.

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Source: Radford et al., 2016 (DCGAN, arXiv 1511.06434).
    """

    independent_samples = True

    def __init__(
        self,
        sample_shape: tuple[int, ...] = (1, 28, 28),
        *,
        width: int = 64,
        patch: int = 1,
        num_classes: int = 0,
    ) -> None:
        super().__init__(sample_shape, num_classes=num_classes)
        self.config |= {"width": width, "patch": patch}
        sizes, widths = pyramid(self.sample_shape, width, patch)
        self.layers = nn.Sequential(
            *([nn.PixelUnshuffle(patch)] if patch > 1 else []),
            nn.Conv2d(self.sample_shape[0] * patch**2, widths[0], kernel_size=3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *(DownBlock(widths[i], widths[i + 1]) for i in range(len(widths) - 1)),
            nn.Flatten(),
        )
        features = widths[-1] * sizes[-1][0] * sizes[-1][1]
        self.score = Linear(features, 1)
        self.embedding = nn.Embedding(num_classes, features) if num_classes else None

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Turns samples (N, *sample_shape) and labels (N,) into logits (N,)."""
        self.check_samples(samples)
        check_labels(labels, self.num_classes, samples.shape[0])
        features: Tensor = self.layers(samples)
        logits: Tensor = self.score(features).squeeze(1)
        if self.embedding is not None and labels is not None:
            projected = (self.embedding(labels.long()) * features).sum(1)
            logits = logits + projected / features.shape[1] ** 0.5
        return logits


def pyramid(
    sample_shape: tuple[int, ...], width: int, patch: int
) -> tuple[list[tuple[int, int]], list[int]]:
    """The sizes and widths of the maps, the largest first."""
    check_integer("width", width, minimum=1)
    check_integer("patch", patch, minimum=1)
    if len(sample_shape) != 3:
        raise ValueError(f"`sample_shape` must be (channels, height, width), got {sample_shape}")
    if any(side % patch for side in sample_shape[1:]):
        raise ValueError(
            f"`patch` must divide the height and width of `sample_shape`, got {patch} for "
            f"{sample_shape}"
        )
    sizes = [(sample_shape[1] // patch, sample_shape[2] // patch)]
    while max(sizes[-1]) > SMALLEST_SIDE:
        height, side = sizes[-1]
        sizes.append(((height + 1) // 2, (side + 1) // 2))
    return sizes, [min(width * 2**i, max(WIDEST, width)) for i in range(len(sizes))]
