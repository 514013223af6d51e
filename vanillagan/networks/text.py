"""A generator and a discriminator of text: sequences of one-hot tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.errors import check_choice, check_integer, check_number
from vanillagan.networks.base import DiscriminatorBase, GeneratorBase
from vanillagan.networks.blocks import join_labels
from vanillagan.networks.linear import Linear

__all__ = ["ResidualBlock", "TextDiscriminator", "TextGenerator"]

KERNEL = 5
"""So many neighbouring tokens a convolution looks at."""


class ResidualBlock(nn.Module):
    """Twice ReLU and a 1-D convolution, added to the input: (N, width, L) -> (N, width, L).

    Args:
        width: Channels coming in and going out, at least 1.

    Source: Gulrajani et al., 2017 (arXiv 1704.00028), the language model of their code, which also
    multiplies what is added by 0.3.
    """

    independent_samples = True
    scale = 0.3

    def __init__(self, width: int) -> None:
        check_integer("width", width, minimum=1)
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, width, KERNEL, padding="same"),
            nn.ReLU(),
            nn.Conv1d(width, width, KERNEL, padding="same"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        out: Tensor = x + self.scale * self.layers(x)
        return out


class TextGenerator(GeneratorBase):
    """Turns noise into sequences of one-hot tokens, through which gradients flow.

    A Linear makes a vector for each place of the sequence, residual 1-D convolutions make them fit
    each other, and a last convolution gives the logits of the tokens. What becomes of these is the
    `output`:

    - "gumbel": Gumbel noise is added, and the largest logit is the token, so that tokens are drawn
      from softmax(logits). Backwards it counts as softmax((logits + noise) / temperature): the
      straight-through estimator. Samples are one-hot, in training too; the noise comes from
      PyTorch's global random state.
    - "softmax": the probabilities are the sample in training; in eval mode the likeliest tokens
      are, one-hot.

    Args:
        latent_dim: Size of the noise vector, at least 1.
        sample_shape: (length, tokens): places in a sequence, and tokens in the vocabulary.
        width: Channels of the convolutions, at least 1.
        blocks: How many residual blocks, at least 0.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the noise.
        output: See above.
        temperature: Of the softmax, above 0. A lower one brings it nearer to the tokens, and makes
            gradients larger and rarer.

    Attributes:
        temperature: As above; it may be changed while training goes on, to anneal it. It is not
            part of a checkpoint: a callback that anneals it has to set it again after a `load`.

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Source: Kusner and Hernandez-Lobato, 2016 (arXiv 1611.04051), for the Gumbel-softmax; Jang et
    al., 2017 (arXiv 1611.01144), section 2.2, for its straight-through form; Gulrajani et al., 2017
    (arXiv 1704.00028), section 5.4, for the network and the softmax.

    Example:
        >>> samples = TextGenerator(16, (12, 6), width=8)(torch.randn(4, 16))
        >>> samples.shape, samples.sum(2).eq(1).all()
        (torch.Size([4, 12, 6]), tensor(True))
    """

    def __init__(
        self,
        latent_dim: int,
        sample_shape: tuple[int, ...],
        *,
        width: int = 128,
        blocks: int = 3,
        num_classes: int = 0,
        output: Literal["gumbel", "softmax"] = "gumbel",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(latent_dim, sample_shape, num_classes=num_classes)
        length, tokens = _check_sequences(self.sample_shape)
        check_integer("width", width, minimum=1)
        check_integer("blocks", blocks, minimum=0)
        check_choice("output", output, ("gumbel", "softmax"))
        self.temperature = check_number("temperature", temperature, minimum=0, exclude_minimum=True)
        self.config |= {
            "width": width,
            "blocks": blocks,
            "output": output,
            "temperature": self.temperature,
        }
        self.layers = nn.Sequential(
            Linear(self.latent_dim + num_classes, width * length),
            nn.Unflatten(1, (width, length)),
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv1d(width, tokens, KERNEL, padding="same"),
        )

    def logits(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logits of the tokens, shape (N, length, tokens), of latents (N, latent_dim)."""
        self.check_latent(latent)
        logits: Tensor = self.layers(join_labels(latent, labels, self.num_classes))
        return logits.transpose(1, 2)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Turns latents (N, latent_dim) and labels (N,) into samples (N, length, tokens)."""
        logits = self.logits(latent, labels)
        if self.config["output"] == "softmax":
            return logits.softmax(-1) if self.training else one_hot_of_largest(logits)
        # in full precision also where the network is not
        precise = torch.promote_types(logits.dtype, torch.float32)
        waits = logits.new_empty(logits.shape, dtype=precise)
        logits = logits - waits.exponential_().log_()
        soft = (logits / self.temperature).softmax(-1)
        return one_hot_of_largest(logits) + (soft - soft.detach())


class TextDiscriminator(DiscriminatorBase):
    """Scores sequences of tokens: residual 1-D convolutions, then one logit.

    Args:
        sample_shape: (length, tokens): places in a sequence, and tokens in the vocabulary.
        width: Channels of the convolutions, at least 1.
        blocks: How many residual blocks, at least 0.
        num_classes: Number of classes to condition on, 0 for none. One-hot labels are appended to
            the features.

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Source: Gulrajani et al., 2017 (arXiv 1704.00028), section 5.4.

    Example:
        >>> TextDiscriminator((12, 6), width=8)(torch.zeros(4, 12, 6)).shape
        torch.Size([4])
    """

    independent_samples = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        *,
        width: int = 128,
        blocks: int = 3,
        num_classes: int = 0,
    ) -> None:
        super().__init__(sample_shape, num_classes=num_classes)
        length, tokens = _check_sequences(self.sample_shape)
        check_integer("width", width, minimum=1)
        check_integer("blocks", blocks, minimum=0)
        self.config |= {"width": width, "blocks": blocks}
        self.layers = nn.Sequential(
            nn.Conv1d(tokens, width, 1),
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.Flatten(),
        )
        self.score = Linear(width * length + num_classes, 1)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Turns samples (N, length, tokens) and labels (N,) into logits (N,)."""
        self.check_samples(samples)
        features = self.layers(samples.transpose(1, 2))
        logits: Tensor = self.score(join_labels(features, labels, self.num_classes))
        return logits.squeeze(1)


def one_hot_of_largest(logits: Tensor) -> Tensor:
    """The largest logit's token, one-hot and without a gradient, of the same shape and dtype."""
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)


def _check_sequences(sample_shape: tuple[int, ...]) -> tuple[int, int]:
    if len(sample_shape) != 2:
        raise ValueError(f"`sample_shape` must be (length, tokens), got {sample_shape}")
    return sample_shape[0], sample_shape[1]
