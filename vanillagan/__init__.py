"""vanillagan: the generative adversarial network of 2014, as a library on PyTorch."""

from vanillagan import recipes
from vanillagan._version import __version__
from vanillagan.batch import Batch
from vanillagan.callback import Callback
from vanillagan.checkpoint import load_discriminator, load_generator
from vanillagan.ema import EMA
from vanillagan.losses import (
    BCEAdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    RelativisticLoss,
    WassersteinLoss,
)
from vanillagan.networks import ConvDiscriminator, ConvGenerator, Discriminator, Generator
from vanillagan.penalties import R1, R2, GradientPenalty
from vanillagan.player import adam, cosine_decay, linear_decay
from vanillagan.results import StepResult
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
    "__version__",
    "adam",
    "cosine_decay",
    "linear_decay",
    "load_discriminator",
    "load_generator",
    "optimal_discriminator",
    "recipes",
]
