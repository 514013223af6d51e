"""Differentiable augmentation of all that a discriminator sees, for small sets of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vanillagan.errors import check_choice, check_kind
from vanillagan.networks.base import DiscriminatorBase
from vanillagan.networks.blocks import gives_probabilities

__all__ = ["DiffAugment"]


class DiffAugment(nn.Module):
    """A discriminator that sees every image, real or fake, changed at random in training.

    On a small set of images a discriminator soon knows them by heart; then its verdict on fakes
    says nothing of use. It can't learn by heart what it never sees twice alike. The changes are
    differentiable, so that the generator learns through them, and because fakes are changed as real
    images are, it learns the images as they were (except for mirror images, which it may make).

    In eval mode images pass as they are. Changes are drawn for each image alone, from PyTorch's
    global random state. Penalties go through them too, with respect to the images as they were.

    Args:
        discriminator: Any discriminator of images, `forward(samples, labels=None) -> scores`.
        policy: Which changes, in this order; at least one.

            - "flip": half the images are mirrored, left to right. Leave it out where left and right
              differ, as in writing.
            - "color": brightness is shifted by up to 0.5 (in the unit of pixels in [-1, 1]),
              saturation scaled by 0 to 2 and contrast by 0.5 to 1.5.
            - "translation": images are shifted by up to an eighth of height and width, with zeros
              where nothing is left.
            - "cutout": a rectangle of half the height and width is set to zero, around a centre
              anywhere in the image.

    Attributes:
        discriminator: The discriminator itself. What the trainer reads of it (`sample_shape`,
            `num_classes`, `returns_logits`) is read here too.

    Raises:
        ValueError, TypeError: An argument is wrong; the message names it.

    Source: Zhao et al., 2020, Differentiable Augmentation for Data-Efficient GAN Training (arXiv
    2006.10738); "flip" is added.

    Example:
        >>> from vanillagan import ConvDiscriminator
        >>> discriminator = DiffAugment(ConvDiscriminator((3, 16, 16), width=8))
        >>> discriminator(torch.zeros(4, 3, 16, 16)).shape
        torch.Size([4])
    """

    independent_samples = True

    def __init__(
        self,
        discriminator: nn.Module,
        policy: Sequence[str] = ("flip", "color", "translation", "cutout"),
    ) -> None:
        super().__init__()
        check_kind("discriminator", discriminator, nn.Module, "a torch.nn.Module")
        if isinstance(policy, str) or not isinstance(policy, Sequence):
            raise TypeError(f"`policy` must be a sequence of changes, got {policy!r:.80}")
        if not policy:
            raise ValueError(f"`policy` must list one change or more, got {policy!r}")
        for index, change in enumerate(policy):
            check_choice(f"policy[{index}]", change, tuple(CHANGES))
        self.discriminator = discriminator
        self.policy = tuple(policy)
        for name in ("sample_shape", "num_classes", "returns_logits"):
            if hasattr(discriminator, name):
                setattr(self, name, getattr(discriminator, name))
        own = isinstance(discriminator, DiscriminatorBase)
        self.config = {
            "policy": self.policy,
            "discriminator": discriminator.config if own else None,
        }

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Turns images (N, channels, height, width) and labels (N,) into scores (N,)."""
        if self.training:
            samples = self.augment(samples)
        inputs = (samples,) if labels is None else (samples, labels)
        scores: Tensor = self.discriminator(*inputs)
        return scores

    def probability(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Gives D(x), the probability that each image is real, (N,); changed first in training."""
        scores: Tensor = self(samples, labels)
        return scores if gives_probabilities(self.discriminator) else torch.sigmoid(scores)

    def augment(self, images: Tensor) -> Tensor:
        """The images (N, channels, height, width), changed at random."""
        if not isinstance(images, Tensor) or images.dim() != 4:
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"`samples` must have the shape (N, channels, height, width), got {shape}"
            )
        for change in self.policy:
            images = CHANGES[change](images)
        return images


def _flip(images: Tensor) -> Tensor:
    return torch.where(_uniform(images) < 0.5, images.flip(3), images)


def _color(images: Tensor) -> Tensor:
    images = images + _uniform(images) - 0.5
    grey = images.mean(1, keepdim=True)
    images = torch.lerp(grey, images, 2 * _uniform(images))
    mean = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, 0.5 + _uniform(images))


def _translate(images: Tensor) -> Tensor:
    for axis in (2, 3):
        side = images.shape[axis]
        furthest = round(side / 8)
        shift = _integers(images, -furthest, furthest)
        place = _places(images, axis) + shift
        inside = (place >= 0) & (place < side)
        place = place.clamp(0, side - 1).expand_as(images)
        images = images.gather(axis, place) * inside
    return images


def _cut(images: Tensor) -> Tensor:
    cut = torch.ones_like(images[:, :1], dtype=torch.bool)
    for axis in (2, 3):
        side = images.shape[axis]
        length = max(1, side // 2)
        start = _integers(images, 0, side - 1) - length // 2
        place = _places(images, axis)
        cut = cut & (place >= start) & (place < start + length)
    return images * ~cut


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": _flip,
    "color": _color,
    "translation": _translate,
    "cutout": _cut,
}


def _uniform(images: Tensor) -> Tensor:
    """A number in [0, 1) for each image, shape (N, 1, 1, 1)."""
    return torch.rand(images.shape[0], 1, 1, 1, device=images.device, dtype=images.dtype)


def _integers(images: Tensor, low: int, high: int) -> Tensor:
    """An integer from low to high for each image, shape (N, 1, 1, 1)."""
    return torch.randint(low, high + 1, (images.shape[0], 1, 1, 1), device=images.device)


def _places(images: Tensor, axis: int) -> Tensor:
    """0, 1, ... along the axis, shape (1, 1, height, 1) or (1, 1, 1, width)."""
    shape = [-1 if index == axis else 1 for index in range(4)]
    return torch.arange(images.shape[axis], device=images.device).view(shape)
