"""Adversarial losses: objects with a loss for the discriminator and one for the generator.

They hold no state and no training code. Every loss is a scalar to minimize, a mean over the batch.
Logits are the outputs of the discriminator, shape (N,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from vanillagan.validation import check_bool, check_choice, check_number, check_outputs

__all__ = [
    "AdversarialLoss",
    "BCEAdversarialLoss",
    "HingeLoss",
    "LeastSquaresLoss",
    "RelativisticLoss",
    "WassersteinLoss",
]

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are clamped to this distance from 0 and 1 before their logarithm is taken."""


@runtime_checkable
class AdversarialLoss(Protocol):
    """Protocol of adversarial losses.

    Attributes:
        needs_real: True if the generator's loss needs the real logits.
    """

    @property
    def needs_real(self) -> bool:
        """True if the generator's loss needs the real logits."""
        ...

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, from its outputs for real and fake samples."""
        ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar, from the discriminator's outputs."""
        ...


@dataclass(frozen=True, kw_only=True)
class BCEAdversarialLoss:
    """Binary cross-entropy (BCE), the loss of the original GAN: non-saturating or minimax.

    The discriminator's loss is the mean of two halves, -log D(x) and -log(1 - D(G(z))). It is log 2
    where D = 1/2, and -2 times the loss estimates the paper's V(D, G).

    Attributes:
        from_logits: True if the discriminator returns logits, False if it returns probabilities.
            These are clamped to [1e-7, 1 - 1e-7]; values outside of [0, 1] are an error on the CPU.
        generator_objective: "non_saturating" minimizes -log D(G(z)) (NSGAN), which the paper
            recommends at the end of section 3. "minimax" minimizes log(1 - D(G(z))), equation 1.
        real_label: Target of the discriminator for real samples, in [0, 1]. 0.9 gives one-sided
            label smoothing (Salimans et al., 2016, arXiv 1606.03498, section 3.4).
        fake_label: Target of the discriminator for fakes, in [0, 1].

    Raises:
        ValueError, TypeError: An argument is invalid.

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
        check_bool("from_logits", self.from_logits)
        check_choice("generator_objective", self.generator_objective, ("non_saturating", "minimax"))
        check_number("real_label", self.real_label, minimum=0, maximum=1)
        check_number("fake_label", self.fake_label, minimum=0, maximum=1)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the mean of the cross-entropies of real and of fake samples to their labels."""
        check_outputs(real_logits=real_logits, fake_logits=fake_logits)
        real = self._cross_entropy(real_logits, self.real_label)
        fake = self._cross_entropy(fake_logits, self.fake_label)
        return (real + fake) / 2

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return mean -log D(G(z)), or for "minimax" mean log(1 - D(G(z)))."""
        check_outputs(fake_logits=fake_logits)
        if self.generator_objective == "minimax":
            return -self._cross_entropy(fake_logits, 0.0)
        return self._cross_entropy(fake_logits, 1.0)

    def _cross_entropy(self, outputs: Tensor, target: float) -> Tensor:
        if target == 1.0:
            return self._surprisal(outputs, of_real=True).mean()
        if target == 0.0:
            return self._surprisal(outputs, of_real=False).mean()
        real = self._surprisal(outputs, of_real=True)
        fake = self._surprisal(outputs, of_real=False)
        return (target * real + (1 - target) * fake).mean()

    def _surprisal(self, outputs: Tensor, *, of_real: bool) -> Tensor:
        """Return -log D, or -log(1 - D)."""
        if self.from_logits:
            return _softplus(-outputs if of_real else outputs)
        # on the CPU alone: reading the values from another device would synchronize
        if outputs.device.type == "cpu" and bool(((outputs < 0) | (outputs > 1)).any()):
            low, high = float(outputs.detach().min()), float(outputs.detach().max())
            raise ValueError(
                "`real_logits` and `fake_logits` must be probabilities in [0, 1] with "
                f"from_logits=False, got values from {low:g} to {high:g} "
                "(pass `from_logits=True` if the discriminator returns logits)"
            )
        # 1 - 1e-7 rounds to 1 in half precision, whose log1p(-1) is infinite
        step = max(SMALLEST_PROBABILITY, torch.finfo(outputs.dtype).eps)
        clamped = outputs.clamp(SMALLEST_PROBABILITY, 1 - step)
        return -(clamped.log() if of_real else torch.log1p(-clamped))


@dataclass(frozen=True)
class HingeLoss:
    """Hinge loss (SAGAN, BigGAN): a margin of 1 on either side for the discriminator.

    Discriminator: mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z))). Generator: -mean D(G(z)).

    Source: Lim and Ye, 2017 (Geometric GAN, arXiv 1705.02894); Miyato et al., 2018 (SN-GAN, arXiv
    1802.05957), equations 16 and 17.
    """

    needs_real = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z)))."""
        check_outputs(real_logits=real_logits, fake_logits=fake_logits)
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return -mean D(G(z))."""
        check_outputs(fake_logits=fake_logits)
        return -fake_logits.mean()


@dataclass(frozen=True)
class LeastSquaresLoss:
    """Least-squares loss (LSGAN), with targets 1 for real samples and 0 for fakes.

    Discriminator: mean (D(x) - 1)^2 / 2 + mean D(G(z))^2 / 2. Generator: mean (D(G(z)) - 1)^2 / 2.

    Source: Mao et al., 2017 (LSGAN, arXiv 1611.04076), equation 9.
    """

    needs_real = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return mean (D(x) - 1)^2 / 2 + mean D(G(z))^2 / 2."""
        check_outputs(real_logits=real_logits, fake_logits=fake_logits)
        return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return mean (D(G(z)) - 1)^2 / 2."""
        check_outputs(fake_logits=fake_logits)
        return (fake_logits - 1).square().mean() / 2


@dataclass(frozen=True)
class WassersteinLoss:
    """Wasserstein loss (WGAN), for a critic that is 1-Lipschitz.

    Discriminator: mean D(G(z)) - mean D(x). Generator: -mean D(G(z)). Combine it with a
    `GradientPenalty` for WGAN-GP: without a constraint on the critic the loss is unbounded.

    Source: Arjovsky et al., 2017 (WGAN, arXiv 1701.07875), equation 2; Gulrajani et al., 2017
    (WGAN-GP, arXiv 1704.00028), equation 3.
    """

    needs_real = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return mean D(G(z)) - mean D(x)."""
        check_outputs(real_logits=real_logits, fake_logits=fake_logits)
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return -mean D(G(z))."""
        check_outputs(fake_logits=fake_logits)
        return -fake_logits.mean()


@dataclass(frozen=True)
class RelativisticLoss:
    """Relativistic pairing loss (RpGAN, used by R3GAN): pairs each fake with a real sample.

    Discriminator: mean softplus(D(G(z)) - D(x)). Generator: mean softplus(D(x) - D(G(z))). Real and
    fake logits must have the same shape. R3GAN adds the penalties `R1` and `R2`.

    Source: Jolicoeur-Martineau, 2018 (RSGAN, arXiv 1807.00734), section 4.1; Huang et al., 2024
    (R3GAN, arXiv 2501.05441).
    """

    needs_real = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return mean softplus(D(G(z)) - D(x)).

        Raises:
            ValueError: Real and fake logits differ in shape.
        """
        _check_pairs(real_logits, fake_logits)
        return _softplus(fake_logits - real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return mean softplus(D(x) - D(G(z))).

        Raises:
            ValueError: `real_logits` is missing, or real and fake logits differ in shape.
        """
        if real_logits is None:
            raise ValueError("`real_logits` must be given to the relativistic loss, got None")
        _check_pairs(real_logits, fake_logits)
        return _softplus(real_logits - fake_logits).mean()


def _softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)) to double precision."""
    # above the default threshold of 20 PyTorch returns x, with an error above float64's eps;
    # logsigmoid would be as exact, but starts threads even for a few values
    return F.softplus(x, threshold=40)


def _check_pairs(real_logits: Tensor, fake_logits: Tensor) -> None:
    check_outputs(real_logits=real_logits, fake_logits=fake_logits)
    if real_logits.shape != fake_logits.shape:
        raise ValueError(
            f"`real_logits` must have the shape of `fake_logits` {tuple(fake_logits.shape)}, "
            f"got {tuple(real_logits.shape)}"
        )
