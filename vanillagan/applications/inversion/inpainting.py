"""Semantic inpainting by GAN inversion."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.applications.blending import as_mask, blend
from vanillagan.applications.inversion.latent_optimization import GANInversion
from vanillagan.data.latents import LatentSampler
from vanillagan.runtime.device import device_of, dtype_of
from vanillagan.validation import check_bool, check_integer, check_type

__all__ = ["context_weights", "inpaint"]


@torch.inference_mode(False)
def inpaint(
    generator: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    mask: Tensor,
    *,
    window: int = 7,
    blending: bool = True,
    inversion: GANInversion | None = None,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
) -> Tensor:
    """Fill the damaged pixels of images with samples of a generator (semantic inpainting).

    The generator is inverted: its sample is fitted to the known pixels of the image, with larger
    weights near the damage. The damaged pixels of the sample are then blended into the image.

    All images are inverted at once, with `inversion.restarts` samples each. Split large sets of
    images to bound the memory.

    Args:
        generator: `forward(latents) -> samples (n, C, H, W)`, such as `trainer.eval_generator`; not
            conditioned on classes.
        discriminator: Discriminator that the generator was trained with.
        images: Images, floats, shape (N, C, H, W), in the range of the generator's samples. Their
            damaged pixels are not read.
        mask: True or 1 at damaged pixels, False or 0 at known ones. The shape is (H, W) or
            (1, H, W) for the same mask for all images, (N, 1, H, W) for one per image.
        window: Side of the square in which known pixels near the damage are weighted, an odd number
            of at least 3; see `context_weights`.
        blending: Blend the gradients of the completion into the image (Poisson blending), which
            hides the seam; if False, copy its values. See `blend`.
        inversion: Settings of the inversion; by default `GANInversion()`.
        latent_sampler: Draws latents; by default from N(0, 1) of `generator.latent_dim`.
        seed: Makes the result repeatable; None draws new latents at each call.

    Returns:
        Images with their damaged pixels filled, shape (N, C, H, W), on the generator's device.

    Raises:
        ValueError, TypeError: An argument is invalid; for example a mask of all ones or all zeros.

    Source: Yeh et al., 2017 (arXiv 1607.07539), section 3.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> shape = (1, 8, 8)
        >>> hole = torch.zeros(8, 8, dtype=torch.bool)
        >>> hole[2:6, 2:6] = True
        >>> networks = Generator(4, shape), Discriminator(shape)
        >>> inversion = GANInversion(candidates=10, steps=2)
        >>> inpaint(*networks, torch.zeros(3, *shape), hole, inversion=inversion).shape
        torch.Size([3, 1, 8, 8])
    """
    check_type("generator", generator, nn.Module, "a torch.nn.Module")
    check_bool("blending", blending)
    if inversion is not None:
        check_type("inversion", inversion, GANInversion, "a GANInversion")
    damaged = as_mask(mask, images).to(device_of(generator))
    images = images.to(device_of(generator), dtype_of(generator))
    weights = context_weights(damaged, window=window).to(images)
    weights = weights / weights.mean((1, 2, 3), keepdim=True)

    def weighted(samples: Tensor) -> Tensor:
        if samples.shape != images.shape:
            raise ValueError(
                f"`images` must have the shape of the generator's samples "
                f"{tuple(samples.shape[1:])}, got {tuple(images.shape[1:])}"
            )
        return weights * samples

    known = images.where(~damaged, 0)
    inversion = GANInversion() if inversion is None else inversion
    completions = inversion(
        generator,
        discriminator,
        weights * known,
        weighted,
        latent_sampler=latent_sampler,
        seed=seed,
    )
    if blending:
        return blend(known, completions, damaged)
    return torch.where(damaged, completions, known)


def context_weights(mask: Tensor, *, window: int = 7) -> Tensor:
    """Return the weights of known pixels: the share of damaged pixels among their neighbors.

    Args:
        mask: True or 1 at damaged pixels, shape (N, 1, H, W).
        window: Side of the square of neighbors, an odd number of at least 3.

    Returns:
        Weights in [0, 1), shape (N, 1, H, W). They are 0 at damaged pixels and at those without
        damage in the window. Pixels beyond the image are not counted.

    Source: Yeh et al., 2017 (arXiv 1607.07539), equation 3, with a window of 7.
    """
    check_type("mask", mask, Tensor, "a tensor")
    if mask.dim() != 4 or mask.shape[1] != 1:
        raise ValueError(
            f"`mask` must have the shape (N, 1, height, width), got {tuple(mask.shape)}"
        )
    if check_integer("window", window, minimum=3) % 2 == 0:
        raise ValueError(f"`window` must be an odd number, got {window}")
    damaged = mask.float()
    shares = F.avg_pool2d(damaged, window, stride=1, padding=window // 2, count_include_pad=False)
    return shares * (1 - damaged)
