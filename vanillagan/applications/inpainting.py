"""Repair of damaged images by a generator of whole ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.applications.blending import as_mask, blend
from vanillagan.applications.latent_search import Degradation, LatentSearch, check_images
from vanillagan.data import LatentSampler
from vanillagan.errors import check_integer, check_kind
from vanillagan.runtime import device_of, dtype_of

__all__ = ["context_weights", "inpaint", "restore"]


@torch.inference_mode(False)
def inpaint(
    generator: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    mask: Tensor,
    *,
    window: int = 7,
    blending: bool = True,
    search: LatentSearch | None = None,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
) -> Tensor:
    """Fills the damaged pixels of images with what a generator of such images would have there.

    The sample is searched for whose known pixels are the image's, those near the damage counting
    more, and its damaged pixels are blended into the image.

    All images are searched for at once, `search.restarts` samples for each: split many of them to
    bound the memory.

    Args:
        generator: `forward(latent) -> samples (n, C, H, W)`, such as `trainer.ema.network`; not
            conditioned on classes.
        discriminator: The one that it was trained against.
        images: Images, floats, shape (N, C, H, W), in the generator's range. Their damaged pixels
            are not read.
        mask: True or 1 at damaged pixels, False or 0 at known ones: shape (H, W) or (1, H, W) for
            one mask for all images, (N, 1, H, W) for one for each.
        window: Side of the square in which known pixels near the damage count, an odd number of at
            least 3; see `context_weights`.
        blending: Whether the completion's gradients are kept rather than its values, so that no
            seam is seen; see `blend`.
        search: How to search; by default `LatentSearch()`.
        latent_sampler: Where latents come from; by default N(0, 1) of `generator.latent_dim`.
        seed: Makes the result repeatable; None draws other latents at each call.

    Returns:
        The images with their damaged pixels filled, shape (N, C, H, W), on the device of the
        generator.

    Raises:
        ValueError, TypeError: An argument is wrong; the mask, say, is all ones or all zeros.

    Source: Yeh et al., 2017 (arXiv 1607.07539), section 3.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> shape = (1, 8, 8)
        >>> hole = torch.zeros(8, 8, dtype=torch.bool)
        >>> hole[2:6, 2:6] = True
        >>> players = Generator(4, shape), Discriminator(shape)
        >>> search = LatentSearch(candidates=10, steps=2)
        >>> inpaint(*players, torch.zeros(3, *shape), hole, search=search).shape
        torch.Size([3, 1, 8, 8])
    """
    check_kind("generator", generator, nn.Module, "a torch.nn.Module")
    damaged = as_mask(mask, images).to(device_of(generator))
    images = images.to(device_of(generator), dtype_of(generator))
    weights = context_weights(damaged, window=window).to(images)
    weights = weights / weights.mean((1, 2, 3), keepdim=True)

    def weigh(samples: Tensor) -> Tensor:
        if samples.shape != images.shape:
            raise ValueError(
                f"`images` must have the shape of the generator's samples "
                f"{tuple(samples.shape[1:])}, got {tuple(images.shape[1:])}"
            )
        return weights * samples

    known = images.where(~damaged, 0)
    completions = restore(
        generator,
        discriminator,
        weights * known,
        weigh,
        search=search,
        latent_sampler=latent_sampler,
        seed=seed,
    )
    if blending:
        return blend(known, completions, damaged)
    return torch.where(damaged, completions, known)


def context_weights(mask: Tensor, *, window: int = 7) -> Tensor:
    """How much each known pixel counts: the share of damaged ones among its neighbours.

    Args:
        mask: True or 1 at damaged pixels, shape (N, 1, H, W).
        window: Side of the square of neighbours, an odd number of at least 3.

    Returns:
        Weights in [0, 1), shape (N, 1, H, W): zero at damaged pixels, and where no damage is within
        the window. Pixels beyond the image are no neighbours.

    Source: Yeh et al., 2017 (arXiv 1607.07539), equation 3, with a window of 7.
    """
    check_kind("mask", mask, Tensor, "a tensor")
    if mask.dim() != 4 or mask.shape[1] != 1:
        raise ValueError(
            f"`mask` must have the shape (N, 1, height, width), got {tuple(mask.shape)}"
        )
    if check_integer("window", window, minimum=3) % 2 == 0:
        raise ValueError(f"`window` must be an odd number, got {window}")
    damaged = mask.float()
    shares = F.avg_pool2d(damaged, window, stride=1, padding=window // 2, count_include_pad=False)
    return shares * (1 - damaged)


def restore(
    generator: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    degradation: Degradation,
    *,
    search: LatentSearch | None = None,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
) -> Tensor:
    """Undoes a damage that is not a mask: fading, blur, noise, fewer pixels.

    The sample is searched for that would look like the image if it were damaged in the same way.
    Nothing of the image itself is kept.

    Args:
        generator: `forward(latent) -> samples (n, *sample_shape)`, such as `trainer.ema.network`;
            not conditioned on classes.
        discriminator: The one that it was trained against.
        images: Damaged images, floats, shape (N, ...).
        degradation: What has happened to them, `samples (N, *sample_shape) -> (N, ...)`:
            differentiable, and each image's own. Of noise of mean zero that is nothing:
            `lambda samples: samples`.
        search: How to search; by default `LatentSearch()`.
        latent_sampler: Where latents come from; by default N(0, 1) of `generator.latent_dim`.
        seed: Makes the result repeatable; None draws other latents at each call.

    Returns:
        Samples of shape (N, *sample_shape), on the device of the generator.

    Raises:
        ValueError, TypeError: An argument is wrong, or the degradation doesn't give the images'
            shape.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> def halved(samples):
        ...     return F.avg_pool2d(samples, 2)
        >>> players = Generator(4, (1, 8, 8)), Discriminator((1, 8, 8))
        >>> search = LatentSearch(candidates=10, steps=2)
        >>> restore(*players, torch.zeros(3, 1, 4, 4), halved, search=search).shape
        torch.Size([3, 1, 8, 8])
    """
    search = LatentSearch() if search is None else search
    check_kind("search", search, LatentSearch, "a LatentSearch")
    check_images("images", images)
    return search(
        generator,
        discriminator,
        images,
        degradation,
        latent_sampler=latent_sampler,
        seed=seed,
    )
