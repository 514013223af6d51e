"""GAN inversion (latent optimization): restoration of degraded images, and inpainting."""

from vanillagan.applications.inversion.inpainting import inpaint
from vanillagan.applications.inversion.latent_optimization import GANInversion

__all__ = ["GANInversion", "inpaint"]
