"""Drawing samples from a generator, without a trace in the training state.

Plain draws, samples on the way between two latents, and draws that the discriminator accepts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vanillagan.data import LatentSampler, draw_latent, is_finite, latent_sampler_of
from vanillagan.errors import check_integer, check_kind, check_number, check_seed
from vanillagan.losses import SMALLEST_PROBABILITY
from vanillagan.networks.blocks import classes_of, gives_probabilities
from vanillagan.runtime import device_of, dtype_of, evaluating, isolated_rng

__all__ = [
    "Labels",
    "classes_in_turn",
    "draw_samples",
    "interpolate",
    "rejection_sample",
    "seeded",
]

Labels: TypeAlias = "Tensor | Sequence[int] | int | None"
"""Classes to sample: one for each sample, or one for all."""

CHUNK = 1000
"""So many samples go through a network at once, which bounds the memory."""

EPSILON = 1e-8
"""Keeps the best sample's F finite in discriminator rejection sampling."""


def draw_samples(
    generator: nn.Module,
    n: int,
    *,
    labels: Labels = None,
    latent: Tensor | None = None,
    latent_sampler: LatentSampler | None = None,
    seed: int | None = None,
) -> Tensor:
    """Draws n samples from any generator, in eval mode and without gradients.

    Neither the modes of its modules nor any global random state is changed by it.

    Args:
        generator: `forward(latent)` or, conditioned on classes, `forward(latent, labels)`.
        n: How many samples, at least 1.
        labels: Classes to sample: n of them, or one for all.
        latent: The latents themselves, shape (n, ...), in place of drawn ones.
        latent_sampler: Where latents come from; by default N(0, 1) of `generator.latent_dim`.
        seed: Makes the samples repeatable; None draws new ones at each call.

    Returns:
        Samples of shape (n, *sample_shape), on the device of the generator.

    Raises:
        ValueError, TypeError: An argument is out of its range, or labels and network don't fit.
    """
    n = check_integer("n", n, minimum=1)
    _check_generator(generator)
    rng, seed = seeded(seed)
    if latent is None:
        sampler = latent_sampler or latent_sampler_of(generator, argument="latent_sampler")
        with isolated_rng(seed):  # for samplers that ignore their generator
            latent = draw_latent(sampler, n, rng)
    elif not isinstance(latent, Tensor):
        raise TypeError(f"`latent` must be a tensor, got {latent!r:.80}")
    elif len(latent) != n:
        raise ValueError(f"`latent` must hold n={n} latents, got {len(latent)}")
    device = device_of(generator)
    inputs = [latent.to(device, dtype_of(generator) if latent.is_floating_point() else None)]
    if labels is not None:
        inputs.append(_as_labels(labels, n).to(device))
    elif classes := classes_of(generator):
        raise ValueError(f"`labels` must be given to a generator of {classes} classes, got None")
    with torch.no_grad(), evaluating(generator), isolated_rng(seed):
        chunks = zip(*(tensor.split(CHUNK) for tensor in inputs), strict=True)
        return torch.cat([generator(*chunk) for chunk in chunks])


def classes_in_turn(generator: nn.Module, n: int) -> Tensor | None:
    """Labels of n samples, class after class in turn; None for a generator that has none."""
    classes = classes_of(generator)
    return torch.arange(n) % classes if classes else None


