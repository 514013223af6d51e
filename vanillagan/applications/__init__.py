"""What a trained game is good for beyond its pictures."""

from vanillagan.applications.augmentation import synthesize

__all__ = ["synthesize"]
