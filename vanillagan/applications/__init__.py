"""What a GAN is used for: each application is a module of its own."""

from vanillagan.applications import text

__all__ = ["text"]
