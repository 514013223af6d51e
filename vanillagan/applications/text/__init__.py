"""Text as samples of a GAN: a vocabulary, and how near texts come to those of the data.

Texts become ids, and ids one-hot samples of shape (length, tokens) for `TextGenerator` and
`TextDiscriminator`, which are here too.
"""

from vanillagan.applications.text.ngrams import NGramModel, ngram_divergence
from vanillagan.applications.text.vocabulary import Vocabulary
from vanillagan.networks.text import TextDiscriminator, TextGenerator

__all__ = ["NGramModel", "TextDiscriminator", "TextGenerator", "Vocabulary", "ngram_divergence"]
