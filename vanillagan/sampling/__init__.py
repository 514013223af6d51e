"""Samples of a trained generator: plain, interpolated, or filtered by the discriminator."""

from vanillagan.sampling.draw import Labels, classes_in_turn, draw_samples
from vanillagan.sampling.interpolation import interpolate
from vanillagan.sampling.rejection import refit_discriminator, rejection_sample

__all__ = [
    "Labels",
    "classes_in_turn",
    "draw_samples",
    "interpolate",
    "refit_discriminator",
    "rejection_sample",
]
