"""N-gram divergence and n-gram model."""

from __future__ import annotations

import math
import random
import re
from collections import Counter

import pytest
from scipy.spatial.distance import jensenshannon

from vanillagan.applications.text import NGramModel, ngram_divergence


@pytest.mark.parametrize("n", [1, 2, 3])
def test_divergence_matches_scipy(n):
    rng = random.Random(n)
    real, fake = (
        ["".join(rng.choices(s, k=rng.randrange(9))) for _ in range(40)] for s in ("abc", "bcde")
    )
    counts = [
        Counter(f"^{text}$"[i : i + n] for text in texts for i in range(len(text) + 3 - n))
        for texts in (real, fake)
    ]
    grams = sorted(counts[0] | counts[1])
    expected = jensenshannon(*([count[gram] for gram in grams] for count in counts)) ** 2
    assert ngram_divergence(real, fake, n) == pytest.approx(expected)


def test_divergence_of_equal_and_disjoint_texts():
    assert ngram_divergence(["你好", "再见"], ["再见", "你好"], 3) == 0
    assert ngram_divergence(["ab"], ["cd"], 2) == pytest.approx(math.log(2))


def test_tokens_can_be_words():
    real, fake = [["to", "be"], ["or", "not"]], [["or", "not"], ["to", "see"]]
    by_letter = dict(zip(["to", "be", "or", "not", "see"], "abcde", strict=True))
    texts = [["".join(by_letter[word] for word in text) for text in side] for side in (real, fake)]
    assert ngram_divergence(real, fake, 2) == pytest.approx(ngram_divergence(*texts, 2))


def test_model_has_the_frequencies_of_the_data():
    model = NGramModel(["aab", "ab", "b"], 2)
    texts = ["".join(tokens) for tokens in model.sample(5000, seed=1)]
    assert all(re.fullmatch("a*b", text) for text in texts)
    # two of three texts start with a; an a is followed by an a in one of three cases
    shares = [1 / 3, 2 / 3 * 2 / 3, 2 / 3 * 1 / 3 * 2 / 3]
    for text, share in zip(["b", "ab", "aab"], shares, strict=True):
        assert texts.count(text) / 5000 == pytest.approx(share, abs=0.03)


def test_unigrams_have_no_context():
    texts = NGramModel(["ab", "b"], 1).sample(5000, seed=2)
    lengths = Counter(len(text) for text in texts)
    for length in range(4):  # 2 of 5 tokens are an end
        assert lengths[length] / 5000 == pytest.approx(0.4 * 0.6**length, abs=0.03)


def test_models_of_high_order_reproduce_the_data():
    texts = ["你好", "再见", "天上有风", "你", ""]
    model = NGramModel(texts, 6)
    drawn = ["".join(tokens) for tokens in model.sample(100, seed=0)]
    assert set(drawn) == set(texts)
    assert model.sample(10, seed=3) == model.sample(10, seed=3) != model.sample(10, seed=4)


def test_max_length_bounds_texts():
    model = NGramModel(["aaaaaaaab"], 2)
    assert max(map(len, model.sample(200, max_length=3))) == 3
    with pytest.raises(ValueError, match=r"`max_length` must be long enough .* got 1 \(1000 texts"):
        NGramModel(["aab"], 3).sample(1, max_length=1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ngram_divergence(["a"], ["a"], 0), ValueError, "`n` must be a positive integer"),
        (lambda: ngram_divergence([], ["a"], 1), ValueError, "`real` must have at least one text"),
        (lambda: ngram_divergence(["a"], "a", 1), TypeError, "`fake` must be a sequence of texts"),
        (lambda: ngram_divergence(["a"], [3], 1), TypeError, r"`fake\[0\]` must be a string or a"),
        (
            lambda: ngram_divergence(["ab"], ["a"], 4),
            ValueError,
            "`fake` must have texts of at least 2",
        ),
        (lambda: NGramModel([], 2), ValueError, "`texts` must have at least one text, got none"),
        (lambda: NGramModel(["a"], 0), ValueError, "`n` must be a positive integer, got 0"),
        (lambda: NGramModel(["a"], 2).sample(0), ValueError, "`count` must be a positive integer"),
        (lambda: NGramModel(["a"], 2).sample(1, seed=-1), ValueError, "`seed` must be a non-neg"),
        (
            lambda: NGramModel(["a"], 2).sample(1, max_length=0),
            ValueError,
            "`max_length` must be a",
        ),
    ],
)
def test_invalid_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
