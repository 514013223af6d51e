"""Text: the vocabulary, the networks on one-hot tokens, n-grams, and the example."""

from __future__ import annotations

import ast
import json
import math
import random
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import chisquare
from torch import Tensor

from tests.test_examples import ROOT, Run, run_here
from vanillagan import (
    EMA,
    R1,
    R2,
    GANTrainer,
    GradientPenalty,
    RelativisticLoss,
    WassersteinLoss,
    load_generator,
)
from vanillagan.applications.text import (
    NGramModel,
    TextDiscriminator,
    TextGenerator,
    Vocabulary,
    ngram_divergence,
)
from vanillagan.networks.blocks import scores_samples_alone
from vanillagan.optimizers import adam
from vanillagan.sampling import draw_samples

SCRIPTS = {
    "english": ["the cat", "a hat", "that"],
    "chinese": ["你好", "再见", "天上有风", "你", ""],
    "others": ["naïve", "ёлка", "שלום", "नमस्ते", "🙂🙃", "e\u0301"],
}
SHAPE = (7, 5)


# -- the vocabulary --------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", SCRIPTS.values(), ids=SCRIPTS)
def test_texts_of_any_script_come_back_from_ids_and_from_one_hot_samples(texts):
    vocabulary = Vocabulary.of(texts)
    ids = vocabulary.encode(texts, length=10)
    assert (ids.shape, ids.dtype) == ((len(texts), 10), torch.int64)
    samples = vocabulary.one_hot(ids)
    assert samples.shape == (len(texts), 10, len(vocabulary))
    assert samples.dtype == torch.float32
    assert vocabulary.decode(ids) == vocabulary.decode(samples) == texts


def test_ids_are_the_paddings_then_the_tokens_in_order_then_the_unknown():
    vocabulary = Vocabulary.of(["ba", "中"], unknown="?")
    assert vocabulary.tokens == ("", "a", "b", "中", "?")
    assert vocabulary.encode(["a中", "", "xb"], 3).tolist() == [[1, 3, 0], [0, 0, 0], [4, 2, 0]]
    samples = vocabulary.one_hot(torch.tensor([[4, 0]]))
    assert samples.tolist() == [[[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]]


def test_words_are_tokens_where_there_is_a_separator():
    vocabulary = Vocabulary.of(["to be or", "not to  be "], separator=" ", unknown="<unk>")
    assert vocabulary.tokens == ("", "be", "not", "or", "to", "<unk>")
    ids = vocabulary.encode(["or not to see"], 6)
    assert ids.tolist() == [[3, 2, 4, 5, 0, 0]]
    assert vocabulary.decode(ids) == ["or not to <unk>"]


def test_the_most_frequent_tokens_are_kept_and_the_others_unknown():
    vocabulary = Vocabulary.of(["aaabb", "bcd"], size=3, unknown="_")
    assert vocabulary.tokens == ("", "a", "b", "c", "_")
    assert vocabulary.decode(vocabulary.encode(["abcde_"], 8)) == ["abc___"]


@pytest.mark.parametrize("options", [{}, {"unknown": "<unk>"}, {"unknown": "?", "separator": " "}])
def test_a_vocabulary_is_made_again_from_its_config_by_way_of_json(options):
    vocabulary = Vocabulary.of(["你好", "ё a"], **options)
    again = Vocabulary(**json.loads(json.dumps(vocabulary.config)))
    assert again.tokens == vocabulary.tokens
    texts = ["你好", "a"] if not options else ["你好", "a", "b"]
    assert torch.equal(again.encode(texts, 3), vocabulary.encode(texts, 3))
    assert again.config == vocabulary.config


def test_the_same_texts_give_the_same_ids_in_any_order():
    texts = ["你好", "cab", "再见"]
    assert Vocabulary.of(texts).tokens == Vocabulary.of(reversed(texts)).tokens


def test_a_text_ends_at_its_first_padding_and_probabilities_count_by_their_largest():
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
        (lambda v: Vocabulary("ab", unknown=""), ValueError, "`unknown` must not be empty, .* got"),
        (lambda v: Vocabulary("a", unknown="a b", separator=" "), ValueError, "got 'a b'"),
        (lambda v: Vocabulary.of(["ab"], unknown=0), TypeError, "`unknown` must be a string or N"),
        (lambda v: Vocabulary.of(["ab"], separator=3), TypeError, "`separator` must be a string"),
        (lambda v: Vocabulary.of(["", ""]), ValueError, "`texts` must have at least one token"),
        (lambda v: Vocabulary.of([], unknown="?"), ValueError, "`texts` must have at least one t"),
        (lambda v: Vocabulary.of(["abc"], size=2), ValueError, "`unknown` must be given .* 2 of 3"),
        (lambda v: Vocabulary.of(["abc"], size=0), ValueError, "`size` must be a positive integer"),
    ],
)
def test_what_is_no_text_of_the_vocabulary_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(Vocabulary("ab"))


