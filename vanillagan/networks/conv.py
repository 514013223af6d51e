"""Convolutional generator and discriminator (DCGAN) for images of any height and width."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.networks.blocks import DownBlock, UpBlock, join_labels
from vanillagan.networks.linear import Linear
from vanillagan.validation import check_choice, check_integer, check_labels

__all__ = ["ConvDiscriminator", "ConvGenerator"]

MIN_SIDE = 4
"""Side of the smallest feature map: images are halved until neither side is longer."""

MAX_CHANNELS = 512
"""Upper limit of the channels of a layer, unless `base_channels` is larger."""


class ConvGenerator(GeneratorBase):
    """Convolutional generator (DCGAN): a small feature map, then blocks that double its sides.

    Upsampling followed by convolution takes the place of DCGAN's transposed convolutions.

    Args:
        latent_dim: Size of the latent vector, at least 1.
        sample_shape: (channels, height, width), each at least 1.
        base_channels: Channels of the largest feature map. Each smaller map has twice as many, up
            to 512.
        patch_size: Side, in pixels, of the square patch that a point of the largest feature map
            stands for. It must divide height and width. The layers at full resolution cost the
            most: with 2 the network is several times faster.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the latents (conditional GAN).
        output: "tanh" for samples in [-1, 1], "linear" for unbounded samples.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Radford et al., 2016 (DCGAN, arXiv 1511.06434).

    Example:
        >>> import torch
        >>> ConvGenerator(64, (3, 20, 30), base_channels=8)(torch.randn(2, 64)).shape
        torch.Size([2, 3, 20, 30])
    """

    def __init__(
        self,
        latent_dim: int = 100,
        sample_shape: tuple[int, ...] = (1, 28, 28),
        *,
        base_channels: int = 64,
        patch_size: int = 1,
        num_classes: int = 0,
        output: Literal["tanh", "linear"] = "tanh",
    ) -> None:
        super().__init__(latent_dim, sample_shape, num_classes=num_classes)
        check_choice("output", output, ("tanh", "linear"))
        base_channels = check_integer("base_channels", base_channels, minimum=1)
        patch_size = check_integer("patch_size", patch_size, minimum=1)
        self.config |= {"base_channels": base_channels, "patch_size": patch_size, "output": output}
        sizes, channels = channel_pyramid(self.sample_shape, base_channels, patch_size)
        small = (channels[-1], *sizes[-1])
        self.project = nn.Sequential(
            Linear(self.latent_dim + num_classes, small[0] * small[1] * small[2]),
            nn.Unflatten(1, small),
            nn.BatchNorm2d(small[0]),
            nn.LeakyReLU(0.2, inplace=True),
        )
        levels = reversed(range(len(sizes) - 1))
        self.layers = nn.Sequential(
            *(UpBlock(channels[i + 1], channels[i], sizes[i]) for i in levels),
            nn.Conv2d(channels[0], self.sample_shape[0] * patch_size**2, kernel_size=3, padding=1),
        )
        if patch_size > 1:
            self.layers.append(nn.PixelShuffle(patch_size))
        if output == "tanh":
            self.layers.append(nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (N, latent_dim) and labels (N,) to samples (N, *sample_shape)."""
        self.check_latents(latents)
        samples: Tensor = self.layers(self.project(join_labels(latents, labels, self.num_classes)))
        return samples


class ConvDiscriminator(DiscriminatorBase):
    """Convolutional discriminator (DCGAN): blocks that halve the sides, then one logit.

    It has no BatchNorm, so that gradient penalties apply to each sample independently. Conditioned
    on classes it is a projection discriminator.

    Args:
        sample_shape: (channels, height, width), each at least 1.
        base_channels: Channels of the first feature map. Each smaller map has twice as many, up to
            512.
        patch_size: Side, in pixels, of the square patch that a point of the first feature map
            stands for, as in `ConvGenerator`.
        num_classes: Number of classes to condition on, 0 for none. The inner product of the label's
            embedding and the features is added to the logit. It is divided by the square root of
            the number of features, so that its scale does not depend on it.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Radford et al., 2016 (DCGAN, arXiv 1511.06434); Miyato and Koyama, 2018 (projection
    discriminator, arXiv 1802.05637).

    Example:
        >>> import torch
        >>> ConvDiscriminator((3, 20, 30), base_channels=8)(torch.zeros(2, 3, 20, 30)).shape
        torch.Size([2])
    """

    independent_samples = True

    def __init__(
        self,
        sample_shape: tuple[int, ...] = (1, 28, 28),
        *,
        base_channels: int = 64,
        patch_size: int = 1,
        num_classes: int = 0,
    ) -> None:
        super().__init__(sample_shape, num_classes=num_classes)
        base_channels = check_integer("base_channels", base_channels, minimum=1)
        patch_size = check_integer("patch_size", patch_size, minimum=1)
        self.config |= {"base_channels": base_channels, "patch_size": patch_size}
        sizes, channels = channel_pyramid(self.sample_shape, base_channels, patch_size)
        self.layers = nn.Sequential(
            *([nn.PixelUnshuffle(patch_size)] if patch_size > 1 else []),
            nn.Conv2d(self.sample_shape[0] * patch_size**2, channels[0], kernel_size=3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *(DownBlock(channels[i], channels[i + 1]) for i in range(len(channels) - 1)),
            nn.Flatten(),
        )
        features = channels[-1] * sizes[-1][0] * sizes[-1][1]
        self.head = Linear(features, 1)
        self.embedding = nn.Embedding(num_classes, features) if num_classes else None

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map samples (N, *sample_shape) and labels (N,) to logits (N,)."""
        self.check_samples(samples)
        check_labels(labels, self.num_classes, samples.shape[0])
        features: Tensor = self.layers(samples)
        logits: Tensor = self.head(features).squeeze(1)
        if self.embedding is not None and labels is not None:
            projected = (self.embedding(labels.long()) * features).sum(1)
            logits = logits + projected / features.shape[1] ** 0.5
        return logits


def channel_pyramid(
    sample_shape: tuple[int, ...], base_channels: int, patch_size: int
) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the (height, width) and the channels of each feature map, largest first."""
    if len(sample_shape) != 3:
        raise ValueError(f"`sample_shape` must be (channels, height, width), got {sample_shape}")
    if any(side % patch_size for side in sample_shape[1:]):
        raise ValueError(
            "`patch_size` must divide the height and width of `sample_shape`, got "
            f"{patch_size} for {sample_shape}"
        )
    sizes = [(sample_shape[1] // patch_size, sample_shape[2] // patch_size)]
    while max(sizes[-1]) > MIN_SIDE:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes, [
        min(base_channels * 2**i, max(MAX_CHANNELS, base_channels)) for i in range(len(sizes))
    ]
