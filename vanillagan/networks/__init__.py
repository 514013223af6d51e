"""Generators and discriminators, and the layers they are composed of.

Any `nn.Module` with the same call signature can take their place. `vanillagan.traits` lists the
optional attributes that the trainer reads of a network.
"""

from vanillagan.networks.blocks import DownBlock, LinearBlock, UpBlock
from vanillagan.networks.conv import ConvDiscriminator, ConvGenerator
from vanillagan.networks.diffaugment import DiffAugment
from vanillagan.networks.linear import Linear
from vanillagan.networks.mlp import Discriminator, Generator
from vanillagan.networks.sequence import ResidualBlock, TextDiscriminator, TextGenerator

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
