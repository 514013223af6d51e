"""vanillagan: the generative adversarial network of 2014, as a library on PyTorch."""

__version__ = "0.1.0"

from vanillagan.checkpoint import load_generator
from vanillagan.data import Batch
from vanillagan.ema import EMA
from vanillagan.hooks import Callback, StepResult
from vanillagan.losses import (
    BCEAdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.networks import ConvDiscriminator, ConvGenerator, Discriminator, Generator
from vanillagan.penalties import R1, R2, GradientPenalty
from vanillagan.theory import optimal_discriminator
from vanillagan.trainer import GANTrainer

__all__ = [
    "EMA",
    "R1",
    "R2",
    "BCEAdversarialLoss",
    "Batch",
    "Callback",
    "ConvDiscriminator",
    "ConvGenerator",
    "Discriminator",
    "GANTrainer",
    "Generator",
    "GradientPenalty",
    "HingeLoss",
    "LeastSquaresLoss",
    "RelativisticLoss",
    "StepResult",
    "WassersteinLoss",
    "load_generator",
    "optimal_discriminator",
]
