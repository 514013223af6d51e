"""Recipes: tested settings of `GANTrainer`, as keyword arguments.

Each call returns new objects. Recipes hold no callbacks, so that they can be combined with them::

    GANTrainer(Generator(), Discriminator(), **recipes.stable(), callbacks=[ProgressBar()])
"""

from __future__ import annotations

from typing import Literal, TypedDict

from vanillagan.ema import EMA
from vanillagan.losses import AdversarialLoss, BCEAdversarialLoss, RelativisticLoss
from vanillagan.penalties import R1, R2, Penalty
from vanillagan.player import LRFactor, OptimizerFactory, adam, linear_decay

__all__ = ["Recipe", "dcgan", "r3gan", "reference", "stable"]


class Recipe(TypedDict, total=False):
    """Keyword arguments of `GANTrainer`."""

    loss: AdversarialLoss
    penalties: list[Penalty]
    generator_optimizer: OptimizerFactory
    discriminator_optimizer: OptimizerFactory
    lr_schedule: LRFactor
    update_order: Literal["generator_first", "discriminator_first"]
    ema: EMA


def reference() -> Recipe:
    """Return the settings of the reference implementation, PyTorch-GAN's gan.py.

    These are the defaults of `GANTrainer`, written out. The reference passes 0.8 to BatchNorm as
    eps, while its text means a momentum; `Generator(norm_eps=0.8, norm_momentum=0.1)` is the
    network of that code.

    Source: https://github.com/eriklindernoren/PyTorch-GAN/blob/master/implementations/gan/gan.py
    """
    return {
        "loss": BCEAdversarialLoss(),
        "generator_optimizer": adam(2e-4, betas=(0.5, 0.999)),
        "discriminator_optimizer": adam(2e-4, betas=(0.5, 0.999)),
    }


def stable() -> Recipe:
    """Return settings for MLPs that prevent mode collapse and improve samples.

    Algorithm 1's update order, R1 penalty, Adam without momentum and with twice the learning rate
    for the generator, linear decay of both learning rates over the last fifth of the run, and an
    EMA of the generator. docs/results/quality.md has the quality of its samples.

    Source: Goodfellow et al., 2014 (arXiv 1406.2661), Algorithm 1; Mescheder et al., 2018 (arXiv
    1801.04406) for R1; Karras et al., 2018 (arXiv 1710.10196) for Adam without momentum and the
    EMA.
    """
    return {
        "penalties": [R1(1.0, every=4)],
        "generator_optimizer": adam(6e-4, betas=(0.0, 0.99)),
        "discriminator_optimizer": adam(3e-4, betas=(0.0, 0.99)),
        "lr_schedule": linear_decay(0.8),
        "update_order": "discriminator_first",
        "ema": EMA(0.999),
    }


def dcgan(lr: float = 1e-3) -> Recipe:
    """Return settings for the convolutional networks, `ConvGenerator` and `ConvDiscriminator`.

    R1 penalty, Adam without momentum, twice the learning rate for the discriminator (TTUR), linear
    decay of both learning rates over the second half of the run, and an EMA of the generator.

    The default learning rate was measured on MNIST (docs/results/quality.md), where that of Radford
    et al., 2016 (DCGAN, arXiv 1511.06434), 2e-4, is worse after as many steps.

    Args:
        lr: Learning rate of the generator, positive; the discriminator's is twice as high.

    Raises:
        ValueError, TypeError: The learning rate is invalid.

    Source: Mescheder et al., 2018 (arXiv 1801.04406) for R1; Heusel et al., 2017 (TTUR, arXiv
    1706.08500) for two learning rates.
    """
    return {
        "penalties": [R1(0.5, every=4)],
        "generator_optimizer": adam(lr, betas=(0.0, 0.99)),
        "discriminator_optimizer": adam(2 * lr, betas=(0.0, 0.99)),
        "lr_schedule": linear_decay(0.5),
        "ema": EMA(0.999),
    }


def r3gan(lr: float = 1e-3, gamma: float = 0.5) -> Recipe:
    """Return settings for data with many modes: images of objects, texts.

    Those of `dcgan`, with the relativistic pairing loss and an R2 penalty. The defaults are those
    of tests/benchmarks/stacked_mnist.py; examples/text.py has `lr=4e-4`, examples/images.py
    `gamma=0.05`.

    Args:
        lr: Learning rate of the generator, positive; the discriminator's is twice as high.
        gamma: Strength of both penalties, at least 0.

    Raises:
        ValueError, TypeError: An argument is invalid.

    Source: Huang et al., 2024 (R3GAN, arXiv 2501.05441), section 2, for loss and penalties.
    """
    return dcgan(lr) | {
        "loss": RelativisticLoss(),
        "penalties": [R1(gamma, every=4), R2(gamma, every=4)],
    }
