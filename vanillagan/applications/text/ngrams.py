"""N-grams: how far texts are from those of the data, and the model that a GAN is compared with."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from vanillagan.errors import check_integer, check_seed
from vanillagan.theory import jensen_shannon_divergence

__all__ = ["NGramModel", "Text", "ngram_divergence"]

Text: TypeAlias = "str | Sequence[str]"
"""A text as a string, whose tokens are its characters, or as a sequence of words."""

NGram: TypeAlias = "tuple[str | None, ...]"
"""Tokens in a row; None stands for the beginning and for the end of a text."""

TRIES = 1000
"""So many texts in a row may be too long."""


def ngram_divergence(real: Sequence[Text], fake: Sequence[Text], n: int) -> float:
    """The Jensen-Shannon divergence of the n-grams of two sets of texts, in nats.

    The beginning and the end of a text count as a token each. The divergence of two samples of one
    and the same distribution is above 0, the more so the larger n and the fewer texts: compare only
    figures of equal numbers of texts, and measure real texts against real ones beside.

    Args:
        real: Texts of the data, at least one.
        fake: Texts to compare with them, at least one.
        n: Tokens in an n-gram, at least 1.

    Returns:
        The divergence, in [0, log 2].

    Raises:
        ValueError, TypeError: An argument is wrong, or a set has no n-grams.

    Source: Gulrajani et al., 2017 (arXiv 1704.00028), whose code evaluates its language model so.

    Example:
        >>> ngram_divergence(["ab", "ba"], ["ba", "ab"], 2)
        0.0
    """
    check_integer("n", n, minimum=1)
    counts = []
    for name, texts in (("real", real), ("fake", fake)):
        count = Counter(gram for text in _check_texts(name, texts) for gram in _ngrams(text, n))
        if not count:
            raise ValueError(f"`{name}` must have texts of at least {n - 2} tokens, got none")
        counts.append(count)
    grams = counts[0] | counts[1]
    p, q = (np.array([count[gram] for gram in grams], dtype=np.float64) for count in counts)
    return float(jensen_shannon_divergence(p / p.sum(), q / q.sum()))


class NGramModel:
    """A Markov model: each token depends on the n - 1 before it, as often as in the data.

    What it draws has the n-grams of the data and no further plan, which makes it the baseline for a
    generator of text. There is no smoothing: it knows only n-grams that it has seen.

    Args:
        texts: Texts of the data, at least one.
        n: Tokens in an n-gram, at least 1; with 1 tokens don't depend on each other.

    Raises:
        ValueError, TypeError: An argument is wrong.

    Source: Shannon, 1948, A mathematical theory of communication, section 3.

    Example:
        >>> NGramModel(["ab"], 2).sample(2, seed=0)
        [['a', 'b'], ['a', 'b']]
    """

    def __init__(self, texts: Sequence[Text], n: int) -> None:
        self.n = check_integer("n", n, minimum=1)
        counts: defaultdict[NGram, Counter[str | None]] = defaultdict(Counter)
        for text in _check_texts("texts", texts):
            padded = (*[None] * (n - 1), *text, None)
            for end in range(n - 1, len(padded)):
                counts[padded[end - n + 1 : end]][padded[end]] += 1
        self._next = {
            before: (list(after), list(after.values())) for before, after in counts.items()
        }

    def sample(
        self, count: int, *, max_length: int | None = None, seed: int = 0
    ) -> list[list[str]]:
        """Draws texts.

        Args:
            count: How many, at least 1.
            max_length: Longer texts are drawn anew; at least 1, None for any length.
            seed: Makes them repeatable.

        Returns:
            Texts as lists of tokens: `"".join(tokens)` for characters.

        Raises:
            ValueError: No text of that length was drawn in 1,000 tries.
        """
        check_integer("count", count, minimum=1)
        if max_length is not None:
            check_integer("max_length", max_length, minimum=1)
        rng = random.Random(check_seed(seed))
        return [self._draw(rng, max_length) for _ in range(count)]

    def _draw(self, rng: random.Random, max_length: int | None) -> list[str]:
        for _ in range(TRIES):
            text: list[str] = []
            before: NGram = (None,) * (self.n - 1)
            while max_length is None or len(text) <= max_length:
                (token,) = rng.choices(*self._next[before])
                if token is None:
                    return text
                text.append(token)
                before = (*before, token)[1:] if self.n > 1 else ()
        raise ValueError(
            f"`max_length` must leave room for a text of the model, got {max_length}, which "
            f"{TRIES} texts went beyond"
        )


def _ngrams(text: Text, n: int) -> Iterator[NGram]:
    marked = (None, *text, None)
    return (marked[i : i + n] for i in range(len(marked) - n + 1))


def _check_texts(name: str, texts: Sequence[Text]) -> Sequence[Text]:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise TypeError(f"`{name}` must be a sequence of texts, got {texts!r:.60}")
    if not texts:
        raise ValueError(f"`{name}` must have at least one text, got none")
    for index, text in enumerate(texts):
        if not isinstance(text, Sequence) or not all(isinstance(token, str) for token in text):
            raise TypeError(
                f"`{name}[{index}]` must be a string or a sequence of strings, got {text!r:.60}"
            )
    return texts