def interpolate(
    generator: nn.Module,
    start: Tensor,
    end: Tensor,
    n: int,
    *,
    spherical: bool = True,
    labels: Labels = None,
) -> Tensor:
    """Draws samples on the way from one latent to another, in even steps, both ends included.

    Args:
        generator: `forward(latent)` or, conditioned on classes, `forward(latent, labels)`.
        start: The first sample's latent, floats, without a batch dimension: shape (latent_dim,).
        end: The last sample's latent, of the same shape.
        n: How many samples, at least 2.
        spherical: Whether the angle and the length of the latent change evenly, so that latents on
            the way are as long as normal noise is; else they lie on the straight line.
        labels: Classes to sample: n of them, or one for all.

    Returns:
        Samples of shape (n, *sample_shape), in eval mode and without gradients.

    Raises:
        ValueError, TypeError: An argument is wrong; or, on the spherical way, a latent is zero or
            the two point in opposite directions, so that no way is the shortest.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), figure 3, for the straight line; White, 2016
    (arXiv 1609.04468) for the spherical way.

    Example:
        >>> from vanillagan import Generator
        >>> interpolate(Generator(8, (2,)), torch.randn(8), torch.randn(8), 5).shape
        torch.Size([5, 2])
    """
    n = check_integer("n", n, minimum=2)
    _check_generator(generator)
    latent_dim = getattr(generator, "latent_dim", None)
    for name, latent in (("start", start), ("end", end)):
        if not isinstance(latent, Tensor) or not latent.is_floating_point():
            raise TypeError(f"`{name}` must be a tensor of floats, got {latent!r:.80}")
        if latent_dim is not None and latent.shape != (latent_dim,):
            raise ValueError(
                f"`{name}` must be a single latent of shape ({latent_dim},), "
                f"got {tuple(latent.shape)}"
            )
        if not is_finite(latent):
            raise ValueError(f"`{name}` must be finite, got NaN or infinite values")
    if start.shape != end.shape:
        raise ValueError(
            f"`end` must have the shape of `start` {tuple(start.shape)}, got {tuple(end.shape)}"
        )
    place = torch.linspace(0, 1, n, dtype=torch.float64).view(-1, *[1] * start.dim())
    ends = start.detach().cpu().double(), end.detach().cpu().double()
    way = _slerp(*ends, place) if spherical else torch.lerp(*ends, place)
    return draw_samples(generator, n, labels=labels, latent=way)


