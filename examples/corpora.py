"""Texts for examples/text.py: arithmetic, English words or sentences, or the lines of a file."""

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
SENTENCE_TEXTS, SENTENCE_LENGTH = 20_000, 11
MIN_TEXTS = 100
UNKNOWN = "\ufffd"


# words of sentences: of the singular and the plural, or of both
DETERMINERS = (["a", "the", "this", "every"], ["the", "these", "some", "many"])
NOUNS = (
    ["dog", "cat", "child", "teacher", "bird", "friend"],
    ["dogs", "cats", "children", "teachers", "birds", "friends"],
)
VERBS = (["sleeps", "laughs", "waits"], ["sleep", "laugh", "wait"])
TRANSITIVE_VERBS = (["sees", "helps", "likes", "follows"], ["see", "help", "like", "follow"])
ADJECTIVES = ["small", "big", "red", "quiet", "happy"]
PREPOSITIONS = ["near", "behind", "with"]


class Corpus(NamedTuple):
    """Texts for training, and two sets of texts held out.

    Attributes:
        train: Training texts.
        held_out: Texts that all others are compared with.
        other: As many further texts, to compare real texts with real texts.
        vocabulary: Characters or words of the texts.
        max_length: Largest number of tokens in a text.
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

    @property
    def unit(self) -> str:
        """Name of the tokens, in the plural."""
        return "words" if self.vocabulary.separator else "characters"

    @property
    def texts_per_line(self) -> int:
        """Number of texts that fit on a line of output."""
        return 2 if self.vocabulary.separator else 8

    def tokens(self, text: str) -> list[str]:
        """Split a text into its words or characters."""
        return text.split() if self.vocabulary.separator else list(text)


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


def sentences(seed: int) -> Corpus:
    """Draw English sentences, whose tokens are words."""
    rng = random.Random(seed)
    parts = [[sentence(rng) for _ in range(size)] for size in (SENTENCE_TEXTS, HELD_OUT, HELD_OUT)]
    vocabulary = Vocabulary.of(parts[0], separator=" ")
    return Corpus(*parts, vocabulary, SENTENCE_LENGTH, is_sentence, "valid")


def sentence(rng: random.Random) -> str:
    """Draw a sentence like "a big dog near the cats sleeps": the verb agrees with its subject."""

    def noun_phrase(number: int) -> list[str]:
        adjective = [rng.choice(ADJECTIVES)] * rng.randrange(2)
        determiner, noun = (rng.choice(kind[number]) for kind in (DETERMINERS, NOUNS))
        return [determiner, *adjective, noun]

    number = rng.randrange(2)
    subject = noun_phrase(number)
    if rng.randrange(2):
        subject += [rng.choice(PREPOSITIONS), *noun_phrase(rng.randrange(2))]
    if rng.randrange(2):
        return " ".join([*subject, rng.choice(VERBS[number])])
    verb = rng.choice(TRANSITIVE_VERBS[number])
    return " ".join([*subject, verb, *noun_phrase(rng.randrange(2))])


def is_sentence(text: str) -> bool:
    """Return True if `sentence` can draw the text."""
    return any(pattern.fullmatch(text) for pattern in SENTENCE_PATTERNS)


def sentence_patterns() -> list[re.Pattern[str]]:
    """Return the regular expressions of sentences with a subject in the singular and the plural."""

    def one_of(words: list[str]) -> str:
        return f"({'|'.join(words)})"

    phrases = [
        f"{one_of(DETERMINERS[number])} ({one_of(ADJECTIVES)} )?{one_of(NOUNS[number])}"
        for number in (0, 1)
    ]
    phrase = f"({'|'.join(phrases)})"
    return [
        re.compile(
            f"{phrases[number]}( {one_of(PREPOSITIONS)} {phrase})? "
            f"({one_of(VERBS[number])}|{one_of(TRANSITIVE_VERBS[number])} {phrase})"
        )
        for number in (0, 1)
    ]


SENTENCE_PATTERNS = sentence_patterns()


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
