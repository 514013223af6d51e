"""Datasets in memory: MNIST, and any folder of images."""

from vanillagan.datasets.image_folder import image_folder
from vanillagan.datasets.mnist import mnist, mnist_5000, mnist_or_5000

__all__ = ["image_folder", "mnist", "mnist_5000", "mnist_or_5000"]
