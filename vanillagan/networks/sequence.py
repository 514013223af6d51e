"""Generator and discriminator of text: sequences of one-hot tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.networks.blocks import join_labels
from vanillagan.networks.linear import Linear
from vanillagan.validation import check_choice, check_integer, check_number

__all__ = ["ResidualBlock", "TextDiscriminator", "TextGenerator"]

KERNEL = 5
"""Kernel size of the convolutions, in tokens."""


class ResidualBlock(nn.Module):
    """Residual block of two 1-D convolutions: (N, channels, length) -> (N, channels, length).

    Its layers are ReLU, Conv1d, ReLU, Conv1d. The residual is multiplied by 0.3.

    Args:
        channels: Number of input and output channels, at least 1.

    Source: Gulrajani et al., 2017 (WGAN-GP, arXiv 1704.00028), the language model of their code.
    """

    scale = 0.3

    def __init__(self, channels: int) -> None:
        check_integer("channels", channels, minimum=1)
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(channels, channels, KERNEL, padding="same"),
            nn.ReLU(),
            nn.Conv1d(channels, channels, KERNEL, padding="same"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x + 0.3 * layers(x)."""
        out: Tensor = x + self.scale * self.layers(x)
        return out


class TextGenerator(GeneratorBase):
    """Generator of sequences of one-hot tokens, with a differentiable output (Gumbel-softmax).

    A Linear layer maps the latents to a vector for each position, residual 1-D convolutions follow,
    and a last convolution gives the logits of the tokens. `output` determines how logits become
    samples:

    - "gumbel": Gumbel noise is added, and the largest logit gives the token, so that tokens are
      drawn from softmax(logits). The gradient is that of softmax((logits + noise) / temperature)
      (straight-through estimator). Samples are one-hot, in training too. The noise is drawn from
      PyTorch's global random state.
    - "softmax": in training the sample is the probabilities; in eval mode it is the most likely
      tokens, one-hot.

    Args:
        latent_dim: Size of the latent vector, at least 1.
        sample_shape: (length, tokens): positions in a sequence, and tokens in the vocabulary.
        channels: Number of channels of the convolutions, at least 1.
        blocks: Number of residual blocks, at least 0.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the latents (conditional GAN).
        output: "gumbel" or "softmax", see above.
        temperature: Temperature of the Gumbel-softmax, above 0. Lower values approximate the tokens
            more closely, with gradients that are larger and concentrated on fewer positions.

    Attributes:
        temperature: As above. It may be changed during training, to anneal it. Checkpoints do not
            hold it: a callback that anneals it has to set it again after `load`.
        sampling_temperature: With "gumbel", temperature of the draws in eval mode, at least 0. With
            1 (the default) tokens are drawn as in training; lower values prefer likely tokens, and
            0 takes the likeliest, so that texts differ by their latents alone. Files do not hold
            it. With an EMA set it on `trainer.eval_generator`.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Gulrajani et al., 2017 (WGAN-GP, arXiv 1704.00028), section 5.4, for the network and the
    softmax; Kusner and Hernandez-Lobato, 2016 (arXiv 1611.04051) for the Gumbel-softmax; Jang et
    al., 2017 (arXiv 1611.01144), section 2.2, for the straight-through estimator.

    Example:
        >>> samples = TextGenerator(16, (12, 6), channels=8)(torch.randn(4, 16))
        >>> samples.shape, samples.sum(2).eq(1).all()
        (torch.Size([4, 12, 6]), tensor(True))
    """

    def __init__(
        self,
        latent_dim: int,
        sample_shape: tuple[int, ...],
        *,
        channels: int = 128,
        blocks: int = 3,
        num_classes: int = 0,
        output: Literal["gumbel", "softmax"] = "gumbel",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(latent_dim, sample_shape, num_classes=num_classes)
        length, tokens = _check_sequences(self.sample_shape)
        channels = check_integer("channels", channels, minimum=1)
        blocks = check_integer("blocks", blocks, minimum=0)
        check_choice("output", output, ("gumbel", "softmax"))
        self.temperature = check_number("temperature", temperature, minimum=0, exclude_minimum=True)
        self.sampling_temperature = 1.0
        self.config |= {
            "channels": channels,
            "blocks": blocks,
            "output": output,
            "temperature": self.temperature,
        }
        self.layers = nn.Sequential(
            Linear(self.latent_dim + num_classes, channels * length),
            nn.Unflatten(1, (channels, length)),
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv1d(channels, tokens, KERNEL, padding="same"),
        )

    @property
    def sampling_temperature(self) -> float:
        """Temperature of the draws in eval mode, at least 0, see above."""
        return self._sampling_temperature

    @sampling_temperature.setter
    def sampling_temperature(self, value: float) -> None:
        self._sampling_temperature = check_number("sampling_temperature", value, minimum=0)

    def logits(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (N, latent_dim) to the logits of the tokens, shape (N, length, tokens)."""
        self.check_latents(latents)
        logits: Tensor = self.layers(join_labels(latents, labels, self.num_classes))
        return logits.transpose(1, 2)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (N, latent_dim) and labels (N,) to samples (N, length, tokens)."""
        logits = self.logits(latents, labels)
        if self.config["output"] == "softmax":
            return logits.softmax(-1) if self.training else one_hot_of_largest(logits)
        scale = 1.0 if self.training else self.sampling_temperature
        # in float32 at least: in bfloat16 an exponential draw rounds too coarsely for its logarithm
        precise = torch.promote_types(logits.dtype, torch.float32)
        noise = logits.new_empty(logits.shape, dtype=precise)
        # -log of an exponential is Gumbel noise
        logits = torch.sub(logits, noise.exponential_().log_(), alpha=scale)
        soft = (logits / self.temperature).softmax(-1)
        return one_hot_of_largest(logits) + (soft - soft.detach())


class TextDiscriminator(DiscriminatorBase):
    """Discriminator of sequences of tokens: residual 1-D convolutions, then one logit.

    Args:
        sample_shape: (length, tokens): positions in a sequence, and tokens in the vocabulary.
        channels: Number of channels of the convolutions, at least 1.
        blocks: Number of residual blocks, at least 0.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the features (conditional GAN).

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Gulrajani et al., 2017 (WGAN-GP, arXiv 1704.00028), section 5.4.

    Example:
        >>> TextDiscriminator((12, 6), channels=8)(torch.zeros(4, 12, 6)).shape
        torch.Size([4])
    """

    independent_samples = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        *,
        channels: int = 128,
        blocks: int = 3,
        num_classes: int = 0,
    ) -> None:
        super().__init__(sample_shape, num_classes=num_classes)
        length, tokens = _check_sequences(self.sample_shape)
        channels = check_integer("channels", channels, minimum=1)
        blocks = check_integer("blocks", blocks, minimum=0)
        self.config |= {"channels": channels, "blocks": blocks}
        self.layers = nn.Sequential(
            nn.Conv1d(tokens, channels, 1),
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.Flatten(),
        )
        self.head = Linear(channels * length + num_classes, 1)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map samples (N, length, tokens) and labels (N,) to logits (N,)."""
        self.check_samples(samples)
        features = self.layers(samples.transpose(1, 2))
        logits: Tensor = self.head(join_labels(features, labels, self.num_classes))
        return logits.squeeze(1)


def one_hot_of_largest(logits: Tensor) -> Tensor:
    """Return the token of the largest logit, one-hot, of the same shape and dtype, no gradient."""
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)


def _check_sequences(sample_shape: tuple[int, ...]) -> tuple[int, int]:
    if len(sample_shape) != 2:
        raise ValueError(f"`sample_shape` must be (length, tokens), got {sample_shape}")
    return sample_shape[0], sample_shape[1]
