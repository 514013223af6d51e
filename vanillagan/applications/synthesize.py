"""Synthesis of labeled training data by a conditional generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vanillagan.data.latents import LatentSampler
from vanillagan.sampling.draw import check_generator, draw_samples
from vanillagan.sampling.rejection import rejection_sample
from vanillagan.traits import num_classes_of
from vanillagan.validation import check_integer

__all__ = ["Counts", "synthesize"]

Counts: TypeAlias = "int | Sequence[int] | Tensor | npt.NDArray[np.integer[Any]]"
"""Number of samples per class: one count for all classes, or one for each."""


def synthesize(
    generator: nn.Module,
    per_class: Counts,
    *,
    discriminator: nn.Module | None = None,
    percentile: float | None = 80.0,
    burn_in: int = 10_000,
    max_draws: int = 1_000_000,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
) -> TensorDataset:
    """Draw a labeled dataset from a class-conditional generator.

    The dataset is as good as the generator: samples of a class without training images are noise,
    and copies of real samples add nothing to the training of a classifier. Check on real test data
    whether the samples help; `docs/use/more_data.md` shows where they do on MNIST.

    Given a discriminator, samples are filtered by the density ratio p_data / p_g = exp(logit) that
    it has learned, separately for each class. See `rejection_sample` for the requirements.

    Args:
        generator: `forward(latents, labels)`, with an attribute `num_classes` above 0, such as
            `trainer.eval_generator`.
        per_class: Number of samples per class, at least 0; or one count for each class, for example
            to balance a dataset. If all are 0 the dataset is empty.
        discriminator: Filter of the samples: `forward(samples, labels)` gives one logit per sample.
        percentile: Strictness of the filter, in [0, 100]; None for exact rejection sampling. Used
            only with a discriminator, as are the next two.
        burn_in: Number of candidates per class to estimate the largest ratio from, at least 1.
        max_draws: Greatest number of candidates after the burn-in, at least 1.
        latent_sampler: Draws latents; by default from N(0, 1) of `generator.latent_dim`.
        seed: Makes the samples repeatable; None draws new ones at each call.

    Returns:
        Samples of shape (N, *sample_shape) and labels of shape (N,), int64, in memory on the CPU,
        sorted by class. Shuffle them in a `DataLoader`; `GANTrainer.fit` does so by default.

    Raises:
        ValueError, TypeError: An argument is invalid, or the generator is not conditional.
        RuntimeError: Fewer samples than requested were accepted.

    Source: Mirza and Osindero, 2014 (arXiv 1411.1784) for conditional networks; Azadi et al., 2019
    (arXiv 1810.06758) for the filter.

    Example:
        >>> from vanillagan import Generator
        >>> data = synthesize(Generator(8, (2,), num_classes=3), (2, 0, 1), seed=0)
        >>> data.tensors[0].shape, data.tensors[1]
        (torch.Size([3, 2]), tensor([0, 0, 2]))
    """
    check_generator(generator)
    num_classes = num_classes_of(generator)
    if not num_classes:
        raise ValueError(
            "`generator` must be conditioned on classes, as Generator(num_classes=10) is, got "
            f"{type(generator).__name__} with num_classes={num_classes}"
        )
    # a discriminator without `num_classes` may still be conditional
    num_discriminated = getattr(discriminator, "num_classes", num_classes)
    if num_discriminated != num_classes:
        raise ValueError(
            f"`discriminator` must have the generator's num_classes {num_classes}, "
            f"got {num_discriminated}"
        )
    counts = _counts_of(per_class, num_classes)
    labels = torch.arange(num_classes).repeat_interleave(torch.tensor(counts))
    if not len(labels):  # draw one sample for the shape of an empty dataset
        samples = draw_samples(generator, 1, labels=0, latent_sampler=latent_sampler, seed=seed)[:0]
    elif discriminator is None:
        samples = draw_samples(
            generator, len(labels), labels=labels, latent_sampler=latent_sampler, seed=seed
        )
    else:
        samples = rejection_sample(
            generator,
            discriminator,
            len(labels),
            percentile=percentile,
            burn_in=burn_in,
            max_draws=max_draws,
            labels=labels,
            latent_sampler=latent_sampler,
            seed=seed,
        )
    return TensorDataset(samples.cpu(), labels)


def _counts_of(per_class: Counts, num_classes: int) -> list[int]:
    """Return one count for each class."""
    values = per_class.tolist() if hasattr(per_class, "tolist") else per_class
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        if len(values) != num_classes:
            raise ValueError(
                f"`per_class` must have one count for each of {num_classes} classes, got "
                f"{len(values)}"
            )
        return [
            check_integer(f"per_class[{label}]", count, minimum=0)
            for label, count in enumerate(values)
        ]
    return [check_integer("per_class", values, minimum=0)] * num_classes
