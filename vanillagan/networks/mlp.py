"""MLP generator and discriminator, the networks of the reference implementation."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.networks.blocks import LinearBlock, join_labels
from vanillagan.networks.linear import Linear
from vanillagan.validation import check_choice, check_integers, check_number

__all__ = ["Discriminator", "Generator"]


class Generator(GeneratorBase):
    """MLP generator: maps latents to samples of any shape.

    Each block is Linear, BatchNorm (not in the first), LeakyReLU(0.2); the output is Linear, Tanh.
    With the defaults it is the generator of the reference implementation (PyTorch-GAN's gan.py),
    except for one argument. The reference passes 0.8 to `BatchNorm1d` by position, which PyTorch
    takes as eps, while its text means a momentum of 0.8 as Keras counts it: 0.2 in PyTorch.
    `norm_eps=0.8, norm_momentum=0.1` gives that code as it is written.

    Args:
        latent_dim: Size of the latent vector, at least 1.
        sample_shape: Shape of one sample, any number of dimensions: (2,), (1, 28, 28), ...
        hidden: Output features of each block; () leaves the output layer alone.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the latents (conditional GAN; Mirza and Osindero, 2014, arXiv 1411.1784).
        output: "tanh" for samples in [-1, 1], "linear" for unbounded samples.
        norm_eps: Constant added to BatchNorm's variance, above 0.
        norm_momentum: Weight of the newest batch in BatchNorm's running statistics, in [0, 1].

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), section 3: G(z; theta_g).

    Example:
        >>> import torch
        >>> Generator()(torch.randn(4, 100)).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int = 100,
        sample_shape: tuple[int, ...] = (1, 28, 28),
        *,
        hidden: tuple[int, ...] = (128, 256, 512, 1024),
        num_classes: int = 0,
        output: Literal["tanh", "linear"] = "tanh",
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.2,
    ) -> None:
        super().__init__(latent_dim, sample_shape, num_classes=num_classes)
        hidden = check_integers("hidden", hidden, allow_empty=True)
        check_choice("output", output, ("tanh", "linear"))
        # before any block is made: an error leaves the global random state as it was
        norm = {
            "norm_eps": check_number("norm_eps", norm_eps, minimum=0, exclude_minimum=True),
            "norm_momentum": check_number("norm_momentum", norm_momentum, minimum=0, maximum=1),
        }
        self.config |= {"hidden": hidden, "output": output} | norm
        widths = (self.latent_dim + self.num_classes, *hidden)
        self.layers = nn.Sequential(
            *(
                LinearBlock(widths[i], widths[i + 1], normalize=i > 0, **norm)
                for i in range(len(hidden))
            ),
            Linear(widths[-1], math.prod(self.sample_shape)),
        )
        if output == "tanh":
            self.layers.append(nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (N, latent_dim) and labels (N,) to samples (N, *sample_shape)."""
        self.check_latents(latents)
        flat: Tensor = self.layers(join_labels(latents, labels, self.num_classes))
        return flat.view(-1, *self.sample_shape)


class Discriminator(DiscriminatorBase):
    """MLP discriminator: maps samples of any shape to one logit each.

    Each block is Linear, LeakyReLU(0.2), Dropout; the output is Linear. With the defaults it is the
    discriminator of the reference implementation (PyTorch-GAN's gan.py) without the final Sigmoid:
    `probability` returns the paper's D(x).

    Args:
        sample_shape: Shape of one sample, any number of dimensions.
        hidden: Output features of each block; () leaves the output layer alone.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the flattened samples (conditional GAN).
        dropout: Probability of setting a feature to zero in training, in [0, 1).

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), section 3: D(x; theta_d).

    Example:
        >>> import torch
        >>> Discriminator().probability(torch.zeros(4, 1, 28, 28)).shape
        torch.Size([4])
    """

    independent_samples = True

    def __init__(
        self,
        sample_shape: tuple[int, ...] = (1, 28, 28),
        *,
        hidden: tuple[int, ...] = (512, 256),
        num_classes: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(sample_shape, num_classes=num_classes)
        hidden = check_integers("hidden", hidden, allow_empty=True)
        dropout = check_number("dropout", dropout, minimum=0, maximum=1, exclude_maximum=True)
        self.config |= {"hidden": hidden, "dropout": dropout}
        widths = (math.prod(self.sample_shape) + self.num_classes, *hidden)
        self.layers = nn.Sequential(
            *(
                LinearBlock(widths[i], widths[i + 1], normalize=False, dropout=dropout)
                for i in range(len(hidden))
            ),
            Linear(widths[-1], 1),
        )

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map samples (N, *sample_shape) and labels (N,) to logits (N,)."""
        self.check_samples(samples)
        flat = join_labels(samples.flatten(1), labels, self.num_classes)
        logits: Tensor = self.layers(flat)
        return logits.squeeze(1)