# -- the networks ----------------------------------------------------------------------------------


def generator(**options: Any) -> TextGenerator:
    return TextGenerator(4, SHAPE, **({"width": 8, "blocks": 1} | options))


def discriminator(**options: Any) -> TextDiscriminator:
    return TextDiscriminator(SHAPE, **({"width": 8, "blocks": 1} | options))


def is_one_hot(samples: Tensor) -> bool:
    return bool(((samples == 0) | (samples == 1)).all() and (samples.sum(2) == 1).all())


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_players_have_the_shapes_of_the_game(blocks, num_classes):
    labels = [torch.tensor([0, 1, 2])] if num_classes else []
    options = {"blocks": blocks, "num_classes": num_classes}
    samples = generator(**options)(torch.randn(3, 4), *labels)
    assert samples.shape == (3, *SHAPE)
    scores = discriminator(**options)(samples, *labels)
    assert scores.shape == (3,)
    scores.sum().backward()


@pytest.mark.parametrize("training", [True, False])
def test_gumbel_samples_are_one_hot_in_training_too(training):
    assert is_one_hot(generator().train(training)(torch.randn(50, 4)))


def test_softmax_samples_are_probabilities_in_training_and_the_likeliest_tokens_in_eval():
    network = generator(output="softmax")
    latent = torch.randn(9, 4)
    soft, hard = network(latent), network.eval()(latent)
    torch.testing.assert_close(soft, network.logits(latent).softmax(2))
    assert is_one_hot(hard)
    assert torch.equal(hard.argmax(2), soft.argmax(2))


def test_gumbel_tokens_are_drawn_from_the_softmax_of_the_logits_at_any_temperature():
    torch.manual_seed(1)
    network = generator(temperature=0.3)
    latent = torch.randn(1, 4)
    shares = network.logits(latent).softmax(2)[0, 2].detach().double()
    counts = network(latent.expand(20_000, -1))[:, 2].sum(0).detach()
    expected = 20_000 * shares / shares.sum()
    assert chisquare(counts.tolist(), expected.tolist()).pvalue > 0.01


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_backwards_the_straight_through_estimator_is_the_softmaxs_gradient(temperature):
    network = generator(temperature=temperature).double()
    latent, direction = torch.randn(6, 4).double(), torch.randn(6, *SHAPE).double()
    torch.manual_seed(5)
    (network(latent) * direction).sum().backward()
    got = network.layers[0].weight.grad.clone()
    network.zero_grad()
    torch.manual_seed(5)
    noise = -torch.empty(6, *SHAPE).double().exponential_().log()
    soft = ((network.logits(latent) + noise) / temperature).softmax(2)
    (soft * direction).sum().backward()
    torch.testing.assert_close(got, network.layers[0].weight.grad)


def test_the_temperature_may_be_annealed():
    network, latent = generator(), torch.randn(6, 4)
    gradients = []
    for network.temperature in (0.5, 5.0):
        torch.manual_seed(0)
        network.zero_grad()
        network(latent)[:, 0, 0].sum().backward()
        gradients.append(network.layers[0].weight.grad.clone())
    assert not torch.allclose(*gradients)


def test_samples_are_repeatable_by_seed_and_leave_the_global_random_state_as_it_is():
    network = generator()
    state = torch.get_rng_state()
    assert torch.equal(network.sample(20, seed=1), network.sample(20, seed=1))
    assert not torch.equal(network.sample(20, seed=1), network.sample(20, seed=2))
    latent = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).expand(20, -1)
    drawn = draw_samples(network, 20, latent=latent, seed=3)
    assert len({tuple(row.flatten().tolist()) for row in drawn}) > 1  # the tokens are drawn too
    assert torch.equal(torch.get_rng_state(), state)


def test_the_discriminator_scores_each_sample_alone_and_by_the_place_of_its_tokens():
    network = discriminator()
    assert scores_samples_alone(network)
    samples = generator()(torch.randn(6, 4)).detach()
    torch.testing.assert_close(network(samples)[2:3], network(samples[2:3]))
    assert not torch.allclose(network(samples), network(samples.roll(1, dims=1)))


