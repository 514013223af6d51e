"""What a GAN is used for, beside pictures: more training samples, and text."""

from vanillagan.applications import text
from vanillagan.applications.augmentation import synthesize

__all__ = ["synthesize", "text"]
