"""Conversion between texts and tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vanillagan.validation import check_dense, check_integer, check_integer_tensor

__all__ = ["Vocabulary"]


class Vocabulary:
    """Mapping between tokens (characters of any script, or words) and ids.

    A character is a Unicode code point, as in Python's `str`. Texts are not normalized: é can be
    one code point or two, so bring texts from different origins into the same form first, by
    `unicodedata.normalize("NFC", text)`. The case of letters is kept.

    Id 0 is the padding, ids 1, 2, ... are the tokens in their order, and the last id is the unknown
    token, if there is one.

    Args:
        tokens: Single characters, or words if there is a separator, without duplicates.
        unknown: Token that replaces all tokens outside the vocabulary, such as "?" or "<unk>". With
            None such tokens are an error.
        separator: "" for texts of characters, or the string between two words, such as " ".

    Attributes:
        tokens: Tokens in the order of their ids, with "" for the padding first.
        unknown: Unknown token, or None.
        separator: Separator of words, or "".
        config: Arguments of the constructor, which can be stored as JSON: `Vocabulary(**config)`
            is the same vocabulary.

    Raises:
        ValueError, TypeError: A token is empty, a duplicate, or not a single character or word.

    Example:
        >>> vocabulary = Vocabulary.of(["你好", "再见"])
        >>> ids = vocabulary.encode(["你好"], length=4)
        >>> ids.tolist(), vocabulary.decode(ids), len(vocabulary)
        ([[1, 3, 0, 0]], ['你好'], 5)
    """

    PADDING = 0
    """Id of the places after the end of a text."""

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
        """Return the vocabulary of the tokens of texts, in the order of their code points.

        Args:
            texts: Texts to collect tokens from.
            size: Greatest number of tokens, at least 1, without padding and unknown token; the most
                frequent ones are kept. None keeps all.
            unknown: Token that replaces all others.
            separator: String between two words, or "" for texts of characters.

        Raises:
            ValueError, TypeError: An argument is invalid, or the texts have no tokens.
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
                    f"`unknown` must be given if `size` leaves out tokens ({size} of "
                    f"{len(counts)} are kept), got None"
                )
        # ties are broken by code points, so that the order of the texts does not matter
        frequent = sorted(counts, key=lambda token: (-counts[token], token))[:size]
        return cls(sorted(frequent), unknown=unknown, separator=separator)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Convert texts to ids, padded at the end.

        Args:
            texts: Texts of at most `length` tokens.
            length: Length of a sequence, at least 1.

        Returns:
            Ids, int64, shape (N, length).

        Raises:
            ValueError: A text is too long, or has a token outside a vocabulary without an unknown
                token; the message names the text.
        """
        check_integer("length", length, minimum=1)
        ids = [self._encode_text(text, length) for text in _check_texts(texts)]
        return torch.tensor(ids, dtype=torch.int64).view(-1, length)

    def one_hot(self, ids: Tensor) -> Tensor:
        """Convert ids (N, length) to one-hot samples (N, length, tokens), float32.

        Samples need far more memory than ids. To save it, train on ids and convert each batch::

            class TextTrainer(GANTrainer):
                def unpack_batch(self, batch):
                    return super().unpack_batch(vocabulary.one_hot(batch))

        Raises:
            ValueError, TypeError: An id is out of range, or not an integer.
        """
        return F.one_hot(self._check_ids(ids), len(self)).to(torch.float32)

    def decode(self, sequences: Tensor) -> list[str]:
        """Convert sequences to texts, each up to its first padding.

        Args:
            sequences: Ids, shape (N, length); or floats, shape (N, length, tokens), such as one-hot
                samples, probabilities or logits. The largest of the floats is the token.

        Returns:
            N texts. Unknown tokens are written as `unknown`.

        Raises:
            ValueError, TypeError: The sequences have another shape or dtype, or an id is out of
                range.
        """
        if isinstance(sequences, Tensor) and sequences.is_floating_point():
            check_dense("sequences", sequences, needs_values=True)
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
            code_point = f" (U+{ord(token):04X})" if len(token) == 1 else ""
            raise ValueError(
                f"`texts` must consist of the vocabulary's tokens, got {token!r}{code_point} in "
                f"{text!r:.60} (make the vocabulary with `unknown` to accept others)"
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
        check_integer_tensor(name, ids)
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
    """Return the tokens of a text; repeated separators count as one."""
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
            f"`unknown` must not be empty or contain the separator, got {unknown!r:.60}"
        )


def _check_texts(texts: Iterable[str]) -> Iterable[str]:
    """Yield the texts, each checked as it is read."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"`texts` must be a sequence of strings, got {texts!r:.60}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"`texts[{index}]` must be a string, got {text!r:.60}")
        yield text
