"""Search for the latents whose samples, damaged in the same way, are what was observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.data import LatentSampler, draw_latent, is_finite, latent_sampler_of
from vanillagan.errors import check_floats, check_integer, check_kind, check_number
from vanillagan.losses import SMALLEST_PROBABILITY
from vanillagan.networks.blocks import classes_of, gives_probabilities
from vanillagan.runtime import device_of, dtype_of, evaluating, isolated_rng
from vanillagan.sampling import draw_samples, seeded

__all__ = ["Degradation", "LatentSearch"]

Degradation: TypeAlias = Callable[[Tensor], Tensor]
"""What has happened to N images, in their order: samples (N, *sample_shape) -> observed (N, ...).

Differentiable, and each image's own: it must not mix the images of a batch.
"""


@dataclass(frozen=True)
class LatentSearch:
    """Finds, for each observed image, the sample of a generator that explains it best.

    It minimises over latents z, by Adam, the sum of

        the context loss    mean |degradation(G(z)) - observed|
        the prior loss      prior_weight * log(1 - D(G(z))), which keeps samples realistic
        the latents' norm   norm_weight * mean(z^2) / 2, which keeps latents where G was trained

    from the `restarts` best of `candidates` drawn latents. It gives the sample of least loss or,
    with a temperature, the mean of the restarts' samples, weighted by exp(-loss / temperature):
    where what is left of an image allows several answers, that is nearer to the truth in the mean
    square, and less sharp.

    Args:
        restarts: Searches for each image, at least 1.
        candidates: Latents drawn to start from, at least `restarts`; the same for all images.
        steps: Steps of Adam, at least 1.
        learning_rate: Adam's, above 0; it falls to zero along half a cosine.
        prior_weight: At least 0. The prior asks for logits that are absolute: those learned by a
            `RelativisticLoss` or a `WassersteinLoss` are defined only up to a constant.
        norm_weight: At least 0; 0 where latents are not normal noise.
        temperature: At least 0, in the unit of the loss; 0 for the best sample alone.

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Source: Yeh et al., 2017 (arXiv 1607.07539), sections 3.2 and 3.3. The context loss is a sum
    there; a mean weighs as much in images of any size. The norm takes the place of clamping latents
    to [-1, 1], which suits uniform noise; the choice of starts and the mean are added.
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
        """Searches for all images at once; weights, modes and random states stay as they are.

        Args:
            generator: `forward(latent) -> samples (n, *sample_shape)`, such as
                `trainer.ema.network`; not conditioned on classes.
            discriminator: Gives a logit for each sample. One that ends in a Sigmoid is read through
                the logit function.
            observed: The N damaged images, floats, shape (N, ...).
            degradation: What has happened to them.
            latent_sampler: Where latents come from; by default N(0, 1) of `generator.latent_dim`.
            seed: Makes the result repeatable; None draws other latents at each call.

        Returns:
            Samples of shape (N, *sample_shape), on the device of the generator.

        Raises:
            ValueError, TypeError: An argument is wrong, or the degradation doesn't give what was
                observed.
        """
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            check_kind(name, network, nn.Module, "a torch.nn.Module")
        if classes := classes_of(generator):
            raise ValueError(
                f"`generator` must not be conditioned on classes, got one of {classes} classes"
            )
        if not callable(degradation):
            raise TypeError(f"`degradation` must be a function of samples, got {degradation!r:.80}")
        check_images("observed", observed)
        observed = observed.to(device_of(generator), dtype_of(generator))
        rng, seed = seeded(seed)
        sampler = latent_sampler or latent_sampler_of(generator, argument="latent_sampler")
        modes = evaluating(generator), evaluating(discriminator)
        with isolated_rng(seed), modes[0], modes[1], torch.inference_mode(False):
            drawn = draw_latent(sampler, self.candidates, rng).to(observed)
            starts = self._starts(generator, observed, degradation, drawn, seed)
            return self._descend(generator, discriminator, observed, degradation, starts)

    def _starts(
        self,
        generator: nn.Module,
        observed: Tensor,
        degradation: Degradation,
        drawn: Tensor,
        seed: int,
    ) -> Tensor:
        """The drawn latents of least context loss for each image: (restarts * N, ...)."""
        samples = draw_samples(generator, len(drawn), latent=drawn, seed=seed)
        count = len(observed)
        with torch.no_grad():
            losses = torch.stack(
                [
                    context_loss(sample.expand(count, *sample.shape), observed, degradation)
                    for sample in samples
                ]
            )
        return drawn[losses.topk(self.restarts, 0, largest=False).indices.flatten()]

    def _descend(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        observed: Tensor,
        degradation: Degradation,
        latents: Tensor,
    ) -> Tensor:
        """The samples that the search ends at, of each image's restarts the best or the mean."""
        count = len(observed)
        to_logits = gives_probabilities(discriminator)
        device, dtype = device_of(discriminator), dtype_of(discriminator)

        def evaluate(latents: Tensor) -> tuple[Tensor, Tensor]:
            """Samples with their losses."""
            samples: Tensor = generator(latents)
            context = torch.cat(
                [context_loss(part, observed, degradation) for part in samples.split(count)]
            )
            scores: Tensor = discriminator(samples.to(device, dtype))
            if scores.numel() != len(samples):
                raise ValueError(
                    f"`discriminator` must give a score for each of {len(samples)} samples, got "
                    f"scores of shape {tuple(scores.shape)}"
                )
            scores = scores.flatten().to(samples)
            logits = scores.logit(SMALLEST_PROBABILITY) if to_logits else scores
            prior = -F.softplus(logits)  # log(1 - D)
            norm = latents.flatten(1).square().mean(1) / 2
            return samples, context + self.prior_weight * prior + self.norm_weight * norm

        latents = latents.clone().requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            _, losses = evaluate(latents)
            # of the latents alone: the networks' own gradients stay as they are
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
    """The mean of |degradation(samples) - observed| for each of N images: (N,)."""
    damaged = degradation(samples)
    expected = "a function of samples that gives a tensor of floats"
    check_floats("degradation", damaged, expected)
    if damaged.shape != observed.shape:
        raise ValueError(
            "`degradation` must turn samples into what was observed, of shape "
            f"{tuple(observed.shape)}, got the shape {tuple(damaged.shape)}"
        )
    if samples.requires_grad and not damaged.requires_grad:
        raise ValueError("`degradation` must be differentiable, got a result without gradient")
    return (damaged - observed).abs().flatten(1).mean(1)


def check_images(name: str, images: Tensor) -> None:
    """Raises unless `images` are finite floats, one image or more."""
    check_floats(name, images)
    if images.dim() < 2 or not images.numel():
        raise ValueError(
            f"`{name}` must have the shape (N, ...), of one image or more, got "
            f"{tuple(images.shape)}"
        )
    if not is_finite(images):
        raise ValueError(f"`{name}` must be finite, got NaN or infinite values")
