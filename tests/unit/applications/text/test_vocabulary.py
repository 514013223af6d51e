"""The vocabulary of texts."""

from __future__ import annotations

import json

import pytest
import torch

from vanillagan.applications.text import Vocabulary

SCRIPTS = {
    "english": ["the cat", "a hat", "that"],
    "chinese": ["你好", "再见", "天上有风", "你", ""],
    "others": ["naïve", "ёлка", "שלום", "नमस्ते", "🙂🙃", "e\u0301"],
}


@pytest.mark.parametrize("texts", SCRIPTS.values(), ids=SCRIPTS)
def test_texts_of_any_script_are_restored(texts):
    vocabulary = Vocabulary.of(texts)
    ids = vocabulary.encode(texts, length=10)
    assert (ids.shape, ids.dtype) == ((len(texts), 10), torch.int64)
    samples = vocabulary.one_hot(ids)
    assert samples.shape == (len(texts), 10, len(vocabulary))
    assert samples.dtype == torch.float32
    assert vocabulary.decode(ids) == vocabulary.decode(samples) == texts


def test_order_of_ids():
    vocabulary = Vocabulary.of(["ba", "中"], unknown="?")
    assert vocabulary.tokens == ("", "a", "b", "中", "?")
    assert vocabulary.encode(["a中", "", "xb"], 3).tolist() == [[1, 3, 0], [0, 0, 0], [4, 2, 0]]
    samples = vocabulary.one_hot(torch.tensor([[4, 0]]))
    assert samples.tolist() == [[[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]]


def test_separator_makes_words_tokens():
    vocabulary = Vocabulary.of(["to be or", "not to  be "], separator=" ", unknown="<unk>")
    assert vocabulary.tokens == ("", "be", "not", "or", "to", "<unk>")
    ids = vocabulary.encode(["or not to see"], 6)
    assert ids.tolist() == [[3, 2, 4, 5, 0, 0]]
    assert vocabulary.decode(ids) == ["or not to <unk>"]


def test_size_keeps_the_most_frequent_tokens():
    vocabulary = Vocabulary.of(["aaabb", "bcd"], size=3, unknown="_")
    assert vocabulary.tokens == ("", "a", "b", "c", "_")
    assert vocabulary.decode(vocabulary.encode(["abcde_"], 8)) == ["abc___"]


@pytest.mark.parametrize("options", [{}, {"unknown": "<unk>"}, {"unknown": "?", "separator": " "}])
def test_config_restores_the_vocabulary(options):
    vocabulary = Vocabulary.of(["你好", "ё a"], **options)
    again = Vocabulary(**json.loads(json.dumps(vocabulary.config)))
    assert again.tokens == vocabulary.tokens
    texts = ["你好", "a"] if not options else ["你好", "a", "b"]
    assert torch.equal(again.encode(texts, 3), vocabulary.encode(texts, 3))
    assert again.config == vocabulary.config


def test_order_of_texts_does_not_matter():
    texts = ["你好", "cab", "再见"]
    assert Vocabulary.of(texts).tokens == Vocabulary.of(reversed(texts)).tokens


def test_decoding_ends_at_the_first_padding():
    vocabulary = Vocabulary("ab")
    assert vocabulary.decode(torch.tensor([[1, 0, 2], [0, 1, 1]])) == ["a", ""]
    probabilities = torch.tensor([[[0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.9, 0.1, 0.0]]])
    assert vocabulary.decode(probabilities) == ["ba"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda v: v.encode(["ab", "añb"], 4), ValueError, r"got 'ñ' \(U\+00F1\) in 'añb'"),
        (lambda v: v.encode(["a\u0301"], 4), ValueError, r"\(U\+0301\)"),
        (lambda v: v.encode(["abab"], 3), ValueError, "at most `length`=3 .* got 4 in 'abab'"),
        (lambda v: v.encode("ab", 3), TypeError, "`texts` must be a sequence of strings, got 'ab'"),
        (lambda v: v.encode(["a", 3], 3), TypeError, r"`texts\[1\]` must be a string, got 3"),
        (lambda v: v.encode(["a"], 0), ValueError, "`length` must be a positive integer, got 0"),
        (lambda v: v.decode([[1]]), TypeError, "`sequences` must be a tensor of integers, got"),
        (
            lambda v: v.decode(torch.zeros(2, 3)),
            ValueError,
            r"shape \(N, length, 3\), got \(2, 3\)",
        ),
        (lambda v: v.decode(torch.zeros(2, 3, 4)), ValueError, r"got \(2, 3, 4\)"),
        (lambda v: v.decode(torch.tensor([[3]])), ValueError, r"must lie in \[0, 2\], .* 3 to 3"),
        (lambda v: v.one_hot(torch.tensor([[-1]])), ValueError, r"`ids` must lie in \[0, 2\]"),
        (lambda v: v.one_hot(torch.zeros(1, 2)), TypeError, "`ids` must be a tensor of integers"),
        (lambda v: v.one_hot(torch.zeros(3).long()), ValueError, r"\(N, length\), got \(3,\)"),
        (lambda v: Vocabulary(""), ValueError, "`tokens` must have at least one entry, got none"),
        (lambda v: Vocabulary("aba"), ValueError, "must differ, got 'a' twice"),
        (lambda v: Vocabulary("ab", unknown="b"), ValueError, "must differ, got 'b' twice"),
        (lambda v: Vocabulary(["ab"]), ValueError, "must be single characters, got 'ab'"),
        (lambda v: Vocabulary(["a b"], separator=" "), ValueError, "single words, got 'a b'"),
        (lambda v: Vocabulary(["a", 1]), TypeError, "`tokens` must be strings, got 1"),
        (lambda v: Vocabulary(3), TypeError, "`tokens` must be strings, got 3"),
        (lambda v: Vocabulary("a", separator=None), TypeError, "`separator` must be a string"),
        (lambda v: Vocabulary("ab", unknown=0), TypeError, "`unknown` must be a string or None"),
        (
            lambda v: Vocabulary("ab", unknown=""),
            ValueError,
            "`unknown` must not be empty or contain",
        ),
        (lambda v: Vocabulary("a", unknown="a b", separator=" "), ValueError, "got 'a b'"),
        (lambda v: Vocabulary.of(["ab"], unknown=0), TypeError, "`unknown` must be a string or N"),
        (lambda v: Vocabulary.of(["ab"], separator=3), TypeError, "`separator` must be a string"),
        (lambda v: Vocabulary.of(["", ""]), ValueError, "`texts` must have at least one token"),
        (lambda v: Vocabulary.of([], unknown="?"), ValueError, "`texts` must have at least one t"),
        (
            lambda v: Vocabulary.of(["abc"], size=2),
            ValueError,
            r"`unknown` must be given .* \(2 of 3",
        ),
        (lambda v: Vocabulary.of(["abc"], size=0), ValueError, "`size` must be a positive integer"),
    ],
)
def test_invalid_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Vocabulary("ab"))
