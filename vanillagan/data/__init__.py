"""Data in memory, and samplers of latents."""

from vanillagan.data.in_memory import ByteImages, load_into_memory
from vanillagan.data.latents import LatentSampler, normal_latents, uniform_latents

__all__ = [
    "ByteImages",
    "LatentSampler",
    "load_into_memory",
    "normal_latents",
    "uniform_latents",
]