def test_bfloat16_generators_draw_their_noise_in_full_precision():
    network, latent = generator().bfloat16(), torch.randn(500, 4).bfloat16()
    torch.manual_seed(5)
    samples = network(latent)
    torch.manual_seed(5)
    noise = -torch.empty(500, *SHAPE).exponential_().log()
    assert torch.equal(samples.argmax(2), (network.logits(latent).float() + noise).argmax(2))
    assert is_one_hot(samples)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TextGenerator(4, (7,)), ValueError, r"`sample_shape` must be \(length, tokens\)"),
        (lambda: TextDiscriminator((1, 7, 5)), ValueError, r"`sample_shape` must be \(length, tok"),
        (lambda: generator(width=0), ValueError, "`width` must be a positive integer, got 0"),
        (lambda: generator(blocks=-1), ValueError, "`blocks` must be a non-negative integer"),
        (lambda: discriminator(width=0), ValueError, "`width` must be a positive integer, got 0"),
        (lambda: discriminator(blocks=1.5), TypeError, "`blocks` must be a non-negative integer"),
        (
            lambda: generator(output="hard"),
            ValueError,
            "`output` must be one of 'gumbel', 'softmax'",
        ),
        (
            lambda: generator(temperature=0),
            ValueError,
            r"`temperature` must be a finite number in \(",
        ),
        (
            lambda: generator()(torch.randn(2, 3)),
            ValueError,
            r"`latent` must have the shape \(N, 4\)",
        ),
        (
            lambda: discriminator()(torch.zeros(2, 7, 4)),
            ValueError,
            r"`samples` must have the shape",
        ),
    ],
)
def test_a_wrong_argument_of_a_network_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- the game --------------------------------------------------------------------------------------


def make_trainer(**options: Any) -> GANTrainer:
    torch.manual_seed(0)
    return GANTrainer(
        generator(),
        discriminator(),
        loss=WassersteinLoss(),
        penalties=[GradientPenalty(10)],
        discriminator_steps=2,
        update_order="discriminator_first",
        ema=EMA(0.9),
        device="cpu",
        **options,
    )


@pytest.fixture
def samples() -> Tensor:
    vocabulary = Vocabulary("abcd")
    rng = random.Random(0)
    texts = ["".join(rng.choices("abcd", k=rng.randrange(8))) for _ in range(64)]
    return vocabulary.one_hot(vocabulary.encode(texts, 7))


def test_training_goes_on_bit_for_bit_from_a_checkpoint_with_the_tokens_noise(samples, tmp_path):
    whole, first, second = make_trainer(), make_trainer(), make_trainer()
    torch.manual_seed(7)
    whole.fit(samples, steps=6, batch_size=8)
    torch.manual_seed(7)
    first.fit(samples, steps=3, batch_size=8)
    first.save(tmp_path / "text.pt")
    torch.manual_seed(8)
    second.load(tmp_path / "text.pt")
    second.fit(samples, steps=6, batch_size=8)
    for mine, other in zip(
        whole.generator.parameters(), second.generator.parameters(), strict=True
    ):
        assert torch.equal(mine, other)


def test_a_generator_is_loaded_from_a_checkpoint_alone(samples, tmp_path):
    trainer = make_trainer()
    trainer.fit(samples, steps=2, batch_size=8)
    trainer.save(tmp_path / "text.pt")
    loaded = load_generator(tmp_path / "text.pt")
    assert isinstance(loaded, TextGenerator)
    assert torch.equal(loaded.sample(9, seed=1), trainer.sample(9, seed=1))


def test_a_game_of_two_texts_is_learned():
    vocabulary = Vocabulary("ab")
    real = vocabulary.one_hot(vocabulary.encode(["aab", "bb"] * 64, 4))
    torch.manual_seed(0)
    trainer = GANTrainer(
        TextGenerator(8, (4, 3), width=32, blocks=1),
        TextDiscriminator((4, 3), width=32, blocks=1),
        loss=RelativisticLoss(),
        penalties=[R1(0.5, every=4), R2(0.5, every=4)],
        generator_optimizer=adam(1e-3, (0.0, 0.99)),
        discriminator_optimizer=adam(2e-3, (0.0, 0.99)),
        ema=EMA(0.98),
        device="cpu",
    )
    trainer.fit(real, steps=500, batch_size=32)
    counts = Counter(vocabulary.decode(trainer.sample(500, seed=0)))
    assert (counts["aab"] + counts["bb"]) / 500 > 0.75
    assert min(counts["aab"], counts["bb"]) > 100


