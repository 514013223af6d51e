"""Applications of GANs: inpainting, restoration by GAN inversion, data synthesis, and text."""

from vanillagan.applications import masks, text
from vanillagan.applications.blending import blend
from vanillagan.applications.context_encoder import ContextEncoder, ContextTrainer
from vanillagan.applications.inversion import GANInversion, inpaint
from vanillagan.applications.patches import fill_by_patches
from vanillagan.applications.synthesize import synthesize

__all__ = [
    "ContextEncoder",
    "ContextTrainer",
    "GANInversion",
    "blend",
    "fill_by_patches",
    "inpaint",
    "masks",
    "synthesize",
    "text",
]
