"""Differentiable augmentation (DiffAugment) for training on small sets of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vanillagan.networks.base import DiscriminatorBase
from vanillagan.traits import has_independent_samples, outputs_probabilities
from vanillagan.validation import check_choice, check_type

__all__ = ["DiffAugment"]


class DiffAugment(nn.Module):
    """Wrapper that augments all images, real and fake, on their way to a discriminator.

    A discriminator overfits a small set of images, and its gradient then no longer helps the
    generator. Random augmentation prevents that. It is differentiable, so that the gradient reaches
    the generator, and it applies to real and fake images alike, so that the generator learns the
    images without augmentation. "flip" is the exception: mirrored images may be generated.

    In eval mode images are not augmented. Augmentations are drawn for each image independently from
    PyTorch's global random state. Penalties apply to the discriminator with augmentation, as a
    function of the images before it.

    Args:
        discriminator: Any discriminator of images, `forward(samples, labels=None) -> logits`.
        policy: Augmentations in the order of application, at least one.

            - "flip": mirror half of the images, left to right. Leave it out where left and right
              differ, as in writing.
            - "color": shift the brightness by up to 0.5 (with pixels in [-1, 1]), scale the
              saturation by a factor in [0, 2] and the contrast by a factor in [0.5, 1.5].
            - "translation": shift by up to an eighth of height and width, padding with zeros.
            - "cutout": set a rectangle of half the height and width to zero, with its center
              anywhere in the image.

    Attributes:
        discriminator: The wrapped discriminator. The attributes that the trainer reads of it
            (`sample_shape`, `num_classes`, `outputs_logits`) are attributes of the wrapper too.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Zhao et al., 2020 (DiffAugment, arXiv 2006.10738); "flip" is an addition.

    Example:
        >>> from vanillagan import ConvDiscriminator
        >>> discriminator = DiffAugment(ConvDiscriminator((3, 16, 16), base_channels=8))
        >>> discriminator(torch.zeros(4, 3, 16, 16)).shape
        torch.Size([4])
    """

    def __init__(
        self,
        discriminator: nn.Module,
        policy: Sequence[str] = ("flip", "color", "translation", "cutout"),
    ) -> None:
        super().__init__()
        check_type("discriminator", discriminator, nn.Module, "a torch.nn.Module")
        if isinstance(policy, str) or not isinstance(policy, Sequence):
            raise TypeError(f"`policy` must be a sequence of augmentations, got {policy!r:.80}")
        if not policy:
            raise ValueError(f"`policy` must have at least one entry, got {policy!r}")
        for index, name in enumerate(policy):
            check_choice(f"policy[{index}]", name, tuple(AUGMENTATIONS))
        self.discriminator = discriminator
        self.policy = tuple(policy)
        for name in ("sample_shape", "num_classes", "outputs_logits"):
            if hasattr(discriminator, name):
                setattr(self, name, getattr(discriminator, name))
        # for the instance: it depends on the wrapped network, and a subclass may mix samples
        is_plain = type(self) is DiffAugment
        self.independent_samples = is_plain and has_independent_samples(discriminator)
        own = isinstance(discriminator, DiscriminatorBase)
        self.config = {
            "policy": self.policy,
            "discriminator": discriminator.config if own else None,
        }

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map images (N, channels, height, width) and labels (N,) to logits (N,)."""
        if self.training:
            samples = self.augment(samples)
        inputs = (samples,) if labels is None else (samples, labels)
        logits: Tensor = self.discriminator(*inputs)
        return logits

    def probability(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return D(x), the probability that each image is real, shape (N,)."""
        outputs: Tensor = self(samples, labels)
        return outputs if outputs_probabilities(self.discriminator) else torch.sigmoid(outputs)

    def augment(self, images: Tensor) -> Tensor:
        """Return the images (N, channels, height, width), augmented at random."""
        if not isinstance(images, Tensor) or images.dim() != 4:
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"`samples` must have the shape (N, channels, height, width), got {shape}"
            )
        for name in self.policy:
            images = AUGMENTATIONS[name](images)
        return images


def _flip(images: Tensor) -> Tensor:
    return torch.where(_uniform(images) < 0.5, images.flip(3), images)


def _color(images: Tensor) -> Tensor:
    images = images + _uniform(images) - 0.5
    gray = images.mean(1, keepdim=True)
    images = torch.lerp(gray, images, 2 * _uniform(images))
    mean = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, 0.5 + _uniform(images))


def _translate(images: Tensor) -> Tensor:
    for axis in (2, 3):
        side = images.shape[axis]
        largest = round(side / 8)
        shift = _integers(images, -largest, largest)
        position = _positions(images, axis) + shift
        inside = (position >= 0) & (position < side)
        position = position.clamp(0, side - 1).expand_as(images)
        images = images.gather(axis, position) * inside
    return images


def _cut(images: Tensor) -> Tensor:
    cut = torch.ones_like(images[:, :1], dtype=torch.bool)
    for axis in (2, 3):
        side = images.shape[axis]
        length = max(1, side // 2)
        start = _integers(images, 0, side - 1) - length // 2
        position = _positions(images, axis)
        cut = cut & (position >= start) & (position < start + length)
    return images * ~cut


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": _flip,
    "color": _color,
    "translation": _translate,
    "cutout": _cut,
}


def _uniform(images: Tensor) -> Tensor:
    """Draw a number in [0, 1) for each image, shape (N, 1, 1, 1)."""
    return torch.rand(images.shape[0], 1, 1, 1, device=images.device, dtype=images.dtype)


def _integers(images: Tensor, low: int, high: int) -> Tensor:
    """Draw an integer in [low, high] for each image, shape (N, 1, 1, 1)."""
    return torch.randint(low, high + 1, (images.shape[0], 1, 1, 1), device=images.device)


def _positions(images: Tensor, axis: int) -> Tensor:
    """Return 0, 1, ... along `axis`, shape (1, 1, height, 1) or (1, 1, 1, width)."""
    shape = [-1 if index == axis else 1 for index in range(4)]
    return torch.arange(images.shape[axis], device=images.device).view(shape)
