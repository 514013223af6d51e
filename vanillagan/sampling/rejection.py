"""Samples filtered by the discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vanillagan.data.epoch_sampler import EpochSampler
from vanillagan.data.latents import LatentSampler
from vanillagan.data.sources import open_source
from vanillagan.losses import SMALLEST_PROBABILITY, BCEAdversarialLoss
from vanillagan.player import adam
from vanillagan.runtime.device import device_of, dtype_of, evaluating
from vanillagan.runtime.rng import isolated_rng, seeded
from vanillagan.sampling.draw import CHUNK, Labels, as_labels, draw_samples
from vanillagan.traits import has_batch_norm, outputs_probabilities
from vanillagan.validation import (
    check_integer,
    check_integer_tensor,
    check_number,
    check_type,
    is_finite,
)

if TYPE_CHECKING:
    from vanillagan.trainer import GANTrainer

__all__ = ["refit_discriminator", "rejection_sample"]

EPSILON = 1e-8
"""Offset that keeps F finite for the sample of the highest logit."""


def rejection_sample(
    generator: nn.Module,
    discriminator: nn.Module,
    n: int,
    *,
    percentile: float | None = 80.0,
    burn_in: int = 10_000,
    max_draws: int = 1_000_000,
    labels: Labels = None,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
) -> Tensor:
    """Draw samples by discriminator rejection sampling: keep those that it accepts.

    A sample x is accepted with the probability sigmoid(F(x) - gamma), where

        F(x) = d - log(1 - exp(d - epsilon)),    d = D~(x) - max D~,

    D~ is the logit, and its maximum is the highest one so far, first of the burn-in. With
    gamma = 0 the probability is exp(d) = p_data(x) / (M p_g(x)): with D = D* the samples follow the
    data's distribution, and one in M is accepted. Gamma as a percentile of F keeps the rate up
    where M is large, and corrects only partly.

    This requires logits that estimate log p_data / p_g up to a constant. Those trained with
    `BCEAdversarialLoss` or `RelativisticLoss` do, those of the other losses do not. Train the
    discriminator further with `refit_discriminator` first.

    Args:
        generator: Generator of the candidates, such as `trainer.eval_generator`.
        discriminator: Returns a logit for each sample, `forward(samples)` or `forward(samples,
            labels)`. Probabilities of one that ends in a Sigmoid are converted to logits.
        n: Number of samples, at least 1.
        percentile: Gamma as a percentile of F over a batch of candidates, in [0, 100]; a higher one
            accepts fewer and better ones. None is gamma = 0, exact rejection sampling.
        burn_in: Number of candidates drawn to find the maximum, at least 1; for each class if there
            are labels.
        max_draws: Largest number of candidates drawn after the burn-in, at least 1; all classes
            share them.
        labels: Classes to sample: n of them, or one for all.
        latent_sampler: Draws latents; by default from N(0, 1) of `generator.latent_dim`.
        seed: Makes the samples repeatable; None draws new ones at each call.

    Returns:
        Samples of shape (n, *sample_shape), on the generator's device.

    Raises:
        ValueError, TypeError: An argument is invalid, or the discriminator does not return one
            finite logit for each sample.
        RuntimeError: Fewer than n of `max_draws` candidates were accepted.

    Source: Azadi et al., 2019 (arXiv 1810.06758), section 3; gamma is chosen batch by batch there.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> rejection_sample(Generator(8, (2,)), Discriminator((2,)), 5, seed=0).shape
        torch.Size([5, 2])
    """
    n = check_integer("n", n, minimum=1)
    check_type("discriminator", discriminator, nn.Module, "a torch.nn.Module")
    if percentile is not None:
        percentile = check_number("percentile", percentile, minimum=0, maximum=100)
    burn_in = check_integer("burn_in", burn_in, minimum=1)
    left = check_integer("max_draws", max_draws, minimum=1)
    rng, _ = seeded(seed)

    def candidates(count: int, label: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield samples with their logits, `count` in all."""
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            classes = None if label is None else torch.full((size,), label)
            chunk_seed = int(torch.randint(2**62, (), generator=rng))
            samples = draw_samples(
                generator, size, labels=classes, latent_sampler=latent_sampler, seed=chunk_seed
            )
            yield samples, _logits(discriminator, samples, classes, chunk_seed)

    def accepted(wanted: int, label: int | None) -> Tensor:
        nonlocal left
        highest = max(float(logits.max()) for _, logits in candidates(burn_in, label))
        kept: list[Tensor] = []
        missing = wanted
        for samples, logits in candidates(left, label):
            highest = max(highest, float(logits.max()))
            probability = _acceptance(logits - highest, percentile)
            passed = torch.rand(len(logits), generator=rng, dtype=torch.float64) < probability
            kept.append(samples[passed.to(samples.device)][:missing])
            left -= len(samples)
            missing -= len(kept[-1])
            if not missing:
                return torch.cat(kept)
        of_class, of_all = ("", "") if label is None else (f" of class {label}", " of all classes")
        raise RuntimeError(
            f"{wanted - missing} of {wanted} samples{of_class} were accepted in `max_draws`="
            f"{max_draws} draws{of_all}: raise it, set a percentile or a lower one, or "
            "train the discriminator further (`refit_discriminator`)"
        )

    if labels is None:
        return accepted(n, None)
    classes = as_labels(labels, n).cpu()
    check_integer_tensor("labels", classes)
    values, counts = classes.unique(return_counts=True)
    pairs = zip(counts.tolist(), values.tolist(), strict=True)
    by_class = torch.cat([accepted(count, value) for count, value in pairs])
    samples = torch.empty_like(by_class)
    samples[classes.argsort()] = by_class  # back from the order of classes to that of `labels`
    return samples


