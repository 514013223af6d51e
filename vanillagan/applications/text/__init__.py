"""Text generation: a vocabulary, and n-gram statistics to evaluate texts.

A `Vocabulary` encodes texts as ids, and ids as one-hot samples of shape (length, tokens). These are
the samples of `TextGenerator` and `TextDiscriminator`, which can be imported from here too.
"""

from vanillagan.applications.text.ngrams import NGramModel, ngram_divergence
from vanillagan.applications.text.vocabulary import Vocabulary
from vanillagan.networks.sequence import TextDiscriminator, TextGenerator

__all__ = ["NGramModel", "TextDiscriminator", "TextGenerator", "Vocabulary", "ngram_divergence"]
