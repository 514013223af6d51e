"""The games: one object each, with a loss for either player and nothing of training in it.

Scores are what the discriminator gives: logits, unless a loss says otherwise. Every loss is a mean
over the batch, a scalar to be minimised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from vanillagan.errors import check_choice, check_number

__all__ = [
    "AdversarialLoss",
    "BCEAdversarialLoss",
    "HingeLoss",
    "LeastSquaresLoss",
    "RelativisticLoss",
    "WassersteinLoss",
]

SMALLEST_PROBABILITY = 1e-7


@runtime_checkable
class AdversarialLoss(Protocol):
    """What the trainer asks of a game.

    Attributes:
        needs_real: Whether the generator's loss reads the real scores too.
    """

    needs_real: bool

    def discriminator(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from its scores of real and fake samples."""
        ...

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """The generator's loss, a scalar, from the discriminator's scores."""
        ...


@dataclass(frozen=True, kw_only=True)
class BCEAdversarialLoss:
    """The original game, as binary cross-entropy.

    The discriminator minimises the mean of its two halves, -log D(x) and -log(1 - D(G(z))). It is
    log 2 where D = 1/2, and -2 times it estimates the paper's V(D, G).

    Attributes:
        from_logits: Whether scores are logits. Probabilities are clamped to [1e-7, 1 - 1e-7].
        generator_objective: "non_saturating" minimises -log D(G(z)), the paper's advice at the end
            of its section 3; "minimax" minimises log(1 - D(G(z))), its equation 1.
        real_label: The discriminator's target for real samples, in [0, 1]. 0.9 is one-sided label
            smoothing (Salimans et al., 2016, arXiv 1606.03498, section 3.4).
        fake_label: The discriminator's target for fakes, in [0, 1].

    Raises:
        ValueError, TypeError: An argument is out of its range; the message names it.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), equation 1.

    Example:
        >>> loss = BCEAdversarialLoss()
        >>> round(float(loss.discriminator(torch.zeros(4), torch.zeros(4))), 4)  # log 2
        0.6931
    """

    from_logits: bool = True
    generator_objective: Literal["non_saturating", "minimax"] = "non_saturating"
    real_label: float = 1.0
    fake_label: float = 0.0

    needs_real = False

    def __post_init__(self) -> None:
        check_choice("generator_objective", self.generator_objective, ("non_saturating", "minimax"))
        check_number("real_label", self.real_label, minimum=0, maximum=1)
        check_number("fake_label", self.fake_label, minimum=0, maximum=1)

    def discriminator(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """Mean of the cross-entropies of real scores to real_label and of fakes to fake_label."""
        real = self._cross_entropy(real_scores, self.real_label)
        fake = self._cross_entropy(fake_scores, self.fake_label)
        return (real + fake) / 2

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """-log D(G(z)), or for minimax log(1 - D(G(z))), as a mean over the batch."""
        if self.generator_objective == "minimax":
            return -self._cross_entropy(fake_scores, 0.0)
        return self._cross_entropy(fake_scores, 1.0)

    def _cross_entropy(self, scores: Tensor, target: float) -> Tensor:
        if target == 1.0:
            return -self._log_probability(scores, of_real=True).mean()
        if target == 0.0:
            return -self._log_probability(scores, of_real=False).mean()
        real = self._log_probability(scores, of_real=True)
        fake = self._log_probability(scores, of_real=False)
        return -(target * real + (1 - target) * fake).mean()

    def _log_probability(self, scores: Tensor, *, of_real: bool) -> Tensor:
        if self.from_logits:
            return -_softplus(-scores if of_real else scores)
        if scores.device.type == "cpu" and bool(((scores < 0) | (scores > 1)).any()):
            raise ValueError(
                "`scores` must be probabilities in [0, 1] with from_logits=False, got "
                f"scores from {float(scores.detach().min()):g} to {float(scores.detach().max()):g}"
            )
        step = max(SMALLEST_PROBABILITY, torch.finfo(scores.dtype).eps)
        clamped = scores.clamp(SMALLEST_PROBABILITY, 1 - step)
        return clamped.log() if of_real else torch.log1p(-clamped)


@dataclass(frozen=True)
class HingeLoss:
    """The hinge game: D separates its scores by a margin, G raises the scores of fakes.

    Discriminator: mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z))). Generator: -mean D(G(z)).

    Source: Lim and Ye, 2017 (arXiv 1705.02894); Miyato et al., 2018 (arXiv 1802.05957), eq. 16, 17.
    """

    needs_real = False

    def discriminator(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z)))."""
        return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """-mean D(G(z))."""
        return -fake_scores.mean()


@dataclass(frozen=True)
class LeastSquaresLoss:
    """The least squares game, with targets 1 for real samples and 0 for fakes.

    Discriminator: mean (D(x) - 1)^2 / 2 + mean D(G(z))^2 / 2. Generator: mean (D(G(z)) - 1)^2 / 2.

    Source: Mao et al., 2017 (arXiv 1611.04076), equation 9.
    """

    needs_real = False

    def discriminator(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """mean (D(x) - 1)^2 / 2 + mean D(G(z))^2 / 2."""
        return ((real_scores - 1).square().mean() + fake_scores.square().mean()) / 2

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """mean (D(G(z)) - 1)^2 / 2."""
        return (fake_scores - 1).square().mean() / 2


@dataclass(frozen=True)
class WassersteinLoss:
    """The Wasserstein game, to be played with a critic kept Lipschitz by a `GradientPenalty`.

    Discriminator: mean D(G(z)) - mean D(x). Generator: -mean D(G(z)).

    Source: Arjovsky et al., 2017 (arXiv 1701.07875), equation 2; Gulrajani et al., 2017 (arXiv
    1704.00028), equation 3.
    """

    needs_real = False

    def discriminator(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """mean D(G(z)) - mean D(x)."""
        return fake_scores.mean() - real_scores.mean()

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """-mean D(G(z))."""
        return -fake_scores.mean()


@dataclass(frozen=True)
class RelativisticLoss:
    """The relativistic pairing game: each fake is judged beside a real sample.

    Discriminator: mean softplus(D(G(z)) - D(x)). Generator: mean softplus(D(x) - D(G(z))). Real and
    fake scores must be of one shape.

    Source: Jolicoeur-Martineau, 2018 (arXiv 1807.00734), section 4.1, RSGAN; the game of R3GAN
    (Huang et al., 2024, arXiv 2501.05441).
    """

    needs_real = True

    def discriminator(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """mean softplus(D(G(z)) - D(x))."""
        _check_pairs(real_scores, fake_scores)
        return _softplus(fake_scores - real_scores).mean()

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """mean softplus(D(x) - D(G(z))).

        Raises:
            ValueError: `real_scores` is missing.
        """
        if real_scores is None:
            raise ValueError("`real_scores` must be given to the relativistic loss, got None")
        _check_pairs(real_scores, fake_scores)
        return _softplus(real_scores - fake_scores).mean()


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) to double precision; `logsigmoid` starts threads even for a few scores."""
    return F.softplus(x, threshold=40)


def _check_pairs(real_scores: Tensor, fake_scores: Tensor) -> None:
    if real_scores.shape != fake_scores.shape:
        raise ValueError(
            f"`real_scores` must have the shape of the fake scores {tuple(fake_scores.shape)}, "
            f"got {tuple(real_scores.shape)}"
        )
