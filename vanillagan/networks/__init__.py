"""The networks of the game, and the blocks that they are composed of.

Any `nn.Module` of the same call signature takes their place. What the trainer reads of a network,
where it has it: `latent_dim`, `sample_shape`, `num_classes`, `returns_logits`,
`independent_samples`.
"""

from vanillagan.networks.augmentation import DiffAugment
from vanillagan.networks.blocks import DownBlock, LinearBlock, UpBlock
from vanillagan.networks.convolutional import ConvDiscriminator, ConvGenerator
from vanillagan.networks.linear import Linear
from vanillagan.networks.perceptrons import Discriminator, Generator
from vanillagan.networks.text import ResidualBlock, TextDiscriminator, TextGenerator

__all__ = [
    "ConvDiscriminator",
    "ConvGenerator",
    "DiffAugment",
    "Discriminator",
    "DownBlock",
    "Generator",
    "Linear",
    "LinearBlock",
    "ResidualBlock",
    "TextDiscriminator",
    "TextGenerator",
    "UpBlock",
]
