"""What the library's generators share, and what its discriminators share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vanillagan.errors import check_integer, check_integers
from vanillagan.networks.blocks import check_shape
from vanillagan.sampling import Labels, draw_samples

__all__ = ["DiscriminatorBase", "GeneratorBase"]


class GeneratorBase(nn.Module):
    """A generator that knows its sizes and can be rebuilt from its `config`.

    Attributes:
        latent_dim: Size of the noise vector.
        sample_shape: Shape of one sample.
        num_classes: Number of classes that it is conditioned on, 0 for none.
        config: The arguments it was made with, as a checkpoint keeps them.
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

    def check_latent(self, latent: Tensor) -> None:
        """Raises unless `latent` has the shape (N, latent_dim)."""
        check_shape("latent", latent, (self.latent_dim,))

    def sample(self, n: int, *, labels: Labels = None, seed: int | None = None) -> Tensor:
        """Draws n samples in eval mode, without gradients; the training state stays as it is.

        Args:
            n: How many samples, at least 1.
            labels: For a conditional generator: n classes, or one for all samples.
            seed: Makes the samples repeatable; None draws new ones at each call.

        Returns:
            Samples of shape (n, *sample_shape), on the device of the generator.
        """
        return draw_samples(self, n, labels=labels, seed=seed)


class DiscriminatorBase(nn.Module):
    """A discriminator that gives logits and can be rebuilt from its `config`.

    Attributes:
        sample_shape: Shape of one sample.
        num_classes: Number of classes that it is conditioned on, 0 for none.
        config: The arguments it was made with, as a checkpoint keeps them.
    """

    returns_logits = True

    def __init__(self, sample_shape: tuple[int, ...], *, num_classes: int) -> None:
        super().__init__()
        self.sample_shape = check_integers("sample_shape", sample_shape)
        self.num_classes = check_integer("num_classes", num_classes, minimum=0)
        self.config: dict[str, Any] = {
            "sample_shape": self.sample_shape,
            "num_classes": self.num_classes,
        }

    def check_samples(self, samples: Tensor) -> None:
        """Raises unless `samples` has the shape (N, *sample_shape)."""
        check_shape("samples", samples, self.sample_shape)

    def probability(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Gives D(x), the probability that each sample is real: (N, *sample_shape) -> (N,).

        Args:
            samples: Samples, shape (N, *sample_shape).
            labels: Their classes, shape (N,), for a conditional discriminator.

        Returns:
            Probabilities in (0, 1), shape (N,). See `vanillagan.theory.optimal_discriminator`
            for what they converge to.
        """
        logits: Tensor = self(samples, labels)
        return torch.sigmoid(logits)
