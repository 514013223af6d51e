"""What a GAN is used for, beside pictures: text, damaged images, more training samples."""

from vanillagan.applications import text
from vanillagan.applications.augmentation import synthesize
from vanillagan.applications.inpainting import inpaint, restore
from vanillagan.applications.latent_search import LatentSearch

__all__ = ["LatentSearch", "inpaint", "restore", "synthesize", "text"]
