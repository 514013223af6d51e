"""A generator that turns damaged images into whole ones, and the game that trains it."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vanillagan.applications.blending import blend
from vanillagan.applications.masks import MaskSampler
from vanillagan.data import Batch
from vanillagan.errors import check_integers, check_number
from vanillagan.networks.blocks import DownBlock, UpBlock, check_shape
from vanillagan.networks.convolutional import pyramid
from vanillagan.trainer import GANTrainer, GeneratorStep

__all__ = ["ContextEncoder", "ContextTrainer"]


REFINEMENTS = 2
"""Convolutions at full size that the finest detail is made by."""


class ContextEncoder(nn.Module):
    """Fills the damaged pixels of images: a U-Net that is given what is known.

    The hole is first filled by the smoothest membrane, see `blend`, to which the network adds what
    it has learned; untrained it gives the membrane itself. Known pixels are kept.

    Args:
        sample_shape: (channels, height, width) of an image, any of them at least 1.
        width: Channels of the largest map; each smaller one has twice as many, up to 512.
        patch: Side of the squares of pixels that the largest map has one point for, as in
            `ConvGenerator`. It must divide height and width.

    Attributes:
        sample_shape: Shape of one image.
        config: The arguments it was made with, as a checkpoint keeps them.

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Source: Pathak et al., 2016, Context encoders (arXiv 1604.07379), for the game; Ronneberger et
    al., 2015, U-Net (arXiv 1505.04597), for the network. The membrane is added, and BatchNorm left
    away, whose statistics depend on the kind of damage.

    Example:
        >>> network = ContextEncoder((3, 16, 16), width=8)
        >>> hole = torch.zeros(2, 1, 16, 16)
        >>> hole[..., 4:12, 4:12] = 1
        >>> network(torch.rand(2, 3, 16, 16), hole).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self, sample_shape: tuple[int, ...] = (3, 64, 64), *, width: int = 32, patch: int = 2
    ) -> None:
        super().__init__()
        self.sample_shape = check_integers("sample_shape", sample_shape)
        sizes, widths = pyramid(self.sample_shape, width, patch)
        self.config: dict[str, Any] = {
            "sample_shape": self.sample_shape,
            "width": width,
            "patch": patch,
        }
        channels, squared = self.sample_shape[0], patch**2
        steps = range(len(sizes) - 1)
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(patch),
            nn.Conv2d((channels + 1) * squared, widths[0], kernel_size=3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.down = nn.ModuleList(DownBlock(widths[i], widths[i + 1]) for i in steps)
        # all but the smallest map come together with the map of the same size on the way down
        joined = [2 * w for w in widths[:-1]] + widths[-1:]
        self.up = nn.ModuleList(
            UpBlock(joined[i + 1], widths[i], sizes[i], normalize=False) for i in steps
        )
        detail = nn.Conv2d(joined[0], channels * squared, kernel_size=3, padding=1)
        for weight in detail.parameters():
            nn.init.zeros_(weight)
        self.last = nn.Sequential(
            *(layer for _ in range(REFINEMENTS) for layer in _refinement(joined[0])),
            detail,
            nn.PixelShuffle(patch),
        )

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Fills images (N, *sample_shape) where the mask (N, 1, H, W) is 1.

        Damaged pixels are not read. See `as_mask` for other shapes of the mask, and for errors.
        """
        check_shape("images", images, self.sample_shape)
        with torch.no_grad():
            membrane = blend(images, torch.zeros_like(images), mask)
        damaged = mask.to(images).expand(images.shape[0], 1, *images.shape[2:])
        maps = [self.stem(torch.cat([membrane, damaged], 1))]
        for block in self.down:
            maps.append(block(maps[-1]))
        x = maps.pop()
        for block in reversed(self.up):
            x = torch.cat([block(x), maps.pop()], 1)
        detail: Tensor = self.last(x)
        return membrane + damaged * detail


class ContextTrainer(GANTrainer):
    """Trains a generator of images from damaged images: reconstruction and adversarial loss.

    The noise of this game is the damage: masks are drawn for each batch, the generator fills them,
    and is to meet the batch's own pixels as well as to pass the discriminator. (So `sample`, and
    callbacks that call it, don't apply: there is nothing to fill.)

    Args:
        generator: `forward(images, mask) -> images`, such as a `ContextEncoder`.
        discriminator: `forward(images) -> scores`.
        masks: Draws the damage, such as `masks.boxes((64, 64))`.
        adversarial_weight: Weight of the adversarial loss beside the mean absolute error, at least
            0.
        options: Those of `GANTrainer`, but for `latent`, in whose place the masks are.

    Raises:
        ValueError, TypeError: An argument is wrong, or two of them don't go together.

    Source: Pathak et al., 2016, Context encoders (arXiv 1604.07379), section 3.2, with the mean
    absolute error of Isola et al., 2017 (pix2pix, arXiv 1611.07004), which blurs less than the
    squared one.

    Example:
        >>> from vanillagan import ConvDiscriminator
        >>> from vanillagan.applications.masks import boxes
        >>> players = ContextEncoder((3, 16, 16), width=8), ConvDiscriminator((3, 16, 16), width=8)
        >>> trainer = ContextTrainer(*players, masks=boxes((16, 16)), device="cpu")
        >>> len(trainer.fit(torch.rand(64, 3, 16, 16) * 2 - 1, epochs=1, batch_size=16))
        4
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        masks: MaskSampler,
        adversarial_weight: float = 0.001,
        **options: Any,
    ) -> None:
        if not callable(masks):
            raise TypeError(
                f"`masks` must be a sampler of masks such as boxes((64, 64)), got {masks!r:.80}"
            )
        if "latent" in options:
            raise TypeError("`latent` must not be given: the noise of this game is `masks`")
        self.adversarial_weight = check_number("adversarial_weight", adversarial_weight, minimum=0)
        super().__init__(generator, discriminator, latent=masks, **options)

    def make_fakes(self, latent: Tensor, batch: Batch) -> Tensor:
        """Damages the batch's samples by the drawn masks, and fills them."""
        fake: Tensor = self.players["generator"].forward(batch.samples, latent)
        return fake

    def generator_step(self, batch: Batch) -> GeneratorStep:
        """Moves the generator to meet the samples' own pixels, and to pass the discriminator.

        Returns:
            The sum of both losses, and the fakes before the generator moved, both detached.
        """
        fake = self.generate(batch)
        with self.players["discriminator"].idle():
            fake_scores = self.score(Batch(fake))
            real_scores = self.score(batch) if self.loss.needs_real else None
            adversarial = self.loss.generator(fake_scores, real_scores)
            distance = (fake - batch.samples).abs().mean()
            loss = distance + self.adversarial_weight * adversarial
            self.descend(self.players["generator"], loss)
        return GeneratorStep(loss.detach(), fake.detach())

    def sample(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raises a TypeError: without an image there is nothing to fill."""
        raise TypeError(
            "a ContextTrainer can't `sample`, since without an image there is nothing to fill: "
            "call `trainer.generator(images, mask)`, or `trainer.ema.network` in its place"
        )


def _refinement(channels: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
    return convolution, nn.LeakyReLU(0.2, inplace=True)
