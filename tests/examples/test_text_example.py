"""The example of text generation."""

from __future__ import annotations

import ast
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from tests.helpers.scripts import Run, load_example, run_here
from vanillagan import load_generator
from vanillagan.applications.text import Vocabulary

pytestmark = pytest.mark.slow

SCRIPT = "examples/text.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return load_example("corpora") | load_example("text")


def is_arithmetic(text: str) -> bool:
    """Return True if Python's parser finds x and binary + - * / alone."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    allowed = (ast.Expression, ast.BinOp, ast.Name, ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names == {"x"} and all(isinstance(node, allowed) for node in ast.walk(tree))


def test_the_parser_agrees_with_that_of_python(example):
    rng = random.Random(0)
    texts = ["", "x", "x+", "+x", "x+x", "xx", "x--x", "x**x", "x//x", "x x", "x" + "+x" * 6]
    texts += ["".join(rng.choices("x+-*/", k=rng.randrange(1, 6))) for _ in range(3000)]
    right = [text for text in texts if example["is_expression"](text)]
    assert right == [text for text in texts if is_arithmetic(text) and len(text) <= 12]
    assert len(right) > 100


def test_grammar_texts_are_valid_and_of_even_lengths(example):
    corpus = example["grammar"](0)
    assert len(corpus.train) == 5000
    assert all(is_arithmetic(text) for text in corpus.train)
    lengths = Counter(len(text) for text in corpus.train)
    assert sorted(lengths) == [1, 3, 5, 7, 9, 11]
    assert chisquare(list(lengths.values())).pvalue > 0.001
    figures = example["evaluate"](corpus, corpus.other)
    assert figures["valid"] == 1
    assert figures["length"] < 0.001
    assert 0.15 < figures["distinct"] < 0.21


def test_wrong_samples_do_not_count_as_distinct(example):
    corpus = example["grammar"](0)
    figures = example["evaluate"](corpus, ["x", "x+x", "x", "x+", "x…", "+", "xx", "x-x*"])
    assert (figures["valid"], figures["distinct"], figures["in training"]) == (3 / 8, 2 / 8, 3 / 8)


def test_a_sample_with_tokens_after_its_end_is_wrong(example):
    vocabulary = Vocabulary("x+")
    samples = vocabulary.one_hot(torch.tensor([[1, 2, 1, 0, 0], [1, 0, 0, 0, 1]]))
    first, second = example["texts_of"](samples, vocabulary)
    assert first == "x+x"
    assert second != "x"
    assert not example["is_expression"](second)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("the dog sleeps", True),
        ("the dogs sleep", True),
        ("a big dog near these cats sleeps", True),
        ("many small friends with a child see every quiet teacher", True),
        ("the dog sleep", False),
        ("a dogs sleep", False),
        ("a big dog near these cats sleep", False),
        ("the dog sleeps a cat", False),
        ("the dog sees", False),
        ("dog sleeps", False),
        ("the dog sleeps…", False),
        ("the dog  sleeps", False),
        ("", False),
    ],
)
def test_a_sentence_is_valid_if_its_verb_agrees_with_its_subject(example, text, right):
    assert example["is_sentence"](text) == right


def test_drawn_sentences_are_valid_and_rarely_repeat(example):
    corpus = example["sentences"](0)
    assert all(map(example["is_sentence"], corpus.train))
    assert max(len(text.split()) for text in corpus.train) == corpus.max_length == 11
    figures = example["evaluate"](corpus, corpus.other)
    assert figures["valid"] == 1
    assert figures["distinct"] > 0.8


def test_lengths_and_n_grams_of_sentences_are_of_words(example):
    corpus = example["sentences"](0)
    longer = [" ".join(word * 2 for word in text.split()) for text in corpus.held_out]
    figures = example["evaluate"](corpus, longer)
    assert (figures["valid"], figures["length"]) == (0, 0)  # as many words, all of them others
    assert figures["n=1"] > 0.4  # less than log 2, since starts and ends count too
    backwards = [" ".join(reversed(text.split())) for text in corpus.held_out]
    figures = example["evaluate"](corpus, backwards)
    assert figures["n=1"] == 0
    assert figures["n=2"] > 0.3


def test_the_words_are_of_the_python_reference(example):
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
    return out, run_here([SCRIPT, "--steps", "4", "--sample-interval", "2", "--out", str(out)])


def test_samples_and_a_table_are_printed(finished):
    _, run = finished
    assert run.code == 0
    assert re.findall(r"^step +(\d+)   ", run.printed, re.MULTILINE) == ["0", "2", "4"]
    for row in ("the data", "2-gram model", "4-gram model", "GAN", "GAN, likeliest tokens"):
        assert len(re.findall(rf"^{row} +[\d.]+% ", run.printed, re.MULTILINE)) == 1


def test_samples_figures_and_generator_are_saved(finished):
    out, _ = finished
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["figures"]["the data"]["valid"] == 1
    vocabulary = Vocabulary(**results["vocabulary"])
    generator = load_generator(next((out / "checkpoints").iterdir()))
    assert generator.sample_shape == (12, len(vocabulary))
    texts = (out / "samples.txt").read_text(encoding="utf-8").splitlines()
    assert len(texts) == 5000
    cut = vocabulary.decode(generator.sample(5000, seed=0))
    assert [text.rstrip("…") for text in texts] == cut


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ([], "runs/text/grammar"),
        (["--task", "sentences"], "runs/text/sentences"),
        (["--corpus", "verse.txt"], "runs/text/corpus-verse"),
        (["--task", "words", "--out", "here"], "here"),
    ],
)
def test_each_task_has_a_folder_of_its_own(example, monkeypatch, options, out):
    monkeypatch.setattr(sys, "argv", [SCRIPT, *options])
    assert example["parse_options"]().out == Path(out)


def test_networks_are_of_the_size_and_precision_asked_for(example, monkeypatch):
    words = ["--channels", "8", "--blocks", "3", "--precision", "bf16"]
    monkeypatch.setattr(sys, "argv", [SCRIPT, *words])
    trainer = example["make_trainer"](example["grammar"](0), example["parse_options"](), [])
    assert trainer.precision == "bf16"
    for network in (trainer.generator, trainer.discriminator):
        assert (network.config["channels"], network.config["blocks"]) == (8, 3)


def test_sentences_are_learned(tmp_path):
    options = ["--task", "sentences", "--steps", "2", "--channels", "8"]
    run = run_here([SCRIPT, *options, "--out", str(tmp_path)])
    assert run.code == 0
    assert "with 41 different words" in run.printed
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["vocabulary"]["separator"] == " "


def test_a_corpus_may_be_chinese(tmp_path):
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


def test_a_byte_order_mark_is_not_a_character(example, tmp_path):
    (tmp_path / "marked.txt").write_text("abc\n" * 100, encoding="utf-8-sig")
    corpus = example["lines_of"](tmp_path / "marked.txt", 12, 500, seed=0)
    assert corpus.vocabulary.tokens == ("", "a", "b", "c")


def test_a_corpus_in_another_encoding_is_an_error(tmp_path):
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
        (["--corpus", "LICENSE", "--length", "1000"], 1, "must have at least 100 texts, got"),
    ],
)
def test_a_wrong_option_is_explained(tmp_path, options, code, message):
    run = run_here([SCRIPT, *options, "--out", str(tmp_path)])
    assert message in (run.printed if code == 2 else run.code)
    assert "Traceback" not in run.printed
