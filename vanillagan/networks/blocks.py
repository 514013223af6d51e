"""Layers that the networks are composed of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.networks.linear import Linear
from vanillagan.validation import (
    check_bool,
    check_integer,
    check_labels,
    check_number,
    check_size,
)

__all__ = ["DownBlock", "LinearBlock", "UpBlock", "join_labels"]


class LinearBlock(nn.Sequential):
    """Linear, BatchNorm, LeakyReLU, Dropout: (N, in_features) -> (N, out_features).

    The block of the MLPs of the reference implementation (PyTorch-GAN's gan.py): its generator has
    a BatchNorm in every block but the first, its discriminator in none.

    Args:
        in_features: Number of input features, at least 1.
        out_features: Number of output features, at least 1.
        normalize: Add a BatchNorm.
        norm_eps: Constant added to BatchNorm's variance, above 0.
        norm_momentum: Weight of the newest batch in BatchNorm's running statistics, in [0, 1].
        negative_slope: Slope of LeakyReLU for negative inputs.
        dropout: Probability of setting a feature to zero in training, in [0, 1).

    Raises:
        ValueError, TypeError: An argument is invalid.

    Example:
        >>> LinearBlock(100, 128)(torch.randn(4, 100)).shape
        torch.Size([4, 128])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        normalize: bool = True,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.2,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
    ) -> None:
        check_integer("in_features", in_features, minimum=1)
        check_integer("out_features", out_features, minimum=1)
        check_bool("normalize", normalize)
        norm_eps = check_number("norm_eps", norm_eps, minimum=0, exclude_minimum=True)
        norm_momentum = check_number("norm_momentum", norm_momentum, minimum=0, maximum=1)
        negative_slope = check_number("negative_slope", negative_slope)
        dropout = check_number("dropout", dropout, minimum=0, maximum=1, exclude_maximum=True)
        super().__init__(Linear(in_features, out_features))
        if normalize:
            self.append(nn.BatchNorm1d(out_features, eps=norm_eps, momentum=norm_momentum))
        self.append(nn.LeakyReLU(negative_slope, inplace=True))
        if dropout > 0:
            self.append(nn.Dropout(dropout))


class UpBlock(nn.Sequential):
    """Upsampling, convolution, BatchNorm, LeakyReLU: (N, in, h, w) -> (N, out, *size).

    Nearest-neighbor upsampling to an exact size, then a convolution. It reaches any height and
    width, without the checkerboard artifacts of transposed convolutions.

    Args:
        in_channels: Number of input channels, at least 1.
        out_channels: Number of output channels, at least 1.
        size: Output height and width.
        normalize: Add a BatchNorm.

    Source: Odena et al., 2016, Deconvolution and Checkerboard Artifacts
    (https://doi.org/10.23915/distill.00003).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: tuple[int, int],
        *,
        normalize: bool = True,
    ) -> None:
        check_integer("in_channels", in_channels, minimum=1)
        check_integer("out_channels", out_channels, minimum=1)
        size = check_size(size)
        check_bool("normalize", normalize)
        super().__init__(
            nn.Upsample(size=size),
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        )
        if normalize:
            self.append(nn.BatchNorm2d(out_channels))
        self.append(nn.LeakyReLU(0.2, inplace=True))


class DownBlock(nn.Sequential):
    """Strided convolution, LeakyReLU: (N, in, h, w) -> (N, out, ceil(h / 2), ceil(w / 2)).

    Args:
        in_channels: Number of input channels, at least 1.
        out_channels: Number of output channels, at least 1.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        check_integer("in_channels", in_channels, minimum=1)
        check_integer("out_channels", out_channels, minimum=1)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        )


def join_labels(x: Tensor, labels: Tensor | None, num_classes: int) -> Tensor:
    """Check labels and append them, one-hot, to flat inputs: (N, F) -> (N, F + num_classes).

    Source: Mirza and Osindero, 2014 (conditional GAN, arXiv 1411.1784), section 3.2.
    """
    check_labels(labels, num_classes, x.shape[0])  # len(x) would fix an export's batch size
    if labels is None:
        return x
    return torch.cat([x, F.one_hot(labels.long(), num_classes).to(x.dtype)], dim=1)
