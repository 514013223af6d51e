"""What a GAN is used for, beside pictures: text, damaged images, more training samples."""

from vanillagan.applications import masks, text
from vanillagan.applications.augmentation import synthesize
from vanillagan.applications.blending import blend
from vanillagan.applications.context_encoder import ContextEncoder, ContextTrainer
from vanillagan.applications.inpainting import inpaint, restore
from vanillagan.applications.latent_search import LatentSearch
from vanillagan.applications.patches import fill_by_patches

__all__ = [
    "ContextEncoder",
    "ContextTrainer",
    "LatentSearch",
    "blend",
    "fill_by_patches",
    "inpaint",
    "masks",
    "restore",
    "synthesize",
    "text",
]
