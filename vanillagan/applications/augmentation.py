"""Additional training samples: a data set with labels, drawn from a conditional generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vanillagan.data import LatentSampler
from vanillagan.errors import check_integer, check_kind
from vanillagan.networks.blocks import classes_of
from vanillagan.sampling import draw_samples, rejection_sample

__all__ = ["Counts", "synthesize"]

Counts: TypeAlias = "int | Sequence[int] | Tensor | npt.NDArray[np.integer[Any]]"
"""How many samples of each class: one count for all, or one for each."""


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
    """Draws a data set with labels from a generator that is conditioned on classes.

    It is as good as the generator: a class of which the generator has seen no images is noise, and
    classifiers learn nothing from samples that are copies of the real ones. Test on real data
    whether it helps; `docs/more_data.md` shows where it does on MNIST, and where it does not.

    Given a discriminator, samples are kept by the density ratio p_data / p_g = exp(logit) that it
    has learned, each class for itself; see `rejection_sample` for what that asks of D.

    Args:
        generator: `forward(latent, labels)`, with an attribute `num_classes` above 0, such as
            `trainer.generator` or `trainer.ema.network`.
        per_class: How many samples of each class, at least 0; or one count for each class, such as
            what an uneven data set lacks. Where all are 0 the data set is empty.
        discriminator: Filters the samples: a logit for each, `forward(samples, labels)`.
        percentile: How strictly it filters, in [0, 100]; None for exact rejection sampling. This
            and the next two are read only where there is a discriminator.
        burn_in: Candidates of each class that are drawn to find the largest ratio, at least 1.
        max_draws: So many candidates are drawn at most after the burn-in, at least 1.
        latent_sampler: Where latents come from; by default N(0, 1) of `generator.latent_dim`.
        seed: Makes the samples repeatable; None draws new ones at each call.

    Returns:
        Samples, shape (N, *sample_shape), and labels, shape (N,), int64, in memory on the CPU,
        class by class: shuffle it in a `DataLoader`; `GANTrainer.fit` does so itself.

    Raises:
        ValueError, TypeError: An argument is wrong, or the generator knows no classes.
        RuntimeError: Fewer samples than wanted were accepted.

    Source: Mirza and Osindero, 2014 (arXiv 1411.1784) for conditional networks; Azadi et al., 2019
    (arXiv 1810.06758) for the filter.

    Example:
        >>> from vanillagan import Generator
        >>> data = synthesize(Generator(8, (2,), num_classes=3), (2, 0, 1), seed=0)
        >>> data.tensors[0].shape, data.tensors[1]
        (torch.Size([3, 2]), tensor([0, 0, 2]))
    """
    expected = "a torch.nn.Module, such as `trainer.generator` or `trainer.ema.network`"
    check_kind("generator", generator, nn.Module, expected)
    num_classes = classes_of(generator)
    if not num_classes:
        raise ValueError(
            "`generator` must be conditioned on classes, as Generator(num_classes=10) is, got "
            f"{type(generator).__name__} with num_classes={num_classes}"
        )
    # a discriminator that says nothing of classes may know them all the same
    its_classes = getattr(discriminator, "num_classes", num_classes)
    if its_classes != num_classes:
        raise ValueError(
            f"`discriminator` must have the generator's num_classes {num_classes}, "
            f"got {its_classes}"
        )
    counts = _counts_of(per_class, num_classes)
    labels = torch.arange(num_classes).repeat_interleave(torch.tensor(counts))
    if not len(labels):  # one sample tells the shape of none
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
    """One count for each class; or raises."""
    values = per_class.tolist() if hasattr(per_class, "tolist") else per_class
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        if len(values) != num_classes:
            raise ValueError(
                f"`per_class` must hold a count for each of {num_classes} classes, got "
                f"{len(values)}"
            )
        return [
            check_integer(f"per_class[{label}]", count, minimum=0)
            for label, count in enumerate(values)
        ]
    return [check_integer("per_class", values, minimum=0)] * num_classes