# -- n-grams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_divergence_is_scipys_of_the_counted_ngrams(n):
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


def test_equal_texts_diverge_by_0_and_disjoint_ones_by_log_2():
    assert ngram_divergence(["你好", "再见"], ["再见", "你好"], 3) == 0
    assert ngram_divergence(["ab"], ["cd"], 2) == pytest.approx(math.log(2))


def test_words_are_tokens_of_ngrams_as_well():
    real, fake = [["to", "be"], ["or", "not"]], [["or", "not"], ["to", "see"]]
    by_letter = dict(zip(["to", "be", "or", "not", "see"], "abcde", strict=True))
    texts = [["".join(by_letter[word] for word in text) for text in side] for side in (real, fake)]
    assert ngram_divergence(real, fake, 2) == pytest.approx(ngram_divergence(*texts, 2))


def test_a_model_draws_the_next_token_as_often_as_the_data_has_it():
    model = NGramModel(["aab", "ab", "b"], 2)
    texts = ["".join(tokens) for tokens in model.sample(5000, seed=1)]
    assert all(re.fullmatch("a*b", text) for text in texts)
    # two of three texts begin with a, and after an a one of three goes on with an a
    shares = [1 / 3, 2 / 3 * 2 / 3, 2 / 3 * 1 / 3 * 2 / 3]
    for text, share in zip(["b", "ab", "aab"], shares, strict=True):
        assert texts.count(text) / 5000 == pytest.approx(share, abs=0.03)


def test_of_one_token_there_is_no_context():
    texts = NGramModel(["ab", "b"], 1).sample(5000, seed=2)
    lengths = Counter(len(text) for text in texts)
    for length in range(4):  # an end in 2 of 5 tokens
        assert lengths[length] / 5000 == pytest.approx(0.4 * 0.6**length, abs=0.03)


def test_a_model_of_high_order_knows_nothing_but_its_data_and_is_repeatable():
    texts = SCRIPTS["chinese"]
    model = NGramModel(texts, 6)
    drawn = ["".join(tokens) for tokens in model.sample(100, seed=0)]
    assert set(drawn) == set(texts)
    assert model.sample(10, seed=3) == model.sample(10, seed=3) != model.sample(10, seed=4)


def test_no_text_is_longer_than_asked_for():
    model = NGramModel(["aaaaaaaab"], 2)
    assert max(map(len, model.sample(200, max_length=3))) == 3
    with pytest.raises(
        ValueError, match=r"`max_length` must leave room .* got 1, which 1000 texts"
    ):
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
def test_a_wrong_argument_of_ngrams_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- the example -----------------------------------------------------------------------------------

SCRIPT = "examples/text.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / SCRIPT))