def _logits(discriminator: nn.Module, samples: Tensor, classes: Tensor | None, seed: int) -> Tensor:
    """Return one finite logit per sample, in eval mode, float64 on the CPU."""
    device = device_of(discriminator)
    inputs = [samples.to(device, dtype_of(discriminator))]
    if classes is not None:
        inputs.append(classes.to(device))
    with torch.no_grad(), evaluating(discriminator), isolated_rng(seed):
        logits: Tensor = discriminator(*inputs)
    if logits.numel() != len(samples) or not is_finite(logits):
        raise ValueError(
            f"`discriminator` must return a finite logit for each of {len(samples)} samples, "
            f"got shape {tuple(logits.shape)}, {int((~logits.isfinite()).sum())} not finite"
        )
    logits = logits.flatten().cpu().double()
    if outputs_probabilities(discriminator):
        return logits.logit(SMALLEST_PROBABILITY)
    return logits


def _acceptance(below_highest: Tensor, percentile: float | None) -> Tensor:
    """Return probabilities of acceptance sigmoid(F - gamma), from logits less their maximum."""
    f = below_highest - torch.log(-torch.expm1(below_highest - EPSILON))
    gamma = 0.0 if percentile is None else f.quantile(percentile / 100)
    return torch.sigmoid(f - gamma)


def refit_discriminator(
    trainer: GANTrainer,
    data: Any,
    steps: int,
    *,
    batch_size: int = 512,
    lr: float = 2e-4,
    seed: int = 0,
) -> None:
    """Train the discriminator further against the finished generator, before rejection sampling.

    Against a fixed generator, with binary cross-entropy and without penalties, its logit approaches
    log p_data / p_g, which `rejection_sample` needs. Nothing else of the trainer changes: neither
    the generator, the progress and the optimizers nor the random states. Fakes are those of
    `trainer.sample`, with the EMA weights if there are any. In a distributed run every rank takes
    the same steps.

    Args:
        trainer: The trainer; its discriminator is changed.
        data: Real samples, as for `GANTrainer.fit`.
        steps: Number of discriminator steps, at least 1.
        batch_size: Real samples in a batch, at least 1.
        lr: Learning rate of Adam, above 0.
        seed: Seed of sample order, latents and dropout.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Azadi et al., 2019 (arXiv 1810.06758), section 3.2.

    Example:
        >>> from vanillagan import Discriminator, GANTrainer, Generator
        >>> trainer = GANTrainer(Generator(8, (2,)), Discriminator((2,)), device="cpu")
        >>> refit_discriminator(trainer, 2 * torch.rand(256, 2) - 1, steps=2, batch_size=64)
    """
    if not hasattr(trainer, "discriminate"):
        raise TypeError(f"`trainer` must be a GANTrainer, got {type(trainer).__name__}")
    check_integer("steps", steps, minimum=1)
    check_integer("batch_size", batch_size, minimum=1)
    rng, seed = seeded(seed)
    # as in `GANTrainer.fit`, BatchNorm needs two samples
    sampler = EpochSampler(seed, smallest_batch=1 + has_batch_norm(trainer.discriminator))
    source = open_source(
        data,
        sampler,
        batch_size=batch_size,
        unpack=trainer.unpack_batch,
        generator=trainer.generator,
    )
    # not the trainer's optimizer: its moments are those of training
    optimizer = adam(lr)(trainer.d.parameters)
    loss = BCEAdversarialLoss(from_logits=not outputs_probabilities(trainer.discriminator))
    batches = (batch for epoch in count() for batch in source.batches(epoch))
    was_training = trainer.discriminator.training
    trainer.discriminator.train()
    with isolated_rng(seed):
        for batch in islice(batches, steps):
            real, labels = trainer.prepare_batch(batch)
            chunk_seed = int(torch.randint(2**62, (), generator=rng))
            fake = trainer.sample(len(real), labels=labels, seed=chunk_seed).to(real.dtype)
            real_logits = trainer.discriminate(real, labels)
            fake_logits = trainer.discriminate(fake, labels)
            loss.discriminator(real_logits, fake_logits).backward()
            optimizer.step()
            optimizer.zero_grad()
    trainer.discriminator.train(was_training)
