"""N-gram divergence between sets of texts, and the n-gram model as a baseline."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from vanillagan.theory import jensen_shannon_divergence
from vanillagan.validation import check_integer, check_seed

__all__ = ["NGramModel", "Text", "ngram_divergence"]

Text: TypeAlias = "str | Sequence[str]"
"""Text as a string, whose tokens are its characters, or as a sequence of words."""

NGram: TypeAlias = "tuple[str | None, ...]"
"""Consecutive tokens; None stands for the start and the end of a text."""

TRIES = 1000
"""Number of texts that are drawn before `max_length` is an error."""


def ngram_divergence(real: Sequence[Text], fake: Sequence[Text], n: int) -> float:
    """Return the Jensen-Shannon divergence between the n-grams of two sets of texts, in nats.

    The start and the end of a text count as one token each. Even for two samples of the same
    distribution the divergence is above 0. It grows with n and falls with the number of texts:
    compare values only for the same number of texts, and with the divergence between two sets of
    real texts.

    Args:
        real: Texts of the data, at least one.
        fake: Texts to compare with them, at least one.
        n: Number of tokens in an n-gram, at least 1.

    Returns:
        Divergence, in [0, log 2].

    Raises:
        ValueError, TypeError: An argument is invalid, or a set has no n-grams.

    Source: Gulrajani et al., 2017 (arXiv 1704.00028); their code evaluates a language model so.

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
    """Markov model of texts: the distribution of a token depends on the n - 1 tokens before it.

    Its texts have the n-gram frequencies of the data and no structure beyond, which makes it a
    baseline for a text generator. It is not smoothed: n-grams that are not in the data have
    probability 0.

    Args:
        texts: Texts of the data, at least one.
        n: Number of tokens in an n-gram, at least 1; with 1, tokens are independent.

    Raises:
        ValueError, TypeError: An argument is invalid.

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
        """Draw texts.

        Args:
            count: Number of texts, at least 1.
            max_length: Greatest number of tokens, at least 1; longer texts are drawn again. None
                for any length.
            seed: Seed of the draws.

        Returns:
            Texts as lists of tokens: `"".join(tokens)` for characters.

        Raises:
            ValueError: 1,000 texts in a row were longer than `max_length`.
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
            f"`max_length` must be long enough for texts of the model, got {max_length} ({TRIES} "
            "texts in a row were longer)"
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
