"""Data sets that the examples train on, and a folder of anybody's own pictures."""

from vanillagan.datasets.digits import mnist, mnist_5000, mnist_or_5000
from vanillagan.datasets.folder import image_folder
from vanillagan.datasets.photographs import photo_crops

__all__ = ["image_folder", "mnist", "mnist_5000", "mnist_or_5000", "photo_crops"]
