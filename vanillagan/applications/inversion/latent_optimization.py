"""GAN inversion: optimization of latents so that degraded samples match observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.data.latents import LatentSampler, draw_latents, latent_sampler_of
from vanillagan.losses import SMALLEST_PROBABILITY
from vanillagan.runtime.device import device_of, dtype_of, evaluating
from vanillagan.runtime.rng import isolated_rng, seeded
from vanillagan.sampling.draw import draw_samples
from vanillagan.traits import num_classes_of, outputs_probabilities
from vanillagan.validation import (
    check_finite,
    check_float_tensor,
    check_function,
    check_integer,
    check_number,
    check_type,
)

__all__ = ["Degradation", "GANInversion"]

Degradation: TypeAlias = Callable[[Tensor], Tensor]
"""Degradation of N images, in their order: samples (N, *sample_shape) -> observed (N, ...).

It must be differentiable and must not mix the images of a batch.
"""


@dataclass(frozen=True)
class GANInversion:
    """GAN inversion (latent optimization): restore images from degraded observations.

    For each observed image, Adam minimizes the sum of three losses over latents z of generator G,
    where D is the probability given by the discriminator:

        context loss    mean |degradation(G(z)) - observed|
        prior loss      prior_weight * log(1 - D(G(z))), which keeps samples realistic
        norm            norm_weight * mean(z^2) / 2, which keeps latents in the trained region

    The optimization starts from the `restarts` best of `candidates` random latents. The result is
    the sample of the least loss. With a temperature it is the mean of the restarts' samples,
    weighted by exp(-loss / temperature): if several samples fit the observation, the mean has the
    smaller squared error, but is less sharp.

    An instance is called with networks, observed images and their degradation: a function that
    blurs, downsamples or fades samples as the observed images were. For noise of mean zero it is
    the identity, `lambda samples: samples`. For missing pixels see `inpaint`.

    Args:
        restarts: Number of optimizations for each image, at least 1.
        candidates: Number of random latents to select the starts from, at least `restarts`; the
            same for all images.
        steps: Number of optimizer steps, at least 1.
        learning_rate: Initial learning rate of Adam, above 0; it decays to 0 by half a cosine.
        prior_weight: Weight of the prior loss, at least 0. The prior needs absolute logits; those
            learned by a `RelativisticLoss` or a `WassersteinLoss` have an arbitrary offset.
        norm_weight: Weight of the norm, at least 0; use 0 for latents that are not normal.
        temperature: Temperature of the mean in units of the loss, at least 0; 0 selects the best
            sample.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Yeh et al., 2017 (arXiv 1607.07539), sections 3.2 and 3.3. The context loss is a sum
    there; the mean has the same weight for images of any size. The norm replaces the clamping of
    latents to [-1, 1], which suits uniform latents. The selection of starts and the mean over
    restarts are added.

    Example:
        >>> from vanillagan import Discriminator, Generator
        >>> def downsample(samples):
        ...     return F.avg_pool2d(samples, 2)
        >>> networks = Generator(4, (1, 8, 8)), Discriminator((1, 8, 8))
        >>> invert = GANInversion(candidates=10, steps=2)
        >>> invert(*networks, torch.zeros(3, 1, 4, 4), downsample).shape
        torch.Size([3, 1, 8, 8])
    """

    restarts: int = 8
    candidates: int = 2000
    steps: int = 100
    learning_rate: float = 0.1
    prior_weight: float = 0.003
    norm_weight: float = 0.05
    temperature: float = 0.0

    def __post_init__(self) -> None:
        check_integer("restarts", self.restarts, minimum=1)
        check_integer("candidates", self.candidates, minimum=1)
        if self.candidates < self.restarts:
            raise ValueError(
                f"`candidates` must be at least `restarts`={self.restarts}, got {self.candidates}"
            )
        check_integer("steps", self.steps, minimum=1)
        check_number("learning_rate", self.learning_rate, minimum=0, exclude_minimum=True)
        check_number("prior_weight", self.prior_weight, minimum=0)
        check_number("norm_weight", self.norm_weight, minimum=0)
        check_number("temperature", self.temperature, minimum=0)

    def __call__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        observed: Tensor,
        degradation: Degradation,
        *,
        latent_sampler: LatentSampler | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the samples whose degradations match the observed images best.

        All images are optimized at once. Weights, gradients and training modes of the networks and
        the global random states do not change.

        Args:
            generator: `forward(latents) -> samples (n, *sample_shape)`, such as
                `trainer.eval_generator`; not conditioned on classes.
            discriminator: Discriminator that the generator was trained with. It returns one logit
                per sample; the probabilities of one that ends in a Sigmoid are converted.
            observed: N degraded images, floats, shape (N, ...).
            degradation: Degradation of the observed images, `samples (N, *sample_shape) ->
                (N, ...)`. It must be differentiable and must not mix the images of a batch.
            latent_sampler: Draws latents; by default from N(0, 1) of `generator.latent_dim`.
            seed: Makes the result repeatable; None draws new latents at each call.

        Returns:
            Samples of shape (N, *sample_shape), on the generator's device.

        Raises:
            ValueError, TypeError: An argument is invalid, or the degradation returns another shape
                than that of the observed images.
        """
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            check_type(name, network, nn.Module, "a torch.nn.Module")
        if classes := num_classes_of(generator):
            raise ValueError(
                f"`generator` must not be conditioned on classes, got one of {classes} classes"
            )
        check_function("degradation", degradation, "a function of samples")
        check_float_tensor("observed", observed)
        if observed.dim() < 2 or not observed.numel():
            raise ValueError(
                "`observed` must have the shape (N, ...) with at least one image, got "
                f"{tuple(observed.shape)}"
            )
        check_finite("observed", observed)
        observed = observed.to(device_of(generator), dtype_of(generator))
        rng, seed = seeded(seed)
        sampler = latent_sampler_of(generator) if latent_sampler is None else latent_sampler
        with (
            isolated_rng(seed),
            evaluating(generator),
            evaluating(discriminator),
            torch.inference_mode(False),  # gradients are needed even if the caller has none
        ):
            candidates = draw_latents(sampler, self.candidates, rng).to(observed)
            starts = self._select_starts(generator, observed, degradation, candidates, seed)
            return self._optimize(generator, discriminator, observed, degradation, starts)

    def _select_starts(
        self,
        generator: nn.Module,
        observed: Tensor,
        degradation: Degradation,
        candidates: Tensor,
        seed: int,
    ) -> Tensor:
        """Return the candidates of the least context loss per image, shape (restarts * N, ...)."""
        samples = draw_samples(generator, len(candidates), latents=candidates, seed=seed)
        count = len(observed)
        with torch.no_grad():
            losses = torch.stack(
                [
                    context_loss(sample.expand(count, *sample.shape), observed, degradation)
                    for sample in samples
                ]
            )
        return candidates[losses.topk(self.restarts, 0, largest=False).indices.flatten()]

    def _optimize(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        observed: Tensor,
        degradation: Degradation,
        latents: Tensor,
    ) -> Tensor:
        """Optimize the latents, and return the best or the mean sample of each image's restarts."""
        count = len(observed)
        to_logits = outputs_probabilities(discriminator)
        device, dtype = device_of(discriminator), dtype_of(discriminator)

        def evaluate(latents: Tensor) -> tuple[Tensor, Tensor]:
            """Return samples and their losses."""
            samples: Tensor = generator(latents)
            context = torch.cat(
                [context_loss(part, observed, degradation) for part in samples.split(count)]
            )
            output: Tensor = discriminator(samples.to(device, dtype))
            if output.numel() != len(samples):
                raise ValueError(
                    f"`discriminator` must return one logit for each of {len(samples)} samples, "
                    f"got logits of shape {tuple(output.shape)}"
                )
            output = output.flatten().to(samples)
            logits = output.logit(SMALLEST_PROBABILITY) if to_logits else output
            prior = -F.softplus(logits)  # log(1 - D)
            norm = latents.flatten(1).square().mean(1) / 2
            return samples, context + self.prior_weight * prior + self.norm_weight * norm

        latents = latents.clone().requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            _, losses = evaluate(latents)
            # instead of backward, which would also add to the gradients of the networks
            (latents.grad,) = torch.autograd.grad(losses.sum(), [latents])
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            samples, losses = evaluate(latents)
        shape = samples.shape[1:]
        samples = samples.view(self.restarts, count, -1)
        losses = losses.view(self.restarts, count, 1)
        if self.temperature:
            chosen = (samples * torch.softmax(-losses / self.temperature, 0)).sum(0)
        else:
            chosen = samples.take_along_dim(losses.argmin(0, keepdim=True), 0)[0]
        return chosen.view(count, *shape)


def context_loss(samples: Tensor, observed: Tensor, degradation: Degradation) -> Tensor:
    """Return the mean of |degradation(samples) - observed| for each of N images, shape (N,)."""
    degraded = degradation(samples)
    expected = "a function of samples that returns a tensor of floats"
    check_float_tensor("degradation", degraded, expected)
    if degraded.shape != observed.shape:
        raise ValueError(
            "`degradation` must return the shape of the observed images "
            f"{tuple(observed.shape)}, got {tuple(degraded.shape)}"
        )
    if samples.requires_grad and not degraded.requires_grad:
        raise ValueError("`degradation` must be differentiable, got a result without a gradient")
    return (degraded - observed).abs().flatten(1).mean(1)
