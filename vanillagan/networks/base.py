"""Base classes of the library's generators and discriminators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vanillagan.sampling.draw import Labels, draw_samples
from vanillagan.validation import check_integer, check_integers, check_shape

__all__ = ["DiscriminatorBase", "GeneratorBase"]


class GeneratorBase(nn.Module):
    """Generator that declares its sizes and can be rebuilt from its `config`.

    Attributes:
        latent_dim: Size of the latent vector.
        sample_shape: Shape of one sample.
        num_classes: Number of classes it is conditioned on, 0 for none.
        config: Arguments it was created with, as checkpoints store them.
    """

    def __init__(self, latent_dim: int, sample_shape: tuple[int, ...], *, num_classes: int) -> None:
        super().__init__()
        self.latent_dim = check_integer("latent_dim", latent_dim, minimum=1)
        self.sample_shape = check_integers("sample_shape", sample_shape)
        self.num_classes = check_integer("num_classes", num_classes, minimum=0)
        self.config: dict[str, Any] = {
            "latent_dim": self.latent_dim,
            "sample_shape": self.sample_shape,
            "num_classes": self.num_classes,
        }

    def check_latents(self, latents: Tensor) -> None:
        """Raise unless `latents` has the shape (N, latent_dim)."""
        check_shape("latents", latents, (self.latent_dim,))

    def sample(self, n: int, *, labels: Labels = None, seed: int | None = None) -> Tensor:
        """Draw n samples in eval mode, without gradients. The training state does not change.

        Args:
            n: Number of samples, at least 1.
            labels: For a conditional generator: n class indices, or one for all samples.
            seed: Makes the samples repeatable; None draws new ones at each call.

        Returns:
            Samples of shape (n, *sample_shape), on the generator's device.
        """
        return draw_samples(self, n, labels=labels, seed=seed)


class DiscriminatorBase(nn.Module):
    """Discriminator that returns logits and can be rebuilt from its `config`.

    Attributes:
        sample_shape: Shape of one sample.
        num_classes: Number of classes it is conditioned on, 0 for none.
        config: Arguments it was created with, as checkpoints store them.
    """

    outputs_logits = True

    def __init__(self, sample_shape: tuple[int, ...], *, num_classes: int) -> None:
        super().__init__()
        self.sample_shape = check_integers("sample_shape", sample_shape)
        self.num_classes = check_integer("num_classes", num_classes, minimum=0)
        self.config: dict[str, Any] = {
            "sample_shape": self.sample_shape,
            "num_classes": self.num_classes,
        }

    def check_samples(self, samples: Tensor) -> None:
        """Raise unless `samples` has the shape (N, *sample_shape)."""
        check_shape("samples", samples, self.sample_shape)

    def probability(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return D(x), the probability that each sample is real: (N, *sample_shape) -> (N,).

        Args:
            samples: Samples, shape (N, *sample_shape).
            labels: Class indices, shape (N,), for a conditional discriminator.

        Returns:
            Probabilities in (0, 1), shape (N,). A discriminator that is optimal for its generator
            returns `vanillagan.theory.optimal_discriminator`.
        """
        logits: Tensor = self(samples, labels)
        return torch.sigmoid(logits)