def is_arithmetic(text: str) -> bool:
    """What Python's own parser says: x and binary + - * / alone."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    allowed = (ast.Expression, ast.BinOp, ast.Name, ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names == {"x"} and all(isinstance(node, allowed) for node in ast.walk(tree))


def test_the_parser_agrees_with_pythons(example):
    rng = random.Random(0)
    texts = ["", "x", "x+", "+x", "x+x", "xx", "x--x", "x**x", "x//x", "x x", "x" + "+x" * 6]
    texts += ["".join(rng.choices("x+-*/", k=rng.randrange(1, 6))) for _ in range(3000)]
    right = [text for text in texts if example["is_expression"](text)]
    assert right == [text for text in texts if is_arithmetic(text) and len(text) <= 12]
    assert len(right) > 100


def test_the_grammars_texts_are_valid_and_of_all_lengths_alike(example):
    corpus = example["grammar"](0)
    assert len(corpus.train) == 5000
    assert all(is_arithmetic(text) for text in corpus.train)
    lengths = Counter(len(text) for text in corpus.train)
    assert sorted(lengths) == [1, 3, 5, 7, 9, 11]
    assert chisquare(list(lengths.values())).pvalue > 0.001
    figures = example["measure"](corpus, corpus.other)
    assert figures["valid"] == 1
    assert figures["length"] < 0.001
    assert 0.15 < figures["distinct"] < 0.21


def test_wrong_samples_are_no_diversity(example):
    corpus = example["grammar"](0)
    figures = example["measure"](corpus, ["x", "x+x", "x", "x+", "x…", "+", "xx", "x-x*"])
    assert (figures["valid"], figures["distinct"], figures["in training"]) == (3 / 8, 2 / 8, 3 / 8)


def test_a_sample_with_something_after_its_end_is_never_right(example):
    vocabulary = Vocabulary("x+")
    samples = vocabulary.one_hot(torch.tensor([[1, 2, 1, 0, 0], [1, 0, 0, 0, 1]]))
    first, second = example["texts_of"](samples, vocabulary)
    assert first == "x+x"
    assert second != "x"
    assert not example["is_expression"](second)


def test_the_words_are_those_of_pythons_reference(example):
    corpus = example["words"](0)
    everything = corpus.train + corpus.held_out + corpus.other
    assert len(everything) > 30_000
    assert {"the", "statement", "raise"} < set(everything)
    assert all(re.fullmatch("[a-z]{2,12}", word) for word in everything)
    assert len(corpus.held_out) == len(corpus.other)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("text")
    return out, run_here([SCRIPT, "--steps", "4", "--every", "2", "--out", str(out)])


def test_a_run_prints_samples_as_it_learns_and_a_table_at_the_end(finished):
    _, run = finished
    assert run.code == 0
    assert re.findall(r"^step +(\d+)   ", run.printed, re.MULTILINE) == ["0", "2", "4"]
    for row in ("the data", "2-gram model", "4-gram model", "GAN"):
        assert len(re.findall(rf"^{row} +[\d.]+% ", run.printed, re.MULTILINE)) == 1


def test_a_run_leaves_samples_figures_and_a_generator(finished):
    out, _ = finished
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["figures"]["the data"]["valid"] == 1
    vocabulary = Vocabulary(**results["vocabulary"])
    generator = load_generator(out / "text.pt")
    assert generator.sample_shape == (12, len(vocabulary))
    texts = (out / "samples.txt").read_text(encoding="utf-8").splitlines()
    assert len(texts) == 5000
    cut = vocabulary.decode(generator.sample(5000, seed=0))
    assert [text.rstrip("…") for text in texts] == cut


def test_texts_of_ones_own_in_chinese_are_learned_too(tmp_path):
    corpus = tmp_path / "诗.txt"
    corpus.write_text("春眠不觉晓\n处处闻啼鸟\n\n夜来风雨声\n花落知多少\n" * 40, encoding="utf-8")
    options = ["--length", "4", "--vocabulary", "10", "--steps", "2", "--out", str(tmp_path)]
    run = run_here([SCRIPT, "--corpus", str(corpus), *options])
    assert run.code == 0
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    tokens, unknown = (results["vocabulary"][name] for name in ("tokens", "unknown"))
    assert (len(tokens), unknown) == (10, "\ufffd")
    assert set(tokens) <= set("春眠不觉晓处处闻啼鸟夜来风雨声花落知多少")
    assert results["figures"]["the data"]["in corpus"] == 1


def test_a_byte_order_mark_is_no_character_of_a_corpus(example, tmp_path):
    (tmp_path / "marked.txt").write_text("abc\n" * 100, encoding="utf-8-sig")
    corpus = example["lines_of"](tmp_path / "marked.txt", 12, 500, seed=0)
    assert corpus.vocabulary.tokens == ("", "a", "b", "c")


def test_a_corpus_in_another_encoding_is_named(tmp_path):
    corpus = tmp_path / "old.txt"
    corpus.write_text("naïve\n" * 100, encoding="latin-1")
    run = run_here([SCRIPT, "--corpus", str(corpus), "--out", str(tmp_path / "out")])
    assert run.code.startswith(f"error: `--corpus` must be a text in UTF-8, got {corpus}: ")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--steps", "0"], 2, "argument --steps: must be a positive integer, got 0"),
        (["--length", "20"], 2, "--length goes with --corpus"),
        (["--task", "words", "--corpus", "f"], 2, "--corpus: not allowed with argument --task"),
        (["--corpus", "no such file"], 1, "error: [Errno 2] No such file or directory"),
        (["--corpus", "LICENSE", "--length", "1000"], 1, "must have 100 texts or more, got"),
        (["--seed", "-1"], 1, "error: `seed` must be a non-negative integer, got -1"),
    ],
)
def test_a_wrong_option_is_explained_without_a_traceback(tmp_path, options, code, message):
    run = run_here([SCRIPT, *options, "--out", str(tmp_path)])
    assert message in (run.printed if code == 2 else run.code)
    assert "Traceback" not in run.printed
