"""Context encoder: an inpainting network, and the trainer for it."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vanillagan.applications.blending import as_mask, fill
from vanillagan.applications.masks import MaskSampler
from vanillagan.batch import Batch
from vanillagan.compatibility import check_fake
from vanillagan.networks.blocks import DownBlock, UpBlock
from vanillagan.networks.conv import channel_pyramid
from vanillagan.results import GeneratorStep
from vanillagan.runtime.device import autocast
from vanillagan.trainer import GANTrainer
from vanillagan.validation import (
    check_function,
    check_integer,
    check_integers,
    check_number,
    check_shape,
)

__all__ = ["ContextEncoder", "ContextTrainer"]


REFINEMENTS = 2
"""Number of convolutions at the size of the largest map before the output."""


class ContextEncoder(nn.Module):
    """U-Net that fills the damaged pixels of images.

    The hole is first filled with the smoothest membrane, see `blend`. The network predicts what to
    add to it: an untrained network returns the membrane itself. Known pixels are unchanged.

    Args:
        sample_shape: (channels, height, width) of an image, each at least 1.
        base_channels: Channels of the largest feature map. Each smaller map has twice as many, up
            to 512.
        patch_size: Side of the square of pixels for each point of the largest map, as in
            `ConvGenerator`. It must divide height and width.

    Attributes:
        sample_shape: Shape of an image.
        config: Arguments of the constructor, stored in checkpoints.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Pathak et al., 2016, Context encoders (arXiv 1604.07379), for the training; Ronneberger
    et al., 2015, U-Net (arXiv 1505.04597), for the network. The membrane is added. BatchNorm is
    omitted, since its statistics depend on the kind of damage.

    Example:
        >>> network = ContextEncoder((3, 16, 16), base_channels=8)
        >>> hole = torch.zeros(2, 1, 16, 16)
        >>> hole[..., 4:12, 4:12] = 1
        >>> network(torch.rand(2, 3, 16, 16), hole).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...] = (3, 64, 64),
        *,
        base_channels: int = 32,
        patch_size: int = 2,
    ) -> None:
        super().__init__()
        self.sample_shape = check_integers("sample_shape", sample_shape)
        base_channels = check_integer("base_channels", base_channels, minimum=1)
        patch_size = check_integer("patch_size", patch_size, minimum=1)
        sizes, widths = channel_pyramid(self.sample_shape, base_channels, patch_size)
        self.config: dict[str, Any] = {
            "sample_shape": self.sample_shape,
            "base_channels": base_channels,
            "patch_size": patch_size,
        }
        channels, squared = self.sample_shape[0], patch_size**2
        steps = range(len(sizes) - 1)
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(patch_size),
            nn.Conv2d((channels + 1) * squared, widths[0], kernel_size=3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.down = nn.ModuleList(DownBlock(widths[i], widths[i + 1]) for i in steps)
        # all but the smallest map are concatenated with the encoder's map of the same size
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
            nn.PixelShuffle(patch_size),
        )

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Fill images (N, *sample_shape) where the mask (N, 1, H, W) is 1.

        Damaged pixels are not read. See `as_mask` for other shapes of the mask and for errors. In
        training, values are checked on the CPU alone: reading them from a device would synchronize.
        """
        check_shape("images", images, self.sample_shape)
        reads = images.device.type == "cpu" or not self.training
        pixels = as_mask(mask, images, reads_values=reads)
        with torch.no_grad():
            membrane = fill(images, torch.zeros_like(images), pixels)
        damaged = pixels.to(images.dtype)
        maps = [self.stem(torch.cat([membrane, damaged], 1))]
        for block in self.down:
            maps.append(block(maps[-1]))
        x = maps.pop()
        for block in reversed(self.up):
            x = torch.cat([block(x), maps.pop()], 1)
        detail: Tensor = self.last(x)
        return membrane + damaged * detail


class ContextTrainer(GANTrainer):
    """Trainer of an inpainting network, with reconstruction and adversarial loss.

    Random masks are drawn for each batch in place of latents, and the generator fills them. Its
    loss is the mean absolute error plus the weighted adversarial loss. `sample`, and callbacks that
    call it, are not available: there is no image to fill.

    Args:
        generator: `forward(images, mask) -> images`, such as a `ContextEncoder`.
        discriminator: `forward(images) -> logits`.
        masks: Sampler of masks, such as `masks.boxes((64, 64))`.
        adversarial_weight: Weight of the adversarial loss relative to the mean absolute error, at
            least 0. More makes repairs sharper, and less like the lost image on average.
        options: Other arguments of `GANTrainer`, except `latent_sampler`.

    Raises:
        ValueError, TypeError: An argument is invalid, or two of them do not fit.

    Source: Pathak et al., 2016, Context encoders (arXiv 1604.07379), section 3.2, with the mean
    absolute error of Isola et al., 2017 (pix2pix, arXiv 1611.07004), which blurs less than the
    squared error. The paper's weight is 0.001.

    Example:
        >>> from vanillagan import ConvDiscriminator
        >>> from vanillagan.applications.masks import boxes
        >>> generator = ContextEncoder((3, 16, 16), base_channels=8)
        >>> discriminator = ConvDiscriminator((3, 16, 16), base_channels=8)
        >>> trainer = ContextTrainer(generator, discriminator, masks=boxes((16, 16)), device="cpu")
        >>> len(trainer.fit(torch.rand(64, 3, 16, 16) * 2 - 1, max_epochs=1, batch_size=16))
        4
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        masks: MaskSampler,
        adversarial_weight: float = 0.03,
        **options: Any,
    ) -> None:
        check_function("masks", masks, "a mask sampler such as boxes((64, 64))")
        if "latent_sampler" in options:
            raise TypeError("`latent_sampler` must not be given (`masks` takes its place)")
        self.adversarial_weight = check_number("adversarial_weight", adversarial_weight, minimum=0)
        super().__init__(generator, discriminator, latent_sampler=masks, **options)

    def generate(self, batch: Batch) -> Tensor:
        """Fill the samples of the batch at randomly drawn masks."""
        masks = self.draw_latents(batch)
        with autocast(self.device, self.precision):
            fake = self.g.forward(batch.samples, masks)
        check_fake(fake, batch.samples)
        return fake.to(batch.samples.dtype)

    def generator_step(self, batch: Batch) -> GeneratorStep:
        """Update the generator by the sum of reconstruction and weighted adversarial loss.

        Returns:
            Sum of both losses and the fakes before the update, detached.
        """
        fake = self.generate(batch)
        with self.d.frozen():
            fake_logits = self.discriminate(fake)
            real_logits = self.discriminate(*batch) if self.loss.needs_real else None
            adversarial = self.loss.generator(fake_logits, real_logits)
            distance = (fake - batch.samples).abs().mean()
            loss = distance + self.adversarial_weight * adversarial
            self.update(self.g, loss)
        return GeneratorStep(loss.detach(), fake.detach())

    def sample(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raise a TypeError, since there is no image to fill."""
        raise TypeError(
            "a ContextTrainer cannot `sample` without images to fill (call "
            "`trainer.eval_generator` with images and a mask)"
        )


def _refinement(channels: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
    return convolution, nn.LeakyReLU(0.2, inplace=True)
