"""Texts as numbers, and numbers as texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vanillagan.errors import check_integer

__all__ = ["Vocabulary"]


class Vocabulary:
    """The tokens that texts are made of: characters of any script, or words.

    A character is a Unicode code point, as in Python's `str`, and nothing is normalised: é may be
    one code point or two, so bring texts into one form first where they come from several places
    (`unicodedata.normalize("NFC", text)`). Letters keep their case.

    Ids are 0 for the padding, 1, 2, ... for the tokens in their order, and the last one for unknown
    tokens, if there is a sign for them.

    Args:
        tokens: Single characters, or words if there is a separator; each once.
        unknown: The sign that stands for all tokens that are not in the vocabulary, such as "?" or
            "<unk>". Without one they are an error.
        separator: "" for texts of characters; else what stands between two words, such as " ".

    Attributes:
        tokens: The tokens in the order of their ids; "" for the padding comes first.
        unknown: As above, or None.
        separator: As above.
        config: The arguments it was made with, as plain data that JSON keeps; it is made again by
            `Vocabulary(**config)`.

    Raises:
        ValueError, TypeError: A token is empty, twice there, or no single token of a text.

    Example:
        >>> vocabulary = Vocabulary.of(["你好", "再见"])
        >>> ids = vocabulary.encode(["你好"], length=4)
        >>> ids.tolist(), vocabulary.decode(ids), len(vocabulary)
        ([[1, 3, 0, 0]], ['你好'], 5)
    """

    PADDING = 0
    """The id of what follows the end of a text."""

    def __init__(
        self, tokens: Iterable[str], *, unknown: str | None = None, separator: str = ""
    ) -> None:
        _check_signs(unknown, separator)
        if not isinstance(tokens, Iterable):
            raise TypeError(f"`tokens` must be strings, got {tokens!r:.60}")
        self.separator = separator
        self.unknown = unknown
        signs = [] if unknown is None else [unknown]
        tokens = tuple(tokens)
        self.tokens = ("", *tokens, *signs)
        if len(self.tokens) == 1:
            raise ValueError("`tokens` must have at least one entry, got none")
        for token in tokens:
            self._check_token(token)
        self.config: dict[str, Any] = {
            "tokens": list(tokens),
            "unknown": unknown,
            "separator": separator,
        }
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            twice = next(token for token, n in Counter(self.tokens).items() if n > 1)
            raise ValueError(f"`tokens` and `unknown` must differ, got {twice!r} twice")

    @classmethod
    def of(
        cls,
        texts: Iterable[str],
        *,
        size: int | None = None,
        unknown: str | None = None,
        separator: str = "",
    ) -> Vocabulary:
        """Makes the vocabulary of the tokens that texts have, in the order of their code points.

        Args:
            texts: Texts.
            size: At most so many tokens, the most frequent ones (padding and the unknown token not
                counted), at least 1; None for all.
            unknown: The sign for all others.
            separator: What stands between two words, "" for texts of characters.

        Raises:
            ValueError, TypeError: An argument is wrong, or the texts have no tokens.
        """
        _check_signs(unknown, separator)
        counts: Counter[str] = Counter()
        for text in _check_texts(texts):
            counts.update(_split(text, separator))
        if not counts:
            raise ValueError("`texts` must have at least one token, got none")
        counts.pop(unknown or "", None)
        if size is not None:
            check_integer("size", size, minimum=1)
            if size < len(counts) and unknown is None:
                raise ValueError(
                    f"`unknown` must be given where `size` leaves out tokens: {size} of "
                    f"{len(counts)}, got None"
                )
        # of equal counts those of the lowest code points
        frequent = sorted(counts, key=lambda token: (-counts[token], token))[:size]
        return cls(sorted(frequent), unknown=unknown, separator=separator)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Turns texts into ids, padded at their ends.

        Args:
            texts: Texts of at most `length` tokens.
            length: Places of a sequence, at least 1.

        Returns:
            Ids, int64, shape (N, length).

        Raises:
            ValueError: A token is not in the vocabulary, which has no sign for unknown ones; or a
                text is too long. The message names it.
        """
        check_integer("length", length, minimum=1)
        ids = [self._encode_text(text, length) for text in _check_texts(texts)]
        return torch.tensor(ids, dtype=torch.int64).view(-1, length)

    def one_hot(self, ids: Tensor) -> Tensor:
        """Turns ids (N, length) into samples (N, length, tokens): float32, 1 for the token, else 0.

        Samples need far more memory than ids. Where that counts, train on the ids, and make samples
        of each batch::

            class TextTrainer(GANTrainer):
                def unpack_batch(self, batch):
                    return super().unpack_batch(vocabulary.one_hot(batch))

        Raises:
            ValueError, TypeError: An id is none of the vocabulary, or no integer.
        """
        return F.one_hot(self._check_ids(ids), len(self)).to(torch.float32)

    def decode(self, sequences: Tensor) -> list[str]:
        """Turns sequences into texts, each up to its first padding.

        Args:
            sequences: Ids, shape (N, length); or floats, shape (N, length, tokens), of which the
                largest is the token: one-hot samples, probabilities, or logits.

        Returns:
            N texts, with the sign for unknown tokens in their place.

        Raises:
            ValueError, TypeError: The sequences are of another shape or kind, or an id is none of
                the vocabulary.
        """
        if isinstance(sequences, Tensor) and sequences.is_floating_point():
            if sequences.dim() != 3 or sequences.shape[2] != len(self):
                raise ValueError(
                    f"`sequences` must have the shape (N, length, {len(self)}), "
                    f"got {tuple(sequences.shape)}"
                )
            sequences = sequences.argmax(2)
        rows: list[list[int]] = self._check_ids(sequences, "sequences").tolist()
        return [self.separator.join(self.tokens[i] for i in _until_padding(row)) for row in rows]

    def _encode_text(self, text: str, length: int) -> list[int]:
        tokens = _split(text, self.separator)
        if len(tokens) > length:
            raise ValueError(
                f"`texts` must have at most `length`={length} tokens each, got {len(tokens)} in "
                f"{text!r:.60}"
            )
        try:
            ids = [self._id_of(token) for token in tokens]
        except KeyError as error:
            token = error.args[0]
            place = f" (U+{ord(token):04X})" if len(token) == 1 else ""
            raise ValueError(
                f"`texts` must be made of the vocabulary's tokens, got {token!r}{place} in "
                f"{text!r:.60}; with `unknown` it would be taken for that"
            ) from None
        return ids + [self.PADDING] * (length - len(ids))

    def _id_of(self, token: str) -> int:
        return self._ids[token] if self.unknown is None else self._ids.get(token, len(self) - 1)

    def _check_token(self, token: object) -> None:
        if not isinstance(token, str):
            raise TypeError(f"`tokens` must be strings, got {token!r:.60}")
        if self.separator:
            if _split(token, self.separator) != [token]:
                raise ValueError(f"`tokens` must be single words, got {token!r:.60}")
        elif len(token) != 1:
            raise ValueError(f"`tokens` must be single characters, got {token!r:.60}")

    def _check_ids(self, ids: Tensor, name: str = "ids") -> Tensor:
        if not isinstance(ids, Tensor):
            raise TypeError(f"`{name}` must be a tensor of integers, got {type(ids).__name__}")
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"`{name}` must be a tensor of integers, got {ids.dtype}")
        if ids.dim() != 2:
            raise ValueError(f"`{name}` must have the shape (N, length), got {tuple(ids.shape)}")
        if ids.numel():
            low, high = (int(end) for end in ids.aminmax())
            if low < 0 or high >= len(self):
                raise ValueError(
                    f"`{name}` must lie in [0, {len(self) - 1}], got ids from {low} to {high}"
                )
        return ids.long()


def _split(text: str, separator: str) -> list[str]:
    """The tokens of a text; words may have several separators between them, or around them."""
    if not separator:
        return list(text)
    return [word for word in text.split(separator) if word]


def _until_padding(ids: list[int]) -> list[int]:
    return ids[: ids.index(Vocabulary.PADDING)] if Vocabulary.PADDING in ids else ids


def _check_signs(unknown: str | None, separator: str) -> None:
    if not isinstance(separator, str):
        raise TypeError(f"`separator` must be a string, got {separator!r:.60}")
    if unknown is None:
        return
    if not isinstance(unknown, str):
        raise TypeError(f"`unknown` must be a string or None, got {unknown!r:.60}")
    if not unknown or (separator and separator in unknown):
        raise ValueError(
            f"`unknown` must not be empty, nor have the separator in it, got {unknown!r:.60}"
        )


def _check_texts(texts: Iterable[str]) -> Iterable[str]:
    """The texts, each of them checked as it is read."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"`texts` must be a sequence of strings, got {texts!r:.60}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"`texts[{index}]` must be a string, got {text!r:.60}")
        yield text