def _slerp(start: Tensor, end: Tensor, place: Tensor) -> Tensor:
    """The points at `place` in [0, 1] of the way on which angle and length change evenly."""
    lengths = start.norm(), end.norm()
    for name, length in zip(("start", "end"), lengths, strict=True):
        if not 0 < length < math.inf:
            raise ValueError(
                f"`{name}` must have a length above 0 for the spherical way, got {float(length):g}"
            )
    first, last = start / lengths[0], end / lengths[1]
    # exact for small angles, where an arc cosine is not
    angle = 2 * torch.atan2((first - last).norm(), (first + last).norm())
    if math.pi - angle < 1e-6:
        raise ValueError(
            "`end` must not point away from `start` in the opposite direction, where no spherical "
            "way is the shortest"
        )
    turn = angle / math.pi
    # sin(t * angle) / sin(angle), by sinc for its limit t where the angle is zero
    weights = [t * torch.sinc(t * turn) / torch.sinc(turn) for t in (1 - place, place)]
    direction: Tensor = weights[0] * first + weights[1] * last
    return direction * torch.lerp(*lengths, place)


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
    """Draws samples of which the discriminator accepts those that the data would rather have.

    A sample x is accepted with the probability sigmoid(F(x) - gamma), where

        F(x) = d - log(1 - exp(d - epsilon)),    d = D~(x) - max D~,

    D~ is the logit and its maximum is the highest met so far, first in the burn-in. With gamma = 0
    that is exp(d) = p_data(x) / (M p_g(x)), so that with D = D* the samples are the data's, and one
    in M is accepted. Gamma as a percentile of F keeps the rate up where M is large, and corrects
    only partly.

    It is worth as much as the logit is log p_data / p_g, up to a constant: `BCEAdversarialLoss` and
    `RelativisticLoss` aim at that, the other games do not. D is nearest to it when it is trained on
    against a generator that stands still; penalties keep it away. And it is the generator sampled
    from, such as `EMA.network`, that D must know. A few lines train it on, without penalties::

        judge = GANTrainer(
            trainer.generator, trainer.discriminator, latent=trainer.latent, device=trainer.device
        )
        for real in data.split(512):  # a tensor of samples, on the device
            judge.discriminator_step(Batch(real), trainer.sample(len(real)))

    Args:
        generator: Where candidates come from.
        discriminator: Gives a logit for each sample, `forward(samples)` or `forward(samples,
            labels)`. One that ends in a Sigmoid is read through the logit function.
        n: How many samples, at least 1.
        percentile: Gamma as a percentile of F over a batch of candidates, in [0, 100]; a higher one
            accepts fewer and better ones. None is gamma = 0, exact rejection sampling.
        burn_in: So many candidates are drawn to find the maximum, at least 1; for each class where
            there are labels, which is a distribution of its own.
        max_draws: So many candidates are drawn at most after the burn-in, at least 1; all classes
            share them.
        labels: Classes to sample: n of them, or one for all.
        latent_sampler: Where latents come from; by default N(0, 1) of `generator.latent_dim`.
        seed: Makes the samples repeatable; None draws new ones at each call.

    Returns:
        Samples of shape (n, *sample_shape), on the device of the generator.

    Raises:
        ValueError, TypeError: An argument is wrong, or the scores are no single finite logit each.
        RuntimeError: Fewer than n of `max_draws` candidates were accepted.

    Source: Azadi et al., 2019 (arXiv 1810.06758), section 3; gamma is chosen batch by batch there.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> rejection_sample(Generator(8, (2,)), Discriminator((2,)), 5, seed=0).shape
        torch.Size([5, 2])
    """
    n = check_integer("n", n, minimum=1)
    check_kind("discriminator", discriminator, nn.Module, "a torch.nn.Module")
    if percentile is not None:
        check_number("percentile", percentile, minimum=0, maximum=100)
    burn_in = check_integer("burn_in", burn_in, minimum=1)
    left = check_integer("max_draws", max_draws, minimum=1)
    rng, _ = seeded(seed)

    def candidates(count: int, label: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples with their logits, `count` in all."""
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
            f"{max_draws} draws{of_all}: raise it, set a percentile or a lower one, or train D on "
            "against this generator"
        )

    if labels is None:
        return accepted(n, None)
    classes = _as_labels(labels, n).cpu()
    values, counts = classes.unique(return_counts=True)
    pairs = zip(counts.tolist(), values.tolist(), strict=True)
    by_class = torch.cat([accepted(count, value) for count, value in pairs])
    samples = torch.empty_like(by_class)
    samples[classes.argsort()] = by_class
    return samples


def _logits(discriminator: nn.Module, samples: Tensor, classes: Tensor | None, seed: int) -> Tensor:
    """The discriminator's logits in eval mode, float64 on the CPU; refuses what is none."""
    device = device_of(discriminator)
    inputs = [samples.to(device, dtype_of(discriminator))]
    if classes is not None:
        inputs.append(classes.to(device))
    with torch.no_grad(), evaluating(discriminator), isolated_rng(seed):
        scores: Tensor = discriminator(*inputs)
    if scores.numel() != len(samples) or not is_finite(scores):
        raise ValueError(
            f"`discriminator` must give a finite score for each of {len(samples)} samples, got "
            f"scores of shape {tuple(scores.shape)}, {int((~scores.isfinite()).sum())} not finite"
        )
    scores = scores.flatten().cpu().double()
    return scores.logit(SMALLEST_PROBABILITY) if gives_probabilities(discriminator) else scores


def _acceptance(below_highest: Tensor, percentile: float | None) -> Tensor:
    """The probabilities of acceptance sigmoid(F - gamma), from logits less their maximum."""
    f = below_highest - torch.log(-torch.expm1(below_highest - EPSILON))
    gamma = 0.0 if percentile is None else f.quantile(percentile / 100)
    return torch.sigmoid(f - gamma)


def seeded(seed: int | None) -> tuple[torch.Generator, int]:
    """A random generator, and the seed it was given or has found for itself."""
    rng = torch.Generator()
    seed = rng.seed() % 2**63 if seed is None else check_seed(seed)
    return rng.manual_seed(seed), seed


def _check_generator(generator: object) -> None:
    expected = "a torch.nn.Module, such as `trainer.generator` or `trainer.ema.network`"
    check_kind("generator", generator, nn.Module, expected)


def _as_labels(labels: Tensor | Sequence[int] | int, n: int) -> Tensor:
    try:
        tensor = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`labels` must be integers, got {labels!r:.80}") from error
    if tensor.dim() == 0:
        tensor = tensor.expand(n)
    if tensor.shape != (n,):
        got = len(tensor) if tensor.dim() == 1 else f"the shape {tuple(tensor.shape)}"
        raise ValueError(f"`labels` must hold n={n} classes or one for all, got {got}")
    return tensor
