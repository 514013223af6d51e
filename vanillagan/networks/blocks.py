"""The blocks that networks are composed of, and what the trainer asks of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from vanillagan.errors import check_integer, check_integers, check_number
from vanillagan.networks.linear import Linear

__all__ = ["DownBlock", "LinearBlock", "UpBlock"]


class LinearBlock(nn.Sequential):
    """Linear, BatchNorm, LeakyReLU, Dropout: (N, in_features) -> (N, out_features).

    The block of the source's perceptrons. Its generator normalises in every block but the first,
    its discriminator in none.

    Args:
        in_features: Features coming in, at least 1.
        out_features: Features going out, at least 1.
        normalize: Whether the block has a BatchNorm.
        norm_eps: Added to BatchNorm's variance.
        norm_momentum: The weight of the newest batch in BatchNorm's running statistics, in [0, 1].
        negative_slope: LeakyReLU's slope for negative inputs.
        dropout: The probability with which a feature is set to zero in training, in [0, 1).

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Example:
        >>> LinearBlock(100, 128)(torch.randn(4, 100)).shape
        torch.Size([4, 128])
    """

    independent_samples = True

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
        check_number("dropout", dropout, minimum=0, maximum=1, exclude_maximum=True)
        check_number("norm_eps", norm_eps, minimum=0, exclude_minimum=True)
        check_number("norm_momentum", norm_momentum, minimum=0, maximum=1)
        super().__init__(Linear(in_features, out_features))
        if normalize:
            self.append(nn.BatchNorm1d(out_features, eps=norm_eps, momentum=norm_momentum))
        self.append(nn.LeakyReLU(negative_slope, inplace=True))
        if dropout > 0:
            self.append(nn.Dropout(dropout))


class UpBlock(nn.Sequential):
    """Upsampling, convolution, BatchNorm, LeakyReLU: (N, in, h, w) -> (N, out, *size).

    Nearest-neighbour upsampling to an exact size followed by a convolution, which reaches any
    height and width and leaves no checkerboard (Odena et al., 2016).

    Args:
        in_channels: Channels coming in, at least 1.
        out_channels: Channels going out, at least 1.
        size: Height and width going out.
        normalize: Whether the block has a BatchNorm.
    """

    independent_samples = True

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
        check_integers("size", size)
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
        in_channels: Channels coming in, at least 1.
        out_channels: Channels going out, at least 1.
    """

    independent_samples = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        check_integer("in_channels", in_channels, minimum=1)
        check_integer("out_channels", out_channels, minimum=1)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        )


def join_labels(x: Tensor, labels: Tensor | None, num_classes: int) -> Tensor:
    """Appends one-hot labels to flat inputs: (N, F) -> (N, F + num_classes); checks them.

    The conditioning of Mirza and Osindero, 2014 (arXiv 1411.1784), section 3.2.
    """
    check_labels(labels, num_classes, x.shape[0])  # len(x) would fix the batch size of an export
    if labels is None:
        return x
    return torch.cat([x, F.one_hot(labels.long(), num_classes).to(x.dtype)], dim=1)


def classes_of(network: nn.Module) -> int:
    """How many classes a network is conditioned on, 0 for none."""
    return getattr(network, "num_classes", None) or 0


def check_labels(labels: Tensor | None, num_classes: int, count: int) -> None:
    """Raises unless `labels` are what a network of `num_classes` needs for `count` samples.

    The range is checked where it can be read without waiting for a device.
    """
    if labels is None:
        if num_classes:
            raise ValueError(
                f"`labels` must be given to a network conditioned on {num_classes} classes, "
                "got None"
            )
        return
    if not num_classes:
        raise ValueError(
            "`labels` must be None for an unconditional network (num_classes=0), "
            f"got labels of shape {tuple(getattr(labels, 'shape', ()))}"
        )
    if not isinstance(labels, Tensor):
        raise TypeError(f"`labels` must be a tensor of integers, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"`labels` must be a tensor of integers, got {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(f"`labels` must have the shape ({count},), got {tuple(labels.shape)}")
    # while compiling or exporting there are no values to read, and `count` may be symbolic
    if not torch.compiler.is_compiling() and labels.device.type == "cpu" and count:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"`labels` must lie in [0, {num_classes - 1}], got labels from {low} to {high}"
            )


def check_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raises unless `x` is a tensor of shape (N, *shape)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {type(x).__name__}")
    if x.shape[1:] != shape or x.dim() == 0:
        expected = ", ".join(["N", *map(str, shape)])
        raise ValueError(f"`{name}` must have the shape ({expected}), got {tuple(x.shape)}")


def has_batch_norm(network: nn.Module) -> bool:
    """Whether the network normalises over the batch, and so needs two samples or more."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def scores_samples_alone(network: nn.Module) -> bool:
    """Whether a sample's output surely doesn't depend on the others in its batch.

    Sure are PyTorch's own modules without a BatchNorm, and classes that say so of themselves with
    `independent_samples = True`. A subclass says it again, since it may mix samples.
    """
    return not has_batch_norm(network) and all(
        vars(type(module)).get("independent_samples", False)
        or type(module).__module__.startswith("torch.nn.modules")
        for module in network.modules()
    )


def gives_probabilities(discriminator: nn.Module) -> bool:
    """Whether its scores are probabilities: what `returns_logits` says, else its last module."""
    returns_logits = getattr(discriminator, "returns_logits", None)
    return ends_in_sigmoid(discriminator) if returns_logits is None else not returns_logits


def ends_in_sigmoid(network: nn.Module) -> bool:
    """Whether the network's last module is a Sigmoid, so that it gives probabilities."""
    reshaping = nn.Flatten | nn.Unflatten | nn.Identity
    children = network._modules.values()
    layers = [m for m in children if m is not None and not isinstance(m, reshaping)]
    return ends_in_sigmoid(layers[-1]) if layers else isinstance(network, nn.Sigmoid)
