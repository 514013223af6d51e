"""Texts for examples/text.py: an arithmetic grammar, English words, or a file."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vanillagan.applications.text import Vocabulary

MAX_LENGTH = 12
OPERATORS = "+-*/"
GRAMMAR_TEXTS = 5_000
HELD_OUT = 5_000
MIN_TEXTS = 100
UNKNOWN = "\ufffd"


class Corpus(NamedTuple):
    """Texts for training, and two sets of texts held out.

    Attributes:
        train: Training texts.
        held_out: Texts that all others are compared with.
        other: As many further texts, to compare real texts with real texts.
        vocabulary: Characters of all texts.
        max_length: Largest number of characters in a text.
        is_right: Returns True if a text is right.
        label: Name of that property.
    """

    train: list[str]
    held_out: list[str]
    other: list[str]
    vocabulary: Vocabulary
    max_length: int
    is_right: Callable[[str], bool]
    label: str


def grammar(seed: int) -> Corpus:
    """Draw arithmetic expressions."""
    rng = random.Random(seed)
    sizes = (GRAMMAR_TEXTS, HELD_OUT, HELD_OUT)
    parts = ([expression(rng) for _ in range(size)] for size in sizes)
    return Corpus(*parts, Vocabulary("x" + OPERATORS), MAX_LENGTH, is_expression, "valid")


def expression(rng: random.Random) -> str:
    """Draw an expression of 1 to 6 operands."""
    rest = (rng.choice(OPERATORS) + "x" for _ in range(rng.randrange((MAX_LENGTH + 1) // 2)))
    return "x" + "".join(rest)


def is_expression(text: str) -> bool:
    """Return True if the grammar derives the text: a parser by recursive descent."""

    def is_sum(place: int) -> bool:
        # S is x, or x, an operator and S: one tree of an ambiguous string is enough
        if text[place : place + 1] != "x":
            return False
        end = place + 1
        return end == len(text) or (text[end] in OPERATORS and is_sum(end + 1))

    return len(text) <= MAX_LENGTH and is_sum(0)


def words(seed: int) -> Corpus:
    """Read the words of the Python reference, in lower case."""
    from pydoc_data.topics import topics

    found = re.findall(r"[a-z]+", " ".join(topics.values()).lower())
    texts = [word for word in found if 2 <= len(word) <= MAX_LENGTH]
    return split(texts, Vocabulary.of(texts), MAX_LENGTH, seed)


def lines_of(path: Path, max_length: int, size: int, seed: int) -> Corpus:
    """Read the lines of a file, and cut those that are too long into pieces."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"`--corpus` must be a text in UTF-8, got {path}: {error}") from error
    lines = (" ".join(line.split()) for line in content.splitlines())
    pieces = (
        line[i : i + max_length].strip() for line in lines for i in range(0, len(line), max_length)
    )
    texts = [piece for piece in pieces if piece]
    if len(texts) < MIN_TEXTS:
        raise ValueError(
            f"`--corpus` must have at least {MIN_TEXTS} texts, got {len(texts)} in {path}"
        )
    all_fit = len(set().union(*texts)) <= size
    vocabulary = Vocabulary.of(texts, size=size, unknown=None if all_fit else UNKNOWN)
    # decoded again, so that the data has the sign for unknown characters, as samples have it
    texts = vocabulary.decode(vocabulary.encode(texts, max_length))
    return split(texts, vocabulary, max_length, seed)


def split(texts: list[str], vocabulary: Vocabulary, max_length: int, seed: int) -> Corpus:
    """Hold out two tenths, and train on the rest."""
    random.Random(seed).shuffle(texts)
    tenth = min(HELD_OUT, len(texts) // 10)
    held_out, other, train = texts[:tenth], texts[tenth : 2 * tenth], texts[2 * tenth :]
    is_right = frozenset(texts).__contains__
    return Corpus(train, held_out, other, vocabulary, max_length, is_right, "in corpus")
